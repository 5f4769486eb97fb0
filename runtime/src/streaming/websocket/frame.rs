//! Frames: their heads, and the mask of what clients send.

use sha2::{Digest as _, Sha256};

use crate::streaming::channels::Error;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// A message of text, or its beginning.
    Text,
    /// A message of bytes, or its beginning.
    Binary,
    /// The farewell.
    Close,
    /// Asks for a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    const ALL: [(u8, Self); 6] = [
        (0, Self::Continuation),
        (1, Self::Text),
        (2, Self::Binary),
        (8, Self::Close),
        (9, Self::Ping),
        (10, Self::Pong),
    ];

    /// Whether it may come between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What is before a frame's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last frame of its message.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// How many bytes follow.
    pub length: u64,
    /// What they are masked with.
    pub mask: Option<[u8; 4]>,
}

/// The longest head.
pub const LONGEST: usize = 14;

impl Head {
    /// How long the head is that begins so; at least two bytes must be there.
    pub fn size(first: [u8; 2]) -> usize {
        let extended = match first[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if first[1] & 0x80 == 0 { 0 } else { 4 }
    }

    /// Reads a whole head.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |why: &str| Error::Protocol { protocol: "WebSocket", why: why.into() };
        let short = || broken("a frame that is too short");
        let (&[a, b], rest) = bytes.split_first_chunk::<2>().ok_or_else(short)?;
        if a & 0x70 != 0 {
            return Err(broken("a frame with reserved bits"));
        }
        let opcode = Opcode::ALL.iter().find(|it| it.0 == a & 0xf).map(|it| it.1);
        let opcode = opcode.ok_or_else(|| broken("a frame of an unknown kind"))?;
        let fin = a & 0x80 != 0;
        let (length, rest, least) = match b & 0x7f {
            126 => rest.split_first_chunk::<2>().map(|(it, rest)| (u64::from(u16::from_be_bytes(*it)), rest, 126)),
            127 => rest.split_first_chunk::<8>().map(|(it, rest)| (u64::from_be_bytes(*it), rest, 1 << 16)),
            length => Some((u64::from(length), rest, 0)),
        }
        .ok_or_else(short)?;
        if length < least || length > i64::MAX as u64 {
            return Err(broken("a frame whose length is written in the wrong way"));
        }
        if opcode.is_control() && (!fin || length > 125) {
            return Err(broken("a control frame in pieces, or longer than 125 bytes"));
        }
        let mask = if b & 0x80 == 0 { None } else { Some(*rest.first_chunk::<4>().ok_or_else(short)?) };
        Ok(Self { fin, opcode, length, mask })
    }

    /// Writes it.
    pub fn write(self, into: &mut Vec<u8>) {
        let number = Opcode::ALL.iter().find(|it| it.1 == self.opcode).map_or(0, |it| it.0);
        into.push(number | if self.fin { 0x80 } else { 0 });
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(length @ ..126), _) => into.push(masked | length),
            (_, Ok(length)) => {
                into.push(masked | 126);
                into.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                into.push(masked | 127);
                into.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        into.extend(self.mask.into_iter().flatten());
    }
}

/// Masks bytes, or takes the mask off, from the place in the frame where they are.
pub fn mask(bytes: &mut [u8], key: [u8; 4], place: u64) {
    let turned: [u8; 4] = std::array::from_fn(|at| key[(at + (place % 4) as usize) % 4]);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    words.iter_mut().for_each(|word| *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(turned)).to_ne_bytes());
    rest.iter_mut().zip(turned).for_each(|(byte, key)| *byte ^= key);
}

/// Makes the masks of a client: nobody who chooses the bytes may foresee them.
pub struct Masks {
    seed: [u8; 32],
    count: u64,
}

impl Masks {
    /// Seeds it.
    pub fn new() -> Result<Self, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(std::io::Error::from)?;
        Ok(Self { seed, count: 0 })
    }

    /// The next one.
    pub fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        let digest = Sha256::new().chain_update(self.seed).chain_update(self.count.to_be_bytes()).finalize();
        std::array::from_fn(|at| digest[at])
    }
}
