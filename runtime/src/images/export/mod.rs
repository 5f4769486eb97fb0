//! Writing images to an archive, as they came: the same manifest, the same blobs.

mod docker;
mod oci;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tar::{EntryType, Header};

use super::digest::{Digest, HashingReader};
use super::durable;
use super::error::Error;
use super::record::Manifest;
use super::{ImageStore, Reference, space};

const BUFFER: usize = 1 << 20;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout in a tar.
    Oci,
    /// What `docker save` writes.
    Docker,
}

/// An image to write.
struct Chosen {
    /// The names it has in the archive; an image without any is found by its id alone.
    names: Vec<Reference>,
    manifest_digest: Digest,
    manifest_size: u64,
    manifest: Manifest,
}

/// A blob, open: whatever becomes of its image meanwhile, it can be read.
struct Blob {
    digest: Digest,
    file: File,
    size: u64,
}

impl ImageStore {
    /// Writes images to an archive at `path`, which is replaced when all of it is written and on the disk. An image
    /// asked for by a name has that name in the archive, one asked for by its id all its names.
    pub fn export(
        &self,
        images: &[String],
        path: &Path,
        format: Format,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let mut chosen: Vec<Chosen> = Vec::new();
        let mut blobs = Vec::new();
        {
            // Until the blobs are open nobody removes them.
            let _lock = self.lock()?;
            for image in images {
                let image = self.choose(image)?;
                match chosen.iter_mut().find(|other| other.manifest_digest == image.manifest_digest) {
                    Some(other) => other.names.extend(image.names),
                    None => chosen.push(image),
                }
            }
            for image in &mut chosen {
                image.names.sort();
                image.names.dedup();
                self.open_blobs(image, format, &mut blobs)?;
            }
        }
        let documents = match format {
            Format::Oci => oci::documents(&chosen)?,
            Format::Docker => docker::documents(&chosen)?,
        };
        write_archive(path, &documents, blobs, progress)
    }

    fn choose(&self, name: &str) -> Result<Chosen, Error> {
        let id = self.find(name)?;
        let table = self.table()?;
        let all: Vec<_> = table.names_of(&id).collect();
        let asked = Reference::parse(name).ok();
        let one = asked.as_ref().and_then(|asked| all.iter().find(|(name, _)| *name == asked));
        let record = self.record(&id)?;
        let record = record.ok_or_else(|| Error::Record {
            path: self.record_path(&id),
            reason: "it was removed at this moment".to_owned(),
        })?;
        let (names, manifest_digest) = match one {
            Some((name, target)) => (vec![(*name).clone()], target.manifest.clone()),
            None => (all.iter().map(|(name, _)| (*name).clone()).collect(), record.manifest),
        };
        let path = self.blobs().join(manifest_digest.hex());
        let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let manifest = serde_json::from_slice(&bytes).map_err(|e| Error::Record { path, reason: e.to_string() })?;
        Ok(Chosen { names, manifest_digest, manifest_size: bytes.len() as u64, manifest })
    }

    fn open_blobs(&self, image: &Chosen, format: Format, blobs: &mut Vec<Blob>) -> Result<(), Error> {
        let name = image.names.first().map_or_else(|| image.manifest.config.digest.to_string(), ToString::to_string);
        let documents = [&image.manifest.config.digest].into_iter();
        let documents = documents.chain((format == Format::Oci).then_some(&image.manifest_digest));
        let layers = image.manifest.layers.iter().map(|layer| &layer.digest);
        for digest in documents.chain(layers) {
            if blobs.iter().any(|blob| blob.digest == *digest) {
                continue;
            }
            let path = self.blobs().join(digest.hex());
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::BlobMissing { image: name, layer: digest.clone() });
                }
                Err(e) => return Err(Error::io("open", &path, e)),
            };
            let size = file.metadata().map_err(|e| Error::io("look at", &path, e))?.len();
            blobs.push(Blob { digest: digest.clone(), file, size });
        }
        Ok(())
    }
}

/// Documents by their name in the archive.
type Documents = Vec<(String, Vec<u8>)>;

fn write_archive(
    path: &Path,
    documents: &Documents,
    blobs: Vec<Blob>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let invalid = || Error::Archive { path: path.to_owned(), reason: "is no path for a file".to_owned() };
    let (directory, name) = (path.parent().ok_or_else(invalid)?, path.file_name().ok_or_else(invalid)?);
    if path.is_dir() {
        return Err(Error::Archive { path: path.to_owned(), reason: "is a directory".to_owned() });
    }
    space::check(directory, blobs.iter().map(|blob| blob.size).sum(), 1)?;
    let temporary = directory.join(format!(".{}.{}", name.to_string_lossy(), durable::random_name()?));
    let result = write_temporary(&temporary, documents, blobs, progress)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| Error::io("write", path, e)));
    if let Err(error) = result {
        // The first failure is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    durable::sync_dir(directory)
}

fn write_temporary(
    path: &Path,
    documents: &Documents,
    blobs: Vec<Blob>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let failed = |e: io::Error| Error::io("write", path, e);
    // Images may hold secrets.
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, file);
    let total = blobs.iter().map(|blob| blob.size).sum();
    let mut written = 0;
    for (name, bytes) in documents {
        out.write_all(header(name, bytes.len() as u64)?.as_bytes()).map_err(failed)?;
        out.write_all(bytes).map_err(failed)?;
        pad(&mut out, bytes.len() as u64).map_err(failed)?;
    }
    for blob in blobs {
        let name = format!("blobs/sha256/{}", blob.digest.hex());
        out.write_all(header(&name, blob.size)?.as_bytes()).map_err(failed)?;
        let mut reader = HashingReader::new(blob.file.take(blob.size));
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| Error::io("read", Path::new(&name), e))?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(failed)?;
            written += n as u64;
            progress(written, total);
        }
        let (actual, _) = reader.finish().map_err(|e| Error::io("read", Path::new(&name), e))?;
        if actual != blob.digest {
            let what = "a blob of the image store".to_owned();
            return Err(Error::DigestMismatch { what, expected: blob.digest, actual });
        }
        pad(&mut out, blob.size).map_err(failed)?;
    }
    out.write_all(&[0; 1024]).map_err(failed)?;
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}

/// The same archive for the same image: no time, no owner.
fn header(name: &str, size: u64) -> Result<Header, Error> {
    let mut header = Header::new_gnu();
    header.set_path(name).map_err(|e| Error::io("name", Path::new(name), e))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let missing = (size.next_multiple_of(512) - size) as usize;
    out.write_all(&[0; 512][..missing])
}
