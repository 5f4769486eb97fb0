//! The identity of a process, and exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Text;
use super::confined;
use super::error::{During as _, Result, failure, refused};
use super::spec::{Capabilities, LaunchFailure, ProcessSpec};
use crate::sys;

/// The highest capability that any kernel knows by now (CAP_CHECKPOINT_RESTORE is 40).
const LAST_CAPABILITY: u32 = 63;

/// Enters the working directory. It is found in the container's root without following /proc's links to descriptors, so
/// an image cannot name one that leads out (CVE-2024-21626).
pub fn enter_cwd(root: BorrowedFd<'_>, process: &ProcessSpec, make: bool) -> Result<()> {
    let cwd = process.cwd.as_str();
    let operation = || format!("enter the working directory {cwd:?}");
    let directory = if make {
        confined::make_directory(root, cwd).during(operation)?
    } else {
        confined::open(root, cwd, OFlags::PATH | OFlags::DIRECTORY).during(operation)?
    };
    rustix::process::fchdir(&directory).during(operation)?;
    let seen = rustix::process::getcwd(Vec::new()).during(operation)?;
    // The kernel says "(unreachable)/…" of a directory that is not below the root.
    if seen.as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(refused(format!("the working directory {cwd:?} lies outside the container")))
    }
}

/// Takes the identity and becomes the program. Returns only to say why it could not.
pub fn become_program(process: &ProcessSpec) -> LaunchFailure {
    match try_become(process) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_become(process: &ProcessSpec) -> Result<Infallible> {
    for &(resource, soft, hard) in &process.rlimits {
        set_rlimit(resource, soft, hard)?;
    }
    if let Some(profile) = &process.apparmor {
        change_profile_at_exec(profile)?;
    }
    let args = c_strings(process.args.iter().map(String::as_bytes), "argument")?;
    let env = c_strings(process.env.iter().map(Text::as_bytes), "environment variable")?;
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    take_identity(process)?;
    sys::process::cloexec_from(3).during(|| "close descriptors".into())?;
    Err(exec(process, &args, &env))
}

/// The AppArmor profile that the program will run under.
///
/// Nothing but the kernel's own procfs takes the word: an image or a volume could have put a file of that name there, and
/// the write would succeed and mean nothing (CVE-2019-16884).
fn change_profile_at_exec(profile: &str) -> Result<()> {
    let operation = || format!("enter the AppArmor profile {profile:?}");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let attribute = rustix::fs::open("/proc/thread-self/attr/apparmor/exec", flags, Mode::empty()).during(operation)?;
    if rustix::fs::fstatfs(&attribute).during(operation)?.f_type != libc::PROC_SUPER_MAGIC {
        return Err(refused(format!("cannot {}: the container's /proc is not the kernel's", operation())));
    }
    let word = format!("exec {profile}");
    rustix::io::write(&attribute, word.as_bytes()).map(drop).during(operation)
}

/// Groups and user, then capabilities; the filter is loaded as late as the privileges allow.
fn take_identity(process: &ProcessSpec) -> Result<()> {
    let Capabilities { bounding, permitted, inheritable, ambient } = process.capabilities;
    for number in (0..=LAST_CAPABILITY).filter(|number| bounding & (1 << number) == 0) {
        match drop_bounding(number) {
            Ok(()) => {}
            // The first number that the kernel does not know: there are no more.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error).during(|| format!("drop capability {number} from the bounding set")),
        }
    }
    rustix::thread::set_keep_capabilities(true).during(|| "keep capabilities over the change of user".into())?;
    let groups: Vec<Gid> = process.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    rustix::thread::set_thread_groups(&groups).during(|| format!("set supplementary groups {:?}", process.groups))?;
    let (gid, uid) = (Gid::from_raw(process.gid), Uid::from_raw(process.uid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).during(|| format!("set group {}", process.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during(|| format!("set user {}", process.uid))?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(|| "set no_new_privs".into())?;
    } else if let Some(filter) = &process.seccomp {
        // Without no_new_privs the kernel wants CAP_SYS_ADMIN, which goes away below: the change of user cleared the
        // effective set, but the permitted one was kept.
        let all = rustix::thread::capabilities(None).during(|| "read capabilities".into())?;
        let raised = CapabilitySets { effective: all.permitted, ..all };
        rustix::thread::set_capabilities(None, raised).during(|| "raise capabilities".into())?;
        sys::seccomp::load(filter).during(|| "load the seccomp filter".into())?;
    }
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(permitted),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    rustix::thread::set_capabilities(None, sets).during(|| "set capabilities".into())?;
    for number in (0..=LAST_CAPABILITY).filter(|number| ambient & (1 << number) != 0) {
        raise_ambient(number).during(|| format!("raise ambient capability {number}"))?;
    }
    match &process.seccomp {
        Some(filter) if process.no_new_privileges => {
            sys::seccomp::load(filter).during(|| "load the seccomp filter".into())
        }
        _ => Ok(()),
    }
}

fn drop_bounding(number: u32) -> std::result::Result<(), Errno> {
    sys::process::prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0)
}

fn raise_ambient(number: u32) -> std::result::Result<(), Errno> {
    sys::process::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(number))
}

fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    sys::process::set_rlimit(resource, soft, hard).during(|| format!("set resource limit {resource} to {soft}:{hard}"))
}

fn c_strings<'a>(values: impl Iterator<Item = &'a [u8]>, what: &str) -> Result<Vec<CString>> {
    let convert = |value: &[u8]| {
        let shown = || String::from_utf8_lossy(value);
        CString::new(value).map_err(|_| refused(format!("the {what} {:?} holds a NUL byte", shown())))
    };
    values.map(convert).collect()
}

/// execvp, with the process's own `PATH`: the lookup is done by its user, in its root.
fn exec(process: &ProcessSpec, args: &[CString], env: &[CString]) -> LaunchFailure {
    let Some(program) = process.args.first() else { return refused("there is no command to run".into()) };
    let candidates: Vec<Vec<u8>> = if program.contains('/') {
        vec![program.clone().into_bytes()]
    } else {
        let path = process.env.iter().rev().find_map(|it| it.strip_prefix("PATH="));
        let path = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let dirs = path.split(|&byte| byte == b':').map(|dir| if dir.is_empty() { b"." } else { dir });
        dirs.map(|dir| [dir, b"/", program.as_bytes()].concat()).collect()
    };
    let mut worst = Errno::ENOENT;
    for candidate in candidates {
        let Ok(file) = CString::new(candidate) else { continue };
        let Err(error) = nix::unistd::execve(&file, args, env);
        match error {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // As a shell does it: go on looking, and say this if nothing is found.
            Errno::EACCES => worst = error,
            other => {
                worst = other;
                break;
            }
        }
    }
    let code = if worst == Errno::ENOENT { 127 } else { 126 };
    let hint = match worst {
        Errno::ENOENT if program.contains('/') => "there is no such file, or its interpreter is missing",
        Errno::ENOENT => "there is no such program in PATH",
        Errno::EACCES => "it is not an executable file for this user",
        Errno::ENOEXEC => "it is neither a program nor a script with an interpreter line",
        _ => "the kernel refused it",
    };
    LaunchFailure { code, ..failure(format!("run {program:?}: {hint}"), &io::Error::from(worst)) }
}
