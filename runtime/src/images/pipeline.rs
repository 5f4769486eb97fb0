//! From a blob to an unpacked layer on two threads: one reads, hashes and decompresses, the other parses and writes.
//! Between them a few buffers go round, so memory does not grow with the layer.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::decompress::{Compression, Decompressor};
use super::digest::{Digest, Hasher, HashingReader};
use super::error::Error;
use super::tarstream::{TarReader, TarSource};
use super::unpack::{self, Contents, Layer, layer_error};

const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 12;
const READ_BUFFER: usize = 128 << 10;
/// Tar's own bytes for one entry, more than any real one has: header, extended header, padding.
const OVERHEAD: u64 = 2048;

/// A layer's blob, and what it should be.
pub(super) struct Blob {
    pub reader: Box<dyn Read + Send>,
    /// Its length, if a descriptor says it.
    pub size: Option<u64>,
    /// Its digest, if a descriptor says it.
    pub digest: Option<Digest>,
    /// The digest of the tar inside, if a configuration says it.
    pub diff_id: Option<Digest>,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Done {
    pub contents: Contents,
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
    pub diff_id: Digest,
}

/// Unpacks a blob and verifies all that is known of it. `progress` hears how many bytes of the blob are read.
pub(super) fn run(blob: Blob, layer: &Layer<'_>, progress: &mut dyn FnMut(u64)) -> Result<Done, Error> {
    // The stream may be longer than the files by tar's own bytes and by zeros at its end, but not without bound.
    let bound = layer.limits.max_bytes.saturating_add(layer.limits.max_entries.saturating_mul(OVERHEAD));
    let (expected_diff, name) = (blob.diff_id.clone(), layer.name.to_owned());
    let (sender, chunks) = sync_channel(CHUNKS);
    let (recycle, recycled) = channel();
    let (contents, read) = std::thread::scope(|scope| {
        let decoder = scope.spawn(move || decode(blob, &name, bound, &sender, &recycled));
        let contents = write(Chunks { chunks, recycle, current: Vec::new(), at: 0, progress }, layer);
        let read = decoder.join().unwrap_or_else(|_| {
            Err(Error::Layer {
                layer: layer.name.to_owned(),
                source: io::Error::other("the thread that decompresses panicked"),
            })
        });
        (contents, read)
    });
    // When the blob cannot be read, that is the cause; the writer only saw the stream end.
    let (contents, read) = match (contents, read) {
        (Ok(contents), Ok(Some(read))) => (contents, read),
        (_, Err(error)) => return Err(error),
        (Err(error), Ok(_)) => return Err(error),
        (Ok(_), Ok(None)) => return Err(layer_error(layer.name, io::ErrorKind::UnexpectedEof.into())),
    };
    if let Some(expected) = expected_diff.filter(|expected| *expected != read.diff_id) {
        return Err(Error::DiffIdMismatch { layer: layer.name.to_owned(), expected, actual: read.diff_id });
    }
    if contents.skipped_xattrs > 0 {
        tracing::warn!(
            layer = layer.name,
            count = contents.skipped_xattrs,
            "extended attributes that this filesystem cannot keep were left out"
        );
    }
    Ok(Done { contents, digest: read.digest, size: read.size, compression: read.compression, diff_id: read.diff_id })
}

fn write(chunks: Chunks<'_>, layer: &Layer<'_>) -> Result<Contents, Error> {
    let mut reader = TarReader::new(chunks);
    let contents = unpack::unpack(&mut reader, layer)?;
    // What follows the archive's end belongs to its digest too.
    let chunks = reader.source();
    loop {
        let n = chunks.fill_buf().map_err(|e| layer_error(layer.name, e))?.len();
        if n == 0 {
            return Ok(contents);
        }
        chunks.consume(n);
    }
}

struct BlobRead {
    digest: Digest,
    size: u64,
    compression: Compression,
    diff_id: Digest,
}

/// A piece of the decompressed stream and how much of the blob it took so far.
type Chunk = (Vec<u8>, u64);

/// The reading thread. `None` when the writer has given up.
fn decode(
    blob: Blob,
    layer: &str,
    bound: u64,
    chunks: &SyncSender<Chunk>,
    recycled: &Receiver<Vec<u8>>,
) -> Result<Option<BlobRead>, Error> {
    let source = BufReader::with_capacity(READ_BUFFER, HashingReader::new(blob.reader));
    let mut decoder = Decompressor::new(source).map_err(|e| layer_error(layer, e))?;
    // The tar inside is the blob itself when nothing compresses it: one hash serves for both.
    let compression = decoder.compression();
    let mut hasher = (compression != Compression::None).then(Hasher::default);
    let mut total = 0u64;
    loop {
        let mut chunk = recycled.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let (filled, result) = fill(&mut decoder, &mut chunk);
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk[..filled]);
        }
        total += filled as u64;
        if total > bound {
            return Err(unpack::limit(layer, "bytes of archive", bound, "--max-bytes"));
        }
        if let Err(error) = result {
            // A damaged blob is the likelier cause of what the decoder found, and says more.
            verify(decoder, layer, blob.size, blob.digest)?;
            return Err(layer_error(layer, error));
        }
        if filled == 0 {
            break;
        }
        chunk.truncate(filled);
        if chunks.send((chunk, decoder.source().get_ref().count())).is_err() {
            return Ok(None);
        }
    }
    let (digest, size) = verify(decoder, layer, blob.size, blob.digest)?;
    let diff_id = hasher.map_or_else(|| digest.clone(), Hasher::finish);
    Ok(Some(BlobRead { digest, size, compression, diff_id }))
}

/// Fills `buffer` as far as the stream goes.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Err(e)),
        }
    }
    (filled, Ok(()))
}

/// Reads the rest of the blob and compares length and digest.
fn verify<R: Read>(
    decoder: Decompressor<BufReader<HashingReader<R>>>,
    layer: &str,
    size: Option<u64>,
    digest: Option<Digest>,
) -> Result<(Digest, u64), Error> {
    let (actual_digest, actual) = decoder.into_source().into_inner().finish().map_err(|e| layer_error(layer, e))?;
    if let Some(expected) = size.filter(|expected| *expected != actual) {
        return Err(Error::Size { what: format!("layer {layer}"), expected, actual });
    }
    if let Some(expected) = digest.filter(|expected| *expected != actual_digest) {
        return Err(Error::DigestMismatch { what: format!("layer {layer}"), expected, actual: actual_digest });
    }
    Ok((actual_digest, actual))
}

/// The writer's end: the chunks as one stream.
struct Chunks<'a> {
    chunks: Receiver<Chunk>,
    recycle: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    progress: &'a mut dyn FnMut(u64),
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            // A closed channel is the end of the stream; whether a good one the reading thread tells.
            let Ok((chunk, bytes)) = self.chunks.recv() else { return Ok(&[]) };
            let used = std::mem::replace(&mut self.current, chunk);
            self.at = 0;
            (self.progress)(bytes);
            // The other thread may be done and want no more buffers.
            let _ = self.recycle.send(used);
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.current.len());
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl TarSource for Chunks<'_> {}
