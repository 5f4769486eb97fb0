//! Names, addresses and the files that carry them.

use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::json;

#[test]
fn the_hostname_is_the_pods_name_or_what_the_manifest_says() {
    let node = need!(Node::with_busybox());
    let ask = || json!([shell("c", "echo name $(hostname); echo file $(cat /etc/hostname)")]);
    for (more, expected) in [(json!({}), "named"), (json!({"hostname": "other"}), "other")] {
        let finished = node.run_to_end(pod("named", with(more, json!({"containers": ask()})))).exits(0);
        assert_eq!(finished.value("named/c", "name"), expected, "{finished}");
        assert_eq!(finished.value("named/c", "file"), expected, "{finished}");
    }
}

#[test]
fn containers_of_a_pod_share_its_names_and_its_network() {
    let node = need!(Node::with_busybox());
    let ask = "for n in uts net ipc; do echo $n $(readlink /proc/self/ns/$n); done; echo mnt $(readlink /proc/self/ns/mnt); \
         : > /dev/shm/NAME; until [ $(ls /dev/shm | wc -l) = 2 ]; do sleep 0.05; done";
    // They run at the same time: the number of a namespace that is gone is given out again.
    let asking = |name: &str| shell(name, &ask.replace("NAME", name));
    let finished = node.run_to_end(pod("shared", json!({"containers": [asking("a"), asking("b")]}))).exits(0);
    for kind in ["uts", "net", "ipc", "mnt"] {
        let (a, b) = (finished.value("shared/a", kind), finished.value("shared/b", kind));
        assert_eq!(a == b, kind != "mnt", "{kind}: {a} and {b}");
        let host = node.host().within(|| std::fs::read_link(format!("/proc/thread-self/ns/{kind}"))).expect("procfs");
        assert_ne!(host.to_string_lossy(), a, "{kind} is the host's");
    }
}

#[test]
fn the_hosts_namespaces_are_shared_when_asked_for() {
    let node = need!(Node::with_busybox());
    let ask = "for n in uts net ipc pid; do echo $n $(readlink /proc/self/ns/$n); done";
    let spec = json!({"hostNetwork": true, "hostIPC": true, "hostPID": true, "containers": [shell("c", ask)]});
    let finished = node.run_to_end(pod("host", spec)).exits(0);
    for kind in ["net", "ipc", "pid", "uts"] {
        let host = node.host().within(|| std::fs::read_link(format!("/proc/thread-self/ns/{kind}"))).expect("procfs");
        assert_eq!(finished.value("host/c", kind), host.to_string_lossy(), "{kind}\n{finished}");
    }
}

#[test]
fn an_isolated_pod_has_a_loopback_that_is_up() {
    let node = need!(Node::with_busybox());
    // A server whose client has nothing to say may end before it has said anything itself.
    let ask = "echo lo $(cat /sys/class/net/lo/flags); (while :; do echo pong | nc -l -p 7777; done &) ; \
        until got=$(nc -w 60 127.0.0.1 7777 </dev/null) && [ -n \"$got\" ]; do sleep 0.1; done; echo got $got";
    let finished = node.run_to_end(pod("lo", json!({"containers": [shell("c", ask)]}))).exits(0);
    assert_eq!(finished.value("lo/c", "lo"), "0x9", "{finished}");
    assert_eq!(finished.value("lo/c", "got"), "pong", "{finished}");
}

#[test]
fn hosts_has_localhost_the_pod_and_its_aliases() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["alias.example", "alias"]}],
        "containers": [shell("c", "cat /etc/hosts; echo '127.0.0.9 mine' >> /etc/hosts && echo appended")],
    });
    let finished = node.run_to_end(pod("hosts", spec)).exits(0).says("appended");
    let lines: Vec<Vec<String>> =
        finished.of("hosts/c").iter().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    let maps = |ip: &str, name: &str| {
        lines
            .iter()
            .any(|line| line.first().is_some_and(|have| have == ip) && line[1..].iter().any(|have| have == name))
    };
    assert!(maps("127.0.0.1", "localhost"), "{finished}");
    assert!(maps("::1", "localhost"), "{finished}");
    assert!(maps("192.0.2.7", "alias.example") && maps("192.0.2.7", "alias"), "{finished}");
}

#[test]
fn hosts_is_the_hosts_own_with_aliases_on_its_network_and_a_containers_own_mount_is_left_alone() {
    let node = need!(Node::with_busybox());
    let own = node.make_dir("own").join("hosts");
    std::fs::write(&own, "192.0.2.1 mine\n").expect("the directory is writable");
    let mounting = with(
        shell("mounting", "cat /etc/hosts"),
        json!({"volumeMounts": [{"name": "own", "mountPath": "/etc/hosts"}]}),
    );
    let spec = json!({
        "hostNetwork": true, "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["alias"]}],
        "volumes": [{"name": "own", "hostPath": {"path": own, "type": "File"}}],
        "containers": [shell("c", "cat /etc/hosts"), mounting],
    });
    let finished = node.run_to_end(pod("hosts", spec)).exits(0);
    assert_eq!(finished.of("hosts/mounting"), ["192.0.2.1 mine"], "{finished}");
    let lines = finished.of("hosts/c");
    assert_eq!(
        lines.first().map(String::as_str),
        Some("# Kubernetes-managed hosts file (host network)."),
        "{finished}"
    );
    assert!(lines.iter().any(|line| line == "192.0.2.7\talias"), "{finished}");
    let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    for line in host.lines().filter(|line| !line.is_empty()) {
        assert!(lines.iter().any(|it| it == line), "the host's {line:?} is missing\n{finished}");
    }
}

#[test]
fn resolv_conf_follows_the_pods_policy_and_configuration() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["shop.example"], "options": [{"name": "ndots", "value": "3"}]},
        "containers": [shell("c", "cat /etc/resolv.conf")],
    });
    let finished = node.run_to_end(pod("dns", spec)).exits(0);
    let mut lines = finished.of("dns/c");
    lines.sort();
    assert_eq!(lines, ["nameserver 192.0.2.53", "options ndots:3", "search shop.example"], "{finished}");
    let default = json!({"dnsPolicy": "Default", "containers": [shell("c", "cat /etc/resolv.conf")]});
    let finished = node.run_to_end(pod("dns", default)).exits(0);
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let real = |line: &&str| line.starts_with("nameserver ") && !line.contains(" 127.") && !line.ends_with(" ::1");
    for server in host.lines().filter(real) {
        assert!(finished.of("dns/c").iter().any(|line| line == server.trim()), "no {server}\n{finished}");
    }
    assert!(
        !finished.text().contains("nameserver 127."),
        "a loopback resolver cannot be reached from a pod\n{finished}"
    );
}

#[test]
fn the_pods_ipc_namespace_and_shared_memory_are_its_own_and_shared_within() {
    let node = need!(Node::with_busybox());
    let spec = json!({"containers": [
        shell("a", "echo here > /dev/shm/mark; until [ -e /dev/shm/read ]; do sleep 0.05; done"),
        shell("b", "until [ -e /dev/shm/mark ]; do sleep 0.05; done; echo seen $(cat /dev/shm/mark); : > /dev/shm/read"),
    ]});
    let finished = node.run_to_end(pod("ipc", spec)).exits(0);
    assert_eq!(finished.value("ipc/b", "seen"), "here");
}

#[test]
fn a_hosts_file_is_the_agents_unless_the_container_brings_its_own() {
    let node = need!(Node::with_busybox());
    let own = node.dir().join("hosts");
    std::fs::write(&own, "192.0.2.9 mine\n").expect("the node's directory is ours");
    let mine =
        with(shell("mine", "cat /etc/hosts"), json!({"volumeMounts": [{"name": "own", "mountPath": "/etc/hosts"}]}));
    let spec = |host: bool| {
        let volumes = json!([{"name": "own", "hostPath": {"path": own, "type": "File"}}]);
        json!({"hostNetwork": host, "containers": [shell("ours", "cat /etc/hosts"), mine], "volumes": volumes})
    };
    for host in [false, true] {
        let finished = node.run_to_end(pod("hosts", spec(host))).exits(0);
        assert_eq!(finished.of("hosts/mine"), ["192.0.2.9 mine"], "{finished}");
        let ours = finished.of("hosts/ours");
        assert!(ours[0].starts_with("# Kubernetes-managed hosts file"), "{finished}");
        if host {
            let text = std::fs::read_to_string("/etc/hosts").expect("the host has one");
            assert_eq!(ours[1..], text.lines().collect::<Vec<_>>()[..], "on the host's network it is the host's");
        }
    }
}

#[test]
fn a_long_search_list_is_written_as_it_is() {
    let node = need!(Node::with_busybox());
    let mut searches: Vec<String> = (0..29).map(|at| format!("{}.{at}.example.com", "x".repeat(40))).collect();
    searches.extend([".".to_owned(), "with_underscore.example.com".to_owned()]);
    let spec = json!({
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": searches},
        "containers": [shell("c", "cat /etc/resolv.conf")],
    });
    let finished = node.run_to_end(pod("dns", spec)).exits(0);
    let expected = format!("search {}", searches.join(" "));
    assert!(finished.of("dns/c").contains(&expected), "{expected}\n{finished}");
}
