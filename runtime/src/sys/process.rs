//! Processes: fork, clone3, pidfds, and what `ps` shows of them.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Which side of a fork this is.
pub enum Forked {
    /// The new process.
    Child,
    /// The calling process, with the new one's id.
    Parent(Pid),
}

/// fork(2) by the C library, which makes its allocator usable in the child even when the parent has other threads
/// (its own handlers see to that; a raw clone would not).
///
/// In the child no lock of this crate or of std may be held by another thread of the parent: the callers are the zygote
/// (one thread) and the shim (whose log thread takes one mutex that the fork's child never touches).
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the child has only the calling thread; per the contract above nothing that it goes on to use is locked.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid_from(pid)?)),
    }
}

/// clone3(2) without a new stack: like fork, with namespaces. `flags` are `CLONE_*`; with `CLONE_PARENT` the new process
/// is a sibling of the caller and inherits its exit signal, so none is given then. `cgroup` is a directory of cgroup v2
/// that it is born in.
///
/// To be called from a process with one thread only.
pub fn clone_with(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    /// linux/sched.h; the libc crate has it as a 32-bit number, which it does not fit.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // linux/sched.h, struct clone_args, version 2 (Linux 5.7, with `cgroup`).
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let exit_signal = if flags & libc::CLONE_PARENT as u64 != 0 { 0 } else { libc::SIGCHLD as u64 };
    let mut args = CloneArgs { flags, exit_signal, ..CloneArgs::default() };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the structure is initialised and its size is passed; without CLONE_VM the child runs on a copy of this
    // stack, and the caller has one thread, so the copy is consistent.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid_from(pid as libc::pid_t)?)),
    }
}

fn pid_from(raw: libc::pid_t) -> io::Result<Pid> {
    Pid::from_raw(raw).ok_or_else(|| io::Error::other("the kernel answered with process id 0"))
}

/// Ends this process at once, without the C library's exit handlers: right for a forked child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first, 0)
}

/// Has the process that a command starts join cgroups before its program runs: `doors` are their opened files for it.
pub fn join_before_exec(command: &mut std::process::Command, doors: Vec<OwnedFd>) {
    use std::os::unix::process::CommandExt as _;
    let join =
        move || doors.iter().try_for_each(|door| rustix::io::write(door, b"0").map(drop)).map_err(io::Error::from);
    // SAFETY: between fork and exec of a process that has other threads it makes one system call a descriptor: it
    // neither allocates nor takes a lock, and an error of the kernel's is but a number.
    unsafe { command.pre_exec(join) };
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: plain integers. The callers own no descriptor object above `first` that they use or drop afterwards: they
    // are forked children which exec or never return.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `fd` this process's descriptor `number` (0, 1 or 2), not close-on-exec.
pub fn become_stdio(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // dup2 onto itself would keep the close-on-exec flag.
    // SAFETY: both are plain descriptors; 0 to 2 belong to the process as a whole and are owned by no object here.
    let result = unsafe {
        if fd.as_raw_fd() == number {
            libc::fcntl(number, libc::F_SETFD, 0)
        } else {
            libc::dup2(fd.as_raw_fd(), number)
        }
    };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Replaces this process by the program behind `program`, an open file.
pub fn exec_fd(program: BorrowedFd<'_>, args: &[std::ffi::CString], env: &[std::ffi::CString]) -> io::Error {
    let argv: Vec<_> = args.iter().map(|it| it.as_ptr()).chain([std::ptr::null()]).collect();
    let envp: Vec<_> = env.iter().map(|it| it.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both vectors are NULL-terminated arrays of C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// prctl(2) with two arguments.
pub fn prctl(option: i32, first: u64, second: u64) -> Result<(), nix::errno::Errno> {
    // SAFETY: the callers' options take plain integers.
    let result = unsafe { libc::prctl(option, first, second, 0u64, 0u64) };
    if result < 0 { Err(nix::errno::Errno::last()) } else { Ok(()) }
}

/// setrlimit(2) by number.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure lives through the call; an unknown number is EINVAL.
    let result = unsafe { libc::setrlimit(resource as _, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A signal by its number, real-time ones included.
pub fn signal(number: i32) -> Option<rustix::process::Signal> {
    // SAFETY: the kernel checks the number; 1 to 64 exist, and those that the C library reserves are only sent, never
    // handled, here.
    (1..=64).contains(&number).then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// The number of a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The kernel's numbers, not the C library's, which keeps the first two real-time signals for itself: containers are
    // asked by name, and every tool counts from 34.
    let offset = |rest: &str, sign: char| rest.strip_prefix(sign).map_or(Some(0), |it| it.parse::<i32>().ok());
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|it| 34 + it).filter(|it| (34..=64).contains(it));
    }
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|it| 64 - it).filter(|it| (34..=64).contains(it));
    }
    format!("SIG{bare}").parse::<nix::sys::signal::Signal>().ok().map(|it| it as i32)
}

/// A process's state (proc(5), field 3), and when it was started, in clock ticks since boot (field 22).
pub fn look(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold spaces and parentheses.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Restores what a program expects of its signals: default dispositions and an empty mask.
pub fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is always valid; errors (SIGKILL, SIGSTOP, the C library's own two) are as they should be.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_mask(false);
}

/// Blocks every signal, so that they are read from a signalfd.
pub fn block_signals() {
    set_mask(true);
}

fn set_mask(block: bool) {
    // SAFETY: the set is initialised by sigfillset or sigemptyset before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        if block {
            libc::sigfillset(&raw mut set)
        } else {
            libc::sigemptyset(&raw mut set)
        };
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits until a child of this process ends. SIGCHLD must be blocked.
pub fn wait_for_child_signal() {
    // SAFETY: the set is initialised before it is used, and no information is asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigwaitinfo(&raw const set, std::ptr::null_mut());
    }
}

/// A descriptor that becomes readable when a child of this process ends (SIGCHLD must be blocked).
pub fn child_signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised; a non-negative result is a new descriptor that nobody else owns.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Takes the descriptors that `main` was given at numbers which a message names. Used once, by the shim's start.
///
/// `None` when the number is not an open descriptor.
pub fn adopt_fd(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl on any number is harmless; an open one is taken by exactly one caller, at the start of a process.
    unsafe { (libc::fcntl(number, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(number)) }
}

/// Overwrites the arguments and the environment that `ps` shows of this process by `title`.
///
/// Nothing in this process may read its arguments or environment afterwards.
pub fn set_title(title: &str) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // proc(5): fields 48 to 51 are arg_start, arg_end, env_start, env_end; the name in field 2 may hold spaces.
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|it| it.parse().unwrap_or(0)).collect();
    let (Some(&start), Some(&args_end), Some(&end)) = (fields.get(45), fields.get(46), fields.get(48)) else { return };
    let end = end.max(args_end);
    if start == 0 || end <= start {
        return;
    }
    let room = (end - start) as usize;
    let length = title.len().min(room - 1);
    // SAFETY: the kernel put the arguments and the environment into this writable range of the stack and nothing else
    // is in it; per the contract nobody reads them any more, and clearenv drops the C library's pointers to them.
    unsafe {
        libc::clearenv();
        let area = std::slice::from_raw_parts_mut(start as *mut u8, room);
        area.fill(0);
        area[..length].copy_from_slice(&title.as_bytes()[..length]);
    }
}
