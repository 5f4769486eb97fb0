//! Making a sandbox.
//!
//! The record comes first, then the socket, then the shim: whatever moment this process is killed at, `gc` finds the
//! sandbox by its directory and its shim by its socket.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::record::{NamespaceMode, Record, Request};
use super::{files, remove};
use crate::cgroup::Cgroup;
use crate::core::{Core, make_private};
use crate::error::{During as _, Error, Result};
use crate::ids::{Owner, Process, new_id, short};
use crate::names::Reserved;
use crate::network;
use crate::records;
use crate::shim::protocol::{self, CgroupFds, Config, Response, UserFd};
use crate::shim::{client, now};
use crate::store::remove_dir;
use crate::undo::Undo;
use crate::userns::{self, IdMap};
use crate::watch::Event;

/// Bytes of a pod's /dev/shm, as everywhere.
const SHM_SIZE: u64 = 64 << 20;

/// Sysctls that belong to an IPC or a network namespace, by their beginning.
const IPC_SYSCTLS: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

/// Makes a sandbox and answers with its id.
pub fn create(core: &Arc<Core>, owner: &Owner, mut request: Request) -> Result<String> {
    check(&request)?;
    let choosing = userns::settle(core, &mut request)?;
    let id = new_id().during(|| "make an id".into())?;
    let _reserved = reserve(core, owner, &request, &id)?;
    let mut record = Record {
        version: 1,
        id: id.clone(),
        owner: owner.clone(),
        boot_id: core.boot_id.clone(),
        request,
        created_at: now(),
        shim: None,
        init: None,
        attachment: None,
        cni: None,
        stopped: false,
        making: true,
    };
    let mut undo = Undo::default();
    let undone = Arc::clone(core);
    let made = record.clone();
    undo.push(format!("remove sandbox {id}"), move || {
        // What has become of it is in its record.
        remove::erase(&undone, &super::load(&undone, &made.id).unwrap_or(made))
    });
    make_private(&core.sandbox_dir(&id))?;
    if choosing.is_some() {
        record.save(core)?;
    }
    drop(choosing);
    let user = make_user_namespace(core, &record)?;
    let claimed = network::claim(core, &mut record)?;
    let hostname = hostname(&record.request);
    files::write(core, &record, &hostname)?;
    let (shim, cgroup) = start_shim(core, &record, &hostname, user.as_ref())?;
    record.shim = Process::of(shim);
    record.save(core)?;
    network::admit(core, &record)?;
    let relay = network::publish(core, &record, cgroup)?;
    let (init, namespaces) = greet(core, &id)?;
    record.init = init.and_then(Process::of);
    let connecting = match claimed.zip(namespaces.first()) {
        Some((claimed, namespace)) => Some(network::attach(core, &record, claimed, namespace.as_fd())?),
        None => None,
    };
    pin(core, &record, &namespaces)?;
    follow(core, &id)?;
    if let Some(connecting) = connecting {
        connecting.wait()?;
    }
    if network::cni::connect(core, &mut record)? {
        // Only now its addresses and name servers are known.
        files::write(core, &record, &hostname)?;
    }
    if let Some(attachment) = &record.attachment {
        // A pod's first question must not find nobody.
        core.network.names.wait(&attachment.gateways);
    }
    if let (Some(relay), Some(attachment)) = (relay, &mut record.attachment) {
        attachment.relay = relay.wait()?;
    }
    record.making = false;
    record.save(core)?;
    undo.disarm();
    core.watcher.announce(Event::SandboxStarted(id.clone()));
    Ok(id)
}

/// Refuses what cannot be, before anything is made.
fn check(request: &Request) -> Result<()> {
    if request.name.is_empty() || request.namespace.is_empty() || request.uid.is_empty() {
        return Err(Error::Invalid("a sandbox needs a name, a namespace and a uid in its metadata".into()));
    }
    for name in request.sysctls.keys() {
        check_sysctl(name, request)?;
    }
    Ok(())
}

/// Only what a namespace of the pod's own holds may be changed: anything else would be the host's.
fn check_sysctl(name: &str, request: &Request) -> Result<()> {
    let refuse = |why: &str| Err(Error::Invalid(format!("linux.sysctls: {name:?} {why}")));
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if name.is_empty() || !name.bytes().all(word) || name.contains("..") {
        return refuse("is no name of a sysctl");
    }
    let dotted = name.replace('/', ".");
    let (namespace, mode) = if dotted.starts_with("net.") {
        ("network", request.namespaces.net)
    } else if IPC_SYSCTLS.iter().any(|it| dotted.starts_with(it)) {
        ("IPC", request.namespaces.ipc)
    } else if dotted == "kernel.domainname" {
        // The UTS namespace is the host's where the network is.
        ("UTS", request.namespaces.net)
    } else {
        return refuse("cannot be set for a pod: it belongs to no namespace of a pod; set it on the host");
    };
    if mode == NamespaceMode::Node {
        return refuse(&format!("cannot be set for a pod: the pod uses the host's {namespace} namespace"));
    }
    Ok(())
}

/// Two sandboxes of one owner cannot have the same name and attempt: of several that are asked for at once, one is made.
fn reserve<'a>(core: &'a Core, owner: &Owner, request: &Request, id: &str) -> Result<Reserved<'a>> {
    let (owner, attempt) = (owner.to_string(), request.attempt.to_string());
    let refuse = |other: &str, help: &str| {
        Error::Conflict(format!(
            "sandbox {}/{} (uid {}, attempt {attempt}) {help} {other}",
            request.namespace, request.name, request.uid
        ))
    };
    let name = ["sandbox", &owner, &request.namespace, &request.name, &request.uid, &attempt];
    let reserved = core.names.reserve(&name, id).map_err(|other| refuse(&other, "is being made as"))?;
    let same = |it: &Record| key(&it.request) == key(request) && it.owner.to_string() == owner;
    match records::select(core, same)?.first() {
        None => Ok(reserved),
        Some(other) => Err(refuse(&other.id, "exists, to be removed first, as")),
    }
}

/// What a client calls a sandbox.
fn key(request: &Request) -> (&str, &str, &str, u32) {
    (&request.namespace, &request.name, &request.uid, request.attempt)
}

/// What the request says, else the host's own name.
pub fn hostname(request: &Request) -> String {
    if request.hostname.is_empty() {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    request.hostname.clone()
}

/// Makes and pins the user namespace, where there is to be one.
fn make_user_namespace(core: &Core, record: &Record) -> Result<Option<(OwnedFd, IdMap)>> {
    let Some(user) = &record.request.user else { return Ok(None) };
    let made = core.zygote()?.user_namespace(&user.map);
    let namespace =
        made.during(|| format!("make the user namespace of {}/{}", record.request.namespace, record.request.name))?;
    let dir = core.pins_dir(&record.id);
    make_private(&dir)?;
    bind(&namespace, &dir.join(userns::PIN))?;
    Ok(Some((namespace, user.map.clone())))
}

/// As they are to be written by the host's root.
fn sysctls(request: &Request) -> Vec<(String, String)> {
    let translated = |(name, value): (String, String)| match &request.user {
        Some(user) if name.replace('/', ".") == "net.ipv4.ping_group_range" => {
            let value = userns::ping_group_range(&value, &user.map.gids);
            (name, value)
        }
        _ => (name, value),
    };
    request.sysctls.clone().into_iter().map(translated).collect()
}

/// Forks the shim; answers with its process id and its cgroup.
fn start_shim(core: &Core, record: &Record, hostname: &str, user: Option<&(OwnedFd, IdMap)>) -> Result<(i32, Cgroup)> {
    let namespaces = record.request.namespaces;
    let own_pid = namespaces.pid == NamespaceMode::Pod;
    let mut cgroups = vec![core.hierarchies.create(&core.shim_cgroup(&record.id))?];
    if own_pid {
        cgroups.push(core.hierarchies.create(&record.cgroup())?);
    }
    let mut first = 0;
    let parts = cgroups.iter().map(|cgroup| {
        let fds = CgroupFds { path: cgroup.path().to_owned(), parts: cgroup.parts(), first };
        first += fds.parts.len();
        fds
    });
    let cgroup_fds: Vec<CgroupFds> = parts.collect();
    let user_fd = |(_, map): &(OwnedFd, IdMap)| map.root().map(|(uid, gid)| UserFd { fd: first, uid, gid });
    let config = Config {
        version: protocol::VERSION,
        pod: format!("{}/{}", record.request.namespace, record.request.name),
        net: namespaces.net != NamespaceMode::Node,
        ipc: (namespaces.ipc != NamespaceMode::Node).then_some(SHM_SIZE),
        // On the host's network it has the host's name, and nothing to set it in.
        hostname: (namespaces.net != NamespaceMode::Node).then(|| hostname.to_owned()),
        pid: own_pid,
        sysctls: sysctls(&record.request),
        cgroups: cgroup_fds,
        user: user.map(user_fd).transpose()?,
    };
    let config = serde_json::to_vec(&config).map_err(std::io::Error::from);
    let config = config.and_then(|bytes| crate::launch::sealed("coracle-sandbox", &bytes));
    let config = config.during(|| "write the shim's configuration".into())?;
    let socket = client::listener(&core.shims_dir(), short(&record.id))
        .during(|| format!("make the shim's socket in {}", core.shims_dir().display()))?;
    let mut fds = vec![cgroups[0].unified_fd().unwrap_or(config.as_fd()), config.as_fd(), socket.as_fd()];
    fds.extend(cgroups.iter().flat_map(|it| it.dir_fds()));
    fds.extend(user.map(|(namespace, _)| namespace.as_fd()));
    let spawned = core
        .zygote()?
        .spawn(&fds)
        .during(|| format!("start the shim of {}/{}", record.request.namespace, record.request.name))?;
    drop(fds);
    Ok((spawned.pid.as_raw_nonzero().get(), cgroups.swap_remove(0)))
}

/// Waits until the shim has made the namespaces.
fn greet(core: &Core, id: &str) -> Result<(Option<i32>, Vec<OwnedFd>)> {
    let client = core.shim(id).during(|| format!("connect to the shim of sandbox {id}"))?;
    match client.call(&protocol::Request::Hello, &[])? {
        (Response::Sandbox { init, .. }, namespaces) => Ok((init, namespaces)),
        (other, _) => {
            let why = format!("an unexpected answer: {other:?}");
            Err(Error::Shim { operation: "ask the shim to say that the sandbox is up".into(), why })
        }
    }
}

/// Binds the namespaces to files, so that they are found by name and outlive every process in them.
fn pin(core: &Core, record: &Record, namespaces: &[OwnedFd]) -> Result<()> {
    let dir = core.pins_dir(&record.id);
    make_private(&dir)?;
    let modes = record.request.namespaces;
    let present = [
        ("net", modes.net != NamespaceMode::Node),
        ("ipc", modes.ipc != NamespaceMode::Node),
        ("uts", modes.net != NamespaceMode::Node),
    ];
    let names = present.into_iter().filter(|(_, present)| *present).map(|(name, _)| name);
    for (name, fd) in names.zip(namespaces) {
        bind(fd, &dir.join(name))?;
    }
    Ok(())
}

fn bind(namespace: &OwnedFd, path: &Path) -> Result<()> {
    let operation = || format!("pin a namespace at {}", path.display());
    std::fs::File::create(path).during(operation)?;
    rustix::mount::mount_bind(format!("/proc/self/fd/{}", namespace.as_raw_fd()), path).during(operation)
}

/// Follows a shim from now on.
pub fn follow(core: &Core, id: &str) -> Result<()> {
    if core.watcher.follows(id) {
        return Ok(());
    }
    let client = core.shim(id).during(|| format!("connect to the shim of sandbox {id}"))?;
    client.call(&protocol::Request::Watch, &[])?;
    core.watcher.follow(id, client).during(|| format!("follow the shim of sandbox {id}"))
}

/// How long a sandbox's cgroups may take to become empty.
pub const CGROUP_PATIENCE: Duration = Duration::from_secs(10);

/// Removes the sandbox's directories.
pub fn remove_dirs(core: &Core, id: &str) -> Result<()> {
    let pins = core.pins_dir(id);
    remove_dir(&pins).during(|| format!("remove {}", pins.display()))?;
    let dir = core.sandbox_dir(id);
    remove_dir(&dir).during(|| format!("remove {}", dir.display()))
}
