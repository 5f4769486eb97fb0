//! A netlink socket for netfilter: atomic batches, single requests and dumps.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, ParseableParametrized as _};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use netlink_sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_NETFILTER};

use super::error::{During as _, Error, Result};

/// Sequence numbers of ours begin so: the kernel repeats them to everyone who follows the tables, who so tell the
/// changes of any Coracle process from those of others.
const SEQUENCE: u32 = 0xc0ac_0000;
const SEQUENCE_MASK: u32 = 0xffff_0000;

/// The size of the buffers that are read into: the kernel fills dumps up to 32 KiB at a time.
const READ: usize = 64 * 1024;

/// linux/netlink.h.
const NLMSG_HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A message was sent by some process of ours.
pub fn is_ours(sequence: u32) -> bool {
    sequence & SEQUENCE_MASK == SEQUENCE
}

/// One change of a batch.
pub struct Change {
    /// What it is, for errors.
    pub object: String,
    /// `NLM_F_*` besides those of every request.
    pub flags: u16,
    /// What it is about.
    pub family: NetfilterProtoFamily,
    /// The change.
    pub message: NetfilterMessageInner,
}

/// A blocking socket. It belongs to the network namespace of the thread that opened it.
pub struct Socket {
    netlink: Netlink,
    /// The longest batch that the kernel takes at present.
    room: usize,
    next: u16,
}

impl Socket {
    /// Opens a socket.
    pub fn open() -> Result<Self> {
        let operation = "open a netfilter socket (is nf_tables in the kernel or a module that can be loaded?)";
        let mut netlink = Netlink::new(NETLINK_NETFILTER).during(operation)?;
        netlink.bind_auto().during(operation)?;
        netlink.connect(&SocketAddr::new(0, 0)).during(operation)?;
        // Errors then carry the kernel's own explanation, and not the request again.
        netlink.set_ext_ack(true).during(operation)?;
        netlink.set_cap_ack(true).during(operation)?;
        let room = rustix::net::sockopt::socket_send_buffer_size(&netlink).during(operation)? / 2;
        Ok(Self { netlink, room, next: 0 })
    }

    fn sequence(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        SEQUENCE | u32::from(self.next)
    }

    /// Makes all the changes, or none of them.
    pub fn batch(&mut self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let first = self.sequence();
        append(&mut bytes, first, 0, bound(), ControlMessage::BatchBegin.into());
        let mut sent = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            let sequence = self.sequence();
            // One acknowledgement, the last, stands for all of them; errors come in any case.
            let ack = if index + 1 == changes.len() { NLM_F_ACK } else { 0 };
            change.append(&mut bytes, sequence, ack);
            sent.push(sequence);
        }
        let last = self.sequence();
        append(&mut bytes, last, 0, bound(), ControlMessage::BatchEnd.into());
        self.make_room(bytes.len())?;
        self.send(&bytes)?;
        let object = |sequence| match sent.iter().position(|it| *it == sequence) {
            Some(index) => changes[index].object.clone(),
            None => "commit the changes".to_owned(),
        };
        let final_one = sent.last().copied();
        let mut failure = None;
        loop {
            let buffer = self.receive()?;
            for message in messages(&buffer) {
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                let code = message.error_code();
                // An error of the beginning is one of the whole: no others follow.
                let over = Some(message.sequence) == final_one || (message.sequence == first && code != 0);
                if code != 0 && failure.is_none() {
                    failure = Some(refused(&object(message.sequence), code, message.hint()));
                }
                if over {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends one request outside of a batch and waits for the kernel's word on it.
    pub fn request(&mut self, change: &Change) -> Result<()> {
        let mut bytes = Vec::new();
        let sequence = self.sequence();
        change.append(&mut bytes, sequence, NLM_F_ACK);
        self.send(&bytes)?;
        loop {
            let buffer = self.receive()?;
            let answer = messages(&buffer).find(|it| it.kind == NLMSG_ERROR && it.sequence == sequence);
            match answer.map(|it| (it.error_code(), it.hint())) {
                None => {}
                Some((0, _)) => return Ok(()),
                Some((code, hint)) => return Err(refused(&change.object, code, hint)),
            }
        }
    }

    /// Asks for all objects of a kind, and hands over each as it comes.
    pub fn dump(&mut self, request: &Change, mut each: impl FnMut(NetfilterMessageInner)) -> Result<()> {
        // One that the library cannot read is of a later kernel's making, and nothing that was asked for.
        self.dump_raw(request, |message| {
            if let Some(inner) = message.inner() {
                each(inner);
            }
        })
    }

    /// The same, each object as the kernel writes it.
    pub fn dump_raw(&mut self, request: &Change, mut each: impl FnMut(&Raw<'_>)) -> Result<()> {
        let mut bytes = Vec::new();
        let sequence = self.sequence();
        request.append(&mut bytes, sequence, NLM_F_DUMP);
        self.send(&bytes)?;
        loop {
            let buffer = self.receive()?;
            for message in messages(&buffer).filter(|it| it.sequence == sequence) {
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR if message.error_code() != 0 => {
                        return Err(refused(&request.object, message.error_code(), message.hint()));
                    }
                    _ => each(&message),
                }
            }
        }
    }

    /// Joins a multicast group (NFNLGRP_*). All that is told of a large batch, of this process's own above all, has room.
    pub fn join(&mut self, group: u32) -> Result<()> {
        const ROOM: usize = 16 << 20;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.netlink, ROOM)
            .during("make room for the changes of nftables")?;
        self.netlink.add_membership(group).during("follow the changes of nftables")
    }

    /// The next datagram, whole.
    pub fn receive(&self) -> Result<Vec<u8>> {
        loop {
            let mut buffer = Vec::with_capacity(READ);
            match self.netlink.recv(&mut buffer, 0) {
                Ok(_) => return Ok(buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).during("read the kernel's answer about nftables"),
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        self.netlink.send(bytes, 0).map(drop).during("send a change to nftables")
    }

    /// A batch is one datagram: the socket has to hold it.
    fn make_room(&mut self, bytes: usize) -> Result<()> {
        if bytes >= self.room {
            let size = bytes.next_power_of_two() * 2;
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.netlink, size)
                .during("make room for a large change of nftables")?;
            self.room = size;
        }
        Ok(())
    }
}

impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

fn refused(object: &str, code: i32, hint: String) -> Error {
    Error::Refused { object: object.to_owned(), source: io::Error::from_raw_os_error(-code), hint }
}

/// Writes a message behind the others, aligned.
fn append(bytes: &mut Vec<u8>, sequence: u32, flags: u16, header: NetfilterHeader, inner: NetfilterMessageInner) {
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, inner));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

/// The bounds of a batch name the subsystem in the resource id.
fn bound() -> NetfilterHeader {
    NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, u8::from(NetfilterSubsystem::NfTables).into())
}

impl Change {
    fn append(&self, bytes: &mut Vec<u8>, sequence: u32, flags: u16) {
        let header = NetfilterHeader::new(self.family, 0, 0);
        append(bytes, sequence, self.flags | flags, header, self.message.clone());
    }
}

/// A message of the kernel's.
pub struct Raw<'a> {
    /// nlmsg_type.
    pub kind: u16,
    /// nlmsg_seq.
    pub sequence: u32,
    payload: &'a [u8],
}

impl Raw<'_> {
    fn error_code(&self) -> i32 {
        self.payload.first_chunk().map_or(-libc::EBADMSG, |code| i32::from_ne_bytes(*code))
    }

    /// What the kernel adds to an error: NLMSGERR_ATTR_MSG, behind the code and the request's header.
    fn hint(&self) -> String {
        const MESSAGE: u16 = 1;
        let rest = self.payload.get(4 + NLMSG_HEADER..).unwrap_or_default();
        attribute(rest, MESSAGE).map(|it| String::from_utf8_lossy(it).into_owned()).unwrap_or_default()
    }

    /// A string of the message itself, behind the family, without its end.
    pub fn string(&self, kind: u16) -> Option<&[u8]> {
        attribute(self.payload.get(4..)?, kind)
    }

    /// The attributes of the message itself.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        children(self.payload.get(4..).unwrap_or_default())
    }

    /// What it says, where the library can read it.
    pub fn inner(&self) -> Option<NetfilterMessageInner> {
        NetfilterMessage::parse_with_param(self.payload, self.kind).ok().map(|it| it.inner)
    }
}

/// The messages of a datagram.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; NLMSG_HEADER] = rest.first_chunk()?;
        let [a, b, c, d, e, f, _, _, g, h, i, j, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let payload = rest.get(NLMSG_HEADER..length)?;
        let raw = Raw { kind: u16::from_ne_bytes([e, f]), sequence: u32::from_ne_bytes([g, h, i, j]), payload };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(raw)
    })
}

/// Attributes one behind the other: their kinds and what is in them.
pub fn children(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// NLA_TYPE_MASK: without the flags.
    const KIND: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let (&[a, b, c, d], _) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & KIND, value))
    })
}

/// A string among attributes.
fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let (_, value) = children(attributes).find(|(kind, _)| *kind == wanted)?;
    Some(value.strip_suffix(&[0]).unwrap_or(value))
}
