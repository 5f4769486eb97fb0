//! The mounts of a container: what every one has, the pod's files, and what the client asked for.

use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::mount::{OpenTreeFlags, open_tree};

use super::request::{Mount, Propagation, Request};
use crate::cgroup::{Hierarchies, Mode, Version};
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::launch::{MountSource, MountSpec, ReadOnly};
use crate::sandbox::{self, NamespaceMode};
use crate::sys::mount::{Attributes, set_attributes};
use crate::userns::{self, Inside};

/// The descriptors that a specification refers to, as they are gathered.
#[derive(Default)]
pub struct Fds(pub Vec<OwnedFd>);

impl Fds {
    /// Adds one; its position is what the specification says.
    pub fn add(&mut self, fd: OwnedFd) -> usize {
        self.0.push(fd);
        self.0.len() - 1
    }
}

/// Where a container is made.
pub struct Surroundings<'a> {
    /// Everything.
    pub core: &'a Core,
    /// Its sandbox.
    pub sandbox: &'a sandbox::Record,
    /// The directory of the pod's files.
    pub files: &'a Path,
    /// The pod's user namespace.
    pub inside: Option<&'a Inside>,
}

/// Every mount of a container, in the order of mounting.
pub fn of(request: &Request, place: &Surroundings<'_>, fds: &mut Fds) -> Result<Vec<MountSpec>> {
    let files = place.files;
    let mut mounts = defaults(request, place.sandbox, &place.core.hierarchies, fds)?;
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        let source = files.join(name).to_string_lossy().into_owned();
        let readonly = request.security.readonly_root;
        mounts.push(tree(&Mount { target, source, readonly, ..Mount::default() }, fds)?);
    }
    let asked = request.mounts.iter().map(|mount| {
        let mount = checked(mount)?;
        let spec = tree(&mount, fds)?;
        map_ids(&mount, &spec, place, fds)?;
        Ok(spec)
    });
    let asked = asked.collect::<Result<Vec<_>>>()?;
    // What the client mounts at a place replaces what would be there.
    mounts.retain(|it| !asked.iter().any(|other| same_place(&other.target, &it.target)));
    // A mount above another comes first, whatever order they were asked for in; the sort keeps the rest as it is.
    let mut asked = asked;
    asked.sort_by_key(|it| depth(&it.target));
    mounts.extend(asked);
    Ok(mounts)
}

fn defaults(
    request: &Request,
    sandbox: &sandbox::Record,
    hierarchies: &Hierarchies,
    fds: &mut Fds,
) -> Result<Vec<MountSpec>> {
    let privileged = request.security.privileged;
    let at = |target: &str, source| MountSpec { target: target.to_owned(), source };
    let dev = MountSource::Tmpfs { size: Some("64k".into()), mode: "0755".into(), noexec: true, nodev: false };
    let shm = if sandbox.request.namespaces.ipc == NamespaceMode::Node {
        let source = "/dev/shm".to_owned();
        tree(&Mount { target: source.clone(), source, ..Mount::default() }, fds)?
    } else {
        at("/dev/shm", MountSource::PodShm)
    };
    Ok(vec![
        at("/proc", MountSource::Proc),
        at("/dev", dev),
        at("/dev/pts", MountSource::Devpts),
        at("/dev/mqueue", MountSource::Mqueue),
        shm,
        at("/sys", MountSource::Sysfs { writable: privileged }),
        at("/sys/fs/cgroup", cgroup(hierarchies, privileged)),
    ])
}

fn cgroup(hierarchies: &Hierarchies, writable: bool) -> MountSource {
    let name = |mount: &crate::cgroup::Mount| {
        mount.point.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let mut v1 = Vec::new();
    for mount in hierarchies.mounts().filter(|it| it.version == Version::V1) {
        let names: Vec<&str> = mount.controllers.iter().map(|it| it.name()).collect();
        v1.push((name(mount), names.join(",")));
    }
    let v2 = hierarchies.mounts().find(|it| it.version == Version::V2);
    let v2 = v2.map(|mount| if hierarchies.mode() == Mode::V2 { String::new() } else { name(mount) });
    MountSource::Cgroup { v1, v2, writable }
}

/// Refuses what cannot be mounted at all.
fn checked(mount: &Mount) -> Result<Mount> {
    let target = &mount.target;
    let parts: Vec<Component<'_>> = Path::new(target).components().collect();
    if !target.starts_with('/') || parts.contains(&Component::ParentDir) || parts.len() < 2 {
        return Err(Error::Invalid(format!("the mount path {target:?} is not an absolute path below /, without «..»")));
    }
    if mount.recursive_readonly && (!mount.readonly || mount.propagation != Propagation::Private) {
        let why = "recursively read-only needs readonly and private propagation";
        return Err(Error::Invalid(format!("the mount at {target}: {why}")));
    }
    Ok(mount.clone())
}

/// Opens a tree of the host and detaches a copy of it.
fn tree(mount: &Mount, fds: &mut Fds) -> Result<MountSpec> {
    let operation = || format!("open {} to mount it at {}", mount.source, mount.target);
    let looks = std::fs::metadata(&mount.source).during(operation)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let fd = open_tree(rustix::fs::CWD, mount.source.as_str(), flags).during(operation)?;
    let propagation = match mount.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => 0,
    };
    if propagation != 0 {
        let change = Attributes { propagation, ..Attributes::default() };
        set_attributes(std::os::fd::AsFd::as_fd(&fd), true, change).during(operation)?;
    } else {
        require_shared(&mount.source)?;
    }
    let readonly = match (mount.readonly, mount.recursive_readonly) {
        (_, true) => ReadOnly::Recursive,
        (true, _) => ReadOnly::Mount,
        _ => ReadOnly::No,
    };
    let source = MountSource::Tree { tree: fds.add(fd), directory: looks.is_dir(), readonly };
    Ok(MountSpec { target: mount.target.clone(), source })
}

/// Maps the ids of a volume as the client says; where the runtime chose the pod's ids, as the pod's are.
fn map_ids(mount: &Mount, spec: &MountSpec, place: &Surroundings<'_>, fds: &Fds) -> Result<()> {
    let own = place.inside.filter(|it| it.chosen).map(|it| &it.map);
    let (Some(map), MountSource::Tree { tree, .. }) = (mount.map.as_ref().or(own), &spec.source) else {
        return Ok(());
    };
    let Some(tree) = fds.0.get(*tree) else { return Ok(()) };
    userns::map_volume(place.core, tree, map, place.inside, &mount.source)
}

/// What the container mounts is seen by the host only where the host's own mount is shared.
fn require_shared(source: &str) -> Result<()> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo".into())?;
    let path = std::fs::canonicalize(source).during(|| format!("resolve {source}"))?;
    // proc(5): the fifth field is the mount point, the optional fields end at «-».
    let of = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let point = fields.get(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (point.len(), fields[6..].iter().any(|it| it.starts_with("shared:"))))
    });
    // The last of the longest is the one that is seen.
    match of.max_by_key(|(length, _)| *length) {
        Some((_, true)) => Ok(()),
        _ => Err(Error::Invalid(format!(
            "{source} cannot be mounted with Bidirectional propagation: it is not on a shared mount; run mount --make-shared on it"
        ))),
    }
}

fn same_place(one: &str, other: &str) -> bool {
    Path::new(one).components().eq(Path::new(other).components())
}

fn depth(target: &str) -> usize {
    Path::new(target).components().count()
}
