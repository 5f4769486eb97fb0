//! Control groups, swap and huge pages.

use super::{Finding, Options, kernel};
use crate::cgroup::{Controller, Hierarchies, Mode, Version, parse_mountinfo};

pub(super) fn findings(options: &Options) -> Vec<Finding> {
    let mountinfo = options.proc("self/mountinfo").unwrap_or_default();
    let hierarchies = match Hierarchies::open(parse_mountinfo(&mountinfo), "coracle") {
        Ok(hierarchies) => hierarchies,
        Err(error) => {
            let finding = Finding::missing("cgroups", error.to_string());
            return vec![finding.so("pods cannot run").remedy("mount -t cgroup2 none /sys/fs/cgroup")];
        }
    };
    let mut findings = vec![mode(&hierarchies), controllers(&hierarchies), kill(options, &hierarchies)];
    findings.push(swap(options, &hierarchies));
    findings.push(huge_pages(options, &hierarchies));
    findings
}

fn mode(hierarchies: &Hierarchies) -> Finding {
    const TOPIC: &str = "cgroups";
    if let Some(mount) = hierarchies.mounts().find(|mount| !mount.writable) {
        return Finding::missing(TOPIC, format!("{} is read-only", mount.point.display()))
            .so("pods cannot run")
            .remedy("mount it read-write, or leave the container that Coracle runs in");
    }
    let places = |version| {
        let of = hierarchies.mounts().filter(|mount| mount.version == version);
        of.map(|mount| mount.point.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let what = match hierarchies.mode() {
        Mode::V2 => format!("version 2 on {}", places(Version::V2)),
        Mode::V1 => format!("version 1 on {}", places(Version::V1)),
        Mode::Hybrid => format!("hybrid: version 2 on {}, version 1 on {}", places(Version::V2), places(Version::V1)),
    };
    Finding::ok(TOPIC, what)
}

fn controllers(hierarchies: &Hierarchies) -> Finding {
    const TOPIC: &str = "controllers";
    let needed = [Controller::Cpu, Controller::Cpuset, Controller::Memory, Controller::Pids];
    let mut absent: Vec<&str> =
        needed.into_iter().filter(|controller| !hierarchies.has(*controller)).map(Controller::name).collect();
    if hierarchies.mode() == Mode::V1 {
        let v1 = [Controller::Devices, Controller::Freezer];
        absent.extend(v1.into_iter().filter(|controller| !hierarchies.has(*controller)).map(Controller::name));
    }
    let present: Vec<&str> =
        hierarchies.mounts().flat_map(|mount| mount.controllers.iter().map(|controller| controller.name())).collect();
    if absent.is_empty() {
        return Finding::ok(TOPIC, present.join(" "));
    }
    Finding::degraded(TOPIC, format!("missing: {}", absent.join(" ")))
        .so("containers with such limits are refused")
        .remedy("boot without cgroup_disable=, or have the controllers delegated to this host's root cgroup")
}

fn kill(options: &Options, hierarchies: &Hierarchies) -> Finding {
    const TOPIC: &str = "cgroup.kill";
    let release = options.proc("sys/kernel/osrelease").unwrap_or_default();
    let so = "containers are killed by freezing and signals, one process at a time";
    if hierarchies.mode() == Mode::V1 {
        return Finding::degraded(TOPIC, "no version 2 hierarchy is mounted")
            .so(so)
            .remedy("mkdir /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified");
    }
    match kernel::parse_version(&release) {
        Some(version) if version >= (5, 14) => Finding::ok(TOPIC, "a container is killed by one write"),
        _ => Finding::degraded(TOPIC, "the kernel is older than 5.14").so(so).remedy("boot a kernel from 5.14 on"),
    }
}

fn swap(options: &Options, hierarchies: &Hierarchies) -> Finding {
    const TOPIC: &str = "swap";
    let in_use = options.proc("swaps").is_some_and(|text| text.lines().count() > 1);
    let memory = hierarchies.mounts().find(|mount| mount.has(Controller::Memory));
    let accounted = match memory {
        Some(mount) if mount.version == Version::V1 => mount.point.join("memory.memsw.limit_in_bytes").exists(),
        // Not in the root: any cgroup below it has the file or none has.
        Some(mount) => std::fs::read_dir(&mount.point)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join("memory.swap.max").exists())),
        None => false,
    };
    match (in_use, accounted) {
        (false, _) => Finding::ok(TOPIC, "none in use"),
        (true, true) => Finding::ok(TOPIC, "in use and accounted"),
        (true, false) => Finding::degraded(TOPIC, "in use and not accounted")
            .so("a container's memory limit does not bound its swap")
            .remedy("boot with swapaccount=1, or swapoff -a"),
    }
}

fn huge_pages(options: &Options, hierarchies: &Hierarchies) -> Finding {
    const TOPIC: &str = "huge pages";
    let mut sizes: Vec<(u64, String)> = Vec::new();
    for entry in std::fs::read_dir(options.sys_root.join("kernel/mm/hugepages")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kilobytes = name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB")?.parse::<u64>().ok());
        let Some(kilobytes) = kilobytes else { continue };
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default().trim().to_owned();
        let size = match kilobytes {
            k if k % (1 << 20) == 0 => format!("{}GB", k >> 20),
            k if k % (1 << 10) == 0 => format!("{}MB", k >> 10),
            k => format!("{k}KB"),
        };
        let (total, free) = (read("nr_hugepages"), read("free_hugepages"));
        sizes.push((kilobytes, format!("{size}: {total} reserved, {free} free")));
    }
    sizes.sort();
    let text: Vec<String> = sizes.into_iter().map(|(_, text)| text).collect();
    if text.is_empty() {
        return Finding::ok(TOPIC, "the kernel has none");
    }
    if hierarchies.has(Controller::Hugetlb) {
        return Finding::ok(TOPIC, text.join("; "));
    }
    Finding::degraded(TOPIC, format!("{}; no hugetlb controller", text.join("; ")))
        .so("containers with hugepages limits are refused")
        .remedy("boot a kernel with CONFIG_CGROUP_HUGETLB")
}
