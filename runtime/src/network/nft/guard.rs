//! The guard: a second, small table that drops what comes out of private pods, and pods of isolated networks, or goes into
//! them, when the table itself has not let it through. So nothing gets through in the moment in which somebody has flushed
//! all tables and ours is not back yet.
//!
//! It belongs to this socket (NFT_TABLE_F_OWNER), which alone may change it: `nft flush ruleset` passes it by. When the
//! socket ends with its process, it stays (NFT_TABLE_F_PERSIST, Linux 6.9) until the next process takes it over. Nothing in
//! it is about one pod: links that are guarded have names of their own.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::error::{Error, Result};
use super::expression::{Family, Rule};
use super::message;
use super::rules::{Chain, FILTER, LET_THROUGH, base};
use super::socket::Socket;
use crate::network::GUARDED_PREFIX;

/// How long the process that has it may take to let go of it.
const PATIENCE: Duration = Duration::from_millis(500);

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The guard's table, held by this process.
pub struct Guard {
    table: String,
    socket: Socket,
    held: bool,
}

/// What the guard of a table is called.
pub fn name(table: &str) -> String {
    format!("{table}-guard")
}

impl Guard {
    /// The guard of a table in the calling thread's network namespace. It is not there yet.
    pub fn open(table: &str) -> Result<Self> {
        Ok(Self { table: name(table), socket: Socket::open()?, held: false })
    }

    /// Makes it, or takes it over from a process that is gone. Says no where the kernel cannot.
    pub fn hold(&mut self) -> Result<bool> {
        if self.held {
            return Ok(true);
        }
        let table = &self.table;
        let mut changes = vec![message::add_owned_table(table), message::flush_rules(table)];
        for chain in chains() {
            changes.push(message::add_chain(table, &chain.name, chain.base));
            let rules = chain.rules.into_iter().zip(1..);
            changes.extend(rules.map(|(rule, number)| message::add_rule(table, &chain.name, number, rule)));
        }
        match self.socket.batch(&changes) {
            Ok(()) => self.held = true,
            Err(error) if is_refused(&error, &[ErrorKind::Unsupported, ErrorKind::InvalidInput]) => {
                tracing::debug!(%error, "this kernel has no tables with owners that persist: private pods have no guard");
            }
            Err(error) => return Err(error),
        }
        Ok(self.held)
    }

    /// Takes it away, if this process has it.
    pub fn release(&mut self) -> Result<()> {
        if self.held {
            self.socket.batch(&[message::delete_table(&self.table)])?;
            self.held = false;
        }
        Ok(())
    }
}

/// Takes away the guard of a table that is gone, whose process is gone too, or is letting go of it.
pub fn remove(table: &str) -> Result<()> {
    let name = name(table);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if !super::list_all()?.contains(&name) {
            return Ok(());
        }
        match Socket::open()?.batch(&[message::delete_table(&name)]) {
            // Another process was quicker.
            Err(error) if is_refused(&error, &[ErrorKind::NotFound]) => return Ok(()),
            Err(error) if is_refused(&error, &[ErrorKind::PermissionDenied]) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Who has it takes it away when it looks.
            Err(error) if is_refused(&error, &[ErrorKind::PermissionDenied]) => return Ok(()),
            other => return other,
        }
    }
}

fn is_refused(error: &Error, kinds: &[ErrorKind]) -> bool {
    matches!(error, Error::Refused { source, .. } if kinds.contains(&source.kind()))
}

fn chains() -> Vec<Chain> {
    use InetHookNumber::{Forward, LocalIn};
    let guarded = format!("{GUARDED_PREFIX}*");
    // A mark from elsewhere is none.
    let from = || Rule::new().iifname(&guarded);
    let to = || Rule::new().oifname(&guarded);
    let cleared = vec![from().mark(LET_THROUGH, false), to().mark(LET_THROUGH, false)];
    let mut input = vec![
        // The node reaches its pods always, and they answer.
        from().established_or_related().reply().accept(),
        from().icmp_type(Family::V6, NEIGHBOUR_SOLICITATION).accept(),
        from().icmp_type(Family::V6, NEIGHBOUR_ADVERTISEMENT).accept(),
    ];
    let judged = || vec![from().unmarked(LET_THROUGH).count().drop(), to().unmarked(LET_THROUGH).count().drop()];
    input.extend(judged());
    vec![
        base("before_input", "filter", LocalIn, FILTER - 1, cleared.clone()),
        base("before_forward", "filter", Forward, FILTER - 1, cleared.clone()),
        base("input", "filter", LocalIn, FILTER + 1, input),
        base("forward", "filter", Forward, FILTER + 1, judged()),
        // Not before the guards of other state directories have seen it.
        base("after_input", "filter", LocalIn, FILTER + 2, cleared.clone()),
        base("after_forward", "filter", Forward, FILTER + 2, cleared),
    ]
}
