//! Clients that name the socket's path as the request's authority.
//!
//! gRPC implementations of some ages send `:authority: /run/x.sock` or `%2Frun%2Fx.sock` on a unix socket. That is no
//! host, and the HTTP/2 library refuses the request for it, as HTTP may. Here nobody looks at the authority, so those
//! clients are served: on the way in, `%` and `/` in it become `-`. Both have six bits in HPACK's Huffman code, as `-`
//! has: no length changes, neither of a frame nor of an entry of the compression's table, so that everything else passes
//! as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// What a client of HTTP/2 sends first.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A frame that carries headers (RFC 9113, 6.2) and its flags.
const HEADERS: u8 = 1;
#[cfg(test)]
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// `:authority` in HPACK's static table (RFC 7541, appendix A).
const AUTHORITY: u64 = 1;
const NAME: &[u8] = b":authority";

/// The first code and the number of codes of each length (RFC 7541, appendix B): the code is canonical, so that this is
/// all it takes to tell where a character ends. What has more bits is in no path that anybody sends here.
const CODES: [(u32, u32, u32); 10] = [
    (5, 0, 10),
    (6, 0x14, 26),
    (7, 0x5c, 32),
    (8, 0xf8, 6),
    (10, 0x3f8, 5),
    (11, 0x7fa, 3),
    (12, 0xffa, 2),
    (13, 0x1ff8, 6),
    (14, 0x3ffc, 2),
    (15, 0x7ffc, 3),
];
const PERCENT: u32 = 0x15;
const SLASH: u32 = 0x18;
const DASH: u32 = 0x16;

/// Replaces in a plain string.
fn mend_plain(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'%' | b'/')) {
        *byte = b'-';
    }
}

/// Replaces in a string of Huffman codes.
fn mend_huffman(value: &mut [u8]) {
    let (mut code, mut length) = (0u32, 0u32);
    for position in 0..value.len() * 8 {
        code = code << 1 | u32::from(value[position / 8] >> (7 - position % 8) & 1);
        length += 1;
        let Some(&(_, first, count)) = CODES.iter().find(|(bits, ..)| *bits == length) else {
            if length > 15 {
                return;
            }
            continue;
        };
        if !(first..first + count).contains(&code) {
            continue;
        }
        if length == 6 && (code == PERCENT || code == SLASH) {
            for (offset, bit) in (position - 5..=position).zip((0..6).rev().map(|bit| DASH >> bit & 1)) {
                let mask = 1 << (7 - offset % 8);
                value[offset / 8] = if bit == 1 { value[offset / 8] | mask } else { value[offset / 8] & !mask };
            }
        }
        (code, length) = (0, 0);
    }
}

/// A cursor in a header block.
struct Block<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Block<'_> {
    /// An integer with a prefix of some bits (RFC 7541, 5.1).
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let most = (1u64 << bits) - 1;
        let mut value = u64::from(*self.bytes.get(self.at)?) & most;
        self.at += 1;
        if value < most {
            return Some(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string and whether it is in Huffman codes (RFC 7541, 5.2).
    fn string(&mut self) -> Option<(bool, &mut [u8])> {
        let huffman = self.bytes.get(self.at)? & 0x80 != 0;
        let length = usize::try_from(self.integer(7)?).ok()?;
        let end = self.at.checked_add(length)?;
        let string = self.bytes.get_mut(self.at..end)?;
        self.at = end;
        Some((huffman, string))
    }

    /// One field (RFC 7541, 6).
    fn field(&mut self) -> Option<()> {
        let first = *self.bytes.get(self.at)?;
        let bits = match first {
            // Of a table, whole: it was mended when it came there.
            0x80.. => return self.integer(7).map(drop),
            0x40.. => 6,
            0x20.. => return self.integer(5).map(drop),
            _ => 4,
        };
        let index = self.integer(bits)?;
        let authority = if index == 0 {
            let (huffman, name) = self.string()?;
            if huffman { is_name(name) } else { name == NAME }
        } else {
            index == AUTHORITY
        };
        let (huffman, value) = self.string()?;
        match (authority, huffman) {
            (false, _) => {}
            (true, false) => mend_plain(value),
            (true, true) => mend_huffman(value),
        }
        Some(())
    }
}

/// `:authority` in Huffman codes.
fn is_name(name: &[u8]) -> bool {
    name == [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]
}

/// Mends every authority of a header block; what cannot be understood stays, for the library to refuse.
fn mend(bytes: &mut [u8]) {
    let mut block = Block { bytes, at: 0 };
    while block.field().is_some() {}
}

/// What has been read, up to where it may be passed on.
#[derive(Debug, Default)]
struct Filter {
    /// Bytes to take as they are: the preface's, or the rest of a frame that carries no headers.
    pass: usize,
    /// A frame with headers, not whole yet.
    held: Vec<u8>,
    /// Ready to be passed on, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
}

/// The most of a frame: what the server announces (its default).
const MAX_FRAME: usize = 16 * 1024;
const HEAD: usize = 9;

impl Filter {
    fn new() -> Self {
        Self { pass: PREFACE, ..Self::default() }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, rest) = bytes.split_at(self.pass.min(bytes.len()));
                self.ready.extend_from_slice(now);
                (self.pass, bytes) = (self.pass - now.len(), rest);
                continue;
            }
            let missing = if self.held.len() < HEAD { HEAD } else { HEAD + length(&self.held) } - self.held.len();
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = rest;
            if self.held.len() >= HEAD {
                self.look();
            }
        }
    }

    /// Looks at a frame whose head is there.
    fn look(&mut self) {
        let length = length(&self.held);
        // Of a header block in several frames only what is whole in the first is looked at: the authority comes first.
        if self.held[3] != HEADERS || length > MAX_FRAME {
            self.pass = length;
            self.ready.append(&mut self.held);
        } else if self.held.len() == HEAD + length {
            if let Some(block) = block(&mut self.held) {
                mend(block);
            }
            self.ready.append(&mut self.held);
        }
    }
}

fn length(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// The header block in a HEADERS frame.
fn block(frame: &mut [u8]) -> Option<&mut [u8]> {
    let flags = frame[4];
    let (mut start, mut end) = (HEAD, frame.len());
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*frame.get(start)?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    frame.get_mut(start..end)
}

/// A connection whose client may say whatever it likes for an authority.
#[derive(Debug)]
pub struct Lenient {
    stream: UnixStream,
    filter: Filter,
}

impl Lenient {
    /// Wraps a connection on which nothing was read.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, filter: Filter::new() }
    }
}

impl AsyncRead for Lenient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let ready = &this.filter.ready[this.filter.taken..];
            if !ready.is_empty() {
                let now = ready.len().min(out.remaining());
                out.put_slice(&ready[..now]);
                this.filter.taken += now;
                if this.filter.taken == this.filter.ready.len() {
                    this.filter.ready.clear();
                    this.filter.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = [0; 8192];
            let mut buffer = ReadBuf::new(&mut buffer);
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                // The end; half a frame is of no use to anybody.
                return Poll::Ready(Ok(()));
            }
            this.filter.feed(buffer.filled());
        }
    }
}

impl AsyncWrite for Lenient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Lenient {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `%2Frun%2Fx.sock` and what becomes of it, in Huffman codes.
    const CODED: [u8; 12] = [0x54, 0x58, 0x6c, 0xb6, 0xa5, 0x45, 0x87, 0xca, 0xe8, 0x39, 0x3a, 0xff];
    const MENDED: [u8; 12] = [0x58, 0x58, 0x6c, 0xb6, 0xa5, 0x85, 0x87, 0xca, 0xe8, 0x39, 0x3a, 0xff];
    /// `:authority` in Huffman codes.
    const CODED_NAME: [u8; 8] = [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

    fn string(huffman: bool, bytes: &[u8]) -> Vec<u8> {
        [&[bytes.len() as u8 | if huffman { 0x80 } else { 0 }], bytes].concat()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn the_authority_is_mended_however_it_is_written_and_nothing_else_is() {
        let plain = (string(false, b"/run%2Fx.sock"), string(false, b"-run-2Fx.sock"));
        let coded = (string(true, &CODED), string(true, &MENDED));
        let names = [vec![0x41], vec![0x01], vec![0x11], [vec![0x40], string(false, NAME)].concat(), {
            [vec![0x00], string(true, &CODED_NAME)].concat()
        }];
        // :method POST; a path of the same text, which stays; a new size for the table.
        let path = [vec![0x44], string(true, &CODED), vec![0x04], string(false, b"/a%b")].concat();
        for name in names {
            for (given, expected) in [&plain, &coded] {
                let mut block = [&[0x83, 0x3f, 0xe1, 0x1f][..], &path, &name, given, &path].concat();
                let mended = [&[0x83, 0x3f, 0xe1, 0x1f][..], &path, &name, expected, &path].concat();
                mend(&mut block);
                assert_eq!(block, mended);
            }
        }
    }

    #[test]
    fn a_connection_is_mended_whatever_its_pieces_are() {
        let block = [vec![0x83, 0x41], string(true, &CODED)].concat();
        let mended = [vec![0x83, 0x41], string(true, &MENDED)].concat();
        let padded = |block: &[u8]| [&[3, 0, 0, 0, 0, 16][..], block, &[0; 3]].concat();
        // A body that looks like a header stays.
        let stream = |block: &[u8]| {
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(frame(4, 0, &[]));
            bytes.extend(frame(HEADERS, END_HEADERS, block));
            bytes.extend(frame(0, 1, &[vec![0x41], string(true, &CODED)].concat()));
            bytes.extend(frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded(block)));
            bytes
        };
        for piece in [1, 2, 7, 10, 1000] {
            let mut filter = Filter::new();
            for bytes in stream(&block).chunks(piece) {
                filter.feed(bytes);
            }
            assert_eq!(filter.ready, stream(&mended), "in pieces of {piece}");
        }
    }

    #[test]
    fn nonsense_passes_as_it_is() {
        for bytes in [&[0x41][..], &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x40, 5, b'a'], &[0xff; 40], &[]] {
            let mut block = bytes.to_vec();
            mend(&mut block);
            assert_eq!(block, bytes);
        }
        let mut filter = Filter::new();
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        filter.feed(&bytes);
        assert!(filter.ready.len() + filter.held.len() == bytes.len());
        // More padding than there is frame.
        let mut frame = frame(HEADERS, PADDED, &[200, 1]);
        assert!(block(&mut frame).is_none());
    }
}
