//! Where names come from: the records of sandboxes and the sets of what is wanted, read again when one of them changes.
//!
//! The kernel tells of changes (inotify(7)) before the call that makes them returns. So who asks after something was
//! written is answered from it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Weak};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::zone::{Entry, Given, Pod, Zone};
use super::{ADDS_TO_HOST, CLUSTER_DOMAIN, SUBDOMAIN, loopback};
use crate::core::Core;
use crate::ids::{Owner, is_id};
use crate::network::wanted;
use crate::sandbox::{NamespaceMode, Record};

const RECORD: &str = "sandbox.json";

/// The files of the network that names are read from.
const SETS: &str = "wanted";
const RANGES: &str = "network.json";

/// What a watch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The directory of all sandboxes.
    Sandboxes,
    /// One sandbox's.
    Sandbox(String),
    /// The network's: the sets' directory comes and goes in it.
    Network,
    /// The directory of the sets.
    Sets,
}

/// The names, and what they were made of.
pub struct Source {
    core: Weak<Core>,
    inotify: OwnedFd,
    places: HashMap<i32, Place>,
    zone: Arc<Zone>,
    stale: bool,
    /// Addresses that pods of now know the server by.
    servers: BTreeSet<IpAddr>,
    moved: bool,
}

impl Source {
    /// Begins to watch.
    pub fn open(core: &Arc<Core>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut source = Self {
            core: Arc::downgrade(core),
            inotify,
            places: HashMap::new(),
            zone: Arc::default(),
            stale: true,
            servers: BTreeSet::new(),
            moved: false,
        };
        source.watch(&core.options.state_dir.join("sandboxes"), Place::Sandboxes)?;
        source.watch_sets(core);
        for entry in std::fs::read_dir(core.options.state_dir.join("sandboxes"))?.flatten() {
            source.meet(core, entry.file_name());
        }
        Ok(source)
    }

    /// Ready to be read when something changed.
    pub fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// The names as they are. None when the runtime has ended.
    pub fn zone(&mut self) -> Option<Arc<Zone>> {
        self.notice()?;
        if self.stale {
            let core = self.core.upgrade()?;
            match read(&core) {
                Ok((zone, servers)) => {
                    self.zone = Arc::new(zone);
                    self.moved |= self.servers != servers;
                    self.servers = servers;
                    self.stale = false;
                }
                // What was true is the best that there is.
                Err(error) => tracing::warn!(%error, "the names of pods cannot be read"),
            }
        }
        Some(Arc::clone(&self.zone))
    }

    /// The addresses that the server has to be found at.
    pub fn servers(&self) -> &BTreeSet<IpAddr> {
        &self.servers
    }

    /// Whether those have changed since it was asked last.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Takes note of what has changed. None when the runtime has ended.
    pub fn notice(&mut self) -> Option<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut core = None;
        loop {
            let mut events = Vec::new();
            let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|it| it.to_string_lossy().into_owned());
                        events.push((event.wd(), event.events(), name.unwrap_or_default()));
                        if reader.is_buffer_empty() {
                            break;
                        }
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            if events.is_empty() {
                return Some(());
            }
            let core = match &core {
                Some(core) => core,
                None => core.insert(self.core.upgrade()?),
            };
            for (watch, flags, name) in events {
                self.happened(core, watch, flags, name);
            }
        }
    }

    fn happened(&mut self, core: &Core, watch: i32, flags: ReadFlags, name: String) {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.lost(core);
            return;
        }
        let Some(place) = self.places.get(&watch).cloned() else { return };
        if flags.contains(ReadFlags::IGNORED) {
            self.places.remove(&watch);
        }
        match place {
            Place::Sandboxes => self.meet(core, name.into()),
            Place::Sandbox(id) if name == RECORD || flags.contains(ReadFlags::IGNORED) => {
                self.stale = true;
                self.look(core, &id);
            }
            Place::Sandbox(_) => {}
            Place::Network if [SETS, RANGES].contains(&name.as_str()) => {
                self.stale = true;
                self.watch_sets(core);
            }
            Place::Network => {}
            Place::Sets => self.stale = true,
        }
    }

    /// Nobody knows what has happened.
    fn lost(&mut self, core: &Core) {
        self.stale = true;
        self.watch_sets(core);
        let known = std::fs::read_dir(core.options.state_dir.join("sandboxes"));
        for entry in known.into_iter().flatten().flatten() {
            self.meet(core, entry.file_name());
        }
    }

    /// A sandbox's directory has come.
    fn meet(&mut self, core: &Core, name: OsString) {
        let Some(id) = name.to_str().filter(|it| is_id(it)) else { return };
        // One that is gone again, or of which no more can be watched: it is read with the others.
        if let Err(error) = self.watch(&core.sandbox_dir(id), Place::Sandbox(id.to_owned()))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, sandbox = id, "a sandbox's record is not watched; its names may come late");
        }
        self.stale = true;
        self.look(core, id);
    }

    /// The server has to be there before the pod's first process is: all other names can wait until they are asked for.
    fn look(&mut self, core: &Core, id: &str) {
        if let Ok(record) = crate::records::read::<Record>(core, id)
            && lives(core, &record)
        {
            let known = self.servers.len();
            self.servers.extend(servers(core, &record));
            self.moved |= self.servers.len() != known;
        }
    }

    fn watch(&mut self, path: &Path, place: Place) -> io::Result<()> {
        let flags = match place {
            Place::Sandboxes | Place::Network => WatchFlags::CREATE | WatchFlags::MOVED_TO,
            Place::Sandbox(_) | Place::Sets => WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE,
        };
        let watch = inotify::add_watch(&self.inotify, path, flags | WatchFlags::ONLYDIR)?;
        self.places.insert(watch, place);
        Ok(())
    }

    fn watch_sets(&mut self, core: &Core) {
        let network = core.options.state_dir.join("network");
        // In this order: the second may come in between.
        for (dir, place) in [(network.clone(), Place::Network), (network.join(SETS), Place::Sets)] {
            if let Err(error) = self.watch(&dir, place)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, dir = %dir.display(), "the directory cannot be watched: names may come late");
            }
        }
    }
}

/// Everything, from the records.
fn read(core: &Core) -> crate::error::Result<(Zone, BTreeSet<IpAddr>)> {
    let records = crate::sandbox::all(core)?;
    let alive: Vec<_> = records.iter().filter(|it| lives(core, it)).collect();
    let known = alive.iter().flat_map(|it| servers(core, it)).collect();
    let pods = alive.iter().filter_map(|it| pod(it)).collect();
    let sets = wanted::all(core)?;
    let given = sets.iter().flat_map(|(owner, set)| set.names.iter().map(|it| given(owner, it))).collect();
    Ok((Zone::new(pods, given, core.network.ranges()), known))
}

fn given(owner: &Owner, name: &wanted::Name) -> Given {
    let pod = |it: &wanted::PodRef| (it.namespace.clone(), it.name.clone());
    let entry = Entry {
        pods: name.pods.iter().map(pod).collect(),
        addresses: name.addresses.clone(),
        srv: name.srv.iter().map(|it| (it.port, it.target.clone())).collect(),
    };
    Given { owner: owner.to_string(), name: name.name.clone(), asker: name.asker.as_ref().map(pod), entry }
}

/// Whether a pod is, or will be, there to be reached.
fn lives(core: &Core, record: &Record) -> bool {
    record.boot_id == core.boot_id && !record.stopped
}

/// Where a pod finds the server.
fn servers(core: &Core, record: &Record) -> Vec<IpAddr> {
    match &record.attachment {
        Some(attachment) => attachment.gateways.clone(),
        None if asks_on_host(record) => vec![loopback(core)],
        None => Vec::new(),
    }
}

/// Whether it is a pod of the host's network that wants to know the others' names.
pub fn asks_on_host(record: &Record) -> bool {
    record.request.namespaces.net == NamespaceMode::Node && domain(record).is_some()
}

fn pod(record: &Record) -> Option<Pod> {
    let attachment = record.attachment.as_ref()?;
    let request = &record.request;
    let first = request.hostname.split('.').next().filter(|it| is_label(it)).map(str::to_ascii_lowercase);
    let subdomain = annotation(record, SUBDOMAIN).filter(|it| is_label(it));
    let fqdn = first.as_ref().zip(subdomain).map(|(host, sub)| format!("{host}.{}", sub.to_ascii_lowercase()));
    Some(Pod {
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        owner: record.owner.to_string(),
        created_at: record.created_at,
        addresses: attachment.addresses.clone(),
        hostname: first,
        fqdn,
        domain: domain(record),
    })
}

/// Whether what the client says comes besides the host's own.
pub fn adds_to_host(record: &Record) -> bool {
    annotation(record, ADDS_TO_HOST).is_some()
}

/// The cluster's domain as a pod knows it.
pub fn domain(record: &Record) -> Option<String> {
    let domain = annotation(record, CLUSTER_DOMAIN)?.trim_matches('.').to_ascii_lowercase();
    let fits = domain.len() <= 190 && domain.split('.').all(is_label);
    fits.then_some(domain)
}

/// What the agent says of its own pods. Clients of the CRI hand on what their users write: they say nothing about names.
fn annotation<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let ours = !matches!(record.owner, Owner::Cri);
    record.request.annotations.get(name).filter(|_| ours).map(String::as_str)
}

fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&text.len()) && text.bytes().all(inside)
}
