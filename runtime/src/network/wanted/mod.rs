//! What owners want of the pods' network beyond the pods themselves: `<state>/network/wanted/<owner>.json`.
//!
//! An owner replaces all that it wants at once. It stays when its process dies, and goes with the owner. Pods are told by
//! namespace and name, whoever's they are, and need not be there.

mod check;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use check::check;

use super::Protocol;
use super::named::Spec;
use super::state::Locked;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::Owner;
use crate::store::{read_json, sweep_temporaries};

const DIR: &str = "wanted";

/// A pod, by its name: an address is a name's, not an instance's.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Ports from one number to another, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// The transport.
    pub protocol: Protocol,
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// All that one owner wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedSet {
    /// Version of this record.
    pub version: u32,
    /// Networks that pods name.
    #[serde(default)]
    pub networks: Vec<Spec>,
    /// Who may reach whom besides.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Whom NetworkPolicies choose.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// Addresses that lead to several pods.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Names besides those that pods have by themselves.
    #[serde(default)]
    pub names: Vec<Name>,
    /// Pods that reach each other without a link reach the node's own ports, too.
    #[serde(default)]
    pub reach_node: bool,
}

/// A pod may reach ports of others, whatever their networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Who.
    pub from: PodRef,
    /// What it calls the target.
    pub alias: String,
    /// What it leads to, in words.
    pub target: String,
    /// Whom.
    pub endpoints: Vec<LinkEndpoint>,
}

/// A pod that a link leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEndpoint {
    /// Which.
    pub pod: PodRef,
    /// Its ports.
    pub ports: Vec<Ports>,
}

/// What may reach a pod, and what it may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which.
    pub pod: PodRef,
    /// What comes in, where not everything does.
    pub ingress: Option<Vec<PolicyRule>>,
    /// What goes out, where not everything does.
    pub egress: Option<Vec<PolicyRule>>,
}

/// Something that a policy allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// From or to whom; none is everybody.
    pub peers: Vec<Peer>,
    /// Which ports; none is every one of every protocol.
    pub ports: Vec<Ports>,
}

/// The other side of what a policy allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// A pod.
    Pod(PodRef),
    /// Addresses.
    Block {
        /// These.
        cidr: IpNet,
        /// But not these.
        except: Vec<IpNet>,
    },
}

/// An address that leads to several pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Seconds for which a client stays with its pod; 0 does not keep it.
    pub affinity_seconds: u32,
}

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Where it leads; none: it is refused.
    pub endpoints: Vec<ServiceEndpoint>,
}

/// A pod's port that a service leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEndpoint {
    /// The pod.
    pub pod: PodRef,
    /// Its port.
    pub port: u16,
}

/// A name besides those that pods have by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Lower case, without a last dot.
    pub name: String,
    /// Who alone sees it; none is everybody.
    pub asker: Option<PodRef>,
    /// The addresses of these pods.
    pub pods: Vec<PodRef>,
    /// These addresses.
    pub addresses: Vec<IpAddr>,
    /// What a record SRV says.
    pub srv: Vec<SrvTarget>,
}

/// Where a record SRV leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrvTarget {
    /// The port.
    pub port: u16,
    /// The name.
    pub target: String,
}

impl PodRef {
    /// The reference to a pod.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl WantedSet {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Self { version: self.version, ..Self::default() }
    }
}

fn dir(core: &Core) -> PathBuf {
    core.network.dir.join(DIR)
}

fn file(owner: &Owner) -> String {
    format!("{owner}.json")
}

/// What every owner wants, in the order of their names. What cannot be read is nobody's wish, and said in the log. Files
/// that are what they were are not read again.
pub fn all(core: &Core) -> Result<Vec<(Owner, Arc<WantedSet>)>> {
    let dir = dir(core);
    let mut wanted = Vec::new();
    for (owner, path) in owners(&dir).during(|| format!("list {}", dir.display()))? {
        match core.caches.wanted.read(&path) {
            Ok(found) => wanted.extend(found.map(|it| (owner, it))),
            Err(error) => tracing::warn!(%error, path = %path.display(), "what an owner wants cannot be read"),
        }
    }
    Ok(wanted)
}

/// Who wants something, and the file that says what.
fn owners(dir: &Path) -> io::Result<Vec<(Owner, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut owners = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // The others are temporaries of writers that died.
        let owner = name.strip_suffix(".json").and_then(|it| Owner::try_from(it.to_owned()).ok());
        owners.extend(owner.map(|it| (it, entry.path())));
    }
    owners.sort_by_key(|(owner, _)| owner.to_string());
    Ok(owners)
}

/// The networks that owners want, as the files of a directory have them, for who has no [`Core`].
pub fn networks(state_dir: &Path) -> io::Result<Vec<(Owner, Spec)>> {
    let mut networks = Vec::new();
    for (owner, path) in owners(&directory(state_dir))? {
        let set: Option<WantedSet> = read_json(&path)?;
        networks.extend(set.unwrap_or_default().networks.into_iter().map(|spec| (owner.clone(), spec)));
    }
    Ok(networks)
}

/// Where it is written, in a state directory.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("network").join(DIR)
}

/// Writes down what an owner wants now. Who wants nothing has no file.
pub fn write(core: &Core, _locked: &Locked, owner: &Owner, wanted: &WantedSet) -> Result<()> {
    if wanted.is_empty() {
        return forget(core, owner);
    }
    let dir = dir(core);
    crate::core::make_private(&dir)?;
    let wanted = WantedSet { version: 1, ..wanted.clone() };
    core.caches
        .wanted
        .write(&dir, &file(owner), &wanted)
        .during(|| format!("write down what {owner} wants of the network in {}", dir.display()))
}

/// An owner wants nothing any more.
pub fn forget(core: &Core, owner: &Owner) -> Result<()> {
    let dir = dir(core);
    match std::fs::remove_file(dir.join(file(owner))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).during(|| format!("forget what {owner} wants of the network"));
        }
        _ => {}
    }
    // The last one's wishes: the directory with them. One that is not empty stays.
    let _ = std::fs::remove_dir(&dir);
    Ok(())
}

/// Removes what writers left that were killed.
pub fn sweep(core: &Core) -> io::Result<()> {
    sweep_temporaries(&dir(core))
}
