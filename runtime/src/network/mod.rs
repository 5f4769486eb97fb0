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
//! namespace. Whenever the process dies in between, the
//! record says what there may be: [`collect`] and the next process repair the rest. Links are never deleted on the way
//! out, which would wait for the kernel for 30 ms: they end with their namespace.

mod attach;
mod collect;
pub mod counters;
mod error;
mod firewall;
mod forwarding;
mod healer;
mod leases;
pub mod nft;
mod pool;
pub mod ports;
mod publish;
mod ranges;
mod rtnl;
mod setup;
mod state;
mod survey;
mod sysctl;
mod thread;
mod wire;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use attach::{admit, attach, claim, detach};
pub use collect::{collect, reconcile, settle};
pub use error::Error;
pub use leases::exclusive;
pub use ports::{PortMapping, Protocol};
pub use publish::start as publish;

use crate::core::{Core, make_private};
use crate::error::{During as _, Result};
use crate::ids::Process;

/// How the names of the host's ends of links begin. Eleven digits of the sandbox's id follow.
const PREFIX: &str = "cor";

/// Who made a route (rtnetlink(7), rtm_protocol): a number that nobody else uses.
const PROTOCOL: u8 = 67;

/// The state directory whose table has no number in its name.
const DEFAULT_STATE_DIR: &str = "/run/coracle";

/// What an operator may say about the pods' network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Ranges of the pods' addresses, one of a family at most: what is named is all there is. None: a free IPv4 range is
    /// found, and, where the host has IPv6, a random private one.
    pub pod_cidrs: Vec<IpNet>,
    /// Destinations that see pods by their own addresses, besides the pods.
    pub non_masquerade_cidrs: Vec<IpNet>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Every pod reaches every other, as Kubernetes has it.
    #[default]
    Flat,
}

/// A pod's place in the network, in its sandbox's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which network.
    pub kind: Kind,
    /// The number that its addresses follow from.
    pub place: u32,
    /// The host's end of its link.
    pub interface: String,
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
    dir: PathBuf,
    /// The state directory's number: the group of its links, the metric of its claims.
    group: u32,
    book: leases::Book,
    firewall: firewall::Firewall,
    thread: Mutex<Option<thread::Thread>>,
    /// Whether this process watches the rules.
    watched: AtomicBool,
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
            firewall: firewall::Firewall::new(table),
            thread: Mutex::default(),
            watched: AtomicBool::new(false),
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

    /// From the first pod on this process watches over the rules.
    fn watch(core: &Arc<Core>) -> Result<()> {
        if core.network.watched.swap(true, Ordering::Relaxed) { Ok(()) } else { healer::start(core) }
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

/// A number for a state directory: 31 bits, none of which is zero for all, so that it is never the default group.
fn group(state_dir: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt as _;
    let digest = Sha256::digest(state_dir.as_os_str().as_bytes());
    let number = digest.iter().take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    number.max(1)
}
