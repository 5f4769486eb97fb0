//! DNS messages: questions of pods in, answers out. Bytes only.

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};

/// A header's length.
const HEADER: usize = 12;

/// The length of an OPT record without options.
const OPT: usize = 11;

/// What every client takes over UDP (RFC 1035).
const SMALL: u16 = 512;

/// What passes over UDP without being cut into fragments anywhere: no more is sent, and upstream is asked for no more.
pub const PAYLOAD: u16 = 1232;

/// The longest message over TCP.
pub const LONGEST: u16 = u16::MAX;

/// Records that a question may bring along: an OPT, and what a client signs with.
const MOST_ADDITIONALS: u16 = 4;

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The number that its answer carries too.
    pub id: u16,
    /// The name, as it is written.
    pub name: Name,
    /// The same in lower case, without a last dot. None of a name that no text has.
    pub text: Option<String>,
    /// Which records.
    pub kind: RecordType,
    /// The answer is to be looked for elsewhere too.
    pub recursion: bool,
    /// What was not verified is good enough.
    pub unchecked: bool,
    /// It is to be said whether the answer was verified.
    pub authentic: bool,
    /// What the client says of itself.
    pub edns: Option<Edns>,
}

/// What a client says of itself (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The longest answer that it takes over UDP.
    pub payload: u16,
    /// It wants signatures.
    pub dnssec: bool,
}

impl Question {
    /// Whether signatures are wanted.
    pub fn dnssec(&self) -> bool {
        self.edns.is_some_and(|it| it.dnssec)
    }

    /// The longest answer over UDP.
    pub fn udp_limit(&self) -> u16 {
        self.edns.map_or(SMALL, |it| it.payload.clamp(SMALL, PAYLOAD))
    }
}

/// Why there is nothing to be answered from.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no question: nobody waits for an answer.
    Silently,
    /// The answer.
    With(Vec<u8>),
}

/// Reads a question.
pub fn read(bytes: &[u8]) -> Result<Question, Refused> {
    let header = Header::of(bytes).ok_or(Refused::Silently)?;
    if header.is_response {
        // Answering answers is how two servers keep each other busy for ever.
        return Err(Refused::Silently);
    }
    let bare = |code| Refused::With(header.bare(code));
    if header.opcode != 0 {
        return Err(bare(ResponseCode::NotImp));
    }
    // Before anything is read, and room made for it.
    if header.counts[..3] != [1, 0, 0] || header.counts[3] > MOST_ADDITIONALS {
        return Err(bare(ResponseCode::FormErr));
    }
    let message = Message::from_vec(bytes).map_err(|_| bare(ResponseCode::FormErr))?;
    let [query] = &message.queries[..] else { return Err(bare(ResponseCode::FormErr)) };
    let edns = message.edns.as_ref().map(|it| Edns { payload: it.max_payload(), dnssec: it.flags().dnssec_ok });
    let question = Question {
        id: header.id,
        name: query.name().clone(),
        text: text(query.name()),
        kind: query.query_type(),
        recursion: message.metadata.recursion_desired,
        unchecked: message.metadata.checking_disabled,
        authentic: message.metadata.authentic_data || edns.is_some_and(|it| it.dnssec),
        edns,
    };
    let refuse = |code| Err(Refused::With(write(&question, &Reply::of(code), LONGEST)));
    if message.edns.as_ref().is_some_and(|it| it.version() != 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let transfer = matches!(question.kind, RecordType::AXFR | RecordType::IXFR | RecordType::OPT);
    if transfer || query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::Refused);
    }
    Ok(question)
}

/// What is answered to somebody who is nobody here: that, and no more bytes than came. None if it is no question.
pub fn refusal(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::of(bytes).filter(|it| !it.is_response)?;
    Some(header.bare(ResponseCode::Refused))
}

/// A header as far as it is needed before the rest is read.
struct Header {
    id: u16,
    flags: u16,
    is_response: bool,
    opcode: u16,
    counts: [u16; 4],
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let flags = number(2);
        Some(Self {
            id: number(0),
            flags,
            is_response: flags & 0x8000 != 0,
            opcode: (flags >> 11) & 0xf,
            counts: [number(4), number(6), number(8), number(10)],
        })
    }

    /// An answer without anything but a code: to what could not be read.
    fn bare(&self, code: ResponseCode) -> Vec<u8> {
        // The operation and the wish for recursion are said back.
        let flags = 0x8000 | self.flags & 0x7900 | u16::from(code.low());
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.resize(HEADER, 0);
        bytes
    }
}

/// A name as text, if it is one: letters, digits and what else can be printed.
fn text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    Some(text)
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// How it went.
    pub code: ResponseCode,
    /// Nobody knows it better.
    pub authoritative: bool,
    /// It was verified.
    pub authentic: bool,
    /// The records.
    pub answers: Vec<Record>,
    /// What to make of it when there are none.
    pub authorities: Vec<Record>,
    /// What comes with them, if there is room.
    pub additionals: Vec<Record>,
}

impl Reply {
    /// Only a code.
    pub fn of(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

/// Writes an answer of at most `limit` bytes. As many records as there is room for come along, and it is said that some
/// are missing: a client that cannot ask again over TCP has those at least.
pub fn write(question: &Question, reply: &Reply, limit: u16) -> Vec<u8> {
    let mut message = Message::new(question.id, MessageType::Response, OpCode::Query);
    message.metadata = metadata(question, reply);
    message.add_query(Query::query(question.name.clone(), question.kind));
    message.answers.clone_from(&reply.answers);
    message.authorities.clone_from(&reply.authorities);
    message.additionals.clone_from(&reply.additionals);
    let opt = if question.edns.is_some() { OPT } else { 0 };
    let room = limit.saturating_sub(opt as u16);
    let mut bytes = emit(&message, room);
    let cut = |bytes: &[u8]| Header::of(bytes).is_none_or(|it| it.flags & 0x0200 != 0);
    if cut(&bytes) && !message.additionals.is_empty() {
        message.additionals.clear();
        bytes = emit(&message, room);
    }
    if opt > 0 {
        add_opt(&mut bytes, reply.code, question.dnssec());
    }
    bytes
}

fn metadata(question: &Question, reply: &Reply) -> Metadata {
    let mut metadata = Metadata::new(question.id, MessageType::Response, OpCode::Query);
    metadata.authoritative = reply.authoritative;
    metadata.recursion_desired = question.recursion;
    metadata.recursion_available = true;
    metadata.checking_disabled = question.unchecked;
    metadata.authentic_data = reply.authentic && question.authentic;
    // The rest of the code is in the OPT record.
    metadata.response_code = ResponseCode::from_low(reply.code.low());
    metadata
}

fn emit(message: &Message, limit: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::from(SMALL));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    if message.emit(&mut encoder).is_ok() {
        // Of a record that had no room the beginning is still there.
        let end = encoder.offset();
        bytes.truncate(end);
        return bytes;
    }
    // A record that cannot be written: better said than sent half.
    let metadata = &message.metadata;
    let flags = 0x8080 | u16::from(metadata.recursion_desired) << 8;
    let header = Header { id: metadata.id, flags, is_response: true, opcode: 0, counts: [0; 4] };
    header.bare(ResponseCode::ServFail)
}

/// Appends an OPT record. It is always the last: nothing but room has been left for it.
fn add_opt(bytes: &mut Vec<u8>, code: ResponseCode, dnssec: bool) {
    let Some(count) = Header::of(bytes).map(|it| it.counts[3].saturating_add(1)) else { return };
    bytes[10..HEADER].copy_from_slice(&count.to_be_bytes());
    bytes.push(0);
    bytes.extend(u16::from(RecordType::OPT).to_be_bytes());
    bytes.extend(PAYLOAD.to_be_bytes());
    bytes.extend([code.high(), 0, u8::from(dnssec) << 7, 0, 0, 0]);
}

/// A question to another server.
pub fn ask(question: &Question, id: u16, edns: bool) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = question.unchecked;
    message.metadata.authentic_data = question.authentic;
    message.add_query(Query::query(question.name.clone(), question.kind));
    let mut bytes = message.to_vec().ok()?;
    if edns {
        add_opt(&mut bytes, ResponseCode::NoError, question.dnssec());
    }
    Some(bytes)
}

/// What another server answered to `question`, which was sent with this number. None of anything else that arrives.
pub fn answer(bytes: &[u8], question: &Question, id: u16) -> Option<Message> {
    let header = Header::of(bytes)?;
    if header.id != id || !header.is_response || header.opcode != 0 || header.counts[0] != 1 {
        return None;
    }
    let message = Message::from_vec(bytes).ok()?;
    let [query] = &message.queries[..] else { return None };
    // Names are equal whatever their case.
    let same =
        query.name() == &question.name && query.query_type() == question.kind && query.query_class() == DNSClass::IN;
    same.then_some(message)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
