//! The RuntimeDefault profile, as data.
//!
//! Everything is refused with EPERM but what stands here: the calls that programs need, and those that a granted
//! capability would make useless to refuse. It allows what the default profiles of containerd and Docker allow.

use super::{Action, Arch, ArgCheck, Compare, Profile, Rule};
use crate::capabilities::CapSet;

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: the filter is no reason to slow the container by disabling speculation.
pub(super) const SPEC_ALLOW: u32 = 1 << 2;

/// New namespaces that clone(2) must not make without CAP_SYS_ADMIN: mount, cgroup, uts, ipc, user, pid, net.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Address families whose kernel code no container needs: the crypto API (AF_ALG) and the hypervisor (AF_VSOCK).
/// `socketcall`, which 32-bit programs may use, passes the family in memory that a filter cannot read.
const DENIED_FAMILIES: [u64; 2] = [38, 40];

/// `personality` values: Linux, 32-bit Linux, each with UNAME26, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed to every container. io_uring is not here, for its operations pass every filter; nor are the kernel's keyrings,
/// which belong to a user id and not to a container.
#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    // Files and directories
    "access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range", "creat", "dup", "dup2",
    "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "flock", "fstat", "fstat64",
    "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futimesat", "getcwd", "getdents",
    "getdents64", "ioctl", "lchown", "lchown32", "link", "linkat", "_llseek", "lseek", "lstat", "lstat64", "mkdir",
    "mkdirat", "mknod", "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "readahead",
    "readlink", "readlinkat", "rename", "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs", "statfs64",
    "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "truncate", "truncate64", "umask", "unlink",
    "unlinkat", "utime", "utimensat", "utimensat_time64", "utimes", "listmount", "statmount", "cachestat",
    // Reading, writing, waiting for descriptors
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    "io_pgetevents_time64", "io_setup", "io_submit", "pipe", "pipe2", "poll", "ppoll", "ppoll_time64", "pread64",
    "preadv", "preadv2", "pselect6", "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read", "readv", "select",
    "sendfile", "sendfile64", "splice", "tee", "vmsplice", "write", "writev",
    // Extended attributes
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr", "listxattr",
    "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr", "removexattrat", "setxattr",
    "setxattrat",
    // Watching files
    "fanotify_mark", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
    // Memory
    "brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mlock", "mlock2",
    "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap",
    "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    // Processes and threads
    "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "get_robust_list", "get_thread_area",
    "getcpu", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getresgid", "getresgid32", "getresuid", "getresuid32",
    "getrlimit", "getrusage", "getsid", "gettid", "getuid", "getuid32", "ioprio_get", "ioprio_set", "pidfd_open",
    "pidfd_send_signal", "prctl", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace",
    "restart_syscall", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list",
    "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32",
    "setgroups", "setgroups32", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "setsid", "setuid", "setuid32", "ugetrlimit",
    "uretprobe", "vfork", "wait4", "waitid", "waitpid",
    // Locks between threads
    "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake",
    // Signals
    "alarm", "kill", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "tgkill", "tkill",
    // Time: reading, and what adjusts only with CAP_SYS_TIME
    "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep",
    "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times",
    // Sockets; socket(2) itself stands below
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "recvfrom",
    "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    "socketcall", "socketpair",
    // System V and POSIX message passing
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop",
    "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
    // Randomness, confining oneself, asking about the system
    "getrandom", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp", "sysinfo",
    "uname",
];

/// Allowed where the machine is of one family.
const X86_FAMILY: &[&str] = &["arch_prctl", "modify_ldt"];
#[rustfmt::skip]
const ARM_FAMILY: &[&str] =
    &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"];

/// Allowed to a container that has the capability.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(&str, &[&str])] = &[
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "SYS_ADMIN",
        &[
            "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
            "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
            "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
            "syslog", "umount", "umount2", "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("SYS_RAWIO", &["iopl", "ioperm"]),
    ("SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYSLOG", &["syslog"]),
    ("BPF", &["bpf"]),
    ("PERFMON", &["perf_event_open"]),
];

/// The profile on a machine of this architecture.
pub(super) fn profile(native: Arch, caps: CapSet) -> Profile {
    let mut arches = vec![native];
    arches.extend(native.companions());
    let mut rules = vec![allow(ALWAYS, Vec::new())];
    match native {
        Arch::X86_64 | Arch::X86 | Arch::X32 => rules.push(allow(X86_FAMILY, Vec::new())),
        Arch::Aarch64 | Arch::Arm => rules.push(allow(ARM_FAMILY, Vec::new())),
    }
    for (cap, names) in WITH_CAPABILITY {
        if caps.has_name(cap) {
            rules.push(allow(names, Vec::new()));
        }
    }
    if !caps.has_name("SYS_ADMIN") {
        let mask = Compare::MaskedEq { mask: CLONE_NAMESPACES };
        rules.push(allow(&["clone"], vec![ArgCheck { index: 0, value: 0, op: mask }]));
        // clone3's flags are in memory that a filter cannot read: ENOSYS sends libc back to clone.
        rules.push(Rule {
            names: vec!["clone3".to_owned()],
            action: Action::Errno(libc::ENOSYS as u16),
            args: Vec::new(),
        });
    }
    for value in PERSONALITIES {
        rules.push(allow(&["personality"], vec![ArgCheck { index: 0, value, op: Compare::Eq }]));
    }
    let denied = Action::Errno(libc::EPERM as u16);
    for value in DENIED_FAMILIES {
        let args = vec![ArgCheck { index: 0, value, op: Compare::Eq }];
        rules.push(Rule { names: vec!["socket".to_owned()], action: denied, args });
    }
    rules.push(allow(&["socket"], Vec::new()));
    Profile { default: denied, arches, rules, flags: SPEC_ALLOW }
}

fn allow(names: &[&str], args: Vec<ArgCheck>) -> Rule {
    Rule { names: names.iter().map(|name| (*name).to_owned()).collect(), action: Action::Allow, args }
}
