//! Connecting a pod, and taking that back.

use std::path::Path;

use rustix::fs::FlockOperation;

use super::cache::{self, Attachment, Held, Phase};
use super::config::List;
use super::error::Error;
use super::plugin::{self, Asker};
use super::{Connection, capabilities, chain, ready, request};
use crate::cgroup::Cgroup;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::network::{Kind, leases, publish};
use crate::sandbox::{CGROUP_PATIENCE, Record, Request};
use crate::store::Durability;

/// statfs(2) of a pinned namespace.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Says what a pod is to be connected by, and writes it down with its record.
pub fn claim(core: &Core, record: &mut Record) -> Result<()> {
    let Some(list) = ready::current(core).map_err(wrap)? else {
        return Err(crate::Error::Conflict("there is no --cni-conf-dir".into()));
    };
    let options = &core.options.network.cni;
    plugin::verify(&core.network.cni, &list, &options.bin_dirs).map_err(wrap)?;
    fits(&record.request, &list)?;
    let request = &record.request;
    let ranges = if core.options.network.pod_cidrs.is_empty() {
        core.network.suggested()
    } else {
        core.options.network.pod_cidrs.clone()
    };
    let offered = capabilities::of(request, &ranges)?;
    // What a kubelet says of ranges is not meant for plug-ins that have their own.
    let ranged = !core.options.network.pod_cidrs.is_empty();
    let asked = [(capabilities::BANDWIDTH, true), (capabilities::RANGES, ranged)].into_iter();
    let unheard = asked.filter(|(name, meant)| *meant && offered.contains_key(*name) && !list.is_capable(name));
    for (name, _) in unheard {
        let (file, pod) = (list.file.display(), &request.name);
        tracing::warn!(%file, pod, capability = name, "no CNI plug-in of the network has a capability that is asked for");
    }
    let args = request::args(&request.namespace, &request.name, &record.id, &request.uid);
    let attachment = Attachment {
        version: 1,
        sandbox: record.id.clone(),
        pod: format!("{}/{}", request.namespace, request.name),
        phase: Phase::Adding,
        netns: core.pins_dir(&record.id).join("net"),
        args: args.map_err(crate::Error::Invalid)?,
        offered,
        bin_dirs: options.bin_dirs.clone(),
        list,
        result: None,
    };
    // Two who want one port at the same time: the second finds it in the first one's record.
    let locked = core.network.lock(core)?;
    publish::check(core, &locked, &request.ports)?;
    record.cni = Some(Connection { network: attachment.list.name.clone(), ..Connection::default() });
    record.save(core)?;
    drop(locked);
    cache::begin(core, &attachment)
}

/// What the pod asks for that this network cannot.
fn fits(request: &Request, list: &List) -> Result<()> {
    let unsupported =
        |why: String| Err(wrap(Error::Unsupported { network: list.name.clone(), file: list.file.clone(), why }));
    if let Some(kind) = request.annotations.get(Kind::ANNOTATION).filter(|it| *it != "flat") {
        return unsupported(format!(
            "{} is {kind:?}, which CNI plug-ins know nothing of; take it away, or run without --cni-conf-dir",
            Kind::ANNOTATION
        ));
    }
    if !request.ports.is_empty() && !list.is_capable(capabilities::PORTS) {
        let ports: Vec<String> = request.ports.iter().map(ToString::to_string).collect();
        return unsupported(format!(
            "the pod publishes {}, and no plug-in of the list has the capability {}; add portmap to it, or take hostPort away",
            ports.join(", "),
            capabilities::PORTS
        ));
    }
    Ok(())
}

/// Has the plug-ins connect a pod, whose network namespace is pinned. True if there was something to do: then its record
/// says more than before.
pub fn connect(core: &Core, record: &mut Record) -> Result<bool> {
    if record.cni.is_none() {
        return Ok(false);
    }
    let connection = connect_for(core, &record.id);
    let pod = format!("{}/{}", record.request.namespace, record.request.name);
    record.cni = Some(connection.map_err(|error| crate::network::attach::of_pod(pod, error))?);
    Ok(true)
}

fn connect_for(core: &Core, sandbox: &str) -> Result<Connection> {
    let _shared = share(core)?;
    let Some(mut held) = cache::hold(core, sandbox)? else {
        return Err(crate::Error::Conflict("how it is to be connected was forgotten".into()));
    };
    let cgroup = Cage::new(core, sandbox)?;
    let attachment = &held.attachment;
    let asker = cgroup.asker(core, &attachment.bin_dirs);
    let (result, outcome) = chain::add(&asker, attachment).map_err(wrap)?;
    let network = attachment.list.name.clone();
    held.attachment.result = Some(result);
    held.attachment.phase = Phase::Added;
    held.save(Durability::Durable)?;
    Ok(Connection { network, addresses: outcome.addresses, dns: outcome.dns })
}

/// Has the plug-ins take back what they did for a sandbox. Done again without harm; nothing where they did nothing. What
/// they cannot take back now is tried again by [`super::sweep`], once the sandbox is gone: no pod has to wait for that.
pub fn detach(core: &Core, sandbox: &str) -> Result<()> {
    if let Some((pod, Err(error))) = release(core, sandbox)? {
        tracing::warn!(pod, %error, "a pod was not disconnected as it should be; it is tried again");
    }
    Ok(())
}

/// The same, with what has become of it and whose it is.
pub fn release(core: &Core, sandbox: &str) -> Result<Option<(String, Result<()>)>> {
    let _shared = share(core)?;
    let Some(held) = cache::hold(core, sandbox)? else { return Ok(None) };
    let pod = format!("{} (network {})", held.attachment.pod, held.attachment.list.name);
    Ok(Some((pod, release_held(core, held))))
}

fn release_held(core: &Core, mut held: Held) -> Result<()> {
    let sandbox = held.attachment.sandbox.clone();
    let cgroup = Cage::new(core, &sandbox)?;
    if held.attachment.phase != Phase::Added {
        // Who died while they were at it has left them behind. What they start to last is not theirs to be ended
        // otherwise.
        cgroup.cgroup.kill(CGROUP_PATIENCE)?;
    }
    held.attachment.phase = Phase::Deleting;
    if let Err(error) = held.save(Durability::Volatile) {
        // A full disk must not keep a pod from ending.
        tracing::debug!(%error, sandbox, "it could not be written down that a pod is being disconnected");
    }
    let mut dirs = held.attachment.bin_dirs.clone();
    let now = &core.options.network.cni.bin_dirs;
    dirs.extend(now.iter().filter(|it| !held.attachment.bin_dirs.contains(it)).cloned());
    held.attachment.bin_dirs.clone_from(&dirs);
    let there = is_namespace(&held.attachment.netns);
    chain::del(&cgroup.asker(core, &dirs), &held.attachment, there).map_err(wrap)?;
    held.forget()
}

/// See whether a pod is connected as it was said.
pub fn check(core: &Core, sandbox: &str) -> Result<()> {
    let _shared = share(core)?;
    let Some(held) = cache::hold(core, sandbox)? else { return Ok(()) };
    let attachment = &held.attachment;
    if attachment.phase != Phase::Added || !is_namespace(&attachment.netns) {
        return Ok(());
    }
    let cgroup = Cage::new(core, sandbox)?;
    chain::check(&cgroup.asker(core, &attachment.bin_dirs), attachment).map_err(wrap)
}

/// A mount that is still there: the directory may have outlived the boot that it was pinned in.
fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|it| it.f_type as u64 == NSFS_MAGIC)
}

/// Plug-ins are asked about pods, side by side, but not while they collect ([`alone`]).
fn share(core: &Core) -> Result<std::fs::File> {
    lock(core, FlockOperation::LockShared)
}

/// Plug-ins are asked about no pod meanwhile.
pub fn alone(core: &Core) -> Result<std::fs::File> {
    lock(core, FlockOperation::LockExclusive)
}

fn lock(core: &Core, how: FlockOperation) -> Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = core.options.state_dir.join("network/cni.lock");
    let options = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let locked = options.and_then(|file| leases::flock(&file, how).map(|()| file));
    locked.during(|| format!("lock {}", path.display()))
}

/// The cgroup that the plug-ins of a pod run in, in one hierarchy. It goes with this, unless something goes on in it.
struct Cage<'a> {
    core: &'a Core,
    parent: Cgroup,
    name: String,
    cgroup: Cgroup,
}

impl<'a> Cage<'a> {
    fn new(core: &'a Core, sandbox: &str) -> Result<Self> {
        let name = format!("cni-{}", crate::ids::short(sandbox));
        let path = format!("{}/{name}", core.shims_cgroup());
        // Who was the last in the cgroup above may be removing it.
        for _ in 0..20 {
            let parent = core.hierarchies.create(&core.shims_cgroup())?;
            let made = parent.leaf(&name);
            // Alone where it was made: in the other hierarchies plug-ins stay where this process is.
            match core.hierarchies.find(&path)? {
                Some(cgroup) => return Ok(Self { core, parent, name, cgroup }),
                None => drop(made.ok()),
            }
        }
        Err(crate::Error::Conflict(format!("the cgroup {path} is removed by somebody else again and again")))
    }

    fn asker<'b>(&'b self, core: &Core, dirs: &'b [std::path::PathBuf]) -> Asker<'b> {
        Asker { dirs, limit: core.options.network.cni.time_limit, cgroup: Some(&self.cgroup) }
    }
}

impl Drop for Cage<'_> {
    fn drop(&mut self) {
        let removed = self.parent.remove_empty_leaf(&self.name);
        let above = self.core.hierarchies.remove_if_empty(&self.core.shims_cgroup());
        if let Err(error) = removed.map(drop).and(above) {
            tracing::debug!(%error, "the cgroup of CNI plug-ins was left");
        }
    }
}

pub fn wrap(error: Error) -> crate::Error {
    crate::network::Error::from(error).into()
}
