//! Decompression by what the bytes are, not by what a media type claims.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window we hold; frames of `zstd -19` need 8 MiB. More would let an image choose our memory.
const ZSTD_WINDOW: u64 = 32 << 20;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Tells by the first bytes.
    pub(super) fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// A stream, decompressed if it is compressed.
pub(super) enum Decompressor<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<Zstd<R>>),
}

impl<R: BufRead> Decompressor<R> {
    /// Looks at the first bytes of `source` and chooses.
    pub(super) fn new(mut source: R) -> io::Result<Self> {
        Ok(match Compression::of(source.fill_buf()?) {
            Compression::None => Decompressor::Plain(source),
            Compression::Gzip => Decompressor::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => Decompressor::Zstd(Box::new(Zstd::new(source))),
        })
    }

    /// How the stream is compressed.
    pub(super) fn compression(&self) -> Compression {
        match self {
            Decompressor::Plain(_) => Compression::None,
            Decompressor::Gzip(_) => Compression::Gzip,
            Decompressor::Zstd(_) => Compression::Zstd,
        }
    }

    /// The compressed stream.
    pub(super) fn source(&self) -> &R {
        match self {
            Decompressor::Plain(source) => source,
            Decompressor::Gzip(decoder) => decoder.get_ref(),
            Decompressor::Zstd(zstd) => &zstd.source,
        }
    }

    /// Gives the compressed stream back, wherever it stands.
    pub(super) fn into_source(self) -> R {
        match self {
            Decompressor::Plain(source) => source,
            Decompressor::Gzip(decoder) => decoder.into_inner(),
            Decompressor::Zstd(zstd) => zstd.source,
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressor::Plain(source) => source.read(buffer),
            Decompressor::Gzip(decoder) => decoder.read(buffer),
            Decompressor::Zstd(zstd) => zstd.read(buffer),
        }
    }
}

/// All frames of a zstd stream; the decoder of the library knows one.
pub(super) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    active: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        Zstd { source, decoder, active: false }
    }

    /// Begins the next frame; false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {e}"))),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.active {
                if !self.begin()? {
                    return Ok(0);
                }
                self.active = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.source, strategy)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {e}")))?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            self.active = false;
        }
    }
}
