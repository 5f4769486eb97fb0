//! Privileges and limits of the process and the host.

use super::{Finding, Options};
use crate::capabilities::CapSet;

/// Without one of these no container can be made.
const NEEDED: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_CHROOT",
];

pub(super) fn privileges(options: &Options) -> Vec<Finding> {
    let root = rustix::process::geteuid().is_root();
    let mut findings = vec![if root {
        Finding::ok("root", "runs as root")
    } else {
        Finding::missing("root", format!("runs as user {}", rustix::process::geteuid().as_raw()))
            .so("pods cannot run; validate and version do")
            .remedy("sudo coracle …")
    }];
    match CapSet::available(&options.proc_root) {
        Err(error) => {
            let finding = Finding::missing("capabilities", error.to_string());
            findings.push(finding.so("pods cannot run").remedy("mount procfs on /proc"));
        }
        Ok(available) if root => findings.extend(capabilities(available)),
        // Without root there are none, which has been said.
        Ok(_) => {}
    }
    findings
}

pub(super) fn capabilities(available: CapSet) -> Vec<Finding> {
    const TOPIC: &str = "capabilities";
    let absent: Vec<&str> = NEEDED.into_iter().filter(|name| !available.has_name(name)).collect();
    if !absent.is_empty() {
        let finding = Finding::missing(TOPIC, format!("missing: {}", absent.join(" ")));
        return vec![finding.so("pods cannot run").remedy("grant them to the service or container Coracle runs in")];
    }
    let mut findings = Vec::new();
    let mut lacks = |name: &str, so: &str| {
        if !available.has_name(name) {
            let finding = Finding::degraded(TOPIC, format!("CAP_{name} is missing"));
            findings.push(finding.so(so).remedy("grant it to the service or container Coracle runs in"));
        }
    };
    lacks("SYS_RESOURCE", "oom scores cannot be lowered nor hard limits raised: both are clamped, and said");
    lacks("NET_ADMIN", "pods have no network of their own; hostNetwork: true works");
    lacks("SYS_PTRACE", "exec into containers of other users, and their /proc files, may be refused");
    let rest = CapSet::ALL.minus(available).minus(of(&["SYS_RESOURCE", "NET_ADMIN", "SYS_PTRACE"]));
    let what = if rest.is_empty() {
        "all others".to_owned()
    } else {
        format!("all but {}, which no container can be given", rest.names().join(" "))
    };
    if findings.is_empty() && rest.is_empty() {
        return vec![Finding::ok(TOPIC, "all")];
    }
    findings.push(Finding::ok(TOPIC, what));
    findings
}

fn of(names: &[&str]) -> CapSet {
    CapSet::from_names(names).unwrap_or_default()
}

pub(super) fn findings(options: &Options) -> Vec<Finding> {
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let mut findings = vec![open_files(nofile.maximum), inotify(options)];
    findings.extend(hidepid(&options.proc("self/mountinfo").unwrap_or_default()));
    findings
}

pub(super) fn open_files(hard: Option<u64>) -> Finding {
    const TOPIC: &str = "open files";
    match hard {
        Some(hard) if hard < 65_536 => Finding::degraded(TOPIC, format!("the hard limit is {hard}"))
            .so("containers inherit it, and databases or proxies in them may want more")
            .remedy("LimitNOFILE=1048576 in the unit, or ulimit -Hn 1048576 before"),
        Some(hard) => Finding::ok(TOPIC, format!("up to {hard}")),
        None => Finding::ok(TOPIC, "unlimited"),
    }
}

fn inotify(options: &Options) -> Finding {
    const TOPIC: &str = "inotify";
    let read = |name: &str| options.proc(&format!("sys/fs/inotify/{name}")).and_then(|text| text.parse::<u64>().ok());
    match (read("max_user_instances"), read("max_user_watches")) {
        (Some(instances), Some(watches)) if instances >= 512 && watches >= 65_536 => {
            Finding::ok(TOPIC, format!("{instances} instances, {watches} watches a user"))
        }
        (Some(instances), Some(watches)) => {
            Finding::degraded(TOPIC, format!("{instances} instances, {watches} watches a user"))
                .so("all containers of one user id share them: with many pods, watching files fails in some")
                .remedy("sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288")
        }
        _ => Finding::degraded(TOPIC, "the kernel has no inotify, or /proc/sys cannot be read")
            .so("a manifest directory is read again and again instead of watched"),
    }
}

/// procfs that hides other users' processes, which matters to those without root.
pub(super) fn hidepid(mountinfo: &str) -> Option<Finding> {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"))?;
    let (_, options) = line.rsplit_once(' ')?;
    let value = options.split(',').find_map(|option| option.strip_prefix("hidepid="))?;
    (!matches!(value, "0" | "off")).then(|| {
        Finding::degraded("/proc", format!("mounted with hidepid={value}"))
            .so("users without root do not see which pods run; root does")
            .remedy("mount -o remount,hidepid=0 /proc")
    })
}
