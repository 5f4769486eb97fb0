//! The flat network: pods have addresses, know them, reach each other and the world, and keep them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::manifest::{pod, script_with, several};
use e2e::netns::{HOST, OUTSIDE};
use e2e::pods::{Pod, capable, end, has_v6, ips, keeper, stop};
use e2e::traffic::{Answer, Answerer, PROTOCOLS, ask, ask_within, get};
use e2e::{Node, deadline, debian, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const PORT: u16 = 7000;
const PUBLISHED: u16 = 8080;

/// Whether this machine has IPv6.
/// [`PORT`] published by both protocols.
fn published() -> Value {
    json!({"ports": PROTOCOLS.map(|it| json!({"containerPort": PORT, "hostPort": PUBLISHED, "protocol": it.name()}))})
}

#[test]
fn a_pod_has_addresses_and_knows_them() {
    let node = need!(Node::with_busybox());
    node.outside();
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let env = json!([
        field("POD_IP", "status.podIP"),
        field("POD_IPS", "status.podIPs"),
        field("HOST_IP", "status.hostIP"),
        field("HOST_IPS", "status.hostIPs"),
    ]);
    let ask = "echo pod-ip $POD_IP; echo pod-ips $POD_IPS; echo host-ip $HOST_IP; echo host-ips $HOST_IPS; cat /etc/hosts; \
               ip -o addr show dev eth0 | sed 's/ *scope.*//'; echo done; exec sleep 1000";
    let mut manifest = script_with(ask, json!({"env": env}));
    manifest["spec"]["subdomain"] = json!("sub");
    manifest["spec"]["hostAliases"] = json!([{"ip": "198.51.100.9", "hostnames": ["nine"]}]);
    let mut run = node.run(manifest);
    run.wait_for("test/c | done");
    let status = node.wait_for_phase("test", "Running");
    let ips = ips(&status);
    let families: Vec<bool> = ips.iter().map(IpAddr::is_ipv4).collect();
    assert_eq!(families, if has_v6() { vec![true, false] } else { vec![true] });
    let host: Vec<String> = HOST.iter().take(ips.len()).map(IpAddr::to_string).collect();
    assert_eq!(status["status"]["hostIP"], host[0]);
    let wide = node.coracle(["get", "pods", "-o", "wide"]).exits(0).stdout();
    let row = wide.lines().find(|line| line.starts_with("test ")).unwrap_or_default().to_owned();
    assert!(row.contains(&format!(" {} ", ips[0])), "{wide}");

    run.signal(Signal::TERM);
    let finished = run.wait();
    let all: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    assert_eq!(finished.value("test/c", "pod-ip"), all[0]);
    assert_eq!(finished.value("test/c", "pod-ips"), all.join(","));
    assert_eq!(finished.value("test/c", "host-ip"), host[0]);
    assert_eq!(finished.value("test/c", "host-ips"), host.join(","));
    let printed = finished.of("test/c");
    for (at, ip) in all.iter().enumerate() {
        let entry = format!("{ip}\ttest.sub.default.svc.cluster.local\ttest");
        assert!(printed.contains(&entry), "no {entry:?} in {printed:#?}");
        let length = if ips[at].is_ipv4() { 32 } else { 128 };
        assert!(printed.iter().any(|line| line.contains(&format!("{ip}/{length}"))), "no {ip} on eth0: {printed:#?}");
    }
    assert!(printed.contains(&"198.51.100.9\tnine".to_owned()), "{printed:#?}");
    node.assert_nothing_left();
}

#[test]
fn the_host_and_pods_reach_each_other_with_their_own_addresses() {
    let node = need!(Node::with_busybox());
    node.outside();
    let run = node.run(several(&[keeper("one", json!({})), keeper("two", json!({}))]));
    let (one, two) = (Pod::find(&node, "one"), Pod::find(&node, "two"));
    let answerers = [Answerer::both(&one.network, PORT, "one"), Answerer::both(&two.network, PORT, "two")];
    for protocol in PROTOCOLS {
        for (from, to) in [(&one, &two), (&two, &one), (&one, &one)] {
            for at in to.at(PORT) {
                let answer = ask(&from.network, protocol, at);
                let expected = Answer { name: to.name.clone(), from: from.ip_like(at.ip()) };
                assert_eq!(answer.ok(), Some(expected), "{} to {at} by {protocol:?}", from.name);
            }
        }
        for at in one.at(PORT) {
            let answer = ask(node.host(), protocol, at);
            assert_eq!(
                answer.map(|answer| answer.name).ok().as_deref(),
                Some("one"),
                "the host to {at} by {protocol:?}"
            );
        }
    }
    end(&node, run, (one, two, answerers));
}

#[test]
fn a_server_and_a_client_of_the_built_in_image_meet() {
    need!(e2e::skip::root());
    let node = Node::new();
    let serve = json!({"name": "c", "image": "coracle.local/tools", "args": ["serve", "--port", "8080"],
        "ports": [{"containerPort": 8080}]});
    let mut run = node.run(pod("server", json!({"containers": [serve]})));
    let ips = ips(&node.wait_for_phase("server", "Running"));
    let shown = ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    run.wait_for(&format!("server: at {shown}"));
    run.wait_for("serving on");
    for ip in ips {
        let at = SocketAddr::new(ip, 8080);
        assert_eq!(get(node.host(), at).ok().as_deref(), Some("hello from server\n"), "{at}");
        let fetch = json!({"name": "c", "image": "coracle.local/tools", "args": ["fetch", format!("http://{at}/")]});
        // A second run, another process: the network is the state directory's, not the run's.
        node.run_to_end(pod("client", json!({"containers": [fetch]}))).exits(0).says("client/c | hello from server");
    }
    end(&node, run, ());
}

#[test]
fn what_goes_to_the_world_has_the_hosts_address_but_where_told_otherwise() {
    let node = need!(Node::with_busybox());
    let ip = need!(debian::program("ip", "iproute2"));
    let outside = node.outside();
    let world = Answerer::both(outside, PORT, "world");
    let flags = ["--pod-cidr", "10.77.0.0/24", "--pod-cidr", "fd77::/64"];
    let run = node.run_with(keeper("plain", json!({})), &flags);
    let plain = Pod::find(&node, "plain");
    let (v4, v6): (IpAddr, IpAddr) = (plain.v4(), plain.ips[plain.ips.len() - 1]);
    assert!(v4.to_string().starts_with("10.77.0."), "{v4}");
    assert!(!v6.is_ipv6() || v6.to_string().starts_with("fd77::"), "{v6}");
    for protocol in PROTOCOLS {
        for (to, host) in OUTSIDE.iter().zip(HOST).take(plain.ips.len()) {
            let answer = ask(&plain.network, protocol, SocketAddr::new(*to, PORT));
            assert_eq!(answer.ok(), Some(Answer { name: "world".into(), from: host }), "to {to} by {protocol:?}");
        }
    }
    stop(run);

    // The world has to know the way back to addresses that nobody rewrites.
    for (range, via) in [("10.77.0.0/24", HOST[0]), ("fd77::/64", HOST[1])].iter().take(plain.ips.len()) {
        let mut route = Command::new(&ip);
        route.args(["route", "add", range, "via", &via.to_string()]);
        outside.run(route).exits(0);
    }
    let flags = [&flags[..], &["--non-masquerade-cidr", "192.0.2.0/24,2001:db8::/64"]].concat();
    let run = node.run_with(keeper("open", json!({})), &flags);
    let open = Pod::find(&node, "open");
    for protocol in PROTOCOLS {
        for (to, own) in OUTSIDE.iter().zip(&open.ips) {
            let answer = ask(&open.network, protocol, SocketAddr::new(*to, PORT));
            assert_eq!(answer.ok(), Some(Answer { name: "world".into(), from: *own }), "to {to} by {protocol:?}");
        }
    }
    // It holds for the network, not for the process that brought it up.
    node.coracle(["gc"]).exits(0);
    let answer = ask(&open.network, PROTOCOLS[0], SocketAddr::new(OUTSIDE[0], PORT));
    assert_eq!(answer.ok(), Some(Answer { name: "world".into(), from: open.v4() }), "after gc");
    let other = node.run_with(keeper("other", json!({})), &["--non-masquerade-cidr", "198.51.100.0/24"]).wait();
    other.exits(125).says("not masqueraded to 192.0.2.0/24, 2001:db8::/64").says("198.51.100.0/24");
    end(&node, run, (world, plain, open));
}

#[test]
fn a_range_that_is_in_use_is_an_error_that_names_what_uses_it() {
    need!(e2e::skip::root());
    let node = Node::new();
    node.outside();
    let manifest =
        pod("p", json!({"containers": [{"name": "c", "image": "coracle.local/tools", "args": ["echo", "x"]}]}));
    node.run_with(&manifest, &["--pod-cidr", "192.0.0.0/16"]).wait().exits(125).says("192.0.0.0/16").says("eth0");
    node.run_with(&manifest, &["--pod-cidr", "10.0.0.1"]).wait().exits(2).says("--pod-cidr");
    node.assert_nothing_left();
}

#[test]
fn a_pod_keeps_its_address_when_its_container_restarts_and_when_it_is_made_again() {
    let node = need!(Node::with_busybox());
    let again = || {
        let mut manifest = keeper("keeps", json!({}));
        manifest["spec"]["restartPolicy"] = json!("Always");
        manifest
    };
    let run = node.run_with(again(), &["--restart-backoff", "initial=10ms,max=10ms,reset=1s"]);
    let before = Pod::find(&node, "keeps");
    let process = inspect::process_with_environment(&node, "E2E_POD=keeps").expect("it runs");
    inspect::kill(process);
    let restarted = |pod: &serde_json::Value| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["state"].get("running").is_some()
    };
    let after = ips(&node.wait_for_pod("keeps", "restarted", restarted));
    assert_eq!(after, before.ips);
    // Another pod, in between, does not get it.
    let other = node.run(keeper("other", json!({})));
    assert!(Pod::find(&node, "other").ips.iter().all(|ip| !before.ips.contains(ip)));
    stop(run);
    let third = node.run(keeper("third", json!({})));
    assert!(Pod::find(&node, "third").ips.iter().all(|ip| !before.ips.contains(ip)));
    let run = node.run(again());
    assert_eq!(Pod::find(&node, "keeps").ips, before.ips);
    drop(before);
    for run in [run, other, third] {
        stop(run);
    }
    node.assert_nothing_left();
}

#[test]
fn fifty_pods_at_once_have_addresses_of_their_own_and_answer() {
    need!(e2e::skip::root());
    let node = Node::new();
    let names: Vec<String> = (0..50).map(|number| format!("pod-{number}")).collect();
    let serve = |name: &String| {
        let container = json!({"name": "c", "image": "coracle.local/tools", "args": ["serve", "--port", "8080"]});
        pod(name, json!({"containers": [container]}))
    };
    let mut run = node.run(several(&names.iter().map(serve).collect::<Vec<_>>()));
    for name in &names {
        run.wait_for(&format!("{name}/c | serving on"));
    }
    let pods = node.pods();
    let mut seen = BTreeSet::new();
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for ip in ips(pod) {
            assert!(seen.insert(ip), "{ip} twice");
            let answer = get(node.host(), SocketAddr::new(ip, 8080));
            assert_eq!(answer.ok(), Some(format!("hello from {name}\n")), "{ip}");
        }
    }
    assert_eq!((pods.len(), seen.len()), (50, if has_v6() { 100 } else { 50 }));
    end(&node, run, ());
}

#[test]
fn a_host_without_ipv6_has_pods_without_it() {
    let mut node = need!(Node::with_busybox());
    let host = node.host().clone();
    let switch = move |off: &str| {
        host.within(|| {
            for interface in ["all", "default", "lo"] {
                let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
                // A kernel without IPv6 has none of this.
                if Path::new(&path).exists() {
                    std::fs::write(&path, off).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
                }
            }
        });
    };
    switch("1");
    node.on_drop(move || switch("0"));
    let run = node.run(several(&[keeper("server", published()), keeper("client", json!({}))]));
    let (server, client) = (Pod::find(&node, "server"), Pod::find(&node, "client"));
    assert_eq!((server.ips.len(), server.ips[0].is_ipv4()), (1, true));
    let answerers = Answerer::both(&server.network, PORT, "server");
    for (from, at) in [
        (&client.network, SocketAddr::new(server.v4(), PORT)),
        (node.host(), SocketAddr::new(server.v4(), PORT)),
        (node.host(), ([127, 0, 0, 1], 8080).into()),
    ] {
        for protocol in PROTOCOLS {
            assert_eq!(
                ask(from, protocol, at).map(|answer| answer.name).ok().as_deref(),
                Some("server"),
                "{at} {protocol:?}"
            );
        }
    }
    end(&node, run, (server, client, answerers));
}

#[test]
fn flushed_rules_come_back_while_traffic_goes_on() {
    let node = need!(Node::with_busybox());
    let nft = need!(debian::program("nft", "nftables"));
    let outside = node.outside();
    let world = Answerer::both(outside, PORT, "world");
    let run = node.run(keeper("server", published()));
    let server = Pod::find(&node, "server");
    let answerers = Answerer::both(&server.network, PORT, "server");
    let ways: Vec<_> = HOST.iter().take(server.ips.len()).map(|host| SocketAddr::new(*host, 8080)).collect();
    for flush in [&["flush", "ruleset"][..], &["delete", "table", "inet", "THE-TABLE"]] {
        let mut list = Command::new(&nft);
        list.args(["list", "tables"]);
        let tables = node.host().run(list).exits(0).stdout();
        let mut lines = tables.lines().filter(|line| !line.ends_with("-guard"));
        let table = lines.find_map(|line| line.strip_prefix("table inet coracle-"));
        let table = format!("coracle-{}", table.unwrap_or_else(|| panic!("no table of ours: {tables}")));
        let mut change = Command::new(&nft);
        change.args(flush.iter().map(|word| if *word == "THE-TABLE" { table.as_str() } else { word }));
        node.host().run(change).exits(0);
        for at in &ways {
            for protocol in PROTOCOLS {
                let deadline = Instant::now() + deadline();
                while ask_within(outside, protocol, *at, Duration::from_millis(500)).is_err() {
                    assert!(Instant::now() < deadline, "{at} is never reached again by {protocol:?} after {flush:?}");
                }
            }
        }
        let answer = ask(&server.network, PROTOCOLS[0], SocketAddr::new(OUTSIDE[0], PORT)).map(|answer| answer.from);
        assert_eq!(answer.ok(), Some(HOST[0]), "masqueraded after {flush:?}");
    }
    end(&node, run, (world, server, answerers));
}

#[test]
fn a_connection_outlives_a_flush() {
    let node = need!(Node::with_busybox());
    let nft = need!(debian::program("nft", "nftables"));
    let outside = node.outside();
    let run = node.run(keeper("server", published()));
    let server = Pod::find(&node, "server");
    let listener = server.network.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))).expect("a listener");
    let connect = || outside.within(|| TcpStream::connect((HOST[0], PUBLISHED))).expect("a connection");
    let (near, (far, _)) = (connect(), listener.accept().expect("a connection"));
    drop(listener);
    let exchange = |when: &str| {
        let mut heard = [0; 4];
        for (mut from, mut to) in [(&near, &far), (&far, &near)] {
            to.set_read_timeout(Some(deadline())).expect("a socket option");
            from.write_all(b"word")
                .and_then(|()| to.read_exact(&mut heard))
                .unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_eq!(&heard, b"word");
        }
    };
    exchange("before");
    let answerers = Answerer::both(&server.network, PORT, "server");
    let mut flush = Command::new(nft);
    flush.args(["flush", "ruleset"]);
    node.host().run(flush).exits(0);
    // What is sent before the rules are back is no pod's: that would end the connection.
    let deadline = Instant::now() + deadline();
    let at = SocketAddr::new(HOST[0], PUBLISHED);
    while ask_within(outside, PROTOCOLS[0], at, Duration::from_millis(500)).is_err() {
        assert!(Instant::now() < deadline, "the rules never come back");
    }
    exchange("after");
    end(&node, run, (server, answerers, near, far));
}

#[test]
fn a_pod_that_changes_its_own_addresses_harms_itself_alone() {
    let node = need!(Node::with_busybox());
    let run = node.run(several(&[capable("thief", &["NET_ADMIN"]), keeper("victim", json!({}))]));
    let (thief, victim) = (Pod::find(&node, "thief"), Pod::find(&node, "victim"));
    for ip in &victim.ips {
        let length = if ip.is_ipv4() { 32 } else { 128 };
        node.exec("thief", "c", &["ip", "addr", "add", &format!("{ip}/{length}"), "dev", "eth0"]).exits(0);
    }
    let answerers = [Answerer::both(&thief.network, PORT, "thief"), Answerer::both(&victim.network, PORT, "victim")];
    for protocol in PROTOCOLS {
        for at in victim.at(PORT) {
            let answer = ask(node.host(), protocol, at).map(|answer| answer.name);
            assert_eq!(answer.ok().as_deref(), Some("victim"), "{at} by {protocol:?}");
        }
    }
    end(&node, run, (thief, victim, answerers));
}

#[test]
fn a_range_of_one_family_is_a_network_of_that_family() {
    let node = need!(Node::with_busybox());
    if !has_v6() {
        e2e::skip!("no IPv6");
    }
    for (range, v4) in [("fd77::/64", false), ("10.77.0.0/24", true)] {
        let run = node.run_with(several(&[keeper("one", json!({})), keeper("two", json!({}))]), &["--pod-cidr", range]);
        let (one, two) = (Pod::find(&node, "one"), Pod::find(&node, "two"));
        assert_eq!((one.ips.len(), one.ips[0].is_ipv4()), (1, v4), "{range}");
        let _answerers = Answerer::both(&two.network, PORT, "two");
        for protocol in PROTOCOLS {
            let answer = ask(&one.network, protocol, SocketAddr::new(two.ips[0], PORT));
            assert_eq!(answer.ok(), Some(Answer { name: "two".into(), from: one.ips[0] }), "{range} by {protocol:?}");
        }
        stop(run);
        // The ranges are the state directory's until everything is gone.
        node.coracle(["gc", "--all"]).exits(0);
    }
}
