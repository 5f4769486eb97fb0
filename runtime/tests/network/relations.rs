//! Links, policies, services and the guard, by what gets through and what does not.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use runtime::network::nft::{
    Allow, Block, Desired, Group, Guard, LinkRules, PolicyRules, Relations, ServiceRules, Table, pairs, remove_guard,
};
use runtime::network::ports::{PortMapping, Protocol};
use runtime::network::wanted::Ports;

use crate::Case;
use crate::lab::{
    HOST, HOST4, Lab, OUTSIDE, OUTSIDE4, PODS, SILENCE, Server, ask, ask_here, ask_in_vain, ask_udp, at, interface, ip,
    mapping, sh, v4, v6, within,
};

pub const ALL: &[Case] = &[
    ("private_pods_are_alone", private_pods_are_alone),
    ("isolated_networks_keep_to_themselves", isolated_networks_keep_to_themselves),
    ("a_link_lets_one_port_through_one_way", a_link_lets_one_port_through_one_way),
    ("connections_end_with_their_link", connections_end_with_their_link),
    ("links_are_counted_by_connection", links_are_counted_by_connection),
    ("policies_judge_both_ways", policies_judge_both_ways),
    ("policies_know_ranges_and_their_holes", policies_know_ranges_and_their_holes),
    ("services_share_equally", services_share_equally),
    ("a_service_without_pods_refuses", a_service_without_pods_refuses),
    ("a_pod_reaches_itself_by_its_service", a_pod_reaches_itself_by_its_service),
    ("clients_keep_their_pod_while_they_are_told_to", clients_keep_their_pod_while_they_are_told_to),
    ("a_udp_client_follows_its_service", a_udp_client_follows_its_service),
    ("a_service_opens_nothing", a_service_opens_nothing),
    ("nothing_passes_the_guard_while_the_table_is_gone", nothing_passes_the_guard_while_the_table_is_gone),
    ("five_hundred_links_change_as_fast_as_ten", five_hundred_links_change_as_fast_as_ten),
];

const LONG: Duration = Duration::from_secs(60);
const SERVICE4: &str = "10.99.0.1";
const SERVICE6: &str = "fd99::1";

fn both(pod: &str) -> [IpAddr; 2] {
    [v4(pod), v6(pod)]
}

fn in_groups(lab: &Lab, groups: [Group; 3]) -> Desired {
    let mut desired = lab.desired(&[]);
    for (pod, group) in desired.pods.iter_mut().zip(groups) {
        pod.group = group;
    }
    desired
}

fn link(from: &str, to: &str, protocol: Protocol, first: u16, last: u16) -> Relations {
    let ports = Ports { protocol, first, last };
    let link = LinkRules { from: both(from).to_vec(), to: both(to).to_vec(), ports };
    Relations { links: vec![link], ..Relations::default() }
}

fn reaches(from: &str, to: IpAddr, port: u16) -> bool {
    ask(from, at(to, port)).is_ok()
}

fn private_pods_are_alone(lab: &Lab) {
    let mut desired = in_groups(lab, [Group::Alone, Group::Alone, Group::Open]);
    desired.pods[0].ports = vec![mapping(8080, 80)];
    lab.table.replace(&desired).unwrap();
    let _servers: Vec<_> = PODS.iter().flat_map(|pod| both(pod).map(|it| Server::start(pod, at(it, 80)))).collect();
    let _outside = Server::start(OUTSIDE, at(ip(OUTSIDE4), 80));
    for (from, to) in [("pod1", "pod2"), ("pod2", "pod1"), ("pod1", "pod3"), ("pod3", "pod1")] {
        for address in both(to) {
            ask_in_vain(from, at(address, 80));
            assert!(ask_udp(from, None, at(address, 80), SILENCE).is_err(), "{from} to {address}");
        }
    }
    // The node reaches them, they reach the world, and a published port is open to all.
    for address in both("pod1") {
        assert!(reaches(HOST, address, 80));
    }
    assert_eq!(ask("pod1", at(ip(OUTSIDE4), 80)).unwrap(), format!("outside {HOST4}"));
    for place in [OUTSIDE, "pod2", "pod3", "pod1"] {
        assert!(ask(place, at(ip(HOST4), 8080)).unwrap().starts_with("pod1 "), "{place}");
    }
}

fn isolated_networks_keep_to_themselves(lab: &Lab) {
    let group = || Group::Isolated("back-end".to_owned());
    lab.table.replace(&in_groups(lab, [group(), Group::Open, Group::Open])).unwrap();
    // One more by itself, as pods come.
    let late = in_groups(lab, [group(), group(), Group::Open]).pods[1].clone();
    lab.table.remove_pod(&lab.desired(&[]).pods[1]).unwrap();
    lab.table.add_pod(&late).unwrap();
    let _servers: Vec<_> = PODS.iter().flat_map(|pod| both(pod).map(|it| Server::start(pod, at(it, 80)))).collect();
    for (index, _) in both("pod1").iter().enumerate() {
        assert!(reaches("pod1", both("pod2")[index], 80) && reaches("pod2", both("pod1")[index], 80));
        ask_in_vain("pod3", at(both("pod1")[index], 80));
        ask_in_vain("pod2", at(both("pod3")[index], 80));
    }
}

fn a_link_lets_one_port_through_one_way(lab: &Lab) {
    let mut desired = in_groups(lab, [Group::Alone, Group::Alone, Group::Alone]);
    desired.relations = link("pod1", "pod2", Protocol::Tcp, 80, 81);
    lab.table.replace(&desired).unwrap();
    let servers =
        ["pod1", "pod2"].map(|pod| both(pod).map(|it| [80, 81, 82].map(|port| Server::start(pod, at(it, port)))));
    for (to, seen) in both("pod2").into_iter().zip(both("pod1")) {
        for port in [80, 81] {
            assert_eq!(ask("pod1", at(to, port)).unwrap(), format!("pod2 {seen}"));
        }
        ask_in_vain("pod1", at(to, 82));
        assert!(ask_udp("pod1", None, at(to, 80), SILENCE).is_err());
        ask_in_vain("pod3", at(to, 80));
        ask_in_vain("pod2", at(seen, 80));
    }
    // A forged source is no way to it.
    sh("ip -n pod3 addr add 10.77.0.2/32 dev eth0");
    let forged = ask_udp("pod3", Some(at(v4("pod1"), 0)), at(v4("pod2"), 80), SILENCE);
    sh("ip -n pod3 addr del 10.77.0.2/32 dev eth0");
    assert!(forged.is_err());
    // By UDP, added to what is there.
    lab.table.relate(&Relations::default(), &link("pod1", "pod2", Protocol::Udp, 80, 80)).unwrap();
    for to in both("pod2") {
        assert!(ask_udp("pod1", None, at(to, 80), LONG).is_ok() && reaches("pod1", to, 81));
    }
    drop(servers);
}

fn connections_end_with_their_link(lab: &Lab) {
    use std::io::{Read as _, Write as _};
    let mut desired = in_groups(lab, [Group::Alone, Group::Alone, Group::Alone]);
    desired.relations = link("pod1", "pod2", Protocol::Tcp, 4000, 4000);
    lab.table.replace(&desired).unwrap();
    let to = at(v4("pod2"), 4000);
    let listener = within("pod2", move || std::net::TcpListener::bind(to).unwrap());
    let mut client = within("pod1", move || std::net::TcpStream::connect(to).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
    }
    server.write_all(b"before").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    lab.table.forget(&lab.table.relate(&desired.relations, &Relations::default()).unwrap()).unwrap();
    // Not even the answering side gets anything through.
    let _ = server.write_all(b"after");
    assert!(client.read_exact(&mut [0; 5]).is_err());
    // Its own flow is what another link would need.
    lab.table.relate(&Relations::default(), &desired.relations).unwrap();
    within("pod1", move || std::net::TcpStream::connect(to).unwrap());
}

fn links_are_counted_by_connection(lab: &Lab) {
    let mut desired = in_groups(lab, [Group::Alone, Group::Open, Group::Open]);
    desired.relations = link("pod1", "pod2", Protocol::Tcp, 80, 80);
    lab.table.replace(&desired).unwrap();
    let _servers = both("pod2").map(|it| Server::start("pod2", at(it, 80)));
    for _ in 0..3 {
        assert!(both("pod2").into_iter().all(|it| reaches("pod1", it, 80)));
    }
    let all: BTreeSet<_> = pairs(&desired.relations.links[0]).into_iter().collect();
    let uses = lab.table.uses(&all).unwrap();
    assert_eq!(uses.values().copied().collect::<Vec<_>>(), [3, 3]);
}

fn block(cidr: &str, except: &[&str]) -> Block {
    Block { cidr: cidr.parse().unwrap(), except: except.iter().map(|it| it.parse().unwrap()).collect() }
}

fn of_pod(pod: &str) -> Vec<Block> {
    both(pod).map(|it| Block { cidr: it.into(), except: Vec::new() }).to_vec()
}

fn ports(protocol: Protocol, first: u16, last: u16) -> Vec<Ports> {
    vec![Ports { protocol, first, last }]
}

fn policies_judge_both_ways(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    let ingress = vec![Allow { peers: Some(of_pod("pod1")), ports: ports(Protocol::Tcp, 80, 81) }];
    let only_in = PolicyRules { addresses: both("pod2").to_vec(), ingress: Some(ingress), egress: None };
    desired.relations.policies = vec![only_in.clone()];
    lab.table.replace(&desired).unwrap();
    let _servers: Vec<_> = PODS
        .iter()
        .flat_map(|pod| both(pod).map(|it| [80, 81, 82].map(|port| Server::start(pod, at(it, port)))))
        .collect();
    for (index, to) in both("pod2").into_iter().enumerate() {
        assert!(reaches("pod1", to, 80) && reaches("pod1", to, 81) && reaches(HOST, to, 82));
        ask_in_vain("pod1", at(to, 82));
        ask_in_vain("pod3", at(to, 80));
        assert!(ask_udp("pod1", None, at(to, 80), SILENCE).is_err());
        // It reaches everybody, and is answered.
        assert!(reaches("pod2", both("pod3")[index], 82));
    }
    // What goes out of another, changed while it is in force; its link stands beside.
    let egress = vec![Allow { peers: Some(of_pod("pod3")), ports: Vec::new() }];
    let only_out = PolicyRules { addresses: both("pod1").to_vec(), ingress: None, egress: Some(egress) };
    let before = Relations { policies: vec![only_in.clone()], ..Relations::default() };
    let mut after = Relations { policies: vec![only_in, only_out], ..Relations::default() };
    lab.table.relate(&before, &after).unwrap();
    for (index, to) in both("pod2").into_iter().enumerate() {
        ask_in_vain("pod1", at(to, 80));
        assert!(reaches("pod1", both("pod3")[index], 82));
        assert!(ask_udp("pod1", None, at(both("pod3")[index], 81), LONG).is_ok());
    }
    let before = after.clone();
    after.links = link("pod1", "pod2", Protocol::Tcp, 82, 82).links;
    lab.table.relate(&before, &after).unwrap();
    assert!(both("pod2").into_iter().all(|to| reaches("pod1", to, 82)));
    lab.table.relate(&after, &Relations::default()).unwrap();
    assert!(both("pod2").into_iter().all(|to| reaches("pod3", to, 82)));
}

fn policies_know_ranges_and_their_holes(lab: &Lab) {
    let by_udp = PortMapping { protocol: Protocol::Udp, ..mapping(8081, 99) };
    let mut desired = lab.desired(&[("pod1", mapping(8080, 80)), ("pod1", by_udp)]);
    let egress = vec![
        Allow { peers: Some(vec![block("192.0.2.0/24", &["192.0.2.2/32"])]), ports: Vec::new() },
        Allow { peers: None, ports: ports(Protocol::Tcp, 443, 443) },
    ];
    let ports = [Protocol::Tcp, Protocol::Udp].map(|it| ports(it, 1, 100)).concat();
    let ingress = vec![Allow { peers: Some(vec![block("0.0.0.0/0", &["192.0.2.3/32"])]), ports }];
    let rules = PolicyRules { addresses: both("pod1").to_vec(), ingress: Some(ingress), egress: Some(egress) };
    desired.relations.policies = vec![rules];
    lab.table.replace(&desired).unwrap();
    let _outside =
        ["192.0.2.2:80", "192.0.2.2:443", "192.0.2.3:80"].map(|it| Server::start(OUTSIDE, it.parse().unwrap()));
    ask_in_vain("pod1", "192.0.2.2:80".parse().unwrap());
    assert!(ask("pod1", "192.0.2.2:443".parse().unwrap()).is_ok());
    assert!(ask("pod1", "192.0.2.3:80".parse().unwrap()).is_ok());
    // What is published is judged by who asks.
    let _pod = Server::start("pod1", at(v4("pod1"), 80));
    assert!(ask(OUTSIDE, at(ip(HOST4), 8080)).is_ok());
    let _pod = Server::start("pod1", at(v4("pod1"), 99));
    let asked = |from: &str| ask_udp(OUTSIDE, Some(at(ip(from), 0)), at(ip(HOST4), 8081), SILENCE);
    assert!(asked("192.0.2.3").is_err() && asked(OUTSIDE4).is_ok());
}

fn service(protocol: Protocol, endpoints: &[&str], affinity: u32) -> Relations {
    let rules = ServiceRules {
        addresses: vec![ip(SERVICE4), ip(SERVICE6)],
        protocol,
        port: 80,
        endpoints: endpoints.iter().map(|pod| (both(pod).to_vec(), 8000)).collect(),
        affinity,
    };
    Relations { services: vec![rules], ..Relations::default() }
}

/// The node needs some way to a service's address; a default route is enough.
fn with_routes(test: impl FnOnce()) {
    sh("ip route add default via 192.0.2.2; ip route add default via 2001:db8::2");
    test();
    sh("ip route del default via 192.0.2.2; ip -6 route del default via 2001:db8::2");
}

fn serve(pods: &[&'static str]) -> Vec<Server> {
    pods.iter().flat_map(|pod| both(pod).map(|it| Server::start(pod, at(it, 8000)))).collect()
}

fn services_share_equally(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    desired.relations = service(Protocol::Tcp, &["pod2", "pod3"], 0);
    lab.table.replace(&desired).unwrap();
    let _servers = serve(&["pod1", "pod2", "pod3"]);
    with_routes(|| {
        for (to, seen) in [SERVICE4, SERVICE6].into_iter().zip(both("pod1")) {
            let mut answers = std::collections::BTreeMap::new();
            for _ in 0..60 {
                let answer = ask("pod1", at(ip(to), 80)).unwrap();
                assert!(answer.ends_with(&format!(" {seen}")), "the client's own address is seen: {answer}");
                *answers.entry(answer).or_insert(0) += 1;
            }
            // Of 60 coins less than 10 heads are seen once in 10^8.
            assert!(answers.len() == 2 && answers.values().all(|it| *it >= 10), "{answers:?}");
            assert!(ask(HOST, at(ip(to), 80)).is_ok(), "the node itself");
        }
        // One more, and another one less.
        let after = service(Protocol::Tcp, &["pod1", "pod2"], 0);
        lab.table.relate(&desired.relations, &after).unwrap();
        let answers: BTreeSet<_> =
            (0..60).map(|_| ask("pod3", at(ip(SERVICE4), 80)).unwrap().split_once(' ').unwrap().0.to_owned()).collect();
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["pod1", "pod2"]);
    });
}

fn a_service_without_pods_refuses(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    desired.relations = service(Protocol::Tcp, &[], 0);
    lab.table.replace(&desired).unwrap();
    with_routes(|| {
        for to in [SERVICE4, SERVICE6] {
            for (place, port) in [("pod1", 80), ("pod1", 81), (HOST, 80)] {
                let error = ask(place, at(ip(to), port)).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{place} to {to} port {port}");
            }
        }
    });
}

fn a_pod_reaches_itself_by_its_service(lab: &Lab) {
    for group in [Group::Open, Group::Alone] {
        let mut desired = in_groups(lab, [group, Group::Open, Group::Open]);
        desired.relations = service(Protocol::Tcp, &["pod1"], 0);
        lab.table.replace(&desired).unwrap();
        let _servers = serve(&["pod1"]);
        assert!(ask("pod1", at(ip(SERVICE4), 80)).unwrap().starts_with("pod1 "));
        assert!(ask("pod1", at(ip(SERVICE6), 80)).unwrap().starts_with("pod1 "));
    }
}

fn clients_keep_their_pod_while_they_are_told_to(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    desired.relations = service(Protocol::Tcp, &["pod1", "pod2"], 600);
    lab.table.replace(&desired).unwrap();
    let _servers = serve(&["pod1", "pod2"]);
    let answer = |service| ask("pod3", at(ip(service), 80)).unwrap();
    for service in [SERVICE4, SERVICE6] {
        let first = answer(service);
        assert!((0..20).all(|_| answer(service) == first));
    }
    // It goes to another one when its own is gone.
    let kept = answer(SERVICE4);
    let other = if kept.starts_with("pod1") { "pod2" } else { "pod1" };
    let after = service(Protocol::Tcp, &[other], 600);
    lab.table.forget(&lab.table.relate(&desired.relations, &after).unwrap()).unwrap();
    assert!((0..5).all(|_| answer(SERVICE4).starts_with(other)));
}

fn a_udp_client_follows_its_service(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    desired.relations = service(Protocol::Udp, &["pod1"], 0);
    lab.table.replace(&desired).unwrap();
    let _servers = serve(&["pod1", "pod2"]);
    for to in [SERVICE4, SERVICE6] {
        let any = if ip(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = within("pod3", move || UdpSocket::bind(any).unwrap());
        socket.set_read_timeout(Some(LONG)).unwrap();
        let ask = || {
            socket.send_to(b"?", at(ip(to), 80)).unwrap();
            let mut answer = [0; 100];
            let (length, _) = socket.recv_from(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..length]).into_owned()
        };
        assert!(ask().starts_with("pod1 "));
        let after = service(Protocol::Udp, &["pod2"], 0);
        lab.table.forget(&lab.table.relate(&desired.relations, &after).unwrap()).unwrap();
        assert!(ask().starts_with("pod2 "));
        lab.table.relate(&after, &desired.relations).unwrap();
    }
}

fn a_service_opens_nothing(lab: &Lab) {
    let mut desired = in_groups(lab, [Group::Open, Group::Alone, Group::Open]);
    desired.relations = service(Protocol::Tcp, &["pod2"], 0);
    lab.table.replace(&desired).unwrap();
    let _servers = serve(&["pod2"]);
    ask_in_vain("pod1", at(ip(SERVICE4), 80));
    desired.relations.links = link("pod1", "pod2", Protocol::Tcp, 8000, 8000).links;
    lab.table.replace(&desired).unwrap();
    assert!(reaches("pod1", ip(SERVICE4), 80));
    ask_in_vain("pod3", at(ip(SERVICE4), 80));
}

/// Links of private pods have a name of their own.
fn guarded(lab: &Lab, test: impl FnOnce(&Desired)) {
    for pod in ["pod1", "pod2"] {
        sh(&format!("ip link set {} name corp{pod}", interface(pod)));
    }
    let mut desired = in_groups(lab, [Group::Alone, Group::Alone, Group::Open]);
    for (pod, name) in desired.pods.iter_mut().zip(["corppod1", "corppod2"]) {
        pod.interface = name.to_owned();
    }
    desired.relations = link("pod1", "pod2", Protocol::Tcp, 80, 80);
    test(&desired);
    for pod in ["pod1", "pod2"] {
        sh(&format!("ip link set corp{pod} name {}", interface(pod)));
    }
}

fn nothing_passes_the_guard_while_the_table_is_gone(lab: &Lab) {
    if lab.list().is_none() {
        return println!("skipped: what passes the guard: there is no `nft` here (apt-get install nftables)");
    }
    guarded(lab, |desired| {
        lab.table.replace(desired).unwrap();
        let mut guard = Guard::open("coracle").unwrap();
        if !guard.hold().unwrap() {
            return println!("skipped: what passes the guard: the kernel has no tables with owners that persist");
        }
        let _servers: Vec<_> = PODS.iter().flat_map(|pod| both(pod).map(|it| Server::start(pod, at(it, 80)))).collect();
        let _node = Server::start(HOST, at(ip(HOST4), 99));
        // It changes nothing while the table is there.
        let as_ever = || {
            for (to, index) in both("pod2").into_iter().zip(0..) {
                assert!(reaches("pod1", to, 80) && reaches(HOST, to, 80) && reaches("pod3", both("pod3")[index], 80));
                ask_in_vain("pod3", at(to, 80));
            }
        };
        as_ever();
        // Nor is another state directory's in its way.
        let mut other = Guard::open("coracle-0a1b2c3d").unwrap();
        assert!(other.hold().unwrap());
        as_ever();
        other.release().unwrap();
        sh("nft flush ruleset");
        assert_eq!(sh("nft list tables").trim(), "table inet coracle-guard");
        for to in both("pod2").into_iter().chain([ip(HOST4)]) {
            for from in ["pod1", "pod3"].into_iter().filter(|from| *from == "pod1" || to != ip(HOST4)) {
                let port = if to == ip(HOST4) { 99 } else { 80 };
                let asked = within(from, move || ask_here(at(to, port), SILENCE));
                assert!(asked.is_err(), "{from} to {to}");
            }
            assert!(to == ip(HOST4) || reaches(HOST, to, 80));
        }
        lab.table.replace(desired).unwrap();
        as_ever();
        // It stays when its owner ends, and the next one takes it over.
        drop(guard);
        assert!(sh("nft list tables").contains("coracle-guard"));
        let mut next = Guard::open("coracle").unwrap();
        assert!(next.hold().unwrap());
        sh("nft flush ruleset");
        assert!(sh("nft list tables").contains("coracle-guard"));
        lab.table.replace(desired).unwrap();
        as_ever();
        next.release().unwrap();
        assert!(!sh("nft list tables").contains("coracle-guard"));
        remove_guard("coracle").unwrap();
        let mut lost = Guard::open("coracle").unwrap();
        assert!(lost.hold().unwrap());
        drop(lost);
        remove_guard("coracle").unwrap();
        assert!(!sh("nft list tables").contains("coracle-guard"));
    });
}

/// Told, and not judged: the machine has other things to do.
fn five_hundred_links_change_as_fast_as_ten(lab: &Lab) {
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        vec![ip(&format!("10.78.{high}.{low}")), ip(&format!("fd78::{number:x}"))]
    };
    let ports = Ports { protocol: Protocol::Tcp, first: 80, last: 80 };
    let link = |number: u16| LinkRules { from: address(number), to: address(number + 1000), ports };
    for count in [10, 100, 500] {
        let mut desired = lab.desired(&[]);
        desired.relations.links = (0..count).map(link).collect();
        lab.table.replace(&desired).unwrap();
        let one = Relations { links: vec![link(2000)], ..Relations::default() };
        let begin = std::time::Instant::now();
        for _ in 0..50 {
            lab.table.relate(&Relations::default(), &one).unwrap();
            lab.table.relate(&one, &Relations::default()).unwrap();
        }
        println!("  {:?} to make and take away a link among {count}", begin.elapsed() / 50);
        let all: BTreeSet<_> = desired.relations.links.iter().flat_map(pairs).collect();
        assert_eq!(lab.table.uses(&all).unwrap().len(), usize::from(count) * 2);
    }
    lab.table.replace(&lab.desired(&[])).unwrap();
    assert!(Table::list_ours().unwrap().contains(&"coracle".to_owned()));
}
