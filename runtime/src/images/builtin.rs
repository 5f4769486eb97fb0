//! The built-in image: our own binary and what a process needs around it, so that pods run with no registry in reach.

use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tar::{EntryType, Header};

use super::commit::{Candidate, Committed};
use super::decompress::Compression;
use super::digest::Digest;
use super::durable::{self, json};
use super::error::Error;
use super::pipeline::Blob;
use super::record::{BuiltinRecord, ConfigFile, ImageConfig, Manifest, RootFs, VERSION};
use super::reference::Reference;
use super::resolve::Image;
use super::section::Section;
use super::{ImageStore, Limits};

/// The built-in image's name. Nothing below `coracle.local/` is ever looked up anywhere.
pub const BUILTIN_REFERENCE: &str = "coracle.local/tools:latest";

const RECORD: &str = "builtin.json";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/:/bin/coracle\nnobody:x:65534:65534:nobody:/:/bin/coracle\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

impl ImageStore {
    /// The built-in image, made from the running binary if this binary has not made it yet.
    pub fn ensure_builtin(&self) -> Result<Image, Error> {
        self.ensure_builtin_from(Path::new("/proc/self/exe"))
    }

    /// The same from a given binary.
    pub(super) fn ensure_builtin_from(&self, binary: &Path) -> Result<Image, Error> {
        let mut file = File::open(binary).map_err(|e| Error::io("open", binary, e))?;
        let meta = file.metadata().map_err(|e| Error::io("look at", binary, e))?;
        let build = format!(
            "{}:{}:{}:{}.{:09}:{}",
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
            env!("CARGO_PKG_VERSION")
        );
        if let Some(id) = self.built(&build)? {
            return self.image(&id);
        }
        let id = self.build(&mut file, meta.len())?;
        // Temporaries of single files are swept by whoever has the lock.
        let lock = self.lock()?;
        durable::write_json(self.path(), RECORD, &BuiltinRecord { version: VERSION, build, id: id.clone() })?;
        drop(lock);
        self.image(&id)
    }

    /// The id of the image that `build` made, if it is still what the name means.
    fn built(&self, build: &str) -> Result<Option<Digest>, Error> {
        // A record that cannot be read costs a build, nothing else.
        let record: Option<BuiltinRecord> = durable::read_json(&self.path().join(RECORD)).unwrap_or(None);
        let Some(record) = record.filter(|r| r.version == VERSION && r.build == build) else { return Ok(None) };
        let named = self.table()?.names_of(&record.id).any(|(name, _)| is_builtin(name));
        Ok((named && self.record(&record.id)?.is_some()).then_some(record.id))
    }

    fn build(&self, binary: &mut File, size: u64) -> Result<Digest, Error> {
        let limits = Limits { max_bytes: u64::MAX / 2, ..Limits::default() };
        loop {
            super::space::check(self.path(), size, 16)?;
            let work = self.temporary()?;
            let copy = binary.try_clone().map_err(|e| Error::io("open", Path::new("/proc/self/exe"), e))?;
            let blob = Blob { reader: layer(copy, size)?, size: None, digest: None, diff_id: None };
            let (ready, done) =
                self.unpack_layer(&work, ("of the built-in image", blob), (None, &[]), &limits, &mut |_| {})?;
            let config = json(&config(&done.diff_id))?;
            let manifest = json(&Manifest::new(&config, &[(done.digest, done.size, Compression::None)]))?;
            let references = vec![Reference::parse(BUILTIN_REFERENCE)?];
            // Its blob is not kept: every binary makes its own.
            let (layers, blobs, index) = (vec![ready], Vec::new(), None);
            let candidate = Candidate { config, manifest, layers, blobs, references, index, builtin: true };
            match self.commit(&work, candidate)? {
                Committed::Image(record) => return Ok(record.id),
                Committed::LayerLost => {}
            }
        }
    }
}

/// True for the built-in image's own name.
pub(super) fn is_builtin(reference: &Reference) -> bool {
    reference.digest().is_none() && reference.to_string() == BUILTIN_REFERENCE
}

/// The layer as a tar stream: small files, then the binary read from its file, then the end.
fn layer(binary: File, size: u64) -> Result<Box<dyn Read + Send>, Error> {
    let mut head = Vec::new();
    for (path, mode) in [("bin/", 0o755), ("etc/", 0o755), ("dev/", 0o755), ("proc/", 0o555), ("sys/", 0o555)] {
        head.extend_from_slice(header(path, EntryType::Directory, mode, 0)?.as_bytes());
    }
    head.extend_from_slice(header("tmp/", EntryType::Directory, 0o1777, 0)?.as_bytes());
    for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        head.extend_from_slice(header(path, EntryType::Regular, 0o644, text.len() as u64)?.as_bytes());
        head.extend_from_slice(text.as_bytes());
        head.resize(head.len().next_multiple_of(512), 0);
    }
    head.extend_from_slice(header("bin/coracle", EntryType::Regular, 0o755, size)?.as_bytes());
    let padding = size.next_multiple_of(512) - size;
    let tail = vec![0; padding as usize + 1024];
    let content = Section::new(binary, 0, size);
    Ok(Box::new(Cursor::new(head).chain(content).chain(Cursor::new(tail))))
}

fn header(path: &str, kind: EntryType, mode: u32, size: u64) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(|e| super::unpack::layer_error("of the built-in image", e))?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    // No time of its own: the same binary makes the same image.
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

fn config(diff_id: &Digest) -> ConfigFile {
    ConfigFile {
        architecture: super::platform::architecture().to_owned(),
        os: "linux".to_owned(),
        variant: String::new(),
        created: None,
        config: ImageConfig {
            entrypoint: vec!["/bin/coracle".to_owned(), "tool".to_owned()],
            env: vec![PATH.to_owned()],
            ..ImageConfig::default()
        },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id.clone()] },
    }
}
