//! Tars, layers and archives made to measure, sound or not.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::images::tarstream::{TarReader, TarSource};
use crate::images::unpack::{self, Contents, Layer};
use crate::images::{Digest, Error, ImageStore, Imported, Limits};

/// One entry; what is not set is as an ordinary image has it.
#[derive(Clone, Debug)]
pub struct E {
    pub kind: EntryType,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub data: Vec<u8>,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub device: (u32, u32),
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl E {
    pub fn new(kind: EntryType, path: impl AsRef<[u8]>) -> E {
        E {
            kind,
            path: path.as_ref().to_vec(),
            link: Vec::new(),
            data: Vec::new(),
            mode: if kind == EntryType::Directory { 0o755 } else { 0o644 },
            owner: (0, 0),
            mtime: 1_000_000_000,
            device: (0, 0),
            pax: Vec::new(),
        }
    }

    pub fn file(path: &str, data: &str) -> E {
        E { data: data.into(), ..E::new(EntryType::Regular, path) }
    }

    pub fn dir(path: &str) -> E {
        E::new(EntryType::Directory, path)
    }

    pub fn symlink(path: &str, to: &str) -> E {
        E { link: to.into(), ..E::new(EntryType::Symlink, path) }
    }

    pub fn hard_link(path: &str, to: &str) -> E {
        E { link: to.into(), ..E::new(EntryType::Link, path) }
    }

    pub fn device(kind: EntryType, path: &str, device: (u32, u32)) -> E {
        E { device, ..E::new(kind, path) }
    }

    pub fn mode(self, mode: u32) -> E {
        E { mode, ..self }
    }

    pub fn owner(self, uid: u64, gid: u64) -> E {
        E { owner: (uid, gid), ..self }
    }

    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> E {
        self.pax.push((key.into(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> E {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut pax = self.pax.clone();
        for (key, value) in [("path", &self.path), ("linkpath", &self.link)] {
            if value.len() > 100 {
                pax.push((key.into(), value.clone()));
            }
        }
        if !pax.is_empty() {
            let records: Vec<u8> = pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            E { data: records, ..E::new(EntryType::XHeader, "pax") }.write_plain(out);
        }
        self.write_plain(out);
    }

    /// Header and content as they are, with none of the checks of a writer.
    fn write_plain(&self, out: &mut Vec<u8>) {
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        for (field, value) in [(&mut old.name, &self.path), (&mut old.linkname, &self.link)] {
            let n = value.len().min(100);
            field[..n].copy_from_slice(&value[..n]);
        }
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.mtime);
        header.set_size(self.data.len() as u64);
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub fn tar(entries: &[E]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| entry.write(&mut out));
    out.resize(out.len() + 1024, 0);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

impl TarSource for Cursor<Vec<u8>> {}

/// Unpacks entries into a fresh directory `name` of `root`, above `lower`.
pub fn unpack(root: &Path, name: &str, lower: &[PathBuf], entries: &[E]) -> Result<Contents, Error> {
    unpack_bytes(root, name, lower, tar(entries), &Limits::default())
}

pub fn unpack_bytes(
    root: &Path,
    name: &str,
    lower: &[PathBuf],
    bytes: Vec<u8>,
    limits: &Limits,
) -> Result<Contents, Error> {
    let target = root.join(name);
    fs::create_dir(&target).unwrap();
    let layer = Layer { name: "test", target: &target, lower, lower_ready: &|| Ok(()), limits };
    unpack::unpack(&mut TarReader::new(Cursor::new(bytes)), &layer)
}

/// An image to be written as an archive. `layers` are blobs with the tar each should unpack to.
#[derive(Clone)]
pub struct Crafted {
    pub layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub config: Value,
    pub name: Option<String>,
    pub architecture: String,
}

impl Crafted {
    pub fn new(name: &str, layers: &[Vec<E>]) -> Crafted {
        let layers = layers.iter().map(|entries| (tar(entries), tar(entries))).collect();
        Crafted {
            layers,
            config: json!({"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": null, "ExposedPorts": {"80/tcp": {}}}),
            name: Some(name.to_owned()),
            architecture: crate::images::platform::architecture().to_owned(),
        }
    }

    pub fn compressed(mut self, how: fn(&[u8]) -> Vec<u8>) -> Crafted {
        for (blob, tar) in &mut self.layers {
            *blob = how(tar);
        }
        self
    }

    pub fn config_bytes(&self) -> Vec<u8> {
        let diff_ids: Vec<Digest> = self.layers.iter().map(|(_, tar)| Digest::of(tar)).collect();
        json!({
            "architecture": self.architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes()
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config_bytes())
    }

    pub fn manifest_bytes(&self) -> Vec<u8> {
        let descriptor =
            |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
        let layers: Vec<Value> =
            self.layers.iter().map(|(blob, _)| descriptor("application/vnd.oci.image.layer.v1.tar", blob)).collect();
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.config_bytes()), "layers": layers,
        })
        .to_string()
        .into_bytes()
    }

    /// The descriptor of the manifest, as an index has it.
    pub fn descriptor(&self) -> Value {
        let manifest = self.manifest_bytes();
        let mut value = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&manifest), "size": manifest.len(),
        });
        if let Some(name) = &self.name {
            value["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        value
    }

    /// Path and content of every blob.
    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let documents = [self.manifest_bytes(), self.config_bytes()];
        let blobs = self.layers.iter().map(|(blob, _)| blob.clone()).chain(documents);
        blobs.map(|bytes| (format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes)).collect()
    }

    pub fn oci(&self) -> Vec<u8> {
        oci_archive(&[self.descriptor()], &self.blobs())
    }

    pub fn docker(&self) -> Vec<u8> {
        let config = format!("{}.json", self.id().hex());
        let layers: Vec<String> = (0..self.layers.len()).map(|i| format!("{i}/layer.tar")).collect();
        let manifest = json!([{"Config": config, "RepoTags": self.name.iter().collect::<Vec<_>>(), "Layers": layers}]);
        let mut parts = vec![(config, self.config_bytes())];
        parts.extend(layers.into_iter().zip(self.layers.iter().map(|(blob, _)| blob.clone())));
        parts.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        parts_archive(&parts)
    }
}

pub fn oci_archive(manifests: &[Value], blobs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
    let mut parts = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    parts.extend_from_slice(blobs);
    parts.push(("index.json".to_owned(), index));
    parts_archive(&parts)
}

pub fn parts_archive(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entry = |(path, data): &(String, Vec<u8>)| E { data: data.clone(), ..E::file(path, "") };
    tar(&parts.iter().map(entry).collect::<Vec<_>>())
}

/// A store in a directory of its own.
pub struct Bench {
    pub root: tempfile::TempDir,
    pub store: ImageStore,
}

impl Bench {
    pub fn new() -> Bench {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path()).unwrap();
        Bench { root, store }
    }

    pub fn import(&self, archive: &[u8]) -> Result<Vec<Imported>, Error> {
        self.import_with(archive, None, &Limits::default())
    }

    pub fn import_with(
        &self,
        archive: &[u8],
        reference: Option<&str>,
        limits: &Limits,
    ) -> Result<Vec<Imported>, Error> {
        let path = self.root.path().join(format!("{}.tar", crate::images::durable::random_name().unwrap()));
        fs::write(&path, archive).unwrap();
        let result = self.store.import(&path, reference, limits, &mut |_| {});
        fs::remove_file(path).unwrap();
        result
    }

    /// Everything in the store but its empty directories, its lock and its table.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        ["blobs/sha256", "images", "layers", "l", "tmp", "quarantine"]
            .iter()
            .flat_map(|directory| fs::read_dir(self.store.path().join(directory)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}
