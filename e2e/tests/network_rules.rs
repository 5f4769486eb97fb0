//! Who reaches whom: networks, links, policies and services as an owner wants them, with real packets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use cri_proto::node::node_service_client::NodeServiceClient;
use cri_proto::node::{
    GetNetworkRequest, GetNetworkResponse, IpBlock, Link, LinkEndpoint, PodPolicy, PodRef, PolicyPeer, PolicyRule,
    PortRange, Protocol as Transport, Service, ServiceEndpoint, ServicePort, SetNetworkRequest, policy_peer,
};
use e2e::cri::{Cri, Endpoint as _};
use e2e::manifest::{several, with};
use e2e::pods::{Pod, keeper, stop};
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, SILENCE, ask, ask_within};
use e2e::{Node, deadline, debian, need};
use serde_json::{Value, json};
use tonic::{Code, Status};

const PORT: u16 = 7000;
const SERVICE: [&str; 2] = ["10.96.7.1", "fd96::7:1"];

fn in_network(name: &str, network: &str) -> Value {
    let annotation = json!({"metadata": {"name": name, "annotations": {"coracle.dev/network": network}}});
    with(keeper(name, json!({})), annotation)
}

fn reference(name: &str) -> PodRef {
    PodRef { namespace: "default".into(), name: name.into() }
}

fn ports(transports: &[Transport]) -> Vec<PortRange> {
    let range = |it: &Transport| PortRange { protocol: *it as i32, first: PORT.into(), last: PORT.into() };
    transports.iter().map(range).collect()
}

fn link(from: &str, to: &str, transports: &[Transport]) -> Link {
    Link {
        from: Some(reference(from)),
        alias: to.into(),
        target: format!("pod/default/{to}"),
        endpoints: vec![LinkEndpoint { pod: Some(reference(to)), ports: ports(transports) }],
    }
}

fn set(cri: &Cri<'_>, wanted: SetNetworkRequest) -> Result<(), Status> {
    let mut client = NodeServiceClient::new(cri.client().channel());
    cri.client().block_on(client.set_network(wanted)).map(drop)
}

fn state(cri: &Cri<'_>) -> GetNetworkResponse {
    let mut client = NodeServiceClient::new(cri.client().channel());
    cri.client().block_on(client.get_network(GetNetworkRequest {})).expect("it tells").into_inner()
}

/// All that `from` reaches of `to`: by each protocol and each family. What is expected has its time to come.
fn reached(from: &Pod, to: &Pod, expected: [bool; 2]) -> Vec<bool> {
    let way = |at: SocketAddr, protocol, comes: bool| {
        let patience = if comes { deadline() } else { SILENCE };
        ask_within(&from.network, protocol, at, patience).is_ok()
    };
    let asked = |at| [0, 1].map(|it| way(at, PROTOCOLS[it], expected[it]));
    to.at(PORT).into_iter().flat_map(asked).collect()
}

#[track_caller]
fn assert_reached(from: &Pod, to: &Pod, tcp: bool, udp: bool) {
    let expected = [tcp, udp].repeat(to.ips.len());
    assert_eq!(reached(from, to, [tcp, udp]), expected, "{} to {}, by tcp and udp at each address", from.name, to.name);
}

struct Lot {
    pods: Vec<Pod>,
    _answerers: Vec<[Answerer; 2]>,
}

impl Lot {
    fn find(node: &Node, names: &[&str]) -> Self {
        let pods: Vec<Pod> = names.iter().map(|name| Pod::find(node, name)).collect();
        let answerers = pods.iter().map(|it| Answerer::both(&it.network, PORT, &it.name)).collect();
        Self { pods, _answerers: answerers }
    }

    fn get(&self, name: &str) -> &Pod {
        self.pods.iter().find(|it| it.name == name).expect("it is one of them")
    }
}

#[test]
fn private_pods_are_reached_by_links_alone_before_and_after_a_flush() {
    let node = need!(Node::with_busybox());
    let nft = need!(debian::program("nft", "nftables"));
    let cri = Cri::start(&node);
    let wanted = || SetNetworkRequest {
        links: vec![link("one", "two", &[Transport::Tcp]), link("flat", "two", &[Transport::Udp])],
        ..Default::default()
    };
    // Before there are pods: it is in force from their first process on.
    set(&cri, wanted()).expect("it is set");
    let run =
        node.run(several(&[in_network("one", "private"), in_network("two", "private"), keeper("flat", json!({}))]));
    let lot = Lot::find(&node, &["one", "two", "flat"]);
    let check = || {
        assert_reached(lot.get("one"), lot.get("two"), true, false);
        assert_reached(lot.get("flat"), lot.get("two"), false, true);
        for (from, to) in [("two", "one"), ("one", "flat"), ("two", "flat"), ("flat", "one")] {
            assert_reached(lot.get(from), lot.get(to), false, false);
        }
        for name in ["one", "two", "flat"] {
            for at in lot.get(name).at(PORT) {
                assert!(ask(node.host(), Protocol::Tcp, at).is_ok(), "the node to {name}");
            }
        }
    };
    check();
    let told = state(&cri);
    assert!(told.links.iter().all(|it| it.connected), "{told:?}");
    assert!(told.links.iter().all(|it| it.connections >= lot.get("two").ips.len() as u64), "{told:?}");

    let begin = Instant::now();
    let mut flush = Command::new(nft);
    flush.args(["flush", "ruleset"]);
    node.host().run(flush).exits(0);
    let at = lot.get("two").at(PORT)[0];
    let limit = begin + deadline();
    while ask_within(&lot.get("one").network, Protocol::Tcp, at, Duration::from_millis(200)).is_err() {
        assert!(Instant::now() < limit, "the rules never come back");
    }
    println!("a link works again {:?} after a flush", begin.elapsed());
    check();
    let told = state(&cri);
    assert!(told.repairs >= 1 && told.last_repair_us > 0, "{told:?}");
    println!("the rules were whole {} microseconds after the kernel had told of it", told.last_repair_us);

    // One link less, and what it let through ends with it.
    set(&cri, SetNetworkRequest { links: wanted().links[1..].to_vec(), ..Default::default() }).expect("it is set");
    assert_reached(lot.get("one"), lot.get("two"), false, false);
    assert_reached(lot.get("flat"), lot.get("two"), false, true);
    set(&cri, SetNetworkRequest::default()).expect("it is set");
    assert_reached(lot.get("flat"), lot.get("two"), false, false);
    drop(lot);
    stop(run);
    drop(cri);
    node.assert_nothing_left();
}

#[test]
fn rules_outlive_the_server_and_go_with_gc() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let run = node.run(several(&[in_network("one", "private"), in_network("two", "private")]));
    let lot = Lot::find(&node, &["one", "two"]);
    set(&cri, SetNetworkRequest { links: vec![link("one", "two", &[Transport::Tcp])], ..Default::default() })
        .expect("it is set");
    cri.kill();
    assert_reached(lot.get("one"), lot.get("two"), true, false);
    // Nobody serves this owner, and none of its pods is there.
    node.coracle(["gc"]).exits(0).says("cri wanted");
    assert_reached(lot.get("one"), lot.get("two"), false, false);
    drop(lot);
    stop(run);
    cri.restart();
    drop(cri);
    node.assert_nothing_left();
}

#[test]
fn policies_choose_who_reaches_whom() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let names = ["web", "db", "other"];
    let run = node.run(several(&names.map(|name| keeper(name, json!({})))));
    let lot = Lot::find(&node, &names);
    let from = |peer| PolicyRule { peers: vec![PolicyPeer { peer: Some(peer) }], ports: ports(&[Transport::Tcp]) };
    let policy =
        |ingress| PodPolicy { pod: Some(reference("db")), isolate_ingress: true, ingress, ..Default::default() };
    let only_web = policy(vec![from(policy_peer::Peer::Pod(reference("web")))]);
    set(&cri, SetNetworkRequest { policies: vec![only_web.clone()], ..Default::default() }).expect("it is set");
    assert_reached(lot.get("web"), lot.get("db"), true, false);
    assert_reached(lot.get("other"), lot.get("db"), false, false);
    assert_reached(lot.get("db"), lot.get("other"), true, true);
    // A link stands beside it.
    let links = vec![link("other", "db", &[Transport::Udp])];
    set(&cri, SetNetworkRequest { policies: vec![only_web], links, ..Default::default() }).expect("it is set");
    assert_reached(lot.get("other"), lot.get("db"), false, true);
    let nobody_else = IpBlock { cidr: "0.0.0.0/0".into(), except: vec![format!("{}/32", lot.get("web").v4())] };
    let all_but_web = policy(vec![from(policy_peer::Peer::Block(nobody_else))]);
    set(&cri, SetNetworkRequest { policies: vec![all_but_web], ..Default::default() }).expect("it is set");
    let at = SocketAddr::new(lot.get("db").v4(), PORT);
    assert!(ask(&lot.get("other").network, Protocol::Tcp, at).is_ok());
    assert!(ask_within(&lot.get("web").network, Protocol::Tcp, at, Duration::from_millis(500)).is_err());
    drop(lot);
    stop(run);
    set(&cri, SetNetworkRequest::default()).expect("it is set");
    drop(cri);
    node.assert_nothing_left();
}

#[test]
fn a_policy_counts_for_connections_that_are_there() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let run = node.run(several(&["client", "server"].map(|name| keeper(name, json!({})))));
    let (client, server) = (Pod::find(&node, "client"), Pod::find(&node, "server"));
    let nobody = PodPolicy { pod: Some(reference("server")), isolate_ingress: true, ..Default::default() };
    for at in server.at(PORT) {
        let listener = server.network.within(|| TcpListener::bind(at)).expect("the port is free");
        let datagrams = server.network.within(|| UdpSocket::bind(at)).expect("the port is free");
        let mut stream = client.network.within(|| TcpStream::connect(at)).expect("nothing forbids it");
        let any = SocketAddr::new(client.ip_like(at.ip()), 0);
        let socket = client.network.within(|| UdpSocket::bind(any)).expect("a socket");
        let (mut accepted, _) = listener.accept().expect("it is there");
        let mut sends = || {
            stream.write_all(b"?").expect("there is room for it");
            socket.send_to(b"?", at).expect("it is sent");
        };
        let mut hears = |patience: Duration| {
            accepted.set_read_timeout(Some(patience)).expect("a socket option");
            datagrams.set_read_timeout(Some(patience)).expect("a socket option");
            [accepted.read(&mut [0]).is_ok_and(|it| it == 1), datagrams.recv(&mut [0]).is_ok()]
        };
        sends();
        assert_eq!(hears(deadline()), [true; 2], "{at}: nothing forbids it");
        set(&cri, SetNetworkRequest { policies: vec![nobody.clone()], ..Default::default() }).expect("it is set");
        sends();
        assert_eq!(hears(SILENCE), [false; 2], "{at}: it is forbidden now");
        set(&cri, SetNetworkRequest::default()).expect("it is set");
        // A connection that is still to be ended keeps its namespace, and the pod's link with it.
        for socket in [&stream, &accepted] {
            rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).expect("a socket option");
        }
    }
    drop((client, server));
    stop(run);
    drop(cri);
    node.assert_nothing_left();
}

#[test]
fn a_service_leads_to_its_pods_and_a_udp_client_follows() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let names = ["client", "one", "two"];
    let run = node.run(several(&names.map(|name| keeper(name, json!({})))));
    let lot = Lot::find(&node, &names);
    let service = |endpoints: &[&str]| {
        let endpoint = |name: &&str| ServiceEndpoint { pod: Some(reference(name)), port: PORT.into() };
        let port = |protocol: Transport| ServicePort {
            protocol: protocol as i32,
            port: 80,
            endpoints: endpoints.iter().map(endpoint).collect(),
        };
        let service = Service {
            namespace: "default".into(),
            name: "web".into(),
            addresses: SERVICE.iter().take(lot.get("one").ips.len()).map(|it| (*it).to_owned()).collect(),
            ports: vec![port(Transport::Tcp), port(Transport::Udp)],
            affinity_seconds: 0,
        };
        SetNetworkRequest { services: vec![service], ..Default::default() }
    };
    let addresses: Vec<SocketAddr> = SERVICE
        .iter()
        .take(lot.get("one").ips.len())
        .map(|it| SocketAddr::new(it.parse().expect("an address"), 80))
        .collect();
    let client = lot.get("client").network.clone();
    for at in &addresses {
        let any: SocketAddr = if at.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = client.within(|| UdpSocket::bind(any)).expect("a socket");
        socket.set_read_timeout(Some(deadline())).expect("a socket option");
        for to in ["one", "two", "one"] {
            set(&cri, service(&[to])).expect("it is set");
            let answer = ask(&client, Protocol::Tcp, *at).expect("an answer");
            assert_eq!((answer.name.as_str(), answer.from), (to, lot.get("client").ip_like(at.ip())));
            socket.send_to(b"?", at).expect("it is sent");
            let mut answer = [0; 100];
            let (length, _) = socket.recv_from(&mut answer).expect("an answer");
            assert!(String::from_utf8_lossy(&answer[..length]).starts_with(to), "the same socket is led to {to}");
        }
        set(&cri, service(&[])).expect("it is set");
        let refused = ask(&client, Protocol::Tcp, *at).expect_err("nobody is there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    }
    // The link lasts as long as something is in the pod's network.
    drop((lot, client));
    stop(run);
    set(&cri, SetNetworkRequest::default()).expect("it is set");
    drop(cri);
    node.assert_nothing_left();
}

#[test]
fn what_cannot_be_wanted_is_refused_and_changes_nothing() {
    need!(e2e::skip::root());
    let node = Node::new();
    let cri = Cri::start(&node);
    let good = SetNetworkRequest { links: vec![link("one", "two", &[Transport::Tcp])], ..Default::default() };
    set(&cri, good.clone()).expect("it is set");
    let before = state(&cri);
    let port = |first, last| LinkEndpoint {
        pod: Some(reference("two")),
        ports: vec![PortRange { protocol: Transport::Tcp as i32, first, last }],
    };
    let with_endpoint = |endpoint| {
        let mut link = link("one", "three", &[]);
        link.endpoints = vec![endpoint];
        SetNetworkRequest { links: vec![link], ..Default::default() }
    };
    for (wrong, says) in [
        (with_endpoint(port(0, 80)), "links[0].endpoints[0].ports[0]: 0 is no port"),
        (with_endpoint(port(80, 70_000)), "70000 is no port"),
        (with_endpoint(port(90, 80)), "ends before it begins"),
        (with_endpoint(port(1, 60_000)), "60000 ports"),
        (with_endpoint(LinkEndpoint::default()), "a namespace and a name"),
        (SetNetworkRequest { links: [good.links.clone(), good.links.clone()].concat(), ..Default::default() }, "twice"),
    ] {
        let status = set(&cri, wrong).expect_err("it is refused");
        assert!(status.code() == Code::InvalidArgument && status.message().contains(says), "{says}: {status}");
        assert_eq!(state(&cri), before);
    }
    set(&cri, SetNetworkRequest::default()).expect("it is set");
    drop(cri);
    node.assert_nothing_left();
}
