//! Making a container, up to the gate before its program runs.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Pid;

use super::cdi::{self, Edits};
use super::mounts::Fds;
use super::record::Record;
use super::request::{ImageSource, LogLimits, Request};
use super::{compile, devices, lifecycle, limits, mounts};
use crate::cgroup::Cgroup;
use crate::core::{Core, make_private};
use crate::error::{During as _, Error, Result};
use crate::ids::{Owner, new_id};
use crate::images::Image;
use crate::launch::{ContainerSpec, LaunchSpec, PidNamespace, Place, ProcessSpec, sealed};
use crate::names::Reserved;
use crate::records;
use crate::rootfs;
use crate::sandbox::{self, NamespaceMode};
use crate::shim::now;
use crate::shim::protocol::{self, CgroupFds, State};
use crate::store::open_dir;
use crate::undo::Undo;
use crate::userns::{IdMap, Inside};
use crate::watch::Event;

/// Makes a container and answers with its id.
pub fn create(core: &Arc<Core>, owner: &Owner, sandbox: &str, request: Request) -> Result<String> {
    let sandbox = sandbox::owned(core, owner, sandbox)?;
    if !sandbox.is_ready(core) {
        return Err(Error::Conflict(format!("sandbox {} is not ready: it was stopped, or its shim died", sandbox.id)));
    }
    check(&sandbox, &request)?;
    check_user_namespace(&sandbox, &request)?;
    let id = new_id().during(|| "make an id".into())?;
    let _reserved = reserve(core, &sandbox, &request, &id)?;
    let edits = cdi::edits(&cdi::DIRS, &request.cdi_devices)?;
    // From the look at the image until there is a record that it is used, nobody removes it.
    let hold = core.images.hold()?;
    let image = find_image(core, &request.image)?;
    let mounted = mounted_images(core, &request)?;
    let mut record = record(owner, &sandbox, &image, id, request)?;
    record.mounted_images = mounted.iter().map(|it| it.id.to_string()).collect();
    let mut undo = Undo::default();
    let (undone, taken_back) = (Arc::clone(core), record.clone());
    undo.push(format!("remove container {}", record.id), move || lifecycle::remove(&undone, &taken_back));
    make_private(&core.container_dir(&record.id))?;
    record.save(core)?;
    drop(hold);
    let built = build(core, &sandbox, Parts { image: &image, mounted: &mounted, edits }, record);
    let record = built.map_err(|error| stopped_meanwhile(core, &sandbox.id, error))?;
    undo.disarm();
    core.watcher.announce(Event::Created(record.id.clone()));
    Ok(record.id)
}

/// Refuses what contradicts the sandbox.
fn check(sandbox: &sandbox::Record, request: &Request) -> Result<()> {
    if request.security.privileged && !sandbox.request.privileged {
        let why = "its sandbox is not: set linux.security_context.privileged of the sandbox too";
        return Err(Error::Invalid(format!("linux.security_context.privileged: {why}")));
    }
    if request.security.pid == NamespaceMode::Node && sandbox.request.namespaces.pid != NamespaceMode::Node {
        let why = "the sandbox does not use the host's processes";
        return Err(Error::Invalid(format!("linux.security_context.namespace_options.pid cannot be NODE: {why}")));
    }
    Ok(())
}

/// The images of the mounts that name one, in their order.
fn mounted_images(core: &Core, request: &Request) -> Result<Vec<Image>> {
    let wanted = request.mounts.iter().filter_map(|mount| mount.image.as_ref());
    let find =
        |source: &ImageSource| find_image(core, &source.image).map_err(|error| Error::ImageMount(Box::new(error)));
    wanted.map(find).collect()
}

/// The built-in image is made on its first use.
pub fn find_image(core: &Core, name: &str) -> Result<Image> {
    let builtin =
        crate::images::Reference::parse(name).is_ok_and(|it| it.to_string() == crate::images::BUILTIN_REFERENCE);
    Ok(if builtin { core.images.ensure_builtin()? } else { core.images.resolve(name)? })
}

/// A container says which user namespace it expects, and it has to be its pod's.
fn check_user_namespace(sandbox: &sandbox::Record, request: &Request) -> Result<()> {
    let pod = sandbox.request.user.as_ref();
    let same = match (pod, &request.security.user_namespace) {
        (None, None) => true,
        (Some(pod), Some(own)) => pod.map == *own || (pod.chosen && *own == IdMap::default()),
        _ => false,
    };
    if !same {
        return Err(Error::Invalid(format!(
            "namespace_options.userns_options of container {} differs from its sandbox's",
            request.name
        )));
    }
    if pod.is_some() && request.security.pid == NamespaceMode::Node {
        let why = "the pod has a user namespace, which does not go with the host's processes";
        return Err(Error::Invalid(format!("namespace_options.pid of container {} is NODE and {why}", request.name)));
    }
    Ok(())
}

/// What fails in a sandbox that was stopped meanwhile fails because of that.
fn stopped_meanwhile(core: &Core, sandbox: &str, error: Error) -> Error {
    match sandbox::load(core, sandbox) {
        Ok(sandbox) if sandbox.is_ready(core) => error,
        _ => Error::Conflict(format!("sandbox {sandbox} was stopped while a container was made in it: {error}")),
    }
}

/// Two containers of a sandbox cannot have the same name and attempt.
fn reserve<'a>(core: &'a Core, sandbox: &sandbox::Record, request: &Request, id: &str) -> Result<Reserved<'a>> {
    let same = |it: &Record| {
        it.sandbox == sandbox.id && it.request.name == request.name && it.request.attempt == request.attempt
    };
    let refuse = |other: &str, help: &str| {
        Error::Conflict(format!("container {} (attempt {}) {help} {other}", request.name, request.attempt))
    };
    let name = ["container", &sandbox.id, &request.name, &request.attempt.to_string()];
    let reserved = core.names.reserve(&name, id).map_err(|other| refuse(&other, "is being made in its sandbox as"))?;
    match records::select(core, same)?.first() {
        None => Ok(reserved),
        Some(other) => Err(refuse(&other.id, "exists in its sandbox, to be removed first, as")),
    }
}

fn record(owner: &Owner, sandbox: &sandbox::Record, image: &Image, id: String, request: Request) -> Result<Record> {
    let stop_signal = match (request.stop_signal, image.config.stop_signal.as_str()) {
        (Some(signal), _) => signal,
        (None, "") => libc::SIGTERM,
        (None, name) => compile::signal_number(name)?,
    };
    let log_path = log_path(&sandbox.request.log_directory, &request.log_path)?;
    Ok(Record {
        version: 1,
        cgroup: format!("{}/{id}", sandbox.request.cgroup_parent.trim_matches('/')),
        id,
        sandbox: sandbox.id.clone(),
        owner: owner.clone(),
        boot_id: sandbox.boot_id.clone(),
        image_id: image.id.to_string(),
        image_name: image_name(image, &request.user_image),
        image_ref: image.digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
        // A container is no older than its sandbox, whatever the clock says.
        created_at: now().max(sandbox.created_at),
        log_path: log_path.map(|it| it.to_string_lossy().into_owned()),
        stop_signal,
        notes: Vec::new(),
        mounted_images: Vec::new(),
        request,
    })
}

/// The image as its users know it: by the tag that was asked for, if it has that, else by its first.
fn image_name(image: &Image, asked: &str) -> String {
    let asked = crate::images::Reference::parse(asked).ok();
    let tagged = || image.references.iter().filter(|it| it.digest().is_none());
    let name = tagged().find(|&it| Some(it) == asked.as_ref()).or_else(|| tagged().next());
    name.map_or_else(|| image.id.to_string(), ToString::to_string)
}

fn log_path(directory: &str, path: &str) -> Result<Option<PathBuf>> {
    if directory.is_empty() || path.is_empty() {
        return Ok(None);
    }
    let down = |part| matches!(part, std::path::Component::Normal(_));
    if !directory.starts_with('/') || !Path::new(path).components().all(down) {
        return Err(Error::Invalid(format!("the log path {path:?} does not lead to a file below {directory:?}")));
    }
    Ok(Some(Path::new(directory).join(path)))
}

/// What a container is made of beside its request.
struct Parts<'a> {
    image: &'a Image,
    mounted: &'a [Image],
    edits: Edits,
}

fn build(core: &Core, sandbox: &sandbox::Record, parts: Parts<'_>, mut record: Record) -> Result<Record> {
    let Parts { image, mounted, edits } = parts;
    let inside = Inside::of(core, sandbox)?;
    let root = rootfs::make(core, &record.id, image, inside.as_ref())?;
    let compiled = compile::process(&record.request, image, sandbox, &root, &edits)?;
    let owner = (compiled.process.uid, compiled.process.gid);
    let devices = devices::of(&record.request, edits.devices, owner, inside.is_some())?;
    let cgroup = make_cgroup(core, &mut record, devices.rules)?;
    let mut fds = Fds::default();
    let sources = mounts::Sources {
        core,
        files: &core.sandbox_dir(&sandbox.id),
        images: mounted,
        devices: &edits.mounts,
        scratch: &core.container_root(&record.id),
        inside: inside.as_ref(),
    };
    let mounts = mounts::of(&record.request, sandbox, &sources, &mut fds)?;
    let security = &record.request.security;
    let privileged = security.privileged;
    let spec = ContainerSpec {
        pid: pid_namespace(core, &record, sandbox, &mut fds)?,
        root: fds.add(root),
        readonly_root: security.readonly_root,
        mounts,
        devices: devices.nodes,
        masked_paths: if privileged { Vec::new() } else { security.masked_paths.clone() },
        readonly_paths: if privileged { Vec::new() } else { security.readonly_paths.clone() },
    };
    record.notes.extend(compiled.notes);
    if record.request.mounts.iter().any(|it| it.selinux_relabel) && Path::new("/sys/fs/selinux/enforce").exists() {
        record.notes.push("mounts were not relabelled: this runtime sets no SELinux labels".into());
    }
    record.save(core)?;
    record.save_process(core, &compiled.process)?;
    hand_over(core, &record, spec, compiled.process, &cgroup, fds)?;
    Ok(record)
}

fn make_cgroup(core: &Core, record: &mut Record, rules: Vec<crate::cgroup::DeviceRule>) -> Result<Cgroup> {
    let cgroup = core.hierarchies.create(&record.cgroup)?;
    let mut resources = limits::effective(&record.request.resources);
    resources.devices = Some(rules);
    resources.memory_oom_group = Some(true);
    for shortfall in cgroup.apply(&resources)? {
        if limits::was_asked_for(&shortfall, &record.request.resources) {
            record.notes.push(format!("{} has no effect: {}", shortfall.setting, shortfall.why));
        }
    }
    Ok(cgroup)
}

fn pid_namespace(core: &Core, record: &Record, sandbox: &sandbox::Record, fds: &mut Fds) -> Result<PidNamespace> {
    let security = &record.request.security;
    if let Some(target) = &security.pid_target {
        let target = super::owned(core, &record.owner, target)?;
        let running = super::view(core, &target)?.filter(|it| it.state == State::Running);
        let pid = running.filter(|_| target.sandbox == sandbox.id).and_then(|it| Pid::from_raw(it.pid));
        let why = || {
            let why = format!("container {} is not running in this sandbox", target.id);
            Error::Invalid(format!("linux.security_context.namespace_options.target_id: {why}"))
        };
        let pidfd = rustix::process::pidfd_open(pid.ok_or_else(why)?, rustix::process::PidfdFlags::empty());
        return Ok(PidNamespace::Target(fds.add(pidfd.during(|| format!("open the process of {}", target.id))?)));
    }
    Ok(match security.pid {
        NamespaceMode::Pod if sandbox.init.is_some() => PidNamespace::Pod,
        NamespaceMode::Pod | NamespaceMode::Container => PidNamespace::Container,
        NamespaceMode::Node => PidNamespace::Host,
    })
}

/// Gives everything to the shim and waits until the container stands at its gate.
fn hand_over(
    core: &Core,
    record: &Record,
    container: ContainerSpec,
    process: ProcessSpec,
    cgroup: &Cgroup,
    mut fds: Fds,
) -> Result<()> {
    let tty = process.tty;
    let spec = LaunchSpec { place: Place::Container(Box::new(container)), process };
    let spec = serde_json::to_vec(&spec).map_err(std::io::Error::from);
    let spec = spec.and_then(|bytes| sealed("coracle-container", &bytes));
    let spec = fds.add(spec.during(|| "write the container's specification".into())?);
    let dir = core.container_dir(&record.id);
    let state_dir = fds.add(open_dir(&dir).during(|| format!("open {}", dir.display()))?);
    let log = record.log_path.as_deref().map(|path| open_log(Path::new(path))).transpose()?.map(|fd| fds.add(fd));
    let rotation = rotation(record, &mut fds)?;
    let first = fds.0.len();
    for dir in cgroup.dir_fds() {
        let own = dir.try_clone_to_owned().during(|| format!("keep the cgroup {}", record.cgroup))?;
        fds.add(own);
    }
    let cgroup = CgroupFds { path: record.cgroup.clone(), parts: cgroup.parts(), first };
    let stdin = record.request.stdin;
    let create = protocol::Create { id: record.id.clone(), spec, state_dir, log, rotation, cgroup, stdin, tty };
    let shim = core.shim(&record.sandbox).during(|| format!("connect to the shim of sandbox {}", record.sandbox))?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.0.iter().map(OwnedFd::as_fd).collect();
    shim.call(&protocol::Request::Create(create), &borrowed)?;
    Ok(())
}

/// What the shim needs to put the log aside itself.
fn rotation(record: &Record, fds: &mut Fds) -> Result<Option<protocol::LogRotation>> {
    let (Some(limits), Some(path)) = (record.request.log_limits, record.log_path.as_deref().map(Path::new)) else {
        return Ok(None);
    };
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str())) else { return Ok(None) };
    let dir = fds.add(open_dir(dir).during(|| format!("open the log directory {}", dir.display()))?);
    let LogLimits { max_size, max_files } = limits;
    Ok(Some(protocol::LogRotation { dir, name: name.to_owned(), max_size, max_files }))
}

/// Opens a log file for appending, making its directory.
pub fn open_log(path: &Path) -> Result<OwnedFd> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).during(|| format!("make the log directory {}", dir.display()))?;
    }
    let mut options = std::fs::OpenOptions::new();
    // No link is followed: who may write in the directory must not choose the file.
    options.append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW);
    Ok(options.open(path).during(|| format!("open the log file {}", path.display()))?.into())
}
