//! The container's process from its birth to exec.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::error::{During as _, Result, refused};
use super::mounts::Prepared;
use super::spec::{LaunchFailure, LaunchSpec, MountSource, Place};
use super::{ContainerSpec, GO, Report, Stage, cgroups, confined, devices, mounts, process, terminal};
use crate::sys::fdpass;
use crate::sys::process::exit_now;

/// Never returns: it ends in exec, or in a report and an exit with the failure's code.
pub(super) fn run(stage: &Stage<'_>, spec: &LaunchSpec, dev: Option<&OwnedFd>) -> ! {
    let failure = match launch(stage, spec, dev) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let code = failure.code;
    stage.report(&Report::Failed(failure));
    exit_now(code)
}

/// The order matters: everything that needs the host's view or its privileges comes before the gate or right after it,
/// then the root is closed, then the identity, then the filter, then exec.
fn launch(
    stage: &Stage<'_>,
    spec: &LaunchSpec,
    dev: Option<&OwnedFd>,
) -> std::result::Result<std::convert::Infallible, LaunchFailure> {
    super::fresh_signals();
    rustix::process::setsid().during(|| "start a session".into())?;
    if spec.process.user_namespace.is_some() {
        super::become_root_inside().during(|| "become root of the user namespace".into())?;
    }
    let new = match &spec.place {
        Place::Container(container) => Some(container.as_ref()),
        Place::Join => None,
    };
    if new.is_none() {
        stage.join_cgroup_namespace()?;
    }
    if let Some(container) = new {
        let prepared = Prepared::new(container, spec.process.user_namespace.as_ref(), dev)?;
        mounts::enter_root(stage.fd(container.root)?)?;
        populate(stage, container, &prepared)?;
    }
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .during(|| "open the container's root".into())?;
    let terminal =
        if spec.process.tty { Some(terminal::open(root.as_fd(), &spec.process, new.is_some())?) } else { None };
    let master: Vec<BorrowedFd<'_>> = terminal.iter().map(|it| it.master.as_fd()).collect();
    stage.report_with(&Report::Ready, &master);
    wait_at_gate(stage)?;
    if let Some(container) = new {
        close_root(container, root.as_fd())?;
    }
    let cwd = process::enter_cwd(root.as_fd(), &spec.process, new.is_some());
    if spec.process.user_namespace.is_none() {
        terminal::chown_pipes(stage.inputs.stdio, spec.process.uid, spec.process.gid);
    }
    terminal::set_stdio(stage.inputs.stdio, terminal, root.as_fd())?;
    cwd?;
    Err(process::become_program(&spec.process))
}

/// Mounts and device nodes, in the root that was just entered.
fn populate(stage: &Stage<'_>, container: &ContainerSpec, prepared: &Prepared<'_>) -> Result<()> {
    let root = mounts::root()?;
    for mount in &container.mounts {
        mounts::mount(stage, root.as_fd(), prepared, mount)?;
        if devices::belongs_in(mount) && prepared.dev.is_none() {
            devices::make(root.as_fd(), &container.devices)?;
        }
    }
    Ok(())
}

/// What has to wait for the cgroups, and then whatever closes the root.
fn close_root(container: &ContainerSpec, root: BorrowedFd<'_>) -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).during(|| "enter a cgroup namespace".into())?;
    for mount in &container.mounts {
        if let MountSource::Cgroup { v1, v2, writable } = &mount.source {
            cgroups::mount(root, &mount.target, v1, v2.as_deref(), *writable)?;
        }
    }
    mounts::make_readonly(root, &container.readonly_paths)?;
    mounts::mask(root, &container.masked_paths)?;
    if container.readonly_root {
        mounts::close_writes(root)?;
    }
    Ok(())
}

fn wait_at_gate(stage: &Stage<'_>) -> Result<()> {
    let mut buffer = [0; 8];
    let (length, _) = fdpass::receive(&stage.reports, &mut buffer)
        .map_err(|error| super::error::failure("wait at the gate".into(), &error))?;
    // The shim closes its end when the container is removed before it was started, or when it dies.
    if &buffer[..length] == GO { Ok(()) } else { Err(refused("it was removed before it was started".into())) }
}

/// Opens a file of the container that has to be the null device, and nothing that merely has its name.
pub(super) fn open_null(root: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    // openat2 takes no other flag beside O_PATH.
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NOCTTY };
    let fd = confined::open(root, "/dev/null", flags).during(|| "open /dev/null".into())?;
    let stat = rustix::fs::fstat(&fd).during(|| "look at /dev/null".into())?;
    let character = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if character && stat.st_rdev == rustix::fs::makedev(1, 3) {
        Ok(fd)
    } else {
        Err(refused("the container's /dev/null is not the null device".into()))
    }
}
