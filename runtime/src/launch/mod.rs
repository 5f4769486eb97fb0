//! Starting a process in a container: the one way in, for a container's first process and for every exec.
//!
//! ```text
//!  shim ── fork ──> stage: parses the spec, joins what is shared, clones
//!                     │ CLONE_PARENT                 enters the cgroups, and is gone
//!                     └──> child (a child of the shim): mounts, pivots  ── Ready ──> gate ── Go ──> identity, exec
//! ```
//!
//! The stage exists for three reasons: it has one thread, so it may clone and allocate; a pid namespace can only be
//! joined for one's children; and the shim's own memory stays as it was. The child speaks to the shim over one seqpacket
//! pair ([`Report`]); that it closes without a word after Go means that exec succeeded.

mod cgroups;
mod child;
pub mod confined;
mod devices;
mod error;
pub mod mounts;
mod process;
mod spec;
mod terminal;
mod text;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::sys::process::{Forked, clone_with, exit_now, fork};
use crate::sys::{fdpass, process as sys_process};
pub use devices::open_to_all;
use error::{During, Result};
pub use spec::*;
pub use text::Text;

/// What the stage and the child tell the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The child's process id, in the shim's namespace.
    Pid(i32),
    /// The child waits at the gate. A terminal's master comes along.
    Ready,
    /// It is over.
    Failed(LaunchFailure),
}

/// The message that opens the gate.
const GO: &[u8] = b"go";

/// The pod's namespaces, where a container shares them.
#[derive(Debug, Default)]
pub struct PodNamespaces {
    /// Each with its kind, in the order of joining.
    pub links: Vec<(Kind, OwnedFd)>,
    /// pidfd of the pod's init, for [`PidNamespace::Pod`].
    pub init: Option<OwnedFd>,
    /// The user namespace that owns the others, where there is one.
    pub user: Option<OwnedFd>,
}

/// Kinds of namespaces that are joined by their file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
}

/// The first process's standard streams. What is `None` is /dev/null; all are `None` for a terminal.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// What a launch is made of.
pub struct Inputs<'a> {
    /// A sealed file with the JSON of a [`LaunchSpec`].
    pub spec: &'a OwnedFd,
    /// The descriptors that the specification refers to.
    pub fds: &'a [OwnedFd],
    /// The cgroup of the new process.
    pub cgroup: &'a Cgroup,
    /// The namespaces that a new container may share.
    pub pod: &'a PodNamespaces,
    /// The process whose namespaces are joined, for [`Place::Join`].
    pub join: Option<BorrowedFd<'a>>,
    /// The standard streams.
    pub stdio: &'a Stdio,
}

/// A launch under way.
#[derive(Debug)]
pub struct Launch {
    /// Where the [`Report`]s come from.
    pub reports: OwnedFd,
}

impl Launch {
    /// Forks the stage. It returns at once; everything that can go wrong later is a [`Report`].
    pub fn begin(inputs: &Inputs<'_>) -> std::io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        match fork()? {
            Forked::Parent(_) => Ok(Self { reports: ours }),
            Forked::Child => {
                drop(ours);
                let stage = Stage { inputs, reports: theirs };
                let outcome = stage.run();
                if let Err(failure) = outcome {
                    stage.report(&Report::Failed(failure));
                }
                exit_now(0)
            }
        }
    }

    /// Reads the next report, with a terminal's master. `None` means that the other side is gone: exec succeeded, or
    /// the process died.
    pub fn read(&self) -> std::io::Result<Option<(Report, Option<OwnedFd>)>> {
        let mut buffer = [0; 4096];
        let (length, fds) = fdpass::receive(&self.reports, &mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&buffer[..length])?, fds.into_iter().next())))
    }

    /// Opens the gate.
    pub fn go(&self) -> std::io::Result<()> {
        fdpass::send(&self.reports, GO, &[])
    }
}

/// The forked process between the shim and the child, and what the child inherits of it.
struct Stage<'a> {
    inputs: &'a Inputs<'a>,
    reports: OwnedFd,
}

impl Stage<'_> {
    fn run(&self) -> Result<()> {
        let spec: LaunchSpec = read_spec(self.inputs.spec)
            .map_err(|error| error::failure("read the container's specification".into(), &error))?;
        if let Some(adjustment) = spec.process.oom_score_adj {
            std::fs::write("/proc/self/oom_score_adj", adjustment.to_string())
                .during(|| format!("set oom_score_adj to {adjustment}"))?;
        }
        let cgroup = self.inputs.cgroup;
        enter(cgroup).during(|| format!("enter the cgroup {}", cgroup.path()))?;
        let dev = self.prepare(&spec)?;
        let flags = self.join(&spec)?;
        let cloned = clone_with(flags | libc::CLONE_PARENT as u64, cgroup.unified_fd())
            .during(|| format!("clone the container's process (flags {flags:#x})"))?;
        match cloned {
            Forked::Child => child::run(self, &spec, dev.as_ref()),
            Forked::Parent(pid) => {
                self.report(&Report::Pid(pid.as_raw_nonzero().get()));
                Ok(())
            }
        }
    }

    /// What only the host's root can do for a process in a user namespace: its pipes get their owner, and a new
    /// container its `/dev`, which is the answer.
    fn prepare(&self, spec: &LaunchSpec) -> Result<Option<OwnedFd>> {
        let process = &spec.process;
        let Some(map) = &process.user_namespace else { return Ok(None) };
        if let Some((uid, gid)) = map.uid(process.uid).zip(map.gid(process.gid)) {
            terminal::chown_pipes(self.inputs.stdio, uid, gid);
        }
        match &spec.place {
            Place::Join => Ok(None),
            Place::Container(container) => devices::prepare(container, map),
        }
    }

    /// Joins what is shared and answers with the clone flags of what is new. The pod's user namespace comes last: the
    /// kernel lets the host's root into all others, and who is in it can do no more for the others.
    fn join(&self, spec: &LaunchSpec) -> Result<u64> {
        let container = match &spec.place {
            Place::Join => {
                // The cgroup namespace waits: see `join_cgroup_namespace`.
                let mut all = ThreadNameSpaceType::MOUNT
                    | ThreadNameSpaceType::PROCESS_ID
                    | ThreadNameSpaceType::NETWORK
                    | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                    | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
                // Joining the one that one is in is EINVAL.
                all.set(ThreadNameSpaceType::USER, spec.process.user_namespace.is_some());
                rustix::thread::move_into_thread_name_spaces(self.target()?, all)
                    .during(|| "join the container's namespaces".into())?;
                return Ok(0);
            }
            Place::Container(container) => container,
        };
        for (kind, link) in &self.inputs.pod.links {
            let ty = match kind {
                Kind::Net => LinkNameSpaceType::Network,
                Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
                Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            };
            rustix::thread::move_into_link_name_space(link.as_fd(), Some(ty))
                .during(|| format!("join the pod's {kind:?} namespace"))?;
        }
        let mut flags = libc::CLONE_NEWNS as u64;
        let pidfd = match container.pid {
            PidNamespace::Container => {
                flags |= libc::CLONE_NEWPID as u64;
                None
            }
            PidNamespace::Host => None,
            PidNamespace::Pod => {
                let init = self.inputs.pod.init.as_ref().map(AsFd::as_fd);
                Some(init.ok_or_else(|| error::refused("the pod has no init".into()))?)
            }
            PidNamespace::Target(index) => Some(self.fd(index)?),
        };
        if let Some(pidfd) = pidfd {
            rustix::thread::move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::PROCESS_ID)
                .during(|| "join the shared pid namespace".into())?;
        }
        if let Some(user) = &self.inputs.pod.user {
            rustix::thread::move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .during(|| "join the pod's user namespace".into())?;
        }
        Ok(flags)
    }

    /// The last namespace of an exec, joined by the new process when it is in its cgroup. Where cgroup2 is mounted with
    /// `nsdelegate`, as every systemd does, nobody is moved or born over the boundary of the cgroup namespace that the
    /// mover is in, and the shim's cgroup lies outside the container's.
    fn join_cgroup_namespace(&self) -> Result<()> {
        rustix::thread::move_into_thread_name_spaces(self.target()?, ThreadNameSpaceType::CONTROL_GROUP)
            .during(|| "join the container's cgroup namespace".into())
    }

    /// The process whose namespaces an exec joins.
    fn target(&self) -> Result<BorrowedFd<'_>> {
        self.inputs.join.ok_or_else(|| error::refused("there is no process to join".into()))
    }

    fn fd(&self, index: FdIndex) -> Result<BorrowedFd<'_>> {
        self.inputs
            .fds
            .get(index)
            .map(AsFd::as_fd)
            .ok_or_else(|| error::refused(format!("descriptor {index} was not passed along")))
    }

    /// Tells the shim. One that is gone takes this process down anyway.
    fn report(&self, report: &Report) {
        self.report_with(report, &[]);
    }

    fn report_with(&self, report: &Report, fds: &[BorrowedFd<'_>]) {
        if let Ok(bytes) = serde_json::to_vec(report) {
            let _ = fdpass::send(&self.reports, &bytes, fds);
        }
    }
}

fn read_spec(fd: &OwnedFd) -> std::io::Result<LaunchSpec> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::from(fd.try_clone()?);
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Enters a cgroup's version 1 hierarchies; a version 2 one is entered by being born in it. The calling process has one
/// thread, which is what makes this free of waits.
pub fn enter(cgroup: &Cgroup) -> std::io::Result<()> {
    for tasks in cgroup.tasks_fds().map_err(std::io::Error::other)? {
        rustix::io::retry_on_intr(|| rustix::io::write(&tasks, b"0"))?;
    }
    Ok(())
}

/// Makes the caller, who has entered a user namespace, root of it: until then its ids are the host's, which mean nobody
/// there, and what it makes would be nobody's.
pub fn become_root_inside() -> std::io::Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

/// Writes bytes into a sealed memory file: how a specification travels.
pub fn sealed(name: &str, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    std::io::Write::write_all(&mut file, bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Cleans what a forked child has of its parent's signals.
fn fresh_signals() {
    sys_process::reset_signals();
}
