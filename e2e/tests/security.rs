//! What a container's process may do.

use std::path::Path;

use e2e::manifest::{pod, script, script_with, shell, with};
use e2e::{Node, need};
use serde_json::json;

#[test]
fn a_read_only_root_refuses_writes_and_its_volumes_take_them() {
    let node = need!(Node::with_busybox());
    let mut container = with(
        shell("c", "touch /x 2>&1; touch /v/x && echo volume written; touch /dev/shm/x && echo shm written"),
        json!({"securityContext": {"readOnlyRootFilesystem": true}}),
    );
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let spec = json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]});
    let finished = node.run_to_end(pod("ro", spec)).exits(0);
    finished.says("Read-only file system").says("volume written").says("shm written");
}

#[test]
fn capabilities_are_the_default_14_changed_as_told() {
    let node = need!(Node::with_busybox());
    for (capabilities, expected) in [
        (json!({}), "00000000a80425fb"),
        (json!({"drop": ["ALL"]}), "0000000000000000"),
        (json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}), "0000000000000400"),
        (json!({"drop": ["CHOWN"]}), "00000000a80425fa"),
        (json!({"add": ["SYS_TIME"]}), "00000000aa0425fb"),
    ] {
        let context = json!({"securityContext": {"capabilities": capabilities}});
        let finished = node.run_to_end(script_with("grep ^Cap /proc/self/status", context)).exits(0);
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(finished.text().contains(&format!("{set}:\t{expected}")), "{set} with {capabilities}\n{finished}");
        }
        // An inheritable set turns an unprivileged exec into a privileged one (CVE-2022-24769).
        assert!(finished.text().contains("CapInh:\t0000000000000000"), "{finished}");
        assert!(finished.text().contains("CapAmb:\t0000000000000000"), "{finished}");
    }
}

#[test]
fn a_user_other_than_root_holds_no_capabilities() {
    let node = need!(Node::with_busybox());
    let context = json!({"securityContext": {"runAsUser": 1000}});
    let finished = node.run_to_end(script_with("grep ^Cap /proc/self/status", context)).exits(0);
    finished.says("CapEff:\t0000000000000000").says("CapPrm:\t0000000000000000").says("CapBnd:\t00000000a80425fb");
}

#[test]
fn a_set_user_id_program_gains_root_unless_escalation_is_forbidden() {
    let node = need!(Node::with_busybox());
    let read = "setuid-cat /proc/self/status | grep -E '^(Uid|NoNewPrivs):'";
    let context = |allowed: bool| json!({"securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": allowed}});
    node.run_to_end(script_with(read, context(true))).exits(0).says("Uid:\t1000\t0\t0\t0").says("NoNewPrivs:\t0");
    node.run_to_end(script_with(read, context(false)))
        .exits(0)
        .says("Uid:\t1000\t1000\t1000\t1000")
        .says("NoNewPrivs:\t1");
}

#[test]
fn seccomp_is_on_by_default_and_off_when_unconfined() {
    let node = need!(Node::with_busybox());
    node.run_to_end(script("grep ^Seccomp: /proc/self/status; unshare -U true 2>&1; echo $?"))
        .exits(0)
        .says("Seccomp:\t2")
        .says("Operation not permitted");
    let context = json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}});
    node.run_to_end(script_with("grep ^Seccomp: /proc/self/status", context)).exits(0).says("Seccomp:\t0");
}

#[test]
fn a_seccomp_profile_of_the_hosts_is_obeyed() {
    let node = need!(Node::with_busybox());
    let dir = node.root_dir.join("seccomp");
    std::fs::create_dir_all(&dir).expect("the root directory is ours");
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    std::fs::write(dir.join("no-mkdir.json"), profile.to_string()).expect("the directory is ours");
    let context =
        |path: &str| json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": path}}});
    node.run_to_end(script_with("mkdir /x; echo code $?; touch /y && echo rest works", context("no-mkdir.json")))
        .exits(0)
        .says("not supported")
        .says("rest works");
    let missing =
        node.run_to_end(script_with("echo ran", context("absent.json"))).says("absent.json").never_says("| ran");
    assert!(matches!(missing.status.code(), Some(2 | 125)), "{missing}");
}

#[test]
fn the_paths_that_betray_the_host_are_masked_or_read_only() {
    let node = need!(Node::with_busybox());
    let look = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats; do \
            [ -e $f ] && echo $f $(head -c 16 $f 2>/dev/null | wc -c); done; \
        for d in /proc/acpi /proc/scsi /sys/firmware /proc/asound; do [ -d $d ] && echo $d $(ls -A $d | wc -l); done; \
        for f in /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/sys/vm/drop_caches; do \
            (echo 0 > $f) 2>&1 | grep -q 'Read-only' && echo $f read-only; done; \
        (mkdir /sys/fs/cgroup/x 2>&1; touch /sys/kernel/x 2>&1) | grep -c -i 'read-only'";
    let finished = node.run_to_end(script(look)).exits(0);
    let lines = finished.of("test/c");
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/scsi", "/sys/firmware"] {
        if Path::new(path).exists() {
            assert!(lines.contains(&format!("{path} 0")), "{path} is not masked\n{finished}");
        }
    }
    for path in ["/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches"] {
        let shown = lines.contains(&format!("{path} read-only"));
        assert!(shown || !Path::new(path).exists(), "{path} is writable\n{finished}");
    }
}

#[test]
fn the_devices_are_the_usual_ones_and_others_cannot_be_opened() {
    let node = need!(Node::with_busybox());
    let look = "for d in null zero full random urandom tty; do [ -c /dev/$d ] && echo have $d; done; \
        echo ptmx $(readlink /dev/ptmx); echo fd $(readlink /dev/fd); echo stdout $(readlink /dev/stdout); \
        echo shm $(stat -f -c %T /dev/shm); echo other $(ls /dev | grep -c -E '^(sd|vd|nvme|kmsg|mem|loop)'); \
        mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk; \
        echo x > /dev/null && echo null takes; head -c 4 /dev/zero | wc -c";
    let finished = node.run_to_end(script(look));
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        assert!(finished.of("test/c").contains(&format!("have {device}")), "no /dev/{device}\n{finished}");
    }
    assert_eq!(finished.value("test/c", "ptmx"), "pts/ptmx", "{finished}");
    assert_eq!(finished.value("test/c", "fd"), "/proc/self/fd", "{finished}");
    assert_eq!(finished.value("test/c", "shm"), "tmpfs", "{finished}");
    assert_eq!(finished.value("test/c", "other"), "0", "{finished}");
    let refused = finished.lines.iter().filter(|line| line.text.contains("Operation not permitted")).count();
    assert_eq!(refused, 2, "a device that is not allowed was opened\n{finished}");
}

#[test]
fn a_privileged_container_has_the_hosts_devices_and_every_capability_that_the_host_gives() {
    let node = need!(Node::with_busybox());
    let context = json!({"securityContext": {"privileged": true}});
    let look = "grep ^CapEff /proc/self/status; [ -c /dev/loop-control ] && echo have loop-control; \
        grep ^Seccomp: /proc/self/status; touch /sys/kernel/mm/x 2>&1; echo 1 > /proc/sys/kernel/ns_last_pid; echo done";
    let finished = node.run_to_end(script_with(look, context)).exits(0).says("Seccomp:\t0");
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let ours = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a field of status");
    let finished = finished.says(&format!("CapEff:\t{ours}")).never_says("Read-only file system");
    if Path::new("/dev/loop-control").exists() {
        finished.says("have loop-control");
    }
}

#[test]
fn the_oom_score_follows_the_pods_class_as_far_as_the_host_permits() {
    let node = need!(Node::with_busybox());
    let read = "echo score $(cat /proc/self/oom_score_adj)";
    let best_effort = node.run_to_end(script(read)).exits(0);
    assert_eq!(best_effort.value("test/c", "score"), "1000", "{best_effort}");
    let resources = |memory: &str| json!({"cpu": "100m", "memory": memory});
    let guaranteed = json!({"resources": {"limits": resources("64Mi"), "requests": resources("64Mi")}});
    let guaranteed = node.run_to_end(script_with(read, guaranteed)).exits(0);
    let score: i32 = guaranteed.value("test/c", "score").parse().expect("a number");
    // Lowering the score needs CAP_SYS_RESOURCE: without it the container keeps the node's.
    let lower = "echo -997 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    let permitted = std::process::Command::new("sh").args(["-c", lower]).output().expect("a shell");
    let permitted: i32 = String::from_utf8_lossy(&permitted.stdout).trim().parse().expect("a number");
    assert_eq!(score, permitted, "{guaranteed}");
}

#[test]
fn limits_of_resources_are_no_lower_than_the_nodes() {
    let node = need!(Node::with_busybox());
    let finished = node.run_to_end(script("echo files $(ulimit -Hn); echo core $(ulimit -Hc)")).exits(0);
    let files: u64 = finished.value("test/c", "files").parse().unwrap_or(u64::MAX);
    assert!(files >= 1024, "{finished}");
}

#[test]
fn sysctls_of_the_pod_are_set_and_unknown_ones_refused() {
    let node = need!(Node::with_busybox());
    let sysctls = |name: &str, value: &str| {
        let sysctls = json!([{"name": name, "value": value}]);
        let read = format!("echo value $(cat /proc/sys/{})", name.replace('.', "/"));
        pod("sysctl", json!({"securityContext": {"sysctls": sysctls}, "containers": [shell("c", &read)]}))
    };
    for (name, value) in [
        ("net.ipv4.ip_unprivileged_port_start", "80"),
        ("net/ipv4/ip_unprivileged_port_start", "81"),
        ("kernel.shm_rmid_forced", "1"),
        ("kernel/shm_rmid_forced", "1"),
        ("kernel.msgmax", "8000"),
    ] {
        let finished = node.run_to_end(sysctls(name, value)).exits(0);
        assert_eq!(finished.value("sysctl/c", "value"), value, "{name}\n{finished}");
    }
    let refused = node.run_to_end(sysctls("kernel.panic", "1")).says("kernel.panic").never_says("| value");
    assert!(matches!(refused.status.code(), Some(2 | 125)), "{refused}");
}
