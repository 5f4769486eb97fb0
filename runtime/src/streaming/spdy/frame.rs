//! Frames: the eight bytes before each, and what control frames have inside.

/// The types of control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new stream.
    SynStream,
    /// A new stream is accepted.
    SynReply,
    /// A stream is over.
    RstStream,
    /// Settings of the connection.
    Settings,
    /// Asks for an echo, or is one.
    Ping,
    /// No more streams.
    GoAway,
    /// More headers of a stream.
    Headers,
    /// More of a stream may come.
    WindowUpdate,
    /// One this end does not know (3.1 has `CREDENTIAL`): to be skipped.
    Other,
}

/// What the first eight bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Bytes of a stream follow.
    Data {
        /// The stream.
        id: u32,
        /// Whether they are its last.
        fin: bool,
        /// How many.
        length: usize,
    },
    /// A control frame's inside follows.
    Control {
        /// The version of the protocol.
        version: u16,
        /// What it is.
        kind: Kind,
        /// Its flags.
        flags: u8,
        /// How long.
        length: usize,
    },
}

/// The flag of a stream's last frame.
pub const FIN: u8 = 1;
/// The flag of a `SYN_STREAM` whose receiver will not send.
pub const UNIDIRECTIONAL: u8 = 2;
/// The version.
pub const VERSION: u16 = 3;
/// Where stream ids have their bits: the first is for something else.
pub const ID: u32 = 0x7fff_ffff;

/// `GOAWAY`: the peer broke the protocol.
pub const PROTOCOL_ERROR: u32 = 1;
/// `RST_STREAM`: the stream is not wanted.
pub const REFUSED_STREAM: u32 = 3;
/// `RST_STREAM`: not needed any more.
pub const CANCEL: u32 = 5;

const KINDS: [(u16, Kind); 8] = [
    (1, Kind::SynStream),
    (2, Kind::SynReply),
    (3, Kind::RstStream),
    (4, Kind::Settings),
    (6, Kind::Ping),
    (7, Kind::GoAway),
    (8, Kind::Headers),
    (9, Kind::WindowUpdate),
];

impl Head {
    /// Reads it.
    pub fn read(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = usize::from(x) << 16 | usize::from(y) << 8 | usize::from(z);
        if a & 0x80 == 0 {
            return Self::Data { id: u32::from_be_bytes([a, b, c, d]), fin: flags & FIN != 0, length };
        }
        let number = u16::from_be_bytes([c, d]);
        let kind = KINDS.iter().find(|it| it.0 == number).map_or(Kind::Other, |it| it.1);
        Self::Control { version: u16::from_be_bytes([a & 0x7f, b]), kind, flags, length }
    }
}

/// Writes the head of a control frame. No inside of ours comes near the 16 MiB that a length can say.
pub fn control(into: &mut Vec<u8>, kind: Kind, flags: u8, parts: &[&[u8]]) {
    let number = KINDS.iter().find(|it| it.1 == kind).map_or(0, |it| it.0);
    into.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    into.extend_from_slice(&number.to_be_bytes());
    length(into, flags, parts.iter().map(|it| it.len()).sum());
    parts.iter().for_each(|it| into.extend_from_slice(it));
}

/// Writes a data frame.
pub fn data(into: &mut Vec<u8>, id: u32, fin: bool, bytes: &[u8]) {
    into.extend_from_slice(&id.to_be_bytes());
    length(into, if fin { FIN } else { 0 }, bytes.len());
    into.extend_from_slice(bytes);
}

fn length(into: &mut Vec<u8>, flags: u8, length: usize) {
    let [.., x, y, z] = length.to_be_bytes();
    into.extend_from_slice(&[flags, x, y, z]);
}
