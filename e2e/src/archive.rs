//! Image archives made by hand: well-formed ones without any image tool, and ill-formed ones that no tool would write.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// One tar entry, written as it is: names may climb, links may point anywhere.
#[derive(Clone)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryType,
    /// Its name, unchecked.
    pub name: &'a [u8],
    /// What a link points to, unchecked.
    pub target: &'a [u8],
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Contents.
    pub data: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl<'a> Entry<'a> {
    /// An empty regular file of root's, mode 0644.
    pub fn new(kind: EntryType, name: &'a str) -> Self {
        let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
        Self { kind, name: name.as_bytes(), target: b"", mode, uid: 0, gid: 0, data: b"", device: (0, 0) }
    }

    fn header(&self) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.uid);
        header.set_gid(self.gid);
        header.set_mtime(1_700_000_000);
        header.set_size(self.data.len() as u64);
        let gnu = header.as_gnu_mut().expect("made as gnu");
        copy(&mut gnu.name, self.name);
        copy(&mut gnu.linkname, self.target);
        header.set_device_major(self.device.0).and_then(|()| header.set_device_minor(self.device.1)).expect("gnu");
        header.set_cksum();
        header
    }
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// A layer under construction: a tar in memory.
#[derive(Default)]
pub struct Layer {
    tar: Vec<u8>,
}

impl Layer {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry as it is; names past 100 bytes as GNU tar writes them.
    pub fn entry(mut self, entry: &Entry<'_>) -> Self {
        for (kind, long) in [(EntryType::GNULongName, entry.name), (EntryType::GNULongLink, entry.target)] {
            if long.len() > 100 {
                let data = [long, b"\0"].concat();
                self.append(&Entry { data: &data, ..Entry::new(kind, "././@LongLink") });
            }
        }
        self.append(entry);
        self
    }

    fn append(&mut self, entry: &Entry<'_>) {
        self.tar.extend_from_slice(entry.header().as_bytes());
        self.tar.extend_from_slice(entry.data);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
    }

    /// A directory.
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(&Entry { mode, ..Entry::new(EntryType::Directory, name) })
    }

    /// A regular file.
    pub fn file(self, name: &str, mode: u32, data: &[u8]) -> Self {
        self.entry(&Entry { mode, data, ..Entry::new(EntryType::Regular, name) })
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(&Entry { mode: 0o777, target: target.as_bytes(), ..Entry::new(EntryType::Symlink, name) })
    }

    /// A hard link to an entry before.
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(&Entry { mode: 0o755, target: target.as_bytes(), ..Entry::new(EntryType::Link, name) })
    }

    /// How long the tar is so far.
    pub fn len(&self) -> usize {
        self.tar.len()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.tar.is_empty()
    }

    /// Cuts the tar: what a broken download leaves.
    pub fn truncated(mut self, length: usize) -> Arc<Vec<u8>> {
        self.tar.truncate(length);
        Arc::new(self.tar)
    }

    /// The tar, ended as it must be.
    pub fn finish(mut self) -> Arc<Vec<u8>> {
        self.tar.resize(self.tar.len() + 1024, 0);
        Arc::new(self.tar)
    }
}

/// How layers are stored in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As tar.
    Plain,
    /// As gzip, fast.
    Gzip,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The documents and layers of an image, as they are stored.
pub struct Blobs {
    /// The manifest, of OCI's media type.
    pub manifest: Vec<u8>,
    /// The configuration.
    pub config: Vec<u8>,
    /// The layers.
    pub layers: Vec<Vec<u8>>,
}

/// An image: a reference, layers, and the runtime half of its configuration.
#[derive(Clone)]
pub struct Image {
    /// What it is called.
    pub reference: String,
    /// Uncompressed tars, lowest first.
    pub layers: Vec<Arc<Vec<u8>>>,
    /// `Env`, `Cmd`, `Entrypoint`, `User`, `WorkingDir` and so on.
    pub config: Value,
}

impl Image {
    /// The image's configuration file.
    pub fn config_file(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let file = json!({
            "architecture": architecture, "os": "linux", "created": "2023-11-14T22:13:20Z", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": self.layers.iter().map(|_| json!({"created_by": "e2e"})).collect::<Vec<_>>(),
        });
        file.to_string().into_bytes()
    }

    /// Writes an `oci-archive`.
    pub fn write_oci(&self, path: &Path, packing: Packing) -> io::Result<()> {
        self.write_oci_with(path, packing, |_, blob| blob)
    }

    /// What a registry holds of the image.
    pub fn blobs(&self, packing: Packing) -> io::Result<Blobs> {
        let mut described = Vec::new();
        let mut layers = Vec::new();
        for layer in &self.layers {
            let (blob, suffix) = match packing {
                Packing::Plain => (layer.to_vec(), ""),
                Packing::Gzip => (gzip(layer)?, "+gzip"),
            };
            described.push(descriptor(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), &blob));
            layers.push(blob);
        }
        let config = self.config_file();
        let config_descriptor = descriptor("application/vnd.oci.image.config.v1+json", &config);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config_descriptor, "layers": described});
        Ok(Blobs { manifest: manifest.to_string().into_bytes(), config, layers })
    }

    /// Writes an `oci-archive` whose layer blobs went through `damage` (layer number, blob) after they were described.
    pub fn write_oci_with(
        &self,
        path: &Path,
        packing: Packing,
        damage: impl Fn(usize, Vec<u8>) -> Vec<u8>,
    ) -> io::Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
        put(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let Blobs { manifest, config, layers } = self.blobs(packing)?;
        for (number, blob) in layers.into_iter().enumerate() {
            put(&mut tar, &blob_path(&digest(&blob)), &damage(number, blob))?;
        }
        put(&mut tar, &blob_path(&digest(&config)), &config)?;
        put(&mut tar, &blob_path(&digest(&manifest)), &manifest)?;
        let mut described = descriptor(MANIFEST, &manifest);
        described["annotations"] = json!({"org.opencontainers.image.ref.name": self.reference});
        let index = json!({"schemaVersion": 2, "manifests": [described]});
        put(&mut tar, "index.json", index.to_string().as_bytes())?;
        tar.into_inner()?.flush()
    }

    /// Writes a `docker-archive`, as `docker save` did.
    pub fn write_docker(&self, path: &Path) -> io::Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
        let config = self.config_file();
        let config_name = format!("{}.json", hex(&config));
        put(&mut tar, &config_name, &config)?;
        let mut names = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", hex(layer));
            put(&mut tar, &name, layer)?;
            names.push(name);
        }
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": names}]);
        put(&mut tar, "manifest.json", manifest.to_string().as_bytes())?;
        tar.into_inner()?.flush()
    }
}

fn put<W: Write>(tar: &mut tar::Builder<W>, name: &str, data: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(data.len() as u64);
    tar.append_data(&mut header, name, data)
}

fn gzip(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data)?;
    encoder.finish()
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// `sha256:` and the digest of `data`.
pub fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex(data))
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}
