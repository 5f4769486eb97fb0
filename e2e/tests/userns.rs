//! Pods with `hostUsers: false`: root inside is nobody outside.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use e2e::manifest::{pod, several, shell, with};
use e2e::process::Run;
use e2e::{Node, inspect, need};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

/// A node on a kernel that has overlays of id-mapped layers.
fn node() -> Result<Node, String> {
    since(5, 19, "overlays of id-mapped layers").and_then(|()| Node::with_busybox())
}

fn since(major: u32, minor: u32, what: &str) -> Result<(), String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    let new = numbers.next().zip(numbers.next()).is_some_and(|it| it >= (major, minor));
    if new { Ok(()) } else { Err(format!("Linux {release} has no {what}: they are from {major}.{minor}")) }
}

fn isolated(name: &str, spec: Value) -> Value {
    pod(name, with(json!({"hostUsers": false}), spec))
}

/// A container that says `up` and stays, marked by `MARK=name`.
fn marked(name: &str, script: &str) -> Value {
    with(shell(name, &format!("{script}; echo up; exec sleep 1000")), json!({"env": [{"name": "MARK", "value": name}]}))
}

fn process(node: &Node, name: &str) -> Pid {
    inspect::process_with_environment(node, &format!("MARK={name}")).expect("it runs")
}

/// The first id of the host's that a process has mapped, and how many follow.
fn range(pid: Pid) -> (u32, u32) {
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", pid.as_raw_nonzero())).expect("it runs");
    let numbers: Vec<u32> = map.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    assert_eq!((numbers[0], numbers.len()), (0, 3), "{map}");
    (numbers[1], numbers[2])
}

fn volume(node: &Node, pod: &str, plugin: &str, name: &str) -> PathBuf {
    let uid = node.pod(pod).expect("it is known")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    node.root_dir.join("pods").join(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

fn stop(mut run: Run) {
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn root_inside_is_nobody_outside_and_files_are_its_own_on_both_sides() {
    let node = need!(node());
    let script = "echo user $(id -u):$(id -g); touch /v/root; touch /v/other && chown 1234:4321 /v/other; \
        touch /tmp/in-root && chown 65535:65535 /tmp/in-root && echo chowned; \
        chown 70000 /tmp/in-root || echo beyond; \
        echo owner $(stat -c %u:%g /v/root) $(stat -c %u:%g /v/other) $(stat -c %u /bin/busybox)";
    let spec = json!({
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [with(marked("c", script), json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))],
    });
    let mut run = node.run(isolated("ids", spec));
    run.wait_for("chowned");
    run.wait_for("beyond");
    run.wait_for("up");
    let pid = process(&node, "c");
    let (first, count) = range(pid);
    assert!(first >= 65_536 && first % 65_536 == 0 && count == 65_536, "{first} {count}");
    for field in ["Uid", "Gid"] {
        let ids = inspect::status(pid, field).expect("it runs");
        assert!(ids.split_whitespace().all(|id| id == first.to_string()), "{field} {ids}");
    }
    // A volume is id-mapped: on the disk its files are as they are inside.
    let dir = volume(&node, "ids", "empty-dir", "v");
    let owner = |name: &str| std::fs::metadata(dir.join(name)).map(|it| (it.uid(), it.gid())).expect("it was made");
    assert_eq!((owner("root"), owner("other")), ((0, 0), (1234, 4321)));
    let again = node.exec("ids", "c", &["sh", "-c", "id -u; readlink /proc/self/ns/user; echo said > /dev/stdout"]);
    let lines = again.exits(0).says("said").stdout();
    let own = std::fs::read_link("/proc/self/ns/user").expect("procfs");
    assert!(lines.starts_with("0\nuser:[") && !lines.contains(&*own.to_string_lossy()), "{lines}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(finished.value("ids/c", "user"), "0:0", "{finished}");
    assert_eq!(finished.value("ids/c", "owner"), "0:0 1234:4321 0", "{finished}");
}

#[test]
fn a_pod_can_do_in_its_namespace_what_it_cannot_to_the_host() {
    let node = need!(node());
    let script = "mknod /tmp/null c 1 3 || echo no-node; mknod /tmp/disk b 8 0 || echo no-disk; \
        echo x > /dev/null && head -c 4 /dev/zero | wc -c | sed 's/^/zero /'; \
        (while :; do echo low | nc -l -p 80; done &); until port=$(nc -w 60 127.0.0.1 80 </dev/null) && [ -n \"$port\" ]; do sleep 0.1; done; echo port $port; \
        ping -c 1 127.0.0.1 >/dev/null && echo pinged; \
        echo 1 > /proc/sys/kernel/panic || echo no-panic; [ -z \"$(head -c 1 /proc/kcore 2>/dev/null)\" ] && echo no-kcore; \
        ls /proc/1/fd >/dev/null && echo own-proc; mkdir /dev/shm/d /dev/mqueue 2>/dev/null; \
        touch /dev/mqueue/q && echo queue; grep -q cgroup /proc/mounts && echo cgroups; \
        echo etc $(stat -c %u:%g /etc/hosts /etc/hostname /etc/resolv.conf | sort -u); echo reopened > /dev/stdout; \
        mkdir /mnt && mount -t tmpfs none /mnt 2>&1 | grep -q denied && echo no-mount";
    let finished = node.run_to_end(isolated("able", json!({"containers": [shell("c", script)]}))).exits(0);
    for said in ["no-node", "no-disk", "pinged", "no-panic", "no-kcore", "own-proc", "queue", "cgroups", "reopened"] {
        assert!(finished.of("able/c").iter().any(|line| line == said), "{said}\n{finished}");
    }
    assert!(finished.of("able/c").iter().any(|line| line == "no-mount"), "{finished}");
    for (key, value) in [("zero", "4"), ("port", "low"), ("etc", "0:0")] {
        assert_eq!(finished.value("able/c", key), value, "{finished}");
    }
}

#[test]
fn more_capabilities_are_of_the_pods_namespace_alone() {
    let node = need!(node());
    let refused = |what: &str, said: &str| format!("{what} 2>&1 | grep -qE 'not (permitted|support)' && echo {said}; ");
    let script = format!(
        "mkdir /mnt; mount -t tmpfs none /mnt && echo mounted; mount -t proc proc /mnt && echo proc; \
         hostname other && echo named $(hostname); echo 0 > /proc/sys/vm/drop_caches || echo no-vm; \
         dd if=/dev/zero of=/tmp/m.ko bs=4096 count=1; {}{}{}{}",
        refused("mknod /tmp/x c 1 3", "no-node"),
        refused("insmod /tmp/m.ko", "no-module"),
        refused("date -s @0", "no-clock"),
        refused("swapon /tmp/m.ko", "no-swap"),
    );
    let all = json!({"securityContext": {"privileged": true}});
    let finished = node.run_to_end(isolated("big", json!({"containers": [with(shell("c", &script), all)]}))).exits(0);
    for said in ["mounted", "proc", "named other", "no-vm", "no-node", "no-module", "no-clock", "no-swap"] {
        assert!(finished.of("big/c").iter().any(|line| line == said), "{said}\n{finished}");
    }
}

#[test]
fn two_pods_share_no_id_and_the_ids_of_one_that_is_gone_are_free() {
    let node = need!(node());
    let one = |name: &str| isolated(name, json!({"containers": [marked(name, "true")]}));
    let mut run = node.run(several(&[one("a"), one("b")]));
    node.wait_for_phase("a", "Running");
    node.wait_for_phase("b", "Running");
    run.wait_for("up");
    let (a, b) = (range(process(&node, "a")), range(process(&node, "b")));
    assert!(a.0 + a.1 <= b.0 || b.0 + b.1 <= a.0, "{a:?} {b:?}");
    stop(run);
    let mut run = node.run(one("c"));
    run.wait_for("up");
    let c = range(process(&node, "c"));
    assert_eq!(c.0, a.0.min(b.0));
    stop(run);
}

#[test]
fn a_program_that_sets_its_user_works_and_only_inside() {
    let node = need!(node());
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let make = "cp /bin/busybox /v/busybox && cp /bin/busybox /v/plain && chmod 4755 /v/busybox && chmod 755 /v/plain";
    let use_it = "echo user $(id -u); /v/plain ping -c 1 127.0.0.1 >/dev/null 2>&1 || echo needs-root; \
        /v/busybox ping -c 1 127.0.0.1 >/dev/null && echo pinged";
    let user = with(mount.clone(), json!({"securityContext": {"runAsUser": 1000}}));
    let spec = json!({
        "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [with(shell("make", make), mount)],
        "containers": [with(shell("c", use_it), user)],
    });
    let finished = node.run_to_end(isolated("suid", spec)).exits(0);
    assert_eq!(finished.value("suid/c", "user"), "1000", "{finished}");
    for said in ["needs-root", "pinged"] {
        assert!(finished.of("suid/c").iter().any(|line| line == said), "{said}\n{finished}");
    }
}

#[test]
fn every_kind_of_volume_shows_the_owners_that_it_has_on_the_disk() {
    let node = need!(since(6, 3, "id-mapped tmpfs, which Secrets are on").and_then(|()| node()));
    let host = node.make_dir("host");
    std::fs::write(host.join("of-root"), "").expect("it is writable");
    std::fs::write(host.join("of-other"), "").expect("it is writable");
    std::os::unix::fs::chown(host.join("of-other"), Some(77), Some(78)).expect("root");
    let objects = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}),
    ];
    let script = "for f in /host/of-root /host/of-other /map/k /secret/k; do echo $f $(stat -L -c %u:%g $f); done; \
        echo group $(stat -c %g /empty); echo done > /host/made; echo last > /dev/termination-log && echo written; \
        cat /secret/k && echo -n x > /host/of-root && echo changed";
    let spec = json!({
        "securityContext": {"fsGroup": 500},
        "volumes": [
            {"name": "host", "hostPath": {"path": host}},
            {"name": "map", "configMap": {"name": "m"}},
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "empty", "emptyDir": {}},
        ],
        "containers": [with(shell("c", script), json!({"volumeMounts": [
            {"name": "host", "mountPath": "/host"}, {"name": "map", "mountPath": "/map"},
            {"name": "secret", "mountPath": "/secret"}, {"name": "empty", "mountPath": "/empty"},
        ]}))],
    });
    let finished = node.run_to_end(several(&[objects[0].clone(), objects[1].clone(), isolated("vol", spec)])).exits(0);
    for (key, value) in
        [("/host/of-root", "0:0"), ("/host/of-other", "77:78"), ("/map/k", "0:500"), ("/secret/k", "0:500")]
    {
        assert_eq!(finished.value("vol/c", key), value, "{finished}");
    }
    assert_eq!(finished.value("vol/c", "group"), "500", "{finished}");
    finished.says("written").says("changed");
    assert_eq!(std::fs::metadata(host.join("made")).expect("it was made").uid(), 0);
}

#[test]
fn shared_processes_belong_to_the_pod_as_well() {
    let node = need!(node());
    let spec = json!({"shareProcessNamespace": true, "containers": [
        marked("a", "true"),
        shell("b", "sleep 0.2; echo init $(awk '/^Uid/ {print $2}' /proc/1/status); kill -0 1 && echo reached; sleep 1000"),
    ]});
    let mut run = node.run(isolated("shared", spec));
    run.wait_for("up");
    run.wait_for("reached");
    let (first, _) = range(process(&node, "a"));
    let init =
        inspect::processes(&node).into_iter().find(|pid| inspect::command_line(*pid).starts_with("coracle-init"));
    let uid = inspect::status(init.expect("the pod has an init"), "Uid").expect("it runs");
    assert_eq!(uid.split_whitespace().next(), Some(first.to_string().as_str()));
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(finished.value("shared/b", "init"), "0", "{finished}");
}

#[test]
fn a_user_that_is_not_mapped_is_refused() {
    let node = need!(node());
    let container = with(shell("c", "true"), json!({"securityContext": {"runAsUser": 70_000}}));
    let mut run = node.run(isolated("beyond", json!({"containers": [container]})));
    run.wait_for("the user 70000 is not mapped in the pod's user namespace");
    stop(run);
}

#[test]
fn the_hosts_namespaces_are_refused_beside_it() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        let spec = json!({field: true, "containers": [shell("c", "true")]});
        let finished = node.run_to_end(isolated("mixed", spec));
        finished.exits(2).says(&format!("`{field}` cannot be combined with a user namespace"));
    }
}

#[test]
fn what_procfs_hides_is_shown_to_root_of_its_own_namespace_alone() {
    let node = need!(node());
    let script = "echo interrupts $(wc -c < /proc/interrupts); grep -c ' /proc/' /proc/mounts | sed 's/^/covers /'";
    let container = |kind: &str| with(shell("c", script), json!({"securityContext": {"procMount": kind}}));
    let hidden = node.run_to_end(isolated("proc", json!({"containers": [container("Default")]})));
    assert_eq!(hidden.value("proc/c", "interrupts"), "0", "{hidden}");
    assert_ne!(hidden.value("proc/c", "covers"), "0", "{hidden}");
    let shown = node.run_to_end(isolated("proc", json!({"containers": [container("Unmasked")]})));
    assert_eq!(shown.value("proc/c", "covers"), "0", "{shown}");
    assert_ne!(shown.value("proc/c", "interrupts"), "0", "{shown}");
    node.run_to_end(pod("proc", json!({"containers": [container("Unmasked")]})))
        .exits(2)
        .says("`Unmasked` needs a user namespace of the pod's own")
        .never_says("interrupts");
}
