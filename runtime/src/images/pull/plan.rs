//! What a name means: through indexes to the manifest for a platform, its configuration, and the layers it takes.

use super::patience::persist;
use super::progress::Reporter;
use crate::images::layers::chain_id;
use crate::images::platform::Wanted;
use crate::images::record::{ConfigFile, Descriptor, Index, Manifest};
use crate::images::registry::{Fetched, Registry};
use crate::images::{Digest, Error, ImageStore, Reference};

/// As registries limit manifests too.
const MAX_MANIFEST: usize = 4 << 20;
/// Configurations grow with an image's history.
const MAX_CONFIG: usize = 8 << 20;
/// Indexes within indexes.
const MAX_DEPTH: usize = 4;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Everything about an image but its layers' content.
pub(super) struct Plan {
    /// What the name means at the registry: the manifest, or an index that lists it.
    pub named: Digest,
    pub digest: Digest,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<PlannedLayer>,
}

/// A layer that the image takes.
pub(super) struct PlannedLayer {
    pub digest: Digest,
    pub size: u64,
    pub diff_id: Digest,
    pub chain_id: Digest,
}

/// What finds out.
pub(super) struct Planner<'a> {
    pub store: &'a ImageStore,
    pub registry: &'a Registry,
    pub reporter: &'a Reporter,
    pub reference: &'a Reference,
    pub platform: Wanted,
    pub max_layers: usize,
}

impl Planner<'_> {
    pub async fn plan(&self) -> Result<Plan, Error> {
        let mut found = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => self.by_digest(digest).await?,
            (None, tag) => self.by_tag(tag.unwrap_or("latest")).await?,
        };
        let named = found.digest.clone();
        for _ in 0..MAX_DEPTH {
            let Some(chosen) = self.choose(&found)? else {
                return self.image(named, found).await;
            };
            found = self.by_digest(&chosen.digest).await?;
        }
        Err(self.unsuitable("its indexes are nested too deeply"))
    }

    /// What a tag means. Asking what is here already for its digest alone costs the registry nothing, and some count
    /// what they send.
    async fn by_tag(&self, tag: &str) -> Result<Fetched, Error> {
        if let Some(found) = self.known(tag).await {
            return Ok(found);
        }
        persist(self.registry, self.reporter, &format!("tag {tag}"), async || {
            self.registry.manifest(tag, None, ACCEPT, MAX_MANIFEST).await
        })
        .await
    }

    /// The manifest of the store, if the registry says that the tag still means it.
    async fn known(&self, tag: &str) -> Option<Fetched> {
        let table = self.store.table().ok()?;
        let target = table.references.get(self.reference).filter(|target| target.index.is_none())?;
        let bytes = std::fs::read(self.store.blobs().join(target.manifest.hex())).ok()?;
        let digest = Digest::of(&bytes);
        let is_same = digest == target.manifest && self.registry.digest_of(tag, ACCEPT).await.as_ref() == Some(&digest);
        is_same.then(|| Fetched { bytes, media_type: String::new(), digest })
    }

    async fn by_digest(&self, digest: &Digest) -> Result<Fetched, Error> {
        persist(self.registry, self.reporter, &format!("manifest {digest}"), async || {
            self.registry.manifest(digest.as_str(), Some(digest), ACCEPT, MAX_MANIFEST).await
        })
        .await
    }

    /// The entry of an index for the platform; `None` when what was found is a manifest.
    fn choose(&self, found: &Fetched) -> Result<Option<Descriptor>, Error> {
        let broken = |e: serde_json::Error| self.unsuitable(&format!("its manifest {} is broken: {e}", found.digest));
        let value: serde_json::Value = serde_json::from_slice(&found.bytes).map_err(broken)?;
        let said = value.get("mediaType").and_then(|it| it.as_str()).unwrap_or(&found.media_type);
        if value.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
            return Err(self.unsuitable(
                "the registry has it as a Docker manifest of schema 1, which nobody writes since 2017: push it anew",
            ));
        }
        // What could be read as both may mean one thing to the registry's scanner and another to us.
        let (is_index, is_manifest) = (value.get("manifests").is_some(), value.get("layers").is_some());
        if is_index && is_manifest {
            return Err(self.unsuitable(&format!("its manifest {} is an index and a manifest at once", found.digest)));
        }
        let known = |types: &[&str]| types.contains(&said) || !said.starts_with("application/vnd.");
        if is_index && known(&INDEXES) {
            let index: Index = serde_json::from_slice(&found.bytes).map_err(broken)?;
            return self.select(index.manifests).map(Some);
        }
        if is_manifest && known(&MANIFESTS) {
            return Ok(None);
        }
        Err(self.unsuitable(&format!("the registry has it as {said:?}, which is no container image")))
    }

    fn select(&self, manifests: Vec<Descriptor>) -> Result<Descriptor, Error> {
        // Attestations are listed beside images.
        let images = manifests.into_iter().filter(|it| !it.annotations.contains_key("vnd.docker.reference.type"));
        let mut found = Vec::new();
        let mut best: Option<(usize, Descriptor)> = None;
        for descriptor in images {
            let rank = descriptor.platform.as_ref().map_or(Some(usize::MAX), |platform| self.platform.rank(platform));
            match (rank, &best) {
                (None, _) => found.extend(descriptor.platform.as_ref().map(ToString::to_string)),
                (Some(rank), Some((other, _))) if rank >= *other => {}
                (Some(rank), _) => best = Some((rank, descriptor)),
            }
        }
        found.retain(|platform| !platform.starts_with("unknown"));
        match best {
            Some((_, descriptor)) => Ok(descriptor),
            None => Err(Error::Platform { found: found.join(", "), wanted: self.platform.to_string() }),
        }
    }

    async fn image(&self, named: Digest, found: Fetched) -> Result<Plan, Error> {
        let manifest: Manifest = serde_json::from_slice(&found.bytes)
            .map_err(|e| self.unsuitable(&format!("its manifest {} is broken: {e}", found.digest)))?;
        let kind = &manifest.config.media_type;
        if !kind.is_empty() && !CONFIGS.contains(&kind.as_str()) {
            return Err(self.unsuitable(&format!("it is no container image but an artifact of type {kind:?}")));
        }
        for layer in &manifest.layers {
            self.check_layer(layer)?;
        }
        let config = self.config(&manifest.config).await?;
        let parsed: ConfigFile = serde_json::from_slice(&config)
            .map_err(|e| self.unsuitable(&format!("its configuration {} is broken: {e}", manifest.config.digest)))?;
        if !self.platform.runs(&parsed) {
            let found = format!("{}/{}", parsed.os, parsed.architecture);
            return Err(Error::Platform { found, wanted: self.platform.to_string() });
        }
        let diff_ids = parsed.rootfs.diff_ids;
        let count = manifest.layers.len();
        if diff_ids.len() != count || count == 0 {
            let listed = diff_ids.len();
            return Err(self.unsuitable(&format!("it has {count} layers, and its configuration lists {listed}")));
        }
        if count > self.max_layers {
            return Err(Error::TooManyLayers { count, limit: self.max_layers });
        }
        let mut layers: Vec<PlannedLayer> = Vec::new();
        for (layer, diff_id) in manifest.layers.into_iter().zip(diff_ids) {
            let chain_id = chain_id(layers.last().map(|below| &below.chain_id), &diff_id);
            layers.push(PlannedLayer { digest: layer.digest, size: layer.size, diff_id, chain_id });
        }
        Ok(Plan { named, digest: found.digest, manifest: found.bytes, config, layers })
    }

    fn check_layer(&self, layer: &Descriptor) -> Result<(), Error> {
        let kind = layer.media_type.as_str();
        if kind.contains("foreign") || kind.contains("nondistributable") || !layer.urls.is_empty() {
            return Err(self.unsuitable(&format!(
                "its layer {} is not in the registry but elsewhere ({}); such layers are not fetched",
                layer.digest,
                layer.urls.first().map_or("it says not where", String::as_str)
            )));
        }
        if LAYERS.contains(&kind) {
            return Ok(());
        }
        Err(self.unsuitable(&format!("its layer {} is of type {kind:?}, which cannot be unpacked", layer.digest)))
    }

    /// The configuration: the store's own, if it has it.
    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if descriptor.size > MAX_CONFIG as u64 {
            let size = descriptor.size;
            return Err(self.unsuitable(&format!("its configuration has {size} bytes; {MAX_CONFIG} are allowed")));
        }
        let digest = &descriptor.digest;
        if let Ok(bytes) = std::fs::read(self.store.blobs().join(digest.hex()))
            && Digest::of(&bytes) == *digest
        {
            return Ok(bytes);
        }
        persist(self.registry, self.reporter, &format!("configuration {digest}"), async || {
            self.registry.document(digest, "configuration", MAX_CONFIG).await
        })
        .await
    }

    fn unsuitable(&self, reason: &str) -> Error {
        Error::Unsuitable { image: self.reference.to_string(), reason: reason.to_owned() }
    }
}
