//! Making a user namespace: a child of the zygote is born in one, gets its mappings from outside, and is gone.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use crate::sys::fdpass;
use crate::sys::process::{self, Forked, clone_with};
use crate::userns::{IdMap, lines};

/// Makes one as the file that came along says, and answers with its descriptor.
pub fn answer(socket: &OwnedFd, fds: &[OwnedFd]) -> io::Result<()> {
    match make(fds) {
        Ok(namespace) => fdpass::send(socket, b"ok", &[namespace.as_fd()]),
        Err(error) => fdpass::send(socket, error.to_string().as_bytes(), &[]),
    }
}

fn make(fds: &[OwnedFd]) -> io::Result<OwnedFd> {
    let map = fds.first().ok_or_else(|| io::Error::other("no mappings came along"))?;
    let map: IdMap = serde_json::from_slice(&crate::shim::read_all(map)?)?;
    let pid = match clone_with(libc::CLONE_NEWUSER as u64, None).map_err(refused)? {
        Forked::Parent(pid) => pid,
        Forked::Child => hold(),
    };
    let made = write(pid, &map);
    // It is reaped by the zygote's loop, like every other child.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    made
}

/// What keeps the namespace until there is a descriptor of it.
fn hold() -> ! {
    // Its parent may end before it has killed this.
    let _ = process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
    loop {
        process::wait_for_child_signal();
    }
}

/// Groups may be set in it: whoever writes the mappings has CAP_SETGID outside.
fn write(pid: Pid, map: &IdMap) -> io::Result<OwnedFd> {
    let dir = format!("/proc/{}", pid.as_raw_nonzero());
    for (file, mappings) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
        let text = lines(mappings);
        std::fs::write(format!("{dir}/{file}"), &text)
            .map_err(|error| io::Error::new(error.kind(), format!("write {text:?} to its {file}: {error}")))?;
    }
    Ok(rustix::fs::open(format!("{dir}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn refused(error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSPC) => ": there are as many as user.max_user_namespaces allows",
        Some(libc::EPERM | libc::EINVAL) => ": this kernel or its settings forbid them",
        _ => "",
    };
    io::Error::new(error.kind(), format!("clone into a user namespace: {error}{hint}"))
}
