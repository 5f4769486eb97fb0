//! The kernel: version, system calls, file systems, security modules.

use rustix::process::PidfdFlags;

use super::{Finding, Options};
use crate::sys;

const OLDEST: (u32, u32) = (5, 12);

pub(super) fn findings(options: &Options) -> Vec<Finding> {
    let release = options.proc("sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![version(&release)];
    findings.extend(system_calls(&release));
    findings.push(overlay(options, &release));
    findings.push(seccomp(options));
    findings.push(user_namespaces(options));
    findings.push(security_modules(options));
    findings
}

/// Major and minor version of a release such as "6.1.0-18-amd64".
pub(super) fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn version(release: &str) -> Finding {
    const TOPIC: &str = "kernel";
    match parse_version(release) {
        Some(version) if version >= OLDEST => Finding::ok(TOPIC, format!("Linux {release}")),
        Some(_) => Finding::missing(TOPIC, format!("Linux {release} is older than 5.12"))
            .so("pods cannot run: system calls are missing")
            .remedy("boot a kernel from 5.12 on"),
        None => Finding::missing(TOPIC, format!("the kernel's release {release:?} cannot be read"))
            .so("nothing else can be relied on")
            .remedy("mount procfs on /proc"),
    }
}

fn system_calls(release: &str) -> Vec<Finding> {
    let refused = |topic, what: String, remedy: &str| {
        Finding::missing(topic, what).so("pods cannot run").remedy(remedy.to_owned())
    };
    let unblock = "leave the container or service that blocks it, or widen its seccomp profile";
    let mut findings = Vec::new();

    let openat2 = rustix::fs::openat2(
        rustix::fs::CWD,
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
        rustix::fs::ResolveFlags::IN_ROOT,
    );
    findings.push(match openat2 {
        Ok(_) => Finding::ok("openat2", "paths inside a container's root are confined by the kernel"),
        Err(errno) => refused("openat2", format!("openat2: {errno}"), unblock),
    });
    findings.push(if sys::probe::has_clone3() {
        Finding::ok("clone3", "a process can be made right in its namespaces and cgroup")
    } else {
        refused("clone3", "clone3 is missing or blocked".to_owned(), unblock)
    });
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    findings.push(match pidfd {
        Ok(_) => Finding::ok("pidfd", "processes are followed without races"),
        Err(errno) => refused("pidfd", format!("pidfd_open: {errno}"), unblock),
    });
    findings.push(mount_api(release, unblock));
    findings
}

fn mount_api(release: &str, unblock: &str) -> Finding {
    const TOPIC: &str = "mount API";
    let fsopen = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC);
    match fsopen {
        Err(errno) => {
            let finding = Finding::missing(TOPIC, format!("fsopen: {errno}")).so("pods cannot run");
            match errno {
                rustix::io::Errno::PERM => finding.remedy("run as root, with CAP_SYS_ADMIN"),
                _ => finding.remedy(unblock),
            }
        }
        Ok(_) if sys::probe::has_mount_setattr() => {
            Finding::ok(TOPIC, "mounts are made by descriptor, read-only recursively, with mapped ids")
        }
        Ok(_) => Finding::missing(TOPIC, format!("Linux {release} has no mount_setattr"))
            .so("pods cannot run")
            .remedy("boot a kernel from 5.12 on"),
    }
}

fn overlay(options: &Options, release: &str) -> Finding {
    const TOPIC: &str = "overlayfs";
    let known = options.proc("filesystems").is_some_and(|text| text.split_whitespace().any(|word| word == "overlay"));
    if !known && !has_module(options, release, "overlay") {
        return Finding::missing(TOPIC, "the kernel has no overlay file system")
            .so("containers get no root file system")
            .remedy("boot a kernel with CONFIG_OVERLAY_FS, or install its modules");
    }
    let how = if known { "available" } else { "a module that is loaded at the first container" };
    // One layer a parameter instead of all in one string.
    let layers = match parse_version(release) {
        Some(version) if version >= (6, 5) => "layers are added one by one (lowerdir+)",
        _ => "layers are mounted by short names (lowerdir+ is from 6.5)",
    };
    Finding::ok(TOPIC, format!("{how}; {layers}"))
}

fn seccomp(options: &Options) -> Finding {
    match options.proc("sys/kernel/seccomp/actions_avail") {
        Some(actions) => Finding::ok("seccomp", format!("actions: {actions}")),
        None => Finding::degraded("seccomp", "the kernel filters no system calls")
            .so("containers with a profile are refused; the default of pods from files is RuntimeDefault")
            .remedy("boot a kernel with CONFIG_SECCOMP_FILTER, or set seccompProfile.type: Unconfined"),
    }
}

fn user_namespaces(options: &Options) -> Finding {
    const TOPIC: &str = "user namespaces";
    let so = "pods with hostUsers: false are refused";
    if !options.proc_root.join("self/ns/user").exists() {
        return Finding::degraded(TOPIC, "the kernel has none").so(so).remedy("boot a kernel with CONFIG_USER_NS");
    }
    match options.proc("sys/user/max_user_namespaces").and_then(|text| text.parse::<u64>().ok()) {
        Some(0) => Finding::degraded(TOPIC, "user.max_user_namespaces is 0")
            .so(so)
            .remedy("sysctl -w user.max_user_namespaces=16384"),
        Some(most) => Finding::ok(TOPIC, format!("up to {most}")),
        None => Finding::ok(TOPIC, "available"),
    }
}

fn security_modules(options: &Options) -> Finding {
    const TOPIC: &str = "security modules";
    let apparmor = options.sys("module/apparmor/parameters/enabled").as_deref() == Some("Y");
    let selinux = options.sys("fs/selinux/enforce");
    match (apparmor, selinux.as_deref()) {
        (true, _) => Finding::ok(TOPIC, "AppArmor is enabled"),
        (false, Some("1")) => Finding::degraded(TOPIC, "SELinux is enforcing")
            .so("containers run with the label of the process that starts them: seLinuxOptions are refused")
            .remedy("give Coracle a domain that may run containers, or set SELinux permissive"),
        (false, Some(_)) => Finding::ok(TOPIC, "SELinux is permissive"),
        (false, None) => Finding::degraded(TOPIC, "neither AppArmor nor SELinux is active")
            .so("a pod that asks for an AppArmor profile by name is refused; others run without one"),
    }
}

/// Whether a module is loaded, built in, or installed for this kernel. Nothing is loaded.
pub(super) fn has_module(options: &Options, release: &str, name: &str) -> bool {
    let loaded =
        options.proc("modules").is_some_and(|text| text.lines().any(|line| line.split(' ').next() == Some(name)));
    let listed = |file: &str| {
        let text = std::fs::read_to_string(options.modules_root.join(release).join(file)).unwrap_or_default();
        text.lines().any(|line| {
            let path = line.split(':').next().unwrap_or("");
            let file = path.rsplit('/').next().unwrap_or("");
            file.split('.').next() == Some(name)
        })
    };
    loaded || listed("modules.builtin") || listed("modules.dep")
}

/// Whether the running kernel has a function: kernels without modules leave no other trace.
pub(super) fn has_symbol(options: &Options, name: &str) -> bool {
    use std::io::BufRead;
    let Ok(file) = std::fs::File::open(options.proc_root.join("kallsyms")) else { return false };
    let lines = std::io::BufReader::with_capacity(1 << 16, file).lines();
    lines.map_while(Result::ok).any(|line| line.split(' ').nth(2).is_some_and(|symbol| symbol == name))
}
