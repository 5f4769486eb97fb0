//! The rules, by what gets through and what does not.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use runtime::network::nft::{Desired, Group, NetworkRules, PodRules, Table};
use runtime::network::ports::{PortMapping, Protocol};

use crate::Case;
use crate::lab::{
    GATEWAY4, GATEWAY6, HOST, HOST4, HOST6, LINKS, Lab, OUTSIDE, OUTSIDE4, OUTSIDE6, SILENCE, Server, ask, ask_in_vain,
    ask_udp, at, dropped, drops_more, index, interface, ip, link_local, mapping, mapping_at, ping, sh, v4, v6, within,
};

pub const ALL: &[Case] = &[
    ("pods_reach_each_other_by_their_own_addresses", pods_reach_each_other_by_their_own_addresses),
    ("the_host_reaches_its_pods", the_host_reaches_its_pods),
    ("strangers_do_not_reach_pods", strangers_do_not_reach_pods),
    ("a_forged_source_does_not_leave_a_pod", a_forged_source_does_not_leave_a_pod),
    ("loopback_addresses_come_in_by_no_wire", loopback_addresses_come_in_by_no_wire),
    ("pods_do_not_reach_the_node", pods_do_not_reach_the_node),
    ("a_connection_from_before_the_rules_ends", a_connection_from_before_the_rules_ends),
    ("a_pod_is_no_router", a_pod_is_no_router),
    ("two_tables_leave_each_other_alone", two_tables_leave_each_other_alone),
    ("a_published_port_answers_everyone", a_published_port_answers_everyone),
    ("a_port_of_one_address_answers_there_alone", a_port_of_one_address_answers_there_alone),
    (
        "others_do_not_open_at_their_addresses_what_is_published_at_one",
        others_do_not_open_at_their_addresses_what_is_published_at_one,
    ),
    (
        "an_answer_on_its_way_finds_back_when_its_port_is_published",
        an_answer_on_its_way_finds_back_when_its_port_is_published,
    ),
    ("pods_leave_by_the_nodes_address", pods_leave_by_the_nodes_address),
    ("udp_follows_a_port_to_its_pod", udp_follows_a_port_to_its_pod),
];

const LONG: Duration = Duration::from_secs(60);

fn both(pod: &str) -> [IpAddr; 2] {
    [v4(pod), v6(pod)]
}

fn pods_reach_each_other_by_their_own_addresses(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    for (to, from) in both("pod2").into_iter().zip(both("pod1")) {
        let _server = Server::start("pod2", at(to, 80));
        assert_eq!(ask("pod1", at(to, 80)).unwrap(), format!("pod2 {from}"));
        assert_eq!(ask_udp("pod1", None, at(to, 80), LONG).unwrap(), format!("pod2 {from}"));
    }
}

fn the_host_reaches_its_pods(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    for (to, gateway) in both("pod1").into_iter().zip([GATEWAY4, GATEWAY6]) {
        let _server = Server::start("pod1", at(to, 80));
        assert_eq!(ask(HOST, at(to, 80)).unwrap(), format!("pod1 {gateway}"));
        assert_eq!(ask_udp(HOST, None, at(to, 80), LONG).unwrap(), format!("pod1 {gateway}"));
    }
}

fn strangers_do_not_reach_pods(lab: &Lab) {
    let mut desired = lab.desired(&[("pod1", mapping(8080, 80))]);
    lab.table.replace(&desired).unwrap();
    let servers = both("pod1").map(|it| Server::start("pod1", at(it, 80)));
    for to in both("pod1") {
        ask_in_vain(OUTSIDE, at(to, 80));
    }
    // But where the pods' addresses are known and not hidden, they work in both directions.
    desired.non_masquerade = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()];
    lab.table.replace(&desired).unwrap();
    assert_eq!(ask(OUTSIDE, at(v4("pod1"), 80)).unwrap(), format!("pod1 {OUTSIDE4}"));
    assert_eq!(ask(OUTSIDE, at(v6("pod1"), 80)).unwrap(), format!("pod1 {OUTSIDE6}"));
    // The gateway is nobody's business but the pods'.
    let _host = Server::start(HOST, at(ip(GATEWAY4), 99));
    ask_in_vain(OUTSIDE, at(ip(GATEWAY4), 99));
    drop(servers);
}

fn a_forged_source_does_not_leave_a_pod(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    // Another pod's address, one of the range that nobody has, a stranger's, the node's own.
    let forged4 = ["10.77.0.3", "10.77.0.200", "198.51.100.7", GATEWAY4, HOST4];
    let forged6 = ["fd77::3", "fd77::200", "2001:db8:7::7", GATEWAY6, HOST6];
    for (forged, targets) in
        [(forged4, [v4("pod3"), ip(OUTSIDE4), ip(HOST4)]), (forged6, [v6("pod3"), ip(OUTSIDE6), ip(HOST6)])]
    {
        for source in forged {
            let length = if ip(source).is_ipv4() { 32 } else { 128 };
            let nodad = if ip(source).is_ipv4() { "" } else { "nodad" };
            sh(&format!("ip -n pod1 addr add {source}/{length} dev eth0 {nodad}"));
            for target in targets {
                let before = dropped(lab, "from_pods");
                let answer = ask_udp("pod1", Some(at(ip(source), 0)), at(target, 4000), Duration::from_millis(30));
                assert!(answer.is_err());
                if target.to_string() != source {
                    assert!(drops_more(lab, "from_pods", before), "{source} to {target} was not dropped");
                }
            }
            sh(&format!("ip -n pod1 addr del {source}/{length} dev eth0"));
        }
    }
    // A link-local address is for neighbour discovery alone.
    let scope = index("pod1");
    let (own, hosts) = (link_local("ip -n pod1", "eth0", 0, scope), link_local("ip", "corpod1", 4000, scope));
    let _host = Server::start(HOST, "[::]:4000".parse().unwrap());
    let before = dropped(lab, "neighbours");
    assert!(ask_udp("pod1", Some(own), hosts, SILENCE).is_err());
    assert!(drops_more(lab, "neighbours", before));
    // From outside nobody has a pod's address.
    let _pod = Server::start("pod1", at(v4("pod1"), 4000));
    sh("ip -n outside addr add 10.77.0.3/32 dev eth0");
    let before = dropped(lab, "guard");
    assert!(ask_udp(OUTSIDE, Some(at(v4("pod2"), 0)), at(v4("pod1"), 4000), SILENCE).is_err());
    assert!(drops_more(lab, "guard", before));
    sh("ip -n outside addr del 10.77.0.3/32 dev eth0");
}

fn loopback_addresses_come_in_by_no_wire(lab: &Lab) {
    lab.table.replace(&lab.desired(&[("pod1", mapping_at("127.0.0.1", 8080, 80))])).unwrap();
    let _host = Server::start(HOST, "127.0.0.1:4000".parse().unwrap());
    let _pod = Server::start("pod1", at(v4("pod1"), 80));
    // The neighbours send 127/8 out, and the host's link would take it.
    sh("sysctl -qw net.ipv4.conf.out0.route_localnet=1 net.ipv4.conf.out0.rp_filter=0 net.ipv4.conf.all.rp_filter=0");
    for (place, gateway, port) in [(OUTSIDE, HOST4, 4000), (OUTSIDE, HOST4, 8080), ("pod2", GATEWAY4, 4000)] {
        sh(&format!(
            "ip netns exec {place} sysctl -qw net.ipv4.conf.all.route_localnet=1
             ip -n {place} addr del 127.0.0.1/8 dev lo 2>/dev/null || true
             ip -n {place} route del local 127.0.0.0/8 dev lo table local 2>/dev/null || true
             ip -n {place} route replace 127.0.0.0/8 via {gateway} dev eth0"
        ));
        let before = dropped(lab, "guard");
        ask_in_vain(place, at(ip("127.0.0.1"), port));
        assert!(drops_more(lab, "guard", before), "from {place}");
        sh(&format!("ip -n {place} route del 127.0.0.0/8; ip -n {place} addr add 127.0.0.1/8 dev lo"));
    }
    sh("sysctl -qw net.ipv4.conf.out0.route_localnet=0");
    // It works where it belongs.
    assert_eq!(ask(HOST, "127.0.0.1:8080".parse().unwrap()).unwrap(), format!("pod1 {GATEWAY4}"));
    assert!(ask(HOST, "127.0.0.1:4000".parse().unwrap()).is_ok());
}

fn pods_do_not_reach_the_node(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    let servers = ["0.0.0.0:22", "[::]:23"].map(|it| Server::start(HOST, it.parse().unwrap()));
    for to in [GATEWAY4, HOST4].map(|it| at(ip(it), 22)).into_iter().chain([GATEWAY6, HOST6].map(|it| at(ip(it), 23))) {
        // Refused, not left waiting.
        assert_eq!(ask("pod1", to).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        assert!(ask_udp("pod1", None, to, SILENCE).is_err(), "{to}");
    }
    ask_in_vain("pod1", link_local("ip", "corpod1", 23, index("pod1")));
    // Ping works, and others reach the node as ever.
    assert!(ping("pod1", ip(HOST4)) && ping("pod1", ip(HOST6)) && ping("pod1", ip(GATEWAY6)));
    assert!(ask(OUTSIDE, at(ip(HOST4), 22)).is_ok() && ask(OUTSIDE, at(ip(HOST6), 23)).is_ok());
    drop(servers);
}

/// Connection tracking calls it established, as it would one that a pod had made up.
fn a_connection_from_before_the_rules_ends(lab: &Lab) {
    lab.table.delete().unwrap();
    let listener = std::net::TcpListener::bind(at(ip(HOST4), 2200)).unwrap();
    let mut conn = within("pod1", || std::net::TcpStream::connect(at(ip(HOST4), 2200)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(SILENCE)).unwrap();
    conn.write_all(b"before").unwrap();
    server.read_exact(&mut [0; 6]).unwrap();
    lab.table.replace(&lab.desired(&[])).unwrap();
    // It is reset, or the bytes are lost.
    let _ = conn.write_all(b"after");
    assert!(server.read_exact(&mut [0; 5]).is_err());
}

fn two_tables_leave_each_other_alone(lab: &Lab) {
    let all = lab.desired(&[("pod1", mapping(8080, 80)), ("pod3", mapping(8081, 80))]);
    let part = |links: u32, ranges: [&str; 2], gateways: &[&str], pods: &[PodRules]| {
        // The links here have one gateway in common, which two runtimes never have.
        let flat = NetworkRules {
            masquerade: true,
            ranges: ranges.map(|it| it.parse().unwrap()).to_vec(),
            gateways: gateways.iter().map(|it| ip(it)).collect(),
            ..NetworkRules::default()
        };
        Desired { links, networks: vec![flat], pods: pods.to_vec(), ..Desired::default() }
    };
    let other = Table::open("coracle-0a1b2c3d").unwrap();
    sh(&format!("ip link set {} group {}", interface("pod3"), LINKS + 1));
    lab.table.replace(&part(LINKS, ["10.77.0.0/30", "fd77::/126"], &[], &all.pods[..2])).unwrap();
    let others = |gateways| part(LINKS + 1, ["10.77.0.4/30", "fd77::4/126"], gateways, &all.pods[2..]);
    // Names are asked for at the gateways of each.
    other.replace(&others(&[GATEWAY4])).unwrap();
    let _names = Server::start(HOST, at(ip(GATEWAY4), 53));
    assert!(ask("pod3", at(ip(GATEWAY4), 53)).unwrap().starts_with("host "));
    ask_in_vain("pod1", at(ip(GATEWAY4), 53));
    other.replace(&others(&[])).unwrap();
    let _outside = Server::start(OUTSIDE, at(ip(OUTSIDE4), 80));
    let _pods = ["pod1", "pod3"].map(|it| Server::start(it, at(v4(it), 80)));
    let _host = Server::start(HOST, at(ip(HOST4), 22));
    for pod in ["pod1", "pod3"] {
        assert_eq!(ask(pod, at(ip(OUTSIDE4), 80)).unwrap(), format!("outside {HOST4}"));
        ask_in_vain(pod, at(ip(HOST4), 22));
    }
    for (port, pod) in [(8080, "pod1"), (8081, "pod3")] {
        for place in [OUTSIDE, HOST, "pod1", "pod3"] {
            assert!(ask(place, at(ip(HOST4), port)).unwrap().starts_with(pod), "{place} to {port}");
        }
    }
    // The pods of the one are strangers to those of the other.
    ask_in_vain("pod1", at(v4("pod3"), 80));
    ask_in_vain("pod3", at(v4("pod1"), 80));
    other.delete().unwrap();
    sh(&format!("ip link set {} group {LINKS}", interface("pod3")));
}

fn a_pod_is_no_router(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    // Type, code and nothing else: an advertisement, then a redirect, to all nodes and from the pod's own address.
    for kind in [134, 137] {
        let before = dropped(lab, "from_pods");
        crate::lab::send_icmpv6("pod1", v6("pod1"), kind);
        assert!(drops_more(lab, "from_pods", before), "ICMPv6 {kind}");
    }
}

fn a_published_port_answers_everyone(lab: &Lab) {
    lab.table.replace(&lab.desired(&[("pod1", mapping(8080, 80))])).unwrap();
    let _servers = both("pod1").map(|it| Server::start("pod1", at(it, 80)));
    let host = |six: bool| at(ip(if six { HOST6 } else { HOST4 }), 8080);
    let gateway = |six: bool| at(ip(if six { GATEWAY6 } else { GATEWAY4 }), 8080);
    // Who asks, whom, and by which address it is seen.
    for six in [false, true] {
        let own = |pod: &str| both(pod)[usize::from(six)].to_string();
        let node = if six { GATEWAY6 } else { GATEWAY4 };
        for (place, to, seen) in [
            (OUTSIDE, host(six), if six { OUTSIDE6.to_owned() } else { OUTSIDE4.to_owned() }),
            ("pod2", host(six), own("pod2")),
            ("pod2", gateway(six), own("pod2")),
            ("pod1", host(six), node.to_owned()),
            ("pod1", gateway(six), node.to_owned()),
        ] {
            assert_eq!(ask(place, to).unwrap(), format!("pod1 {seen}"), "{place} to {to}");
        }
        for to in [host(six), gateway(six)] {
            assert!(ask(HOST, to).unwrap().starts_with("pod1 "), "the host to {to}");
        }
    }
    assert_eq!(ask(HOST, "127.0.0.1:8080".parse().unwrap()).unwrap(), format!("pod1 {GATEWAY4}"));
    assert_eq!(ask(HOST, "127.1.2.3:8080".parse().unwrap()).unwrap(), format!("pod1 {GATEWAY4}"));
    // TCP alone was published.
    assert!(ask_udp(OUTSIDE, None, host(false), SILENCE).is_err());
}

fn a_port_of_one_address_answers_there_alone(lab: &Lab) {
    sh("ip addr add 192.0.2.9/24 dev out0");
    let ports = [("pod1", mapping_at("192.0.2.9", 8080, 80)), ("pod2", mapping_at(HOST6, 8080, 80))];
    lab.table.replace(&lab.desired(&ports)).unwrap();
    let _servers = ["pod1", "pod2"].map(|pod| both(pod).map(|it| Server::start(pod, at(it, 80))));
    assert!(ask(OUTSIDE, at(ip("192.0.2.9"), 8080)).unwrap().starts_with("pod1 "));
    assert!(ask(OUTSIDE, at(ip(HOST6), 8080)).unwrap().starts_with("pod2 "));
    ask_in_vain(OUTSIDE, at(ip(HOST4), 8080));
    ask_in_vain(HOST, "127.0.0.1:8080".parse().unwrap());
    // One pod can have an address's port and another one the same of all the other addresses.
    let wide = PodRules { ports: vec![mapping_at("0.0.0.0", 8080, 80)], ..lab.desired(&[]).pods[1].clone() };
    lab.table.add_pod(&wide).unwrap();
    assert!(ask(OUTSIDE, at(ip(HOST4), 8080)).unwrap().starts_with("pod2 "));
    assert!(ask(OUTSIDE, at(ip("192.0.2.9"), 8080)).unwrap().starts_with("pod1 "));
    sh("ip addr del 192.0.2.9/24 dev out0");
}

/// As kube-proxy leads to the pod by the port of a Service.
fn others_do_not_open_at_their_addresses_what_is_published_at_one(lab: &Lab) {
    if lab.list().is_none() {
        return println!("skipped: what others open: there is no `nft` here (apt-get install nftables)");
    }
    let ports = [("pod1", mapping_at("192.0.2.9", 8080, 80)), ("pod1", mapping_at("2001:db8::9", 8080, 80))];
    let mut desired = lab.desired(&ports);
    desired.pods[0].group = Group::Alone;
    lab.table.replace(&desired).unwrap();
    sh(&format!(
        "ip addr add 192.0.2.9/24 dev out0; ip addr add 2001:db8::9/64 dev out0 nodad
         nft 'add table inet other; add chain inet other to {{ type nat hook prerouting priority -110; }}
              add rule inet other to ip daddr {HOST4} tcp dport 8080 dnat ip to {}:80
              add rule inet other to ip6 daddr {HOST6} tcp dport 8080 dnat ip6 to [{}]:80'",
        v4("pod1"),
        v6("pod1")
    ));
    let _servers = both("pod1").map(|it| Server::start("pod1", at(it, 80)));
    for (published, other) in [("192.0.2.9", HOST4), ("2001:db8::9", HOST6)] {
        assert!(ask(OUTSIDE, at(ip(published), 8080)).unwrap().starts_with("pod1 "));
        ask_in_vain(OUTSIDE, at(ip(other), 8080));
    }
    sh("nft delete table inet other; ip addr del 192.0.2.9/24 dev out0; ip addr del 2001:db8::9/64 dev out0");
}

/// A pod asks outside at the number of a port that is being published here.
fn an_answer_on_its_way_finds_back_when_its_port_is_published(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    let socket = |place, from: &'static str, port| {
        let socket = within(place, move || std::net::UdpSocket::bind(at(ip(from), port)).unwrap());
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    };
    for (to, any) in [(OUTSIDE4, "0.0.0.0"), (OUTSIDE6, "::")] {
        let (outside, pod) = (socket(OUTSIDE, to, 5300), socket("pod1", any, 0));
        pod.send_to(b"question", at(ip(to), 5300)).unwrap();
        let (_, asker) = outside.recv_from(&mut [0; 100]).unwrap();
        let port = PortMapping { protocol: Protocol::Udp, ..mapping(5300, 53) };
        let published = PodRules { ports: vec![port], ..lab.desired(&[]).pods[1].clone() };
        lab.table.add_pod(&published).unwrap();
        lab.table.redirect_clients(std::slice::from_ref(&published)).unwrap();
        outside.send_to(b"answer", asker).unwrap();
        let mut answer = [0; 100];
        assert_eq!(pod.recv_from(&mut answer).unwrap(), (6, at(ip(to), 5300)), "{to}");
        lab.table.remove_pod(&published).unwrap();
    }
}

fn pods_leave_by_the_nodes_address(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    lab.table.replace(&desired).unwrap();
    let _servers = [OUTSIDE4, OUTSIDE6].map(|it| Server::start(OUTSIDE, at(ip(it), 80)));
    for (to, node) in [(OUTSIDE4, HOST4), (OUTSIDE6, HOST6)] {
        assert_eq!(ask("pod1", at(ip(to), 80)).unwrap(), format!("outside {node}"));
        assert_eq!(ask_udp("pod1", None, at(ip(to), 80), LONG).unwrap(), format!("outside {node}"));
    }
    desired.non_masquerade = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    lab.table.replace(&desired).unwrap();
    for (to, pod) in [OUTSIDE4, OUTSIDE6].into_iter().zip(both("pod1")) {
        assert_eq!(ask("pod1", at(ip(to), 80)).unwrap(), format!("outside {pod}"));
    }
}

/// One client that goes on sending from one port: to a port before anyone has it, to one pod, to the next.
fn udp_follows_a_port_to_its_pod(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    let _servers = ["pod1", "pod2"].map(|pod| both(pod).map(|it| Server::start(pod, at(it, 53))));
    let port = PortMapping { protocol: Protocol::Udp, ..mapping(5300, 53) };
    for (from, to) in [(OUTSIDE4, HOST4), (OUTSIDE6, HOST6)] {
        let ask = |patience| ask_udp(OUTSIDE, Some(at(ip(from), 6000)), at(ip(to), 5300), patience);
        assert!(ask(SILENCE).is_err());
        for (index, name) in [(0, "pod1"), (1, "pod2"), (0, "pod1")] {
            let pod = PodRules { ports: vec![port], ..lab.desired(&[]).pods[index].clone() };
            lab.table.add_pod(&pod).unwrap();
            lab.table.redirect_clients(std::slice::from_ref(&pod)).unwrap();
            assert_eq!(ask(LONG).unwrap(), format!("{name} {from}"));
            lab.table.remove_pod(&pod).unwrap();
            assert!(ask(SILENCE).is_err());
            lab.table.replace(&lab.desired(&[])).unwrap();
        }
    }
}
