//! The one table of nftables, through netlink.
//!
//! What grows with pods are elements of sets and maps; the rules are constant. Every change is one atomic batch: packets
//! see the table before it or after it.

mod boxes;
mod changed;
mod conntrack;
mod desired;
mod elements;
mod error;
mod expression;
mod foreign;
mod guard;
mod keys;
mod message;
pub mod ports;
mod relations;
mod rules;
mod sets;
mod socket;
mod unused;
mod watch;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute};

use conntrack::Lead;
pub use desired::{Desired, Group, NetworkRules, PodRules, group};
pub use error::{Error, Result};
pub use foreign::dropping_forward_chains;
pub use guard::{Guard, remove as remove_guard};
pub use relations::{Allow, Block, LinkRules, Pair, PolicyRules, Relations, ServiceRules, pairs};
use rules::Chain;
use sets::Element;
use socket::Socket;
pub use watch::{Damage, Seen, Watch};

/// The table of the default state directory; those of others begin with it and a hyphen.
pub const DEFAULT_TABLE: &str = "coracle";

/// Connections that the kernel would go on with as it began them.
#[derive(Debug, Default)]
pub struct Stale {
    /// Those that these links let through.
    pairs: BTreeSet<Pair>,
    /// Those of services that lead elsewhere now.
    leads: Vec<Lead>,
}

impl Stale {
    /// Those that are left of what there was before.
    pub fn between(before: &Relations, after: &Relations) -> Self {
        Self { pairs: before.pairs().difference(&after.pairs()).copied().collect(), leads: after.leads(before) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.leads.is_empty()
    }

    /// Both.
    pub fn extend(&mut self, other: Self) {
        self.pairs.extend(other.pairs);
        self.leads.extend(other.leads);
    }
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
        changes.extend(self.frame(desired));
        changes.extend(message::add_elements(table, &all_elements(desired).iter().collect::<Vec<_>>()));
        changes.extend(self.all_rules(desired));
        self.load(&changes, desired)
    }

    /// Makes the pods and the rules of a table that is there what they should be. Its chains stay where they hook into
    /// the network, so that every packet meets either the old rules or the new ones; elements that are what they should be
    /// are not touched. A table that is not what it should be is replaced.
    pub fn refresh(&self, desired: &Desired) -> Result<()> {
        self.try_refresh(desired).or_else(|error| {
            tracing::debug!(%error, "the table is made anew");
            self.replace(desired)
        })
    }

    fn try_refresh(&self, desired: &Desired) -> Result<()> {
        let table = &self.name;
        let unused = unused::find(&mut self.socket(), table, desired)?;
        let (gone, come) = changed::find(&mut self.socket(), table, desired, all_elements(desired))?;
        let mut changes = vec![message::add_table(table), message::flush_rules(table)];
        changes.extend(self.frame(desired));
        changes.extend(message::delete_elements(table, &gone.iter().collect::<Vec<_>>()));
        changes.extend(unused);
        changes.extend(message::add_elements(table, &come.iter().collect::<Vec<_>>()));
        changes.extend(self.all_rules(desired));
        self.load(&changes, desired)
    }

    fn load(&self, changes: &[socket::Change], desired: &Desired) -> Result<()> {
        self.socket().batch(changes)?;
        let leads = desired.relations.leads(&Relations::default());
        self.forget(&Stale { pairs: BTreeSet::new(), leads })?;
        // While the table was not there, clients were led to the node itself, and would be for ever.
        self.redirect_clients(&desired.pods)
    }

    /// The sets and chains: what is there already and the same stays.
    fn frame(&self, desired: &Desired) -> Vec<socket::Change> {
        let table = &self.name;
        let sets = sets::all(desired);
        let sets = sets.iter().zip(1..).map(|(set, id)| message::add_set(table, id, set));
        let chains = rules::all(desired).into_iter().map(|chain| message::add_chain(table, &chain.name, chain.base));
        sets.chain(chains).collect()
    }

    /// The rules of the chains.
    fn all_rules(&self, desired: &Desired) -> impl Iterator<Item = socket::Change> {
        rules::all(desired).into_iter().flat_map(|chain| self.rules(chain))
    }

    fn rules(&self, chain: Chain) -> Vec<socket::Change> {
        let rules = chain.rules.into_iter().zip(1..);
        rules.map(|(rule, number)| message::add_rule(&self.name, &chain.name, number, rule)).collect()
    }

    /// A chain that may be there already.
    fn chain(&self, chain: Chain) -> Vec<socket::Change> {
        let made = [message::add_chain(&self.name, &chain.name, None), message::flush_chain(&self.name, &chain.name)];
        made.into_iter().chain(self.rules(chain)).collect()
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
        let elements = elements::of_pod(pod)?;
        let sets = sets::of_group(&pod.group);
        let mut changes: Vec<_> = sets.iter().zip(1..).map(|(set, id)| message::add_set(&self.name, id, set)).collect();
        changes.extend(rules::of_group(&pod.group).into_iter().flat_map(|it| self.chain(it)));
        changes.extend(message::add_elements(&self.name, &elements.iter().collect::<Vec<_>>()));
        self.socket().batch(&changes)
    }

    /// Makes the relations of some pods others. `before` and `after` are all that these pods have, or had, to do with
    /// anybody. What the kernel remembers of connections is still to be forgotten.
    pub fn relate(&self, before: &Relations, after: &Relations) -> Result<Stale> {
        let (old, new) = (before.elements(), after.elements());
        let gone: Vec<_> = old.difference(&new).collect();
        let come: Vec<_> = new.difference(&old).collect();
        let table = &self.name;
        // What is deleted has to be there: see `remove_pod`.
        let mut changes = message::add_elements(table, &gone);
        changes.extend(message::delete_elements(table, &gone));
        let choices = after.choices();
        let unknown = choices.difference(&before.choices()).copied().collect::<Vec<_>>();
        changes.extend(unknown.into_iter().flat_map(|it| self.chain(rules::of_choice(it))));
        changes.extend(message::add_elements(table, &come));
        self.socket().batch(&changes)?;
        Ok(Stale::between(before, after))
    }

    /// Ends connections that links let through which are gone, and leads clients of services anew that go on speaking to a
    /// pod which is none of the service's any more. The kernel goes through all connections that there is room for: tens
    /// of milliseconds.
    pub fn forget(&self, stale: &Stale) -> Result<()> {
        let mut socket = self.socket();
        let pairs = conntrack::forget_pairs(&mut socket, &stale.pairs);
        if stale.leads.is_empty() {
            return pairs;
        }
        let mut lost = Vec::new();
        let dumped = conntrack::all(sets::STICKY.into_iter().map(|set| {
            socket.dump_raw(&message::elements(&self.name, set), |message| {
                let kept = message::keys_and_data(message).into_iter();
                let kept = kept.filter(|(key, to)| relations::is_lost(&stale.leads, key, to));
                lost.extend(kept.map(|(key, to)| sets::element(set, key).to(sets::Target::Value(to))));
            })
        }));
        for element in lost {
            // One that ends by itself meanwhile is as good.
            let _ = socket.batch(&message::delete_elements(&self.name, &[&element]));
        }
        conntrack::all([pairs, dumped, conntrack::forget_misled(&mut socket, &stale.leads)])
    }

    /// How many connections each of these was used for.
    pub fn uses(&self, pairs: &BTreeSet<Pair>) -> Result<HashMap<Pair, u64>> {
        let wanted: HashMap<Vec<u8>, &Pair> = pairs.iter().map(|it| (relations::pair_key(it), it)).collect();
        let mut uses = HashMap::new();
        if wanted.is_empty() {
            return Ok(uses);
        }
        for set in sets::USES {
            self.socket().dump_raw(&message::elements(&self.name, set), |message| {
                for (key, packets) in message::counted(message) {
                    uses.extend(wanted.get(&key).map(|pair| (**pair, packets)));
                }
            })?;
        }
        Ok(uses)
    }

    /// Removes a pod, and its clients by UDP with it, which the kernel would lead to it for ever. One that is not there
    /// is success.
    pub fn remove_pod(&self, pod: &PodRules) -> Result<()> {
        let elements = elements::of_pod(pod)?;
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
        let mut names = list_all()?;
        names.retain(|it| is_our_name(it));
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

/// The tables of this host, of the family inet.
fn list_all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    Socket::open()?.dump(&message::tables(), |message| {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = message else { return };
        let name = table.attributes.into_iter().find_map(|it| match it {
            TableAttribute::Name(name) => Some(name),
            _ => None,
        });
        names.extend(name);
    })?;
    Ok(names)
}

/// One pod that cannot be as its record says does not keep all the others from what they need.
fn all_elements(desired: &Desired) -> Vec<Element> {
    let mut elements = elements::constant(desired);
    let mut taken = HashSet::new();
    for pod in &desired.pods {
        match elements::of_pod(pod) {
            Ok(mut of_pod) => {
                of_pod.retain(|it| {
                    let free = taken.insert((it.set.clone(), it.key.clone()));
                    if !free {
                        tracing::warn!(interface = pod.interface, set = %it.set, "another pod has this already");
                    }
                    free
                });
                elements.extend(of_pod);
            }
            Err(error) => tracing::warn!(%error, "a pod was left out of the table"),
        }
    }
    elements.extend(desired.relations.elements());
    elements
}

/// `coracle`, or `coracle-` and hexadecimal digits.
fn is_our_name(name: &str) -> bool {
    let rest = name.strip_prefix(DEFAULT_TABLE);
    let digits = |it: &str| !it.is_empty() && it.len() <= 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    rest.is_some_and(|it| it.is_empty() || it.strip_prefix('-').is_some_and(digits))
}
