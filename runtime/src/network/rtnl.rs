//! A blocking rtnetlink socket: many requests in one message to the kernel, and lists.
//!
//! It belongs to the network namespace of the thread that opens it, wherever it is used from afterwards.

use std::io;
use std::os::fd::AsFd as _;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Bytes for one read: the kernel fills at most this much of a list at a time.
const READ: usize = 64 * 1024;

/// How often a list is asked for again when it changed while the kernel wrote it.
const PATIENCE: usize = 8;

/// linux/netlink.h: the list changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// linux/netlink.h: the error carries attributes; the kernel's words are the first of them.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What a request does where the object exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is made: it changes or removes what is there.
    Change,
    /// Fails.
    Create,
    /// Takes its place.
    Replace,
}

/// One request: what it is for, in the words of an error, and the message.
pub struct Request {
    what: String,
    mode: Mode,
    message: RouteNetlinkMessage,
}

impl Request {
    /// A request; `what` completes "could not …".
    pub fn new(what: impl Into<String>, mode: Mode, message: RouteNetlinkMessage) -> Self {
        Self { what: what.into(), mode, message }
    }

    fn flags(&self) -> u16 {
        NLM_F_REQUEST
            | NLM_F_ACK
            | match self.mode {
                Mode::Change => 0,
                Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
                Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            }
    }
}

/// The socket.
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Rtnl {
    /// A socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both only make errors shorter and clearer: an older kernel does without.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(READ) })
    }

    /// The index of an interface in this socket's namespace.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(self.socket.as_fd(), name)?)
    }

    /// Sends all requests at once. The kernel carries out each that it can; the first that failed is the error.
    pub fn run(&mut self, requests: Vec<Request>) -> io::Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let first = self.sequence + 1;
        let mut whats = Vec::with_capacity(requests.len());
        for request in requests {
            self.sequence += 1;
            let flags = request.flags();
            whats.push(request.what);
            append(&mut bytes, request.message, flags, self.sequence);
        }
        self.socket.send(&bytes, 0)?;
        let mut answered = 0;
        let mut failure = None;
        while answered < whats.len() {
            self.receive(|header, payload| {
                let NetlinkPayload::Error(error) = payload else { return Ok(()) };
                let Some(place) = header.sequence_number.checked_sub(first) else { return Ok(()) };
                answered += 1;
                if error.code.is_some() && failure.is_none() {
                    let words = kernels_words(&error.header, header.flags);
                    let what = whats.get(place as usize).map_or("do an unknown thing", String::as_str);
                    let cause = error.to_io();
                    failure = Some(io::Error::new(cause.kind(), format!("could not {what}: {cause}{words}")));
                }
                Ok(())
            })?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Everything of a kind.
    pub fn list(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..PATIENCE {
            if let Some(found) = self.list_once(request.clone())? {
                return Ok(found);
            }
        }
        Err(io::Error::other("the kernel's list changes faster than it can be read"))
    }

    /// `None` if it changed meanwhile.
    fn list_once(&mut self, request: RouteNetlinkMessage) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        append(&mut bytes, request, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        self.socket.send(&bytes, 0)?;
        let (mut found, mut done, mut whole, sequence) = (Vec::new(), false, true, self.sequence);
        while !done {
            self.receive(|header, payload| {
                if header.sequence_number != sequence {
                    return Ok(());
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(whole.then_some(found))
    }

    /// Reads once and hands out every message. One that this library does not understand is passed over: it describes
    /// something that is not ours.
    fn receive(
        &mut self,
        mut each: impl FnMut(rtnetlink::packet_core::NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        let mut rest = self.buffer.as_slice();
        while let Some(length) = rest.first_chunk::<4>().map(|it| u32::from_ne_bytes(*it) as usize) {
            if length < 16 || length > rest.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer was cut short"));
            }
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length]) {
                Ok(message) => {
                    let (header, payload) = message.into_parts();
                    each(header, payload)?;
                }
                Err(error) => tracing::debug!(%error, "a netlink message was not understood"),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

/// What the kernel adds to an error number: after the request's header come attributes, one of them a text.
fn kernels_words(payload: &[u8], flags: u16) -> String {
    let mut rest = payload.get(16..).filter(|_| flags & NLM_F_ACK_TLVS != 0).unwrap_or_default();
    while let [a, b, c, d, value @ ..] = rest {
        let (length, kind) = (u16::from_ne_bytes([*a, *b]) as usize, u16::from_ne_bytes([*c, *d]));
        let Some(text) = length.checked_sub(4).and_then(|it| value.get(..it)) else { break };
        if kind == NLMSGERR_ATTR_MSG {
            return format!(" ({})", String::from_utf8_lossy(text).trim_end_matches('\0'));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}
