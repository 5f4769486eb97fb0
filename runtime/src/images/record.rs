//! What the store keeps on disk about images and layers, and what images say about themselves.
//!
//! Our own records carry a version. The OCI documents are read leniently: Docker writes `null` for what is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::decompress::Compression;
use super::digest::Digest;
use super::reference::Reference;

/// The version of every record that this code writes.
pub(super) const VERSION: u32 = 1;

/// `layers/<name>.json`: a layer that is unpacked and durable in `l/<name>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub version: u32,
    /// Names the layer and all below it: an unpacked layer depends on those (see `finish` in `unpack`).
    pub chain_id: Digest,
    pub diff_id: Digest,
    /// Bytes of the files' content.
    pub bytes: u64,
    /// The same in whole blocks, directories included.
    pub disk_bytes: u64,
    pub inodes: u64,
    /// The layer hides everything below it. Overlay has no word for that: the layers below are left out.
    pub opaque_root: bool,
}

/// `images/<hex>.json`: an image of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub version: u32,
    /// The configuration's digest, which is the image's id.
    pub id: Digest,
    /// The generation of the table that has these references. A newer one than the table's own means that the writer
    /// died in between.
    pub generation: u64,
    /// The manifest it came with last. The same image may come with others: compressed otherwise, say.
    pub manifest: Digest,
    /// Chain ids, lowest first.
    pub layers: Vec<Digest>,
    /// References at the time of writing, to rebuild the table of references from.
    pub references: BTreeMap<Reference, Digest>,
    /// Bytes, unpacked.
    pub size: u64,
    /// When the image came, in seconds since the epoch.
    pub imported_at: u64,
    /// The image is made from our own binary.
    pub builtin: bool,
    /// The layers' blobs that are kept, as the image's manifests name them. Older records have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_blobs: Vec<Digest>,
    /// What a registry calls the image under each name, where that is an index and not the manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<Reference, Digest>,
}

/// `references.json`: which image each reference means.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Table {
    pub version: u32,
    /// Grows with every change of the store.
    pub generation: u64,
    pub references: BTreeMap<Reference, Target>,
}

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// The image.
    pub id: Digest,
    /// The manifest under which the image came by this name.
    pub manifest: Digest,
    /// The index that the name means at its registry, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
}

impl Target {
    /// The digest that the image has at its registry.
    pub fn at_registry(&self) -> &Digest {
        self.index.as_ref().unwrap_or(&self.manifest)
    }
}

impl ImageRecord {
    /// The blobs that belong to the image.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        self.documents().chain(&self.layer_blobs)
    }

    /// The configuration and the manifests.
    pub fn documents(&self) -> impl Iterator<Item = &Digest> {
        [&self.id, &self.manifest].into_iter().chain(self.references.values())
    }
}

impl Table {
    /// Points the names of an image at it.
    pub fn announce(&mut self, image: &ImageRecord) {
        for (name, manifest) in &image.references {
            let index = image.indexes.get(name).cloned();
            self.references.insert(name.clone(), Target { id: image.id.clone(), manifest: manifest.clone(), index });
        }
    }

    /// Prepares for tags that are about to mean another image: the ones that they mean until then keep the names that
    /// never mean another, those by digest. Gives the ids of these images.
    pub fn moved(&mut self, image: &ImageRecord) -> Vec<Digest> {
        let moves = |(name, target): &(&Reference, &Target)| {
            name.digest().is_none() && target.id != image.id && image.references.contains_key(*name)
        };
        let kept: Vec<(Reference, Target)> = self
            .references
            .iter()
            .filter(moves)
            // The built-in image of an older binary is to go.
            .filter(|(name, _)| !super::builtin::is_builtin(name))
            .map(|(name, target)| (name.with_digest(target.at_registry().clone()), target.clone()))
            .collect();
        let mut ids: Vec<Digest> = kept.iter().map(|(_, target)| target.id.clone()).collect();
        ids.dedup();
        for (name, target) in kept {
            self.references.entry(name).or_insert(target);
        }
        ids
    }

    /// What an image's record says of its names: the manifests, and the indexes where there are such.
    pub fn record_of(&self, id: &Digest) -> (BTreeMap<Reference, Digest>, BTreeMap<Reference, Digest>) {
        let names = || self.names_of(id).map(|(name, target)| (name.clone(), target));
        let manifests = names().map(|(name, target)| (name, target.manifest.clone())).collect();
        let indexes = names().filter_map(|(name, target)| Some((name, target.index.clone()?))).collect();
        (manifests, indexes)
    }

    /// The names of an image, each with what it means.
    pub fn names_of<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = (&'a Reference, &'a Target)> {
        self.references.iter().filter(move |(_, target)| target.id == *id)
    }
}

/// `builtin.json`: which binary the built-in image was made from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BuiltinRecord {
    pub version: u32,
    pub build: String,
    pub id: Digest,
}

/// A blob as a manifest or index names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Where else it is, for layers that may not be distributed.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The machine an image is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// An OCI image index or a Docker manifest list.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
}

/// An OCI image manifest or a Docker one of schema 2.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// A manifest for an image that came without one: its configuration, and each layer's blob.
    pub fn new(config: &[u8], layers: &[(Digest, u64, Compression)]) -> Manifest {
        let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
        };
        let layer = |(digest, size, compression): &(Digest, u64, Compression)| {
            let suffix = match compression {
                Compression::None => "",
                Compression::Gzip => "+gzip",
                Compression::Zstd => "+zstd",
            };
            descriptor(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), digest.clone(), *size)
        };
        Manifest {
            schema_version: 2,
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            config: descriptor("application/vnd.oci.image.config.v1+json", Digest::of(config), config.len() as u64),
            layers: layers.iter().map(layer).collect(),
        }
    }
}

/// An image's configuration file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ImageConfig,
    pub rootfs: RootFs,
}

/// The layers of an image, unpacked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

/// What an image says about the process to run in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "PascalCase"), default)]
pub struct ImageConfig {
    /// `KEY=VALUE` each.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What runs, unless the container says otherwise.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its arguments, unless the container says otherwise.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `USER[:GROUP]`, names or numbers; empty is root.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Where the process starts; empty is `/`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The signal that asks the process to stop; empty is SIGTERM.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Free-form labels.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Paths that the image would have as volumes.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Ports the process listens on, as `80/tcp`.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys", skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Volumes and ports are maps to empty objects, of which only the keys say anything.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: serde::Serializer>(keys: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(keys.iter().map(|k| (k, BTreeMap::<String, String>::new())))
}
