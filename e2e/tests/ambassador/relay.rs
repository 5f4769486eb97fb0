//! What goes through: bytes, packets, and who sent them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::time::Duration;

use e2e::pods::has_v6;
use e2e::random::Random;
use e2e::traffic::{Answerer, Protocol, ask};
use e2e::{deadline, need, skip};
use serde_json::json;

use super::world::{Echo, PORT, V4, V6, World, listen, round_trip};

#[test]
fn a_stream_goes_through_both_ways_with_its_ends() {
    need!(skip::root());
    let world = World::with(json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"]}));
    let _echo = Echo::start(&world.host, (V4, 7000).into());
    let mut random = Random::announced("the bytes of the stream");
    let sent: Vec<u8> = (0..1 << 20).flat_map(|_| random.number().to_le_bytes()).collect();
    let mut stream = world.connect(PORT);
    let mut writer = stream.try_clone().expect("a descriptor");
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("it takes everything");
            // The other direction goes on after this.
            writer.shutdown(Shutdown::Write).expect("the stream is open");
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("it ends when the target ends it");
        received
    });
    assert!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
    let mut world = world;
    world
        .eventually("the connection is over", |world| world.metric("connections{port=\"6379\",protocol=\"TCP\"}") == 0);
    assert_eq!(world.metric("received_bytes_total{port=\"6379\",protocol=\"TCP\"}"), sent.len() as u64);
    assert_eq!(world.metric("sent_bytes_total{port=\"6379\",protocol=\"TCP\"}"), sent.len() as u64);
}

#[test]
fn both_families_are_listened_on_and_led_to() {
    need!(skip::root());
    if !has_v6() {
        e2e::skip!("no IPv6");
    }
    let ports = json!([{"port": PORT, "targets": ["[::1]:7000"]}, {"port": 6380, "targets": ["127.0.0.1:7000"]}]);
    let world = World::with(json!({"ports": ports}));
    let _echoes = [V4, V6].map(|ip| Echo::start(&world.host, (ip, 7000).into()));
    for (ip, port) in [(V4, PORT), (V6, PORT), (V4, 6380), (V6, 6380)] {
        let mut stream = world.connect_to((ip, port).into()).expect("it accepts");
        round_trip(&mut stream, "hello").unwrap_or_else(|error| panic!("{ip} {port}: {error}"));
    }
}

#[test]
fn a_silent_connection_stays_and_a_slow_reader_holds_up_nobody_else() {
    need!(skip::root());
    // Everything that has a time is as short as it can be.
    let config = json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"], "connectTimeoutSeconds": 1,
        "udpIdleSeconds": 1, "healthCheck": {"periodSeconds": 1, "timeoutSeconds": 1}});
    let world = World::with(config);
    let _echo = Echo::start(&world.host, (V4, 7000).into());
    let mut silent = world.connect(PORT);
    round_trip(&mut silent, "before").expect("it stands");
    // It sends until nothing is taken any more, and reads nothing.
    let mut slow = world.connect(PORT);
    slow.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let chunk = vec![1; 1 << 20];
    let mut written = 0;
    while slow.write_all(&chunk).is_ok() {
        written += chunk.len();
        assert!(written < 1 << 30, "nobody reads, and all of it is taken");
    }
    for number in 0..20 {
        let mut quick = world.connect(PORT);
        round_trip(&mut quick, "quick").unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    std::thread::sleep(Duration::from_secs(3));
    round_trip(&mut silent, "after").expect("it still stands");
}

#[test]
fn no_more_connections_are_taken_than_allowed_and_the_others_wait() {
    need!(skip::root());
    let mut world = World::with(json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"], "maxConnections": 2}));
    let _echo = Echo::start(&world.host, (V4, 7000).into());
    let mut held = [world.connect(PORT), world.connect(PORT)];
    held.iter_mut().for_each(|stream| round_trip(stream, "in").expect("it is let in"));
    // The kernel takes it; nobody answers.
    let mut third = world.connect(PORT);
    third.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
    round_trip(&mut third, "waits").expect_err("there is no room");
    assert_eq!(world.metric("connections_total{port=\"6379\",protocol=\"TCP\"}"), 2);
    let [first, _second] = held;
    drop(first);
    third.set_read_timeout(Some(deadline())).expect("a socket");
    let mut back = [0; 5];
    third.read_exact(&mut back).expect("there is room now");
    assert_eq!(&back, b"waits");
    world.eventually("two are in", |world| world.metric("connections{port=\"6379\",protocol=\"TCP\"}") == 2);
}

#[test]
fn a_silent_connection_costs_two_descriptors_and_no_pipe() {
    need!(skip::root());
    const CONNECTIONS: usize = 200;
    /// Its own, and the pipes that are kept for whoever needs one next.
    const OTHERS: usize = 64;
    let mut world = World::with(json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"]}));
    let _echo = Echo::start(&world.host, (V4, 7000).into());
    let mut held: Vec<_> = (0..CONNECTIONS).map(|_| world.connect(PORT)).collect();
    held.iter_mut().for_each(|stream| round_trip(stream, "said once").expect("it stands"));
    let directory = format!("/proc/{}/fd", world.run().pid().as_raw_nonzero());
    let count = || std::fs::read_dir(&directory).expect("it runs").count();
    assert!(count() < 2 * CONNECTIONS + OTHERS, "{} descriptors", count());
    drop(held);
    world.eventually("all are over", |world| world.metric("connections{port=\"6379\",protocol=\"TCP\"}") == 0);
    assert!(count() < OTHERS, "{} descriptors", count());
}

#[test]
fn udp_clients_have_answers_of_their_own() {
    need!(skip::root());
    let ports = json!([{"port": 53, "protocol": "UDP"}]);
    let world = World::with(json!({"ports": ports, "targets": ["127.0.0.1:7053"]}));
    let target = world.host.within(|| UdpSocket::bind((V4, 7053))).expect("a socket");
    target.set_read_timeout(Some(deadline())).expect("a socket");
    let clients = [0; 3].map(|_| world.host.within(|| UdpSocket::bind((V4, 0))).expect("a socket"));
    let mut seen = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(deadline())).expect("a socket");
        client.connect((V4, 53)).expect("an address");
        client.send(&[number as u8; 1400]).expect("it is sent");
        let mut packet = [0; 2000];
        let (length, from) = target.recv_from(&mut packet).expect("it arrives");
        assert_eq!(packet[..length], [number as u8; 1400]);
        seen.push(from);
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2], "each has a way of its own: {seen:?}");
    // Answered in another order.
    for (number, from) in seen.iter().enumerate().rev() {
        target.send_to(&[10 + number as u8], from).expect("it is sent");
    }
    for (number, client) in clients.iter().enumerate() {
        let mut answer = [0; 10];
        assert_eq!((client.recv(&mut answer).expect("an answer"), answer[0]), (1, 10 + number as u8));
    }
    assert_eq!(world.metric("connections_total{port=\"53\",protocol=\"UDP\"}"), 3);
}

#[test]
fn udp_clients_that_fall_silent_are_forgotten() {
    need!(skip::root());
    let ports = json!([{"port": 53, "protocol": "UDP"}]);
    let mut world = World::with(json!({"ports": ports, "targets": ["127.0.0.1:7053"], "udpIdleSeconds": 1}));
    let target = world.host.within(|| UdpSocket::bind((V4, 7053))).expect("a socket");
    target.set_read_timeout(Some(deadline())).expect("a socket");
    let client = world.host.within(|| UdpSocket::bind((V4, 0))).expect("a socket");
    client.send_to(b"who?", (V4, 53)).expect("it is sent");
    target.recv(&mut [0; 10]).expect("it arrives");
    world.eventually("the silent client is forgotten", |world| {
        world.metric("connections{port=\"53\",protocol=\"UDP\"}") == 0
    });
    assert_eq!(world.metric("connections_total{port=\"53\",protocol=\"UDP\"}"), 1);
}

#[test]
fn udp_clients_move_with_their_target() {
    need!(skip::root());
    let config = |target: &str| json!({"ports": [{"port": 53, "protocol": "UDP"}], "targets": [target]});
    let mut world = World::with(config("127.0.0.1:7001"));
    let _answerers = [(7001, "one"), (7002, "two")]
        .map(|(port, name)| Answerer::start(&world.host, Protocol::Udp, (V4, port).into(), name).expect("a port"));
    // One socket throughout.
    let client = world.host.within(|| UdpSocket::bind((V4, 0))).expect("a socket");
    client.set_read_timeout(Some(deadline())).expect("a socket");
    client.connect((V4, 53)).expect("an address");
    let who = || {
        client.send(b"who?").expect("it is sent");
        let mut answer = [0; 100];
        let length = client.recv(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..length]).split(' ').next().map(str::to_owned)
    };
    assert_eq!(who().as_deref(), Some("one"));
    world.reconfigure(&config("127.0.0.1:7002"));
    assert_eq!(who().as_deref(), Some("two"));
}

#[test]
fn targets_are_told_who_connects() {
    need!(skip::root());
    let mut world = World::new();
    let listener = world.host.within(|| listen((V4, 7000).into()));
    listener.set_nonblocking(false).expect("a socket");
    let config = |version: &str| {
        json!({"ports": [{"port": PORT}], "targets": ["127.0.0.1:7000"], "proxyProtocol": version,
            "healthCheck": {"type": "None"}})
    };
    world.configure(&config("v1"));
    world.start();
    let seen = |world: &World| -> (SocketAddr, Vec<u8>) {
        let mut client = world.connect(PORT);
        client.write_all(b"first bytes").expect("it is sent");
        client.shutdown(Shutdown::Write).expect("it is open");
        let (mut served, _) = listener.accept().expect("it is led here");
        let mut said = Vec::new();
        served.read_to_end(&mut said).expect("it ends");
        (client.local_addr().expect("an address"), said)
    };
    let (client, said) = seen(&world);
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {PORT}\r\nfirst bytes", client.port());
    assert_eq!(String::from_utf8_lossy(&said), line);
    world.reconfigure(&config("v2"));
    let (client, said) = seen(&world);
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
    expected.extend(client.port().to_be_bytes());
    expected.extend(PORT.to_be_bytes());
    expected.extend(b"first bytes");
    assert_eq!(said, expected);
    let answerer = Answerer::start(&world.host, Protocol::Udp, (V4, 7053).into(), "plain").expect("a port");
    world.reconfigure(&json!({"ports": [{"port": 53, "protocol": "UDP"}], "targets": ["127.0.0.1:7053"],
        "proxyProtocol": "v2"}));
    assert_eq!(ask(&world.host, Protocol::Udp, (V4, 53).into()).expect("an answer").name, "plain");
    drop(answerer);
}
