//! An image as a registry holds it: named bytes.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::archive::{Image, Packing, digest};

const OCI: &str = "application/vnd.oci.image";
const DOCKER: &str = "application/vnd.docker";

/// What one repository serves.
#[derive(Clone)]
pub struct Content {
    /// What the tag stands for: a manifest or an index, and its media type.
    pub tagged: (Arc<Vec<u8>>, String),
    /// The manifest of this machine's platform.
    pub manifest: (Arc<Vec<u8>>, String),
    /// The image's configuration.
    pub config: Arc<Vec<u8>>,
    /// Layers, compressed.
    pub layers: Vec<Arc<Vec<u8>>>,
}

impl Content {
    /// The image by OCI's media types.
    pub fn oci(image: &Image) -> io::Result<Self> {
        let blobs = image.blobs(Packing::Gzip)?;
        let manifest = (Arc::new(blobs.manifest), format!("{OCI}.manifest.v1+json"));
        let layers = blobs.layers.into_iter().map(Arc::new).collect();
        Ok(Self { tagged: manifest.clone(), manifest, config: Arc::new(blobs.config), layers })
    }

    /// The image by Docker's media types.
    pub fn docker(image: &Image) -> io::Result<Self> {
        let mut content = Self::oci(image)?;
        let mut manifest: Value = serde_json::from_slice(&content.manifest.0)?;
        let media_type = format!("{DOCKER}.distribution.manifest.v2+json");
        manifest["mediaType"] = json!(media_type);
        manifest["config"]["mediaType"] = json!(format!("{DOCKER}.container.image.v1+json"));
        for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
            layer["mediaType"] = json!(format!("{DOCKER}.image.rootfs.diff.tar.gzip"));
        }
        content.manifest = (Arc::new(manifest.to_string().into_bytes()), media_type);
        content.tagged = content.manifest.clone();
        Ok(content)
    }

    /// The same behind an index that names `platforms` (os, architecture), the first of which is this image; the others
    /// name a manifest that nobody has.
    pub fn indexed(mut self, platforms: &[(&str, &str)]) -> Self {
        let (bytes, media_type) = &self.manifest;
        let docker = media_type.starts_with(DOCKER);
        let entries: Vec<Value> = platforms
            .iter()
            .enumerate()
            .map(|(number, (os, architecture))| {
                let absent = format!("no such manifest {number}").into_bytes();
                let digest = digest(if number == 0 { bytes } else { &absent });
                json!({"mediaType": media_type, "digest": digest, "size": bytes.len(),
                       "platform": {"os": os, "architecture": architecture}})
            })
            .collect();
        let media_type = match docker {
            true => format!("{DOCKER}.distribution.manifest.list.v2+json"),
            false => format!("{OCI}.index.v1+json"),
        };
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        self.tagged = (Arc::new(index.to_string().into_bytes()), media_type);
        self
    }

    /// The digest of a layer as it is served.
    pub fn layer_digest(&self, layer: usize) -> String {
        digest(&self.layers[layer])
    }

    /// How long a layer is.
    pub fn layer_size(&self, layer: usize) -> u64 {
        self.layers[layer].len() as u64
    }

    /// The image's id.
    pub fn id(&self) -> String {
        digest(&self.config)
    }
}

/// The architecture of this machine, as images name it.
pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
