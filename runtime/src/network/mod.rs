//! The pods' network: every pod with a network namespace of its own gets addresses, a link and published ports.
//!
//! ```text
//!            host                                   pod
//!  route 10.201.0.2 dev corXXXX                route default via 10.201.0.1
//!  [corXXXX 10.201.0.1, fd..::1] --- veth --- [eth0 10.201.0.2, fd..::2]
//!  unreachable 10.201.0.0/16 (the claim)
//!  nftables: inet coracle
//! ```
//!
//! A start has three steps. [`claim`] chooses the addresses and writes them into the sandbox's record, before anything of
//! the pod exists; [`admit`] adds it to the rules while its shim starts; [`attach`] makes the link once the pod has its
//! namespace. Plug-ins of others take the place of all three where they are asked for ([`cni`]). Whenever the process dies in between, the
//! record says what there may be: [`collect`] and the next process repair the rest. Links are never deleted on the way
//! out, which would wait for the kernel for 30 ms: they end with their namespace.

mod attach;
mod bandwidth;
mod bridge;
pub mod cni;
mod collect;
pub mod counters;
mod error;
mod firewall;
mod forwarding;
pub mod healer;
mod leases;
mod links;
pub mod named;
pub mod nft;
mod overview;
mod pool;
pub mod ports;
mod publish;
mod ranges;
mod relations;
mod rtnl;
mod setup;
mod state;
mod survey;
mod sysctl;
mod thread;
pub mod wanted;
mod wire;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use attach::{admit, attach, claim, detach, lease_for};
pub use collect::{collect, reconcile, settle};
pub use error::Error;
pub use healer::Repairs;
pub use leases::exclusive;
pub use links::{LinkState, NetworkState, forget, outgrow, set, state as state_of_links};
pub use overview::{Overview, overview};
pub use ports::{PortMapping, Protocol};
pub use publish::start as publish;

use crate::core::{Core, make_private};
use crate::error::{During as _, Result};
use crate::ids::Process;

/// How the names of the host's ends of links begin. Eleven digits of the sandbox's id follow, or, for a bridge, a hyphen
/// and ten of a number of its network's.
const PREFIX: &str = "cor";

/// The same for private pods and those of networks that are isolated when the link is made. No digit of an id can be
/// taken for its last letter.
pub const GUARDED_PREFIX: &str = "corp";

/// The same for the interface through which what a pod sends is slowed down.
const SHAPER_PREFIX: &str = "cori";

/// Who made a route (rtnetlink(7), rtm_protocol): a number that nobody else uses.
const PROTOCOL: u8 = 67;

/// The state directory whose table has no number in its name.
const DEFAULT_STATE_DIR: &str = "/run/coracle";

/// Bytes of the name of a network: it becomes a part of a file's.
const MOST_NAME: usize = 63;

/// What an operator may say about the pods' network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Ranges of the pods' addresses, one of a family at most: what is named is all there is. None: a free IPv4 range is
    /// found, and, where the host has IPv6, a random private one.
    pub pod_cidrs: Vec<IpNet>,
    /// Destinations that see pods by their own addresses, besides the pods.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// The file that names the name servers for what is not a pod's name; none is the host's own.
    pub resolv_conf: Option<PathBuf>,
    /// The network of pods that name none.
    pub default_network: Kind,
    /// Plug-ins of others that connect pods in the place of all this.
    pub cni: cni::Options,
}

impl Options {
    /// The destinations in one order, each once.
    fn non_masquerade(&self) -> Vec<IpNet> {
        let mut ranges: Vec<IpNet> = self.non_masquerade_cidrs.iter().map(IpNet::trunc).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    }
}

/// Which network a pod is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Every pod reaches every other, as Kubernetes has it.
    #[default]
    Flat,
    /// No pod reaches another without a link.
    Private,
    /// The network of this name.
    Named(String),
}

impl Kind {
    /// The annotation of a pod that says which.
    pub const ANNOTATION: &str = "coracle.dev/network";

    /// The name of the network whose ranges its addresses are from: empty for the default one.
    pub fn network(&self) -> &str {
        match self {
            Self::Flat | Self::Private => "",
            Self::Named(name) => name,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Private => "private",
            Self::Named(name) => name,
        })
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let edge = |it: Option<&u8>| it.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-.".contains(&it);
        let bytes = text.as_bytes();
        match text {
            "flat" => Ok(Self::Flat),
            "private" => Ok(Self::Private),
            _ if bytes.len() <= MOST_NAME
                && bytes.iter().copied().all(inner)
                && edge(bytes.first())
                && edge(bytes.last()) =>
            {
                Ok(Self::Named(text.to_owned()))
            }
            _ => Err(format!("{text:?} is not flat, private or the name of a network")),
        }
    }
}

/// A pod's place in the network, in its sandbox's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which network.
    pub kind: Kind,
    /// The number that its addresses follow from, in its network.
    pub place: u32,
    /// The host's end of its link.
    pub interface: String,
    /// The bridge that its link is a port of.
    #[serde(default)]
    pub bridge: Option<String>,
    /// Its addresses: IPv4 first, where there are both.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses on its link, one of each family.
    pub gateways: Vec<IpAddr>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
    /// What listens for it on the host's `[::1]`, which the rules cannot redirect.
    pub relay: Option<Process>,
}

/// The network of one state directory, in this process.
pub struct Network {
    options: Options,
    /// Ranges that a client has named, where the operator has not.
    suggested: Mutex<Vec<IpNet>>,
    /// Shared records of this boot.
    pub dir: PathBuf,
    /// The state directory's number: the group of its links, the metric of its claims.
    group: u32,
    book: leases::Book,
    firewall: firewall::Firewall,
    ports: nft::ports::Ports,
    thread: Mutex<Option<thread::Thread>>,
    /// Whether this process watches the rules.
    watched: AtomicBool,
    /// Whether the name server listens.
    pub names: Arc<crate::resolver::Ready>,
    /// What is remembered of plug-ins.
    cni: cni::Memory,
}

impl Network {
    /// The network of these directories. Nothing of it is brought up before a pod needs it.
    pub fn open(options: Options, root_dir: &Path, state_dir: &Path) -> Result<Self> {
        let (dir, durable) = (state_dir.join("network"), root_dir.join("network"));
        make_private(&dir)?;
        make_private(&durable)?;
        // The same directory by another name is the same network.
        let real = state_dir.canonicalize().during(|| format!("look at {}", state_dir.display()))?;
        let group = group(&real);
        let table =
            if real == Path::new(DEFAULT_STATE_DIR) { "coracle".to_owned() } else { format!("coracle-{group:08x}") };
        let book = leases::Book::new(durable);
        Ok(Self {
            options,
            suggested: Mutex::default(),
            dir,
            group,
            book,
            ports: nft::ports::Ports::new(&table),
            firewall: firewall::Firewall::new(table),
            thread: Mutex::default(),
            watched: AtomicBool::new(false),
            names: Arc::default(),
            cni: cni::Memory::default(),
        })
    }

    /// Has the network thread do something, and waits for it.
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut thread::Host) -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        self.begin(job)?.wait()
    }

    /// Has the network thread do something.
    fn begin<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut thread::Host) -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<thread::Pending<T>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(thread::Thread::start()?);
        }
        thread.as_ref().ok_or_else(|| std::io::Error::other("there is no network thread"))?.begin(job)
    }

    /// From the first pod on this process watches over the rules and answers for names, if no other does.
    pub fn watch(core: &Arc<Core>) -> Result<()> {
        if core.network.watched.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        healer::start(core)?;
        crate::resolver::start(core)
    }

    /// The ranges of all networks, as somebody wrote them down last.
    pub fn ranges(&self) -> Vec<IpNet> {
        let Some(shared) = state::glance(&self.dir) else { return Vec::new() };
        let named = shared.networks.values().flat_map(|it| it.ranges.all());
        shared.ranges.all().into_iter().chain(named).collect()
    }

    /// The state directory's number.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Takes over what a client says the pods' ranges are, where the operator has not said. It counts from the next pod
    /// on that comes while none has an address.
    pub fn suggest(&self, ranges: Vec<IpNet>) -> Result<()> {
        ranges::wanted(&ranges)?;
        *self.suggested.lock().unwrap_or_else(PoisonError::into_inner) = ranges;
        Ok(())
    }

    fn suggested(&self) -> Vec<IpNet> {
        self.suggested.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only one who may change what is shared.
    fn lock(&self, core: &Core) -> Result<state::Locked> {
        state::Locked::new(&self.dir, &core.boot_id).during(|| format!("lock {}", self.dir.display()))
    }
}

/// For [`crate::probe`]: the ranges that the pods of a state directory have or would get, in words.
pub fn free_ranges(state_dir: &Path) -> std::result::Result<String, String> {
    let survey = rtnl::Rtnl::open().and_then(|mut it| survey::survey(&mut it));
    let survey = survey.map_err(|error| format!("the host's routes cannot be read: {error}"))?;
    let group = group(&state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned()));
    let used: Vec<String> =
        survey.claims.iter().filter(|it| it.group == group).map(|it| it.range.to_string()).collect();
    if !used.is_empty() {
        return Ok(format!("in use: {}", used.join(" and ")));
    }
    let chosen = ranges::choose(None, ranges::Ranges::default(), &survey, group, ranges::random_ula);
    let chosen = chosen.map_err(|error| error.to_string())?;
    let v6 = if chosen.v6.is_some() { ", and a random IPv6 range" } else { "" };
    Ok(format!("{} is free{v6}", chosen.v4.map(|it| it.to_string()).unwrap_or_default()))
}

/// What speaks against addresses on this host, for who chooses some that no pod has.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Ranges that are somebody's, pods' own among them, and whose.
    pub taken: Vec<(IpNet, String)>,
    /// Whether there is IPv6.
    pub ipv6: bool,
}

/// Looks at them.
pub fn surroundings() -> std::io::Result<Surroundings> {
    let survey = rtnl::Rtnl::open().and_then(|mut it| survey::survey(&mut it))?;
    let claims = survey.claims.iter().map(|it| (it.range, "addresses of pods".to_owned()));
    let taken = survey.taken.into_iter().chain(survey.routed);
    let taken = taken.map(|it| (it.range, it.by)).chain(claims).collect();
    Ok(Surroundings { taken, ipv6: survey.ipv6 })
}

/// A number for a state directory: 31 bits, none of which is zero for all, so that it is never the default group.
fn group(state_dir: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt as _;
    let digest = Sha256::digest(state_dir.as_os_str().as_bytes());
    let number = digest.iter().take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    number.max(1)
}
