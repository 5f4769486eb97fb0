//! What a pod must not do with its network, and what a neighbour must not do with the host's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::manifest::several;
use e2e::netns::{HOST, Host, LINK, OUTSIDE};
use e2e::pods::{Pod, capable, end, has_v6, keeper, stop};
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, SILENCE, ask, ask_within};
use e2e::{Node, debian, inspect, need};
use serde_json::json;

const PORT: u16 = 7000;

/// Runs `ip` with these words in a namespace.
#[track_caller]
fn ip(program: &Path, host: &Host, words: &str) {
    let mut command = Command::new(program);
    command.args(words.split_whitespace());
    host.run(command).exits(0);
}

fn ip_program() -> Result<PathBuf, String> {
    debian::program("ip", "iproute2")
}

/// Sends one datagram from `from`, an address of `host`, to a port.
fn send(host: &Host, from: IpAddr, to: SocketAddr) -> io::Result<usize> {
    host.within(|| UdpSocket::bind((from, 0))?.send_to(b"spoofed", to))
}

/// Gives the pod addresses that are not its own, as root in it with NET_ADMIN may.
fn disguise(program: &Path, pod: &Pod, addresses: &[IpAddr]) {
    for address in addresses {
        let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
        ip(program, &pod.network, &format!("addr add {address}/{length} dev eth0 {nodad}"));
    }
}

#[test]
fn a_foreign_source_address_does_not_leave_the_pod() {
    let node = need!(Node::with_busybox());
    let program = need!(ip_program());
    let outside = node.outside();
    let run = node.run(several(&[
        capable("spoofer", &["NET_ADMIN", "NET_RAW"]),
        keeper("other", json!({})),
        keeper("target", json!({})),
    ]));
    let [spoofer, other, target] = ["spoofer", "other", "target"].map(|name| Pod::find(&node, name));
    let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, PORT).into();
    let listen = |host: &Host, name: &str| Answerer::start(host, Protocol::Udp, any, name).expect("a listener");
    let places = [
        ("outside", listen(outside, "outside")),
        ("target", listen(&target.network, "target")),
        ("the host", listen(node.host(), "host")),
    ];
    let world: [IpAddr; 2] = [Ipv4Addr::new(198, 51, 100, 7).into(), "2001:db8:7::7".parse().expect("an address")];
    let families = spoofer.ips.len();
    for family in 0..families {
        let own = spoofer.ips[family];
        let sources = [world[family], other.ips[family], HOST[family], OUTSIDE[family]];
        let targets = [OUTSIDE[family], target.ips[family], HOST[family]];
        // What is allowed arrives: the tools of this test work.
        for to in &targets[..2] {
            send(&spoofer.network, own, (*to, PORT).into()).expect("it is sent");
        }
        assert_eq!(places[0].1.heard(SILENCE), [HOST[family]], "masqueraded");
        assert_eq!(places[1].1.heard(SILENCE), [own]);
        for source in sources {
            disguise(&program, &spoofer, &[source]);
            for to in targets.into_iter().filter(|to| *to != source) {
                // The kernel may refuse to send it at all, which is as good.
                let _ = send(&spoofer.network, source, (to, PORT).into());
            }
            for (name, place) in &places {
                assert_eq!(place.heard(SILENCE), Vec::<IpAddr>::new(), "from {source} at {name}");
            }
            ip(
                &program,
                &spoofer.network,
                &format!("addr del {source}/{} dev eth0", if source.is_ipv4() { 32 } else { 128 }),
            );
        }
        send(&spoofer.network, own, (OUTSIDE[family], PORT).into()).expect("it is sent");
        assert_eq!(places[0].1.heard(SILENCE), [HOST[family]], "after all that");
    }
    end(&node, run, (spoofer, other, target, places));
}

#[test]
fn a_pod_reaches_nothing_of_the_host_but_published_ports() {
    let node = need!(Node::with_busybox());
    let program = need!(ip_program());
    node.outside();
    let ports = json!({"ports": [{"containerPort": PORT, "hostPort": 8080}]});
    let run = node.run(several(&[capable("server", &["NET_RAW"]), keeper("published", ports)]));
    let (pod, published) = (Pod::find(&node, "server"), Pod::find(&node, "published"));
    let host = Answerer::both(node.host(), PORT, "host");
    let answerers = Answerer::both(&published.network, PORT, "published");

    let mut addresses: Vec<SocketAddr> = HOST.iter().take(pod.ips.len()).map(|ip| (*ip, PORT).into()).collect();
    let mut gateways = Vec::new();
    for family in if has_v6() { &["-4", "-6"][..] } else { &["-4"] } {
        let mut command = Command::new(&program);
        command.args([family, "route", "show", "default"]);
        let route = pod.network.run(command).exits(0).stdout();
        let words: Vec<&str> = route.split_whitespace().collect();
        let gateway = words.iter().position(|word| *word == "via").and_then(|at| words.get(at + 1)?.parse().ok());
        let gateway: IpAddr = gateway.unwrap_or_else(|| panic!("no gateway in {route:?}"));
        gateways.push(gateway);
    }
    addresses.extend(gateways.iter().filter(|ip| !is_link_local(**ip)).map(|ip| SocketAddr::new(*ip, PORT)));
    addresses.extend(link_local_of_the_hosts_end(&program, &node, &pod));
    addresses.push((Ipv4Addr::BROADCAST, PORT).into());
    assert!(addresses.len() >= 3, "{addresses:?}");
    for at in addresses {
        for protocol in PROTOCOLS {
            let answer = ask_within(&pod.network, protocol, at, SILENCE);
            assert!(answer.is_err(), "{at} by {protocol:?}: {answer:?}");
        }
    }
    for address in HOST.iter().take(pod.ips.len()) {
        let own = ask(node.host(), Protocol::Tcp, (*address, PORT).into()).map(|answer| answer.name);
        assert_eq!(own.ok().as_deref(), Some("host"), "the listener is there");
        let answer = ask(&pod.network, Protocol::Tcp, (*address, 8080).into()).map(|answer| answer.name);
        assert_eq!(answer.ok().as_deref(), Some("published"), "{address}");
    }
    for gateway in gateways.iter().filter(|ip| !is_link_local(**ip)) {
        node.exec("server", "c", &["ping", "-c", "1", "-W", "5", &gateway.to_string()]).exits(0);
    }
    end(&node, run, (pod, published, host, answerers));
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The port at the link-local address of the host's end of the pod's link, as the pod would write it.
fn link_local_of_the_hosts_end(program: &Path, node: &Node, pod: &Pod) -> Vec<SocketAddr> {
    let mut command = Command::new(program);
    command.args(["-o", "-6", "addr", "show", "scope", "link"]);
    let text = node.host().run(command).exits(0).stdout();
    let ours = text.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|name| name.starts_with("cor")));
    let index = pod.network.within(|| {
        let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
        socket.and_then(|socket| rustix::net::netdevice::name_to_index(socket, "eth0")).expect("pods have an eth0")
    });
    let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse::<Ipv6Addr>().ok();
    ours.filter_map(address).map(|ip| SocketAddrV6::new(ip, PORT, 0, index).into()).collect()
}

#[test]
fn a_neighbour_reaches_pods_by_published_ports_alone() {
    let node = need!(Node::with_busybox());
    let program = need!(ip_program());
    let outside = node.outside();
    let ports = json!({"ports": [{"containerPort": PORT, "hostPort": 8080}]});
    let run = node.run(keeper("server", ports));
    let server = Pod::find(&node, "server");
    let answerers = Answerer::both(&server.network, PORT, "server");
    for (own, via) in server.ips.iter().zip(HOST) {
        // It knows the way, and even pretends to be a pod.
        let (length, nodad) = if own.is_ipv4() { (32, "") } else { (128, "nodad") };
        ip(&program, outside, &format!("route add {own}/{length} via {via}"));
        for protocol in PROTOCOLS {
            let answer = ask_within(outside, protocol, (*own, PORT).into(), SILENCE);
            assert!(answer.is_err(), "{own} by {protocol:?}: {answer:?}");
        }
        let published = ask(outside, Protocol::Tcp, (via, 8080).into()).map(|answer| answer.name);
        assert_eq!(published.ok().as_deref(), Some("server"), "{via}");
        let neighbour = neighbour_of(*own);
        ip(&program, outside, &format!("addr add {neighbour}/{length} dev lo {nodad}"));
        let place = Answerer::start(node.host(), Protocol::Udp, (via, PORT).into(), "host").expect("a listener");
        let _ = send(outside, neighbour, (via, PORT).into());
        assert_eq!(place.heard(SILENCE), Vec::<IpAddr>::new(), "from {neighbour}");
    }
    end(&node, run, (server, answerers));
}

/// An address of the same range that no pod has.
fn neighbour_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() + 5).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() + 5).into(),
    }
}

#[test]
fn a_neighbour_cannot_reach_127_0_0_1() {
    let mut node = need!(Node::with_busybox());
    let program = need!(ip_program());
    // An administrator, or another program, has opened the host to such packets: the guard is all that is left.
    let set = |host: &Host, route_localnet: &str| {
        host.within(|| {
            for interface in ["all", LINK] {
                for (file, value) in [("route_localnet", route_localnet), ("rp_filter", "0")] {
                    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{file}");
                    std::fs::write(&path, value).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
                }
            }
        });
    };
    let (host, outside) = (node.host().clone(), node.outside().clone());
    set(&host, "1");
    set(&outside, "1");
    node.on_drop(move || set(&host, "0"));
    ip(&program, &outside, "addr del 127.0.0.1/8 dev lo");
    ip(&program, &outside, &format!("route add 127.0.0.0/8 via {} dev {LINK} src {}", HOST[0], OUTSIDE[0]));
    let localhost: SocketAddr = (Ipv4Addr::LOCALHOST, PORT).into();
    let own = PROTOCOLS.map(|protocol| Answerer::start(node.host(), protocol, localhost, "own").expect("a listener"));
    for protocol in PROTOCOLS {
        let answer = ask(&outside, protocol, localhost).map(|answer| answer.name);
        assert_eq!(answer.ok().as_deref(), Some("own"), "the door is open without a pod: the test works");
    }
    let ports = PROTOCOLS.map(
        |protocol| json!({"containerPort": PORT, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": protocol.name()}),
    );
    let run = node.run(keeper("server", json!({"ports": ports})));
    let server = Pod::find(&node, "server");
    let answerers = Answerer::both(&server.network, PORT, "server");
    for protocol in PROTOCOLS {
        for port in [PORT, 8080] {
            let at = (Ipv4Addr::LOCALHOST, port).into();
            let answer = ask_within(&outside, protocol, at, SILENCE);
            assert!(answer.is_err(), "{at} by {protocol:?}: {answer:?}");
            assert!(ask(node.host(), protocol, at).is_ok(), "the host itself to {at} by {protocol:?}");
        }
    }
    // Nor does what a neighbour sends from there get in.
    ip(&program, &outside, &format!("addr add 127.0.0.9/32 dev {LINK}"));
    let place = Answerer::start(node.host(), Protocol::Udp, (HOST[0], PORT).into(), "host").expect("a listener");
    let _ = send(&outside, Ipv4Addr::new(127, 0, 0, 9).into(), (HOST[0], PORT).into());
    assert_eq!(place.heard(SILENCE), Vec::<IpAddr>::new());
    end(&node, run, (own, server, answerers, place));
}

#[test]
fn a_pod_cannot_reach_the_hosts_127_0_0_1() {
    let node = need!(Node::with_busybox());
    let program = need!(ip_program());
    let localhost: SocketAddr = (Ipv4Addr::LOCALHOST, PORT).into();
    let own = PROTOCOLS.map(|protocol| Answerer::start(node.host(), protocol, localhost, "own").expect("a listener"));
    let run = node.run(capable("pod", &["NET_ADMIN"]));
    let pod = Pod::find(&node, "pod");
    pod.network.within(|| {
        for interface in ["all", "eth0"] {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet");
            std::fs::write(&path, "1").unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
        }
    });
    ip(&program, &pod.network, "addr del 127.0.0.1/8 dev lo");
    let mut command = Command::new(&program);
    command.args(["-4", "route", "show", "default"]);
    let route = pod.network.run(command).exits(0).stdout();
    let via = route.trim().strip_prefix("default ").unwrap_or_else(|| panic!("no default route: {route:?}"));
    ip(&program, &pod.network, &format!("route add 127.0.0.0/8 {via} src {}", pod.v4()));
    for protocol in PROTOCOLS {
        let answer = ask_within(&pod.network, protocol, localhost, SILENCE);
        assert!(answer.is_err(), "by {protocol:?}: {answer:?}");
        assert!(ask(node.host(), protocol, localhost).is_ok(), "the host itself by {protocol:?}");
    }
    end(&node, run, (own, pod));
}

#[test]
fn what_the_host_was_told_of_its_network_is_back_after_gc_all() {
    let node = need!(Node::with_busybox());
    let nft = need!(debian::program("nft", "nftables"));
    let program = need!(ip_program());
    node.outside();
    let settings = || {
        node.host().within(|| {
            let files = [
                "ipv4/ip_forward",
                "ipv6/conf/all/forwarding",
                "ipv4/conf/all/route_localnet",
                "ipv6/conf/eth0/accept_ra",
            ];
            files.map(|file| (file, std::fs::read_to_string(format!("/proc/sys/net/{file}")).ok()))
        })
    };
    let show = |program: &Path, words: &str| {
        let mut command = Command::new(program);
        command.args(words.split_whitespace());
        node.host().run(command).exits(0).stdout()
    };
    let all = || {
        let routes = ["-4 route show table all", "-6 route show table all", "-o link show", "rule show"];
        (settings(), show(&nft, "list ruleset"), routes.map(|words| show(&program, words)))
    };
    // The kernel takes its time to give the link an address of its own.
    let addressed = || show(&program, "-6 route show table local").contains("local fe80::").then_some(());
    assert!(!has_v6() || inspect::wait_for(addressed).is_some(), "the link to the outside has no address");
    let before = all();
    let run = node.run(keeper("pod", json!({"ports": [{"containerPort": PORT, "hostPort": 8080}]})));
    Pod::find(&node, "pod");
    assert_ne!(all().0, before.0, "forwarding is on");
    stop(run);
    node.coracle(["gc", "--all"]).exits(0);
    assert_eq!(all(), before);
}
