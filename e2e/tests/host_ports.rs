//! Published ports: by every way in, and whose they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

use e2e::manifest::{pod, several};
use e2e::netns::{HOST, Host, OUTSIDE};
use e2e::pods::{Pod, end, has_v6, keeper, stop};
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, SILENCE, ask, ask_within, get};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What the pod listens on.
const PORT: u16 = 7000;
/// Where that is published.
const PUBLISHED: u16 = 8080;
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The port published by both protocols, on an address if one is given.
fn published(address: Option<IpAddr>) -> Value {
    let ports = PROTOCOLS.map(|protocol| {
        let mut port = json!({"containerPort": PORT, "hostPort": PUBLISHED, "protocol": protocol.name()});
        if let Some(address) = address {
            port["hostIP"] = json!(address);
        }
        port
    });
    json!({"ports": ports})
}

/// Asks by both protocols and says which of the ways do not do what they should: `true` is an answer of the server's.
fn wrong(ways: &[(&str, &Host, IpAddr, bool)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, host, address, expected) in ways.iter().filter(|way| way.2.is_ipv4() || has_v6()) {
        for protocol in PROTOCOLS {
            let at = SocketAddr::new(*address, PUBLISHED);
            let answer = match expected {
                true => ask(host, protocol, at),
                false => ask_within(host, protocol, at, SILENCE),
            };
            if answer.as_ref().is_ok_and(|answer| answer.name == "server") != *expected {
                wrong.push(format!("{from} to {at} by {protocol:?}: {answer:?}"));
            }
        }
    }
    wrong
}

#[test]
fn a_published_port_answers_by_every_way_in() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let mut run = node.run(several(&[keeper("server", published(None)), keeper("client", json!({}))]));
    let (server, client) = (Pod::find(&node, "server"), Pod::find(&node, "client"));
    run.wait_for("; ports 8080, 8080/udp of the host");
    let answerers = Answerer::both(&server.network, PORT, "server");
    let mut ways = Vec::new();
    for family in [0, 1] {
        ways.extend([
            ("outside", outside, HOST[family], true),
            ("the host", node.host(), HOST[family], true),
            ("the host", node.host(), LOCALHOST[family], true),
            ("the pod itself", &server.network, HOST[family], true),
            ("another pod", &client.network, HOST[family], true),
            // Nobody else's port: the outside's own, and a pod's own loopback.
            ("a pod", &client.network, OUTSIDE[family], false),
            ("a pod", &client.network, LOCALHOST[family], false),
        ]);
    }
    assert_eq!(wrong(&ways), Vec::<String>::new());
    stop(run);
    // Given back: nobody answers, and the port is free for whoever wants it.
    let closed = ways.iter().filter(|way| way.3 && !way.0.contains("pod")).map(|way| (way.0, way.1, way.2, false));
    let closed: Vec<_> = closed.collect();
    assert_eq!(wrong(&closed), Vec::<String>::new());
    node.host().within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PUBLISHED))).expect("the port is free");
    drop((server, client, answerers));
    node.assert_nothing_left();
}

#[test]
fn whoever_comes_from_outside_or_from_a_pod_is_seen_with_its_own_address() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let run = node.run(several(&[keeper("server", published(None)), keeper("client", json!({}))]));
    let (server, client) = (Pod::find(&node, "server"), Pod::find(&node, "client"));
    let answerers = Answerer::both(&server.network, PORT, "server");
    for protocol in PROTOCOLS {
        for (family, to) in HOST.iter().enumerate().take(server.ips.len()) {
            let at = SocketAddr::new(*to, PUBLISHED);
            let seen = |host: &Host| ask(host, protocol, at).map(|answer| answer.from).ok();
            assert_eq!(seen(outside), Some(OUTSIDE[family]), "{at} by {protocol:?}");
            assert_eq!(seen(&client.network), Some(client.ip_like(*to)), "{at} by {protocol:?}");
        }
    }
    end(&node, run, (server, client, answerers));
}

#[test]
fn a_port_published_on_one_address_answers_there_alone() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    for address in [HOST[0], LOCALHOST[0], HOST[1], LOCALHOST[1]].into_iter().filter(|ip| ip.is_ipv4() || has_v6()) {
        let run = node.run(keeper("server", published(Some(address))));
        let server = Pod::find(&node, "server");
        let _answerers = Answerer::both(&server.network, PORT, "server");
        let mut ways = Vec::new();
        for family in [0, 1] {
            ways.extend([
                ("outside", outside, HOST[family], HOST[family] == address),
                ("the host", node.host(), HOST[family], HOST[family] == address),
                ("the host", node.host(), LOCALHOST[family], LOCALHOST[family] == address),
                ("the pod itself", &server.network, HOST[family], HOST[family] == address),
            ]);
        }
        assert_eq!(wrong(&ways), Vec::<String>::new(), "published on {address}");
        stop(run);
    }
    node.assert_nothing_left();
}

#[test]
fn one_port_of_two_addresses_leads_to_two_pods() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let pods = [keeper("inner", published(Some(LOCALHOST[0]))), keeper("outer", published(Some(HOST[0])))];
    let run = node.run(several(&pods));
    let (inner, outer) = (Pod::find(&node, "inner"), Pod::find(&node, "outer"));
    let answerers = [Answerer::both(&inner.network, PORT, "inner"), Answerer::both(&outer.network, PORT, "outer")];
    for protocol in PROTOCOLS {
        let name = |host: &Host, to: IpAddr| ask(host, protocol, (to, PUBLISHED).into()).map(|answer| answer.name).ok();
        assert_eq!(name(node.host(), LOCALHOST[0]).as_deref(), Some("inner"), "{protocol:?}");
        assert_eq!(name(node.host(), HOST[0]).as_deref(), Some("outer"), "{protocol:?}");
        assert_eq!(name(outside, HOST[0]).as_deref(), Some("outer"), "{protocol:?}");
    }
    end(&node, run, (inner, outer, answerers));
}

#[test]
fn a_port_that_a_pod_has_is_an_error_that_names_the_pod() {
    let node = need!(Node::with_busybox());
    let run = node.run(keeper("holder", published(None)));
    let holder = Pod::find(&node, "holder");
    let answerers = Answerer::both(&holder.network, PORT, "server");
    let second = node.run_to_end(keeper("late", published(Some(LOCALHOST[0]))));
    second.exits(125).says("8080").says("holder");
    // The first one is none the worse for it.
    assert_eq!(wrong(&[("the host", node.host(), LOCALHOST[0], true)]), Vec::<String>::new());
    stop(run);
    // And gives it free.
    let run = node.run(keeper("late", published(Some(LOCALHOST[0]))));
    Pod::find(&node, "late");
    end(&node, run, (holder, answerers));
}

#[test]
fn a_port_that_a_process_has_is_an_error_that_names_the_process() {
    let node = need!(Node::with_busybox());
    let me = std::process::id().to_string();
    let name = std::fs::read_to_string("/proc/self/comm").expect("a name");
    for protocol in PROTOCOLS {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PUBLISHED);
        let answerer = Answerer::start(node.host(), protocol, any, "host").expect("the port is free");
        let refused = node.run_to_end(keeper("late", published(None)));
        refused.exits(125).says("8080").says(&me).says(name.trim_end());
        drop(answerer);
    }
    let run = node.run(keeper("late", published(None)));
    Pod::find(&node, "late");
    end(&node, run, ());
}

#[test]
fn two_pods_of_one_run_that_want_one_port_are_refused_before_anything_is_made() {
    let node = Node::new();
    let pods = [keeper("one", published(None)), keeper("two", published(Some(LOCALHOST[0])))];
    let finished = node.run_to_end(several(&pods)).exits(2);
    finished.says("pod two: spec.containers[0].ports[0].hostPort: port 8080/TCP of the host is taken by pod one");
    node.assert_nothing_left();
}

#[test]
fn a_killed_run_goes_on_serving_until_gc() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let mut run = node.run(keeper("server", published(None)));
    let server = Pod::find(&node, "server");
    let answerers = Answerer::both(&server.network, PORT, "server");
    run.signal(Signal::KILL);
    run.wait();
    let mut ways = Vec::new();
    for family in [0, 1] {
        ways.extend([
            ("outside", outside, HOST[family], true),
            ("the host", node.host(), HOST[family], true),
            ("the host", node.host(), LOCALHOST[family], true),
        ]);
    }
    assert_eq!(wrong(&ways), Vec::<String>::new());
    node.coracle(["gc"]).exits(0);
    let closed: Vec<_> = ways.iter().map(|way| (way.0, way.1, way.2, false)).collect();
    assert_eq!(wrong(&closed), Vec::<String>::new());
    drop((server, answerers));
    node.assert_nothing_left();
}

#[test]
fn a_restarted_container_is_reached_as_before() {
    need!(e2e::skip::root());
    let node = Node::new();
    let serve = json!({"name": "c", "image": "coracle.local/tools", "args": ["serve", "--port", "7000"],
        "env": [{"name": "E2E_POD", "value": "server"}], "ports": [{"containerPort": PORT, "hostPort": PUBLISHED}]});
    let manifest = pod("server", json!({"restartPolicy": "Always", "containers": [serve]}));
    let mut run = node.run_with(manifest, &["--restart-backoff", "initial=10ms,max=10ms,reset=1s"]);
    run.wait_for("serving on");
    let ways: Vec<_> = LOCALHOST.iter().filter(|ip| ip.is_ipv4() || has_v6()).collect();
    for round in 0..2 {
        for ip in &ways {
            let answer = get(node.host(), SocketAddr::new(**ip, PUBLISHED));
            assert_eq!(answer.ok().as_deref(), Some("hello from server\n"), "{ip} in round {round}");
        }
        if round == 0 {
            inspect::kill(inspect::process_with_environment(&node, "E2E_POD=server").expect("it runs"));
            run.wait_for("restart 1");
            inspect::wait_for(|| get(node.host(), SocketAddr::new(*ways[0], PUBLISHED)).ok()).expect("it serves again");
        }
    }
    end(&node, run, ());
}

#[test]
fn datagrams_of_every_size_pass_the_relay() {
    let node = need!(Node::with_busybox());
    if !has_v6() {
        e2e::skip!("no IPv6");
    }
    let run = node.run(keeper("server", published(None)));
    let server = Pod::find(&node, "server");
    let echo = server.network.within(|| std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))).expect("a socket");
    let echoing = std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        loop {
            let Ok((read, from)) = echo.recv_from(&mut buffer) else { return };
            if read == 0 {
                return;
            }
            let _ = echo.send_to(&buffer[..read], from);
        }
    });
    node.host().within(|| {
        let clients: Vec<_> =
            (0..8).map(|_| std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("a socket")).collect();
        for (number, client) in clients.iter().enumerate() {
            client.connect((Ipv6Addr::LOCALHOST, PUBLISHED)).expect("a socket");
            client.set_read_timeout(Some(e2e::deadline())).expect("a socket");
            for size in [1, 1200, 1500, 9000, 60_000] {
                client.send(&vec![number as u8; size]).expect("a datagram is sent");
                let mut buffer = vec![0; 65536];
                let read = client.recv(&mut buffer).expect("an answer");
                assert_eq!((read, buffer[0], buffer[read - 1]), (size, number as u8, number as u8));
            }
        }
    });
    let poison = server.network.within(|| std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))).expect("a socket");
    poison.send_to(&[], (Ipv6Addr::LOCALHOST, PORT)).expect("a datagram is sent");
    echoing.join().expect("it ends");
    end(&node, run, (server, poison));
}

#[test]
fn the_example_of_a_published_port_runs() {
    need!(e2e::skip::root());
    let node = Node::new();
    node.outside();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples/host-port.yaml");
    let mut run = node.start([
        "run".as_ref(),
        "--restart-backoff".as_ref(),
        "initial=100ms,max=100ms,reset=1s".as_ref(),
        example.as_os_str(),
    ]);
    run.wait_for("visitor/visitor | hello from ");
    let answer = get(node.outside(), SocketAddr::new(HOST[0], 8081)).expect("it is published");
    let status = node.wait_for_phase("published", "Running");
    assert_eq!(answer, format!("hello from {}\n", status["status"]["podIP"].as_str().unwrap_or_default()));
    end(&node, run, ());
}

#[test]
fn the_host_asks_without_a_way_to_anywhere() {
    let node = need!(Node::with_busybox());
    // No neighbour, no default route: a laptop in a train.
    let run = node.run(keeper("server", published(None)));
    let server = Pod::find(&node, "server");
    let answerers = Answerer::both(&server.network, PORT, "server");
    let ways = LOCALHOST.map(|ip| ("the host", node.host(), ip, true));
    assert_eq!(wrong(&ways), Vec::<String>::new());
    for at in server.at(PORT) {
        assert!(ask(node.host(), Protocol::Tcp, at).is_ok(), "{at}");
    }
    end(&node, run, (server, answerers));
}

/// The checksum of SCTP.
fn crc32c(data: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// The packet that asks for an association.
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    // Tag, window, streams out and in, first number.
    let numbers = [[0, 0, 0, 9], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]].concat();
    let packet = |checksum: u32| [&ports, &[0; 4][..], &checksum.to_le_bytes(), &[1, 0, 0, 20], &numbers].concat();
    packet(crc32c(&packet(0)))
}

#[test]
fn sctp_is_led_to_the_pod_as_well() {
    use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let ports = json!({"ports": [{"containerPort": PORT, "hostPort": PUBLISHED, "protocol": "SCTP"}]});
    let run = node.run(keeper("server", ports));
    let server = Pod::find(&node, "server");
    let raw = || net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::SCTP)).expect("a raw socket");
    let listener = server.network.within(raw);
    let patience = Some(e2e::traffic::PATIENCE);
    sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, patience).expect("a socket option");
    let sender = outside.within(raw);
    let at = SocketAddr::new(HOST[0], 0);
    net::sendto(&sender, &sctp_init(5000, PUBLISHED), SendFlags::empty(), &at).expect("it is sent");
    let mut packet = [0; 256];
    let (read, _) = net::recv(&listener, &mut packet[..], RecvFlags::empty()).expect("it arrives");
    let header = usize::from(packet[0] & 15) * 4;
    let expected = [5000u16.to_be_bytes(), PORT.to_be_bytes()].concat();
    assert_eq!(packet[header..read][..4], expected);
    end(&node, run, (server, listener));
}
