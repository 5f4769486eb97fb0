//! The one table of nftables, through netlink.
//!
//! What grows with pods are elements of sets and maps; the rules are constant. Every change is one atomic batch: packets
//! see the table before it or after it.

mod conntrack;
mod error;
mod expression;
mod foreign;
mod message;
mod rules;
mod sets;
mod socket;
mod watch;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute};

use super::ports::PortMapping;
pub use error::{Error, Result};
pub use foreign::dropping_forward_chains;
use sets::Element;
use socket::Socket;
pub use watch::{Damage, Watch};

/// The table of the default state directory; those of others begin with it and a hyphen.
pub const DEFAULT_TABLE: &str = "coracle";

/// All that the table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The ranges that pods' addresses are from.
    pub ranges: Vec<IpNet>,
    /// The node's addresses in them.
    pub gateways: Vec<IpAddr>,
    /// Destinations, besides the ranges, that see pods by their own addresses, and reach them by those.
    pub non_masquerade: Vec<IpNet>,
    /// The pods.
    pub pods: Vec<PodRules>,
}

/// What the table knows of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRules {
    /// The host's end of its link.
    pub interface: String,
    /// Its addresses: the only ones that it may send from.
    pub addresses: Vec<IpAddr>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
}

/// The table.
pub struct Table {
    name: String,
    socket: Mutex<Socket>,
}

impl Table {
    /// Opens the table of this name in the calling thread's network namespace. Nothing is made yet.
    pub fn open(name: &str) -> Result<Self> {
        if !is_our_name(name) {
            return Err(Error::Invalid(format!("{name:?} is no name for a table of ours")));
        }
        Ok(Self { name: name.to_owned(), socket: Mutex::new(Socket::open()?) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the table what it should be, whatever it was. A connection that begins at that moment may find no rule: where
    /// the table is what it was but for its pods, [`Table::refresh`] disturbs nobody.
    pub fn replace(&self, desired: &Desired) -> Result<()> {
        let table = &self.name;
        // Deleting what is not there would fail, so it is made first.
        let mut changes = vec![message::add_table(table), message::delete_table(table), message::add_table(table)];
        changes.extend(self.frame());
        changes.extend(self.contents(desired));
        self.load(&changes, desired)
    }

    /// Makes the pods and the rules of a table that is there what they should be. Its chains stay where they hook into
    /// the network, so that every packet meets either the old rules or the new ones. A table that is not what it should
    /// be is replaced.
    pub fn refresh(&self, desired: &Desired) -> Result<()> {
        let table = &self.name;
        let mut changes = vec![message::add_table(table), message::flush_rules(table)];
        changes.extend(self.frame());
        changes.extend(sets::all().iter().map(|set| message::flush_set(table, set.name)));
        changes.extend(self.contents(desired));
        self.load(&changes, desired).or_else(|error| {
            tracing::debug!(%error, "the table is made anew");
            self.replace(desired)
        })
    }

    fn load(&self, changes: &[socket::Change], desired: &Desired) -> Result<()> {
        self.socket().batch(changes)?;
        // While the table was not there, clients were led to the node itself, and would be for ever.
        self.redirect_clients(&desired.pods)
    }

    /// The sets and chains: what is there already and the same stays.
    fn frame(&self) -> Vec<socket::Change> {
        let table = &self.name;
        let sets = sets::all();
        let sets = sets.iter().zip(1..).map(|(set, id)| message::add_set(table, id, set));
        let chains = rules::all().into_iter().map(|chain| message::add_chain(table, chain.name, chain.base));
        sets.chain(chains).collect()
    }

    /// The elements of the sets and the rules of the chains.
    fn contents(&self, desired: &Desired) -> Vec<socket::Change> {
        let table = &self.name;
        let elements = all_elements(desired);
        let mut changes = message::add_elements(table, &elements.iter().collect::<Vec<_>>());
        for chain in rules::all() {
            let rules = chain.rules.into_iter().enumerate();
            changes.extend(rules.map(|(number, rule)| message::add_rule(table, chain.name, number + 1, rule)));
        }
        changes
    }

    /// Leads UDP clients to these pods that sent to their published ports before those were published, and that the
    /// kernel therefore goes on leading to the node itself.
    ///
    /// Not a part of adding a pod because it is no quick thing: the kernel goes through all the connections that there
    /// are room for.
    pub fn redirect_clients(&self, pods: &[PodRules]) -> Result<()> {
        let ports = conntrack::udp_ports(pods.iter().flat_map(|it| &it.ports));
        if ports.is_empty() {
            return Ok(());
        }
        let addresses: Vec<_> = pods.iter().flat_map(|it| it.addresses.iter().copied()).collect();
        conntrack::forget_unpublished(&mut self.socket(), &ports, &addresses)
    }

    /// Adds a pod. One that is there already is success.
    pub fn add_pod(&self, pod: &PodRules) -> Result<()> {
        let elements = sets::of_pod(pod)?;
        self.socket().batch(&message::add_elements(&self.name, &elements.iter().collect::<Vec<_>>()))
    }

    /// Removes a pod, and its clients by UDP with it, which the kernel would lead to it for ever. One that is not there
    /// is success.
    pub fn remove_pod(&self, pod: &PodRules) -> Result<()> {
        let elements = sets::of_pod(pod)?;
        let elements: Vec<_> = elements.iter().collect();
        // As with the table: what is deleted has to be there, and a batch that fails costs milliseconds.
        let mut changes = message::add_elements(&self.name, &elements);
        changes.extend(message::delete_elements(&self.name, &elements));
        let mut socket = self.socket();
        socket.batch(&changes)?;
        if conntrack::udp_ports(pod.ports.iter()).is_empty() {
            return Ok(());
        }
        conntrack::forget_targets(&mut socket, &pod.addresses)
    }

    /// Deletes the table. One that is not there is success.
    pub fn delete(&self) -> Result<()> {
        self.socket().batch(&[message::add_table(&self.name), message::delete_table(&self.name)])
    }

    /// The tables of this host that are ours, of whatever state directory.
    pub fn list_ours() -> Result<Vec<String>> {
        let mut names = Vec::new();
        Socket::open()?.dump(&message::tables(), |message| {
            let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = message else { return };
            let name = table.attributes.into_iter().find_map(|it| match it {
                TableAttribute::Name(name) => Some(name),
                _ => None,
            });
            names.extend(name.filter(|it| is_our_name(it)));
        })?;
        names.sort();
        Ok(names)
    }

    /// Follows what others do to the table, from now on.
    pub fn watch(&self) -> Result<Watch> {
        Watch::start(&self.name)
    }

    /// A batch that fails half way through a caller leaves nothing locked, nor the socket in a state.
    fn socket(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pod that cannot be as its record says does not keep all the others from what they need.
fn all_elements(desired: &Desired) -> Vec<Element> {
    let mut elements = sets::constant(desired);
    let mut taken = HashSet::new();
    for pod in &desired.pods {
        match sets::of_pod(pod) {
            Ok(mut of_pod) => {
                of_pod.retain(|it| {
                    let free = taken.insert((it.set, it.key.clone()));
                    if !free {
                        tracing::warn!(interface = pod.interface, set = it.set, "another pod has this already");
                    }
                    free
                });
                elements.extend(of_pod);
            }
            Err(error) => tracing::warn!(%error, "a pod was left out of the table"),
        }
    }
    elements
}

/// `coracle`, or `coracle-` and hexadecimal digits.
fn is_our_name(name: &str) -> bool {
    let rest = name.strip_prefix(DEFAULT_TABLE);
    let digits = |it: &str| !it.is_empty() && it.len() <= 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    rest.is_some_and(|it| it.is_empty() || it.strip_prefix('-').is_some_and(digits))
}
