//! What is known of a sandbox: one record of this boot.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cgroup::Resources;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::{Owner, Process};
use crate::network::cni::Connection;
use crate::network::{Attachment, PortMapping};
use crate::records::{Cache, Stored};
use crate::store::{Durability, read_json, write_json};
use crate::userns::UserNamespace;

/// Whose a namespace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The pod's containers share it.
    #[default]
    Pod,
    /// Each container has its own.
    Container,
    /// The host's.
    Node,
}

/// The modes of a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Network: Pod or Node.
    pub net: NamespaceMode,
    /// Process ids.
    pub pid: NamespaceMode,
    /// System V IPC, message queues, /dev/shm: Pod or Node.
    pub ipc: NamespaceMode,
}

/// What a sandbox is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Name, unique id, namespace and attempt: together they are reserved.
    pub name: String,
    /// Unique id.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Host name; empty is the host's.
    pub hostname: String,
    /// Where the containers' logs go; empty keeps none.
    pub log_directory: String,
    /// Name servers, search domains and options of resolv.conf.
    pub dns: Option<Dns>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Cgroup below which the containers are, relative to every hierarchy's root.
    pub cgroup_parent: String,
    /// Sysctls of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// A user namespace of its own, which owns the others.
    #[serde(default)]
    pub user: Option<UserNamespace>,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Its containers may be privileged.
    #[serde(default)]
    pub privileged: bool,
    /// What the client says that the pod as a whole uses.
    #[serde(default)]
    pub amounts: Amounts,
}

/// What a client says of a pod as a whole. It is kept and shown: the pod's cgroup and its limits are the client's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// What is used beside the containers.
    pub overhead: Option<Resources>,
    /// The sum of the containers'.
    pub resources: Option<Resources>,
}

/// Contents of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// `sandbox.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this record.
    pub version: u32,
    /// The sandbox.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// The boot that its processes belong to.
    pub boot_id: String,
    /// What was asked for.
    pub request: Request,
    /// When, in nanoseconds since 1970.
    pub created_at: i64,
    /// Its shim; none until it was forked.
    pub shim: Option<Process>,
    /// The init of its pid namespace.
    pub init: Option<Process>,
    /// Its place in the network; none on the host's.
    #[serde(default)]
    pub attachment: Option<Attachment>,
    /// How plug-ins have connected it, in the place of that.
    #[serde(default)]
    pub cni: Option<Connection>,
    /// It was told to stop.
    pub stopped: bool,
    /// It is not whole yet: nobody knows of it but its maker.
    #[serde(default)]
    pub making: bool,
}

impl Record {
    /// Its shim runs and it was not stopped.
    pub fn is_ready(&self, core: &Core) -> bool {
        !self.stopped && self.shim_lives(core)
    }

    /// Its shim runs.
    pub fn shim_lives(&self, core: &Core) -> bool {
        let look = || self.shim.is_some_and(Process::is_running);
        self.boot_id == core.boot_id && core.watcher.is_connected(&self.id).unwrap_or_else(look)
    }

    /// Writes it.
    pub fn save(&self, core: &Core) -> Result<()> {
        let dir = core.sandbox_dir(&self.id);
        core.caches
            .sandboxes
            .write(&dir, "sandbox.json", self)
            .during(|| format!("write the record of sandbox {} in {}", self.id, dir.display()))
    }

    /// Its addresses in a network of its own, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        let plugged = || self.cni.as_ref().map_or(&[][..], |it| &it.addresses);
        self.attachment.as_ref().map_or_else(plugged, |it| &it.addresses)
    }

    /// Its cgroup, for the init.
    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.request.cgroup_parent.trim_matches('/'), self.id)
    }
}

/// `amounts.json`: the latest word on a pod's [`Amounts`]. A file of its own, for who writes it must not write over a stop.
const AMOUNTS: &str = "amounts.json";

/// The latest that was said of a pod as a whole.
pub fn amounts(core: &Core, record: &Record) -> Result<Amounts> {
    let path = core.sandbox_dir(&record.id).join(AMOUNTS);
    let latest = read_json(&path).during(|| format!("read {}", path.display()))?;
    Ok(latest.unwrap_or_else(|| record.request.amounts.clone()))
}

/// Writes down what is said of a pod as a whole; what is not said stays.
pub fn update_amounts(core: &Core, record: &Record, said: Amounts) -> Result<()> {
    let old = amounts(core, record)?;
    let new = Amounts { overhead: said.overhead.or(old.overhead), resources: said.resources.or(old.resources) };
    let dir = core.sandbox_dir(&record.id);
    write_json(&dir, AMOUNTS, &new, Durability::Volatile)
        .during(|| format!("write the amounts of sandbox {} in {}", record.id, dir.display()))
}

impl Stored for Record {
    const WHAT: &'static str = "sandbox";
    const FIELD: &'static str = "pod_sandbox_id";
    const DIR: &'static str = "sandboxes";
    const FILE: &'static str = "sandbox.json";

    fn cache(core: &Core) -> &Cache<Self> {
        &core.caches.sandboxes
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn owner(&self) -> &Owner {
        &self.owner
    }
}
