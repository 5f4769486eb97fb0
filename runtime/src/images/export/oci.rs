//! oci-archive: an index with one entry for each name.

use serde_json::json;

use super::{Chosen, Documents};
use crate::images::durable::json;
use crate::images::error::Error;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(super) fn documents(images: &[Chosen]) -> Result<Documents, Error> {
    let mut entries = Vec::new();
    for image in images {
        let media_type = match image.manifest.media_type.as_str() {
            "" => MANIFEST,
            given => given,
        };
        let entry = |annotations: serde_json::Value| {
            let mut entry = json!({
                "mediaType": media_type,
                "digest": image.manifest_digest,
                "size": image.manifest_size,
            });
            if annotations.is_object() {
                entry["annotations"] = annotations;
            }
            entry
        };
        if image.names.is_empty() {
            entries.push(entry(serde_json::Value::Null));
        }
        for name in &image.names {
            let mut annotations = json!({ "io.containerd.image.name": name.to_string() });
            if let Some(tag) = name.tag() {
                annotations["org.opencontainers.image.ref.name"] = tag.into();
            }
            entries.push(entry(annotations));
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    Ok(vec![
        ("oci-layout".to_owned(), json(&json!({ "imageLayoutVersion": "1.0.0" }))?),
        ("index.json".to_owned(), json(&index)?),
    ])
}
