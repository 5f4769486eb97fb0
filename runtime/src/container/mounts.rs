//! The mounts of a container: what every one has, the pod's files, and what the client asked for.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{OpenTreeFlags, open_tree};

use super::request::{Mount, Propagation, Request};
use crate::cgroup::{Hierarchies, Version};
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::images::Image;
use crate::launch::{MountSource, MountSpec, ReadOnly};
use crate::mountinfo;
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

/// What the mounts of a container are made of.
pub struct Sources<'a> {
    /// Everything.
    pub core: &'a Core,
    /// Where the pod's files are: hosts, hostname, resolv.conf.
    pub files: &'a Path,
    /// The images that are mounted, in the order of the mounts that name one.
    pub images: &'a [Image],
    /// What the container's devices need.
    pub devices: &'a [Mount],
    /// A directory for passing use.
    pub scratch: &'a Path,
    /// The pod's user namespace.
    pub inside: Option<&'a Inside>,
}

/// Every mount of a container, in the order of mounting.
pub fn of(
    request: &Request,
    sandbox: &sandbox::Record,
    sources: &Sources<'_>,
    fds: &mut Fds,
) -> Result<Vec<MountSpec>> {
    let mut mounts = defaults(request, &sources.core.hierarchies);
    let mut asked = asked(request, sources, fds)?;
    // What the client mounts at a place replaces what would be there, and all that would be below and hidden.
    mounts.retain(|it| !asked.iter().any(|other| is_at_or_below(&it.target, &other.target)));
    for extra in pods(request, sandbox, sources.files, fds)? {
        if !asked.iter().any(|other| same_place(&other.target, &extra.target)) {
            asked.push(extra);
        }
    }
    // A mount above another comes first, whatever order they were asked for in; the sort keeps the rest as it is.
    asked.sort_by_key(|it| depth(&it.target));
    mounts.extend(asked);
    Ok(mounts)
}

/// What the client asked for, and what the devices need, which takes the place of it.
fn asked(request: &Request, sources: &Sources<'_>, fds: &mut Fds) -> Result<Vec<MountSpec>> {
    let mut images = sources.images.iter();
    let mut asked = Vec::new();
    for (index, mount) in request.mounts.iter().enumerate() {
        let replaced = sources.devices.iter().any(|device| same_place(&device.target, &mount.target));
        let spec = match (&mount.image, replaced) {
            (Some(_), true) => {
                images.next();
                continue;
            }
            (None, true) => continue,
            (Some(source), false) => {
                let image = images.next().map_or(&[][..], |image| &image.layers);
                self::image(mount, image, &source.sub_path, sources.scratch, fds)
                    .map_err(|error| Error::ImageMount(Box::new(error)))
            }
            (None, false) => volume(mount, &format!("mounts[{index}]"), fds),
        };
        let spec = spec?;
        map_ids(mount, &spec, sources, fds)?;
        asked.push(spec);
    }
    for mount in sources.devices {
        asked.push(tree(mount, "CDI", fds)?);
    }
    Ok(asked)
}

/// What the containers of a pod share.
fn pods(request: &Request, sandbox: &sandbox::Record, files: &Path, fds: &mut Fds) -> Result<Vec<MountSpec>> {
    let shm = "/dev/shm".to_owned();
    let shm = if sandbox.request.namespaces.ipc == NamespaceMode::Node {
        tree(&Mount { target: shm.clone(), source: shm, ..Mount::default() }, "", fds)?
    } else {
        MountSpec { target: shm, source: MountSource::PodShm }
    };
    let mut mounts = vec![shm];
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        let source = files.join(name).to_string_lossy().into_owned();
        let readonly = request.security.readonly_root;
        mounts.push(tree(&Mount { target, source, readonly, ..Mount::default() }, "", fds)?);
    }
    Ok(mounts)
}

fn defaults(request: &Request, hierarchies: &Hierarchies) -> Vec<MountSpec> {
    let privileged = request.security.privileged;
    let at = |target: &str, source| MountSpec { target: target.to_owned(), source };
    let dev = MountSource::Tmpfs { size: Some("64k".into()), mode: "0755".into(), noexec: true, nodev: false };
    vec![
        at("/proc", MountSource::Proc),
        at("/dev", dev),
        at("/dev/pts", MountSource::Devpts),
        at("/dev/mqueue", MountSource::Mqueue),
        at("/sys", MountSource::Sysfs { writable: privileged }),
        at("/sys/fs/cgroup", cgroup(hierarchies, privileged)),
    ]
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
    let v2 = v2.map(|mount| if hierarchies.mode() == crate::cgroup::Mode::V2 { String::new() } else { name(mount) });
    MountSource::Cgroup { v1, v2, writable }
}

/// A volume of the host. A missing directory is made, as container runtimes always did: clients rely on it.
fn volume(mount: &Mount, field: &str, fds: &mut Fds) -> Result<MountSpec> {
    match std::fs::metadata(&mount.source) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let operation = || format!("{field}.host_path: make the missing directory {}", mount.source);
            std::fs::create_dir_all(&mount.source).during(operation)?;
        }
        // Whatever else is wrong with it is said when it is opened.
        _ => {}
    }
    tree(mount, field, fds)
}

/// The root of an image, or a directory of it.
fn image(mount: &Mount, layers: &[PathBuf], sub_path: &str, scratch: &Path, fds: &mut Fds) -> Result<MountSpec> {
    let place = scratch.join("mnt");
    std::fs::create_dir_all(&place).during(|| format!("make {}", place.display()))?;
    let tree = crate::rootfs::volume(layers, sub_path, &place)?;
    Ok(spec(mount, tree, true, fds))
}

/// Opens a tree of the host and detaches a copy of it.
fn tree(mount: &Mount, field: &str, fds: &mut Fds) -> Result<MountSpec> {
    let operation = || format!("open {} to mount it at {}", mount.source, mount.target);
    let looks = std::fs::metadata(&mount.source).during(operation)?;
    check_propagation(mount, field)?;
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
    }
    Ok(spec(mount, fd, looks.is_dir(), fds))
}

fn spec(mount: &Mount, tree: OwnedFd, directory: bool, fds: &mut Fds) -> MountSpec {
    let readonly = match (mount.readonly, mount.recursive_readonly) {
        (_, true) => ReadOnly::Recursive,
        (true, _) => ReadOnly::Mount,
        _ => ReadOnly::No,
    };
    let source = MountSource::Tree { tree: fds.add(tree), directory, readonly, options: mount.options.clone() };
    MountSpec { target: mount.target.clone(), source }
}

/// Maps the ids of a volume as the client says; where the runtime chose the pod's ids, as the pod's are.
fn map_ids(mount: &Mount, spec: &MountSpec, sources: &Sources<'_>, fds: &Fds) -> Result<()> {
    let own = sources.inside.filter(|it| it.chosen && mount.image.is_none()).map(|it| &it.map);
    let (Some(map), MountSource::Tree { tree, .. }) = (mount.map.as_ref().or(own), &spec.source) else {
        return Ok(());
    };
    let Some(tree) = fds.0.get(*tree) else { return Ok(()) };
    userns::map_volume(sources.core, tree, map, sources.inside, &mount.source)
}

/// The container sees what the host mounts later only where the host's own mount hands it on, and the host sees what the
/// container mounts only where it takes it: without that the word would be empty.
fn check_propagation(mount: &Mount, field: &str) -> Result<()> {
    let wanted: &[&str] = match mount.propagation {
        Propagation::Private => return Ok(()),
        Propagation::HostToContainer => &["shared:", "master:"],
        Propagation::Bidirectional => &["shared:"],
    };
    let source = &mount.source;
    let on = mountinfo::of(Path::new(source)).during(|| format!("find the mount of {source}"))?;
    let point = on.point.display();
    if on.options.split(' ').any(|option| wanted.iter().any(|it| option.starts_with(it))) {
        return Ok(());
    }
    let (name, kind) = match mount.propagation {
        Propagation::Bidirectional => ("PROPAGATION_BIDIRECTIONAL", "a shared mount"),
        _ => ("PROPAGATION_HOST_TO_CONTAINER", "a shared mount nor a slave of one"),
    };
    let not = if kind.contains("nor") { "neither" } else { "not" };
    Err(Error::Invalid(format!(
        "{field}.propagation cannot be {name}: {source} is on {point}, which is {not} {kind}; run mount --make-shared {point}"
    )))
}

fn is_at_or_below(target: &str, place: &str) -> bool {
    Path::new(target).starts_with(place)
}

fn same_place(one: &str, other: &str) -> bool {
    Path::new(one).components().eq(Path::new(other).components())
}

fn depth(target: &str) -> usize {
    Path::new(target).components().count()
}
