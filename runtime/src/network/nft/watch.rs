//! Who else changes the table.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{GenAttribute, NfTablesMessage};

use super::error::{Error, Result};
use super::socket::{Raw, Socket, is_ours, messages};

// linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NEW_GENERATION: u16 = NFNL_SUBSYS_NFTABLES << 8 | 15;
/// A table is made or deleted.
const TABLES: [u16; 2] = [0, 2];
/// Tables, chains, rules, sets and elements.
const DELETIONS: [u16; 5] = [2, 5, 8, 11, 14];
/// In all of their messages the table's name.
const NAME: u16 = 1;

/// Something was taken out of the table by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Who did it, as far as the kernel says.
    pub by: String,
}

/// What happened to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Somebody else took something out of it.
    Damage(Damage),
    /// A process of ours made it or deleted it, or both.
    Made,
}

/// Follows the changes of a table.
pub struct Watch {
    table: String,
    socket: Socket,
    damaged: bool,
    made: bool,
}

impl Watch {
    /// Begins to follow the table in the calling thread's network namespace.
    pub(super) fn start(table: &str) -> Result<Self> {
        let mut socket = Socket::open()?;
        socket.join(NFNLGRP_NFTABLES)?;
        Ok(Self { table: table.to_owned(), socket, damaged: false, made: false })
    }

    /// Waits until somebody takes something out of the table: an element, a rule, all of it.
    ///
    /// What a process of ours does is none, nor is what is put in.
    pub fn next_damage(&mut self) -> Result<Damage> {
        loop {
            if let Some(damage) = self.try_damage()? {
                return Ok(damage);
            }
        }
    }

    /// Takes the next notification, which is there once the descriptor is readable. Most are of no damage.
    pub fn try_damage(&mut self) -> Result<Option<Damage>> {
        let mut newest_first = self.receive()?.into_iter().rev();
        Ok(newest_first.find_map(|it| if let Seen::Damage(damage) = it { Some(damage) } else { None }))
    }

    /// Waits until something of it happens.
    pub fn next_seen(&mut self) -> Result<Vec<Seen>> {
        loop {
            let seen = self.receive()?;
            if !seen.is_empty() {
                return Ok(seen);
            }
        }
    }

    fn receive(&mut self) -> Result<Vec<Seen>> {
        let datagram = match self.socket.receive() {
            Ok(datagram) => datagram,
            // More happened than the socket could hold: the table has to be looked at in any case.
            Err(Error::Socket { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                let by = "someone who changed more than could be followed".to_owned();
                return Ok(vec![Seen::Damage(Damage { by })]);
            }
            Err(error) => return Err(error),
        };
        Ok(messages(&datagram).filter_map(|message| self.take(&message)).collect())
    }

    /// One notification. Those of a batch come together, and the new generation's last.
    fn take(&mut self, message: &Raw<'_>) -> Option<Seen> {
        if message.kind == NEW_GENERATION {
            // Whose batch it was only this message says for certain: deleted elements come without a number.
            let (damaged, made) = (std::mem::take(&mut self.damaged), std::mem::take(&mut self.made));
            return match is_ours(message.sequence) {
                true => made.then_some(Seen::Made),
                false => damaged.then(|| Seen::Damage(Damage { by: author(message) })),
            };
        }
        let is_of_tables = message.kind >> 8 == NFNL_SUBSYS_NFTABLES;
        if is_of_tables && message.string(NAME) == Some(self.table.as_bytes()) {
            self.damaged |= DELETIONS.contains(&(message.kind & 0xff));
            self.made |= TABLES.contains(&(message.kind & 0xff));
        }
        None
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn author(generation: &Raw<'_>) -> String {
    let Some(NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(message))) = generation.inner() else {
        return "an unknown process".to_owned();
    };
    let (mut name, mut pid) = ("unknown".to_owned(), 0);
    for attribute in message.attributes {
        match attribute {
            GenAttribute::ProcName(it) => name = it,
            GenAttribute::ProcPid(it) => pid = it,
            _ => {}
        }
    }
    format!("{name} (process {pid})")
}
