//! The relay of `[::1]`, a process of its own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use runtime::network::ports::{PortMapping, Protocol};
use runtime::relay;

use crate::Case;
use crate::lab::{HOST, Lab, Server, ask, ask_udp, at, mapping, mapping_at, sh, start_within, v4, v6, within};

pub const ALL: &[Case] = &[
    ("a_relay_carries_both_directions_to_their_ends", a_relay_carries_both_directions_to_their_ends),
    ("a_relay_serves_two_hundred_at_once", a_relay_serves_two_hundred_at_once),
    ("a_relay_keeps_nothing_that_is_not_taken", a_relay_keeps_nothing_that_is_not_taken),
    ("a_relay_refuses_what_is_too_much_and_goes_on", a_relay_refuses_what_is_too_much_and_goes_on),
    ("a_relay_passes_failures_on", a_relay_passes_failures_on),
    ("a_relay_leads_datagrams_back", a_relay_leads_datagrams_back),
    ("a_relay_is_for_ports_of_that_address", a_relay_is_for_ports_of_that_address),
    ("a_relay_holds_nothing_but_its_own", a_relay_holds_nothing_but_its_own),
    ("a_relay_outlives_who_asked_for_it", a_relay_outlives_who_asked_for_it),
];

const LONG: Duration = Duration::from_secs(60);

/// A relay that ends with the test.
struct Running(i32, Box<dyn Fn()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.1();
    }
}

fn start(lab: &Lab, ports: &[PortMapping], addresses: &[IpAddr]) -> Running {
    let zygote = lab.zygote.lock().unwrap();
    let relay = relay::start(zygote.as_ref().unwrap(), "default/web", &lab.cgroup(), ports, addresses);
    let relay = relay.unwrap().unwrap();
    Running(relay.pid, Box::new(move || relay::stop(relay).unwrap()))
}

fn local(port: u16) -> SocketAddr {
    at("::1".parse().unwrap(), port)
}

fn connect(port: u16) -> TcpStream {
    try_connect(port).unwrap()
}

fn try_connect(port: u16) -> std::io::Result<TcpStream> {
    let conn = TcpStream::connect_timeout(&local(port), LONG)?;
    conn.set_read_timeout(Some(LONG))?;
    Ok(conn)
}

/// The error of a connection that is reset at once: a quick relay is seen to do it while one still connects.
fn refusal(port: u16) -> ErrorKind {
    try_connect(port).and_then(|mut conn| conn.read(&mut [0])).unwrap_err().kind()
}

fn listen(pod: &'static str, address: SocketAddr) -> TcpListener {
    within(pod, move || TcpListener::bind(address).unwrap())
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|it| ((it * 31 + seed) % 251) as u8).collect()
}

/// Reads all until the client has ended, and only then answers with the same.
fn echo_at_the_end(listener: TcpListener) {
    for conn in listener.incoming() {
        std::thread::spawn(move || {
            let (mut conn, mut all) = (conn.unwrap(), Vec::new());
            conn.read_to_end(&mut all).unwrap();
            // A client that is gone by now is none of this server's business.
            let _ = conn.write_all(&all);
        });
    }
}

fn a_relay_carries_both_directions_to_their_ends(lab: &Lab) {
    for (address, port) in [(v6("pod1"), 8081), (v4("pod1"), 8082)] {
        let _relay = start(lab, &[mapping(port, 80)], &[address]);
        let listener = listen("pod1", at(address, 80));
        std::thread::spawn(move || echo_at_the_end(listener));
        for length in [0, 1, 3_000_000] {
            let data = pattern(length, length);
            let mut conn = connect(port);
            conn.write_all(&data).unwrap();
            conn.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            conn.read_to_end(&mut answer).unwrap();
            assert!(answer == data, "{length} bytes came back as {}", answer.len());
        }
        // The pod may end first, too, and go on listening.
        let listener = listen("pod2", at(v4("pod2"), 81));
        let _other = start(lab, &[mapping(port + 10, 81)], &[v4("pod2")]);
        let server = std::thread::spawn(move || {
            let (mut conn, _) = listener.accept().unwrap();
            conn.write_all(b"first").unwrap();
            conn.shutdown(Shutdown::Write).unwrap();
            let mut all = String::new();
            conn.read_to_string(&mut all).unwrap();
            all
        });
        let mut conn = connect(port + 10);
        let mut first = String::new();
        conn.read_to_string(&mut first).unwrap();
        assert_eq!(first, "first");
        conn.write_all(b"then").unwrap();
        drop(conn);
        assert_eq!(server.join().unwrap(), "then");
    }
}

fn a_relay_serves_two_hundred_at_once(lab: &Lab) {
    let _relay = start(lab, &[mapping(8083, 83)], &[v6("pod1")]);
    let listener = listen("pod1", at(v6("pod1"), 83));
    std::thread::spawn(move || echo_at_the_end(listener));
    let mut conns: Vec<_> = (0..200).map(|_| connect(8083)).collect();
    for (number, conn) in conns.iter_mut().enumerate() {
        conn.write_all(&pattern(20_000, number)).unwrap();
    }
    for (number, conn) in conns.iter_mut().enumerate().rev() {
        conn.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        conn.read_to_end(&mut answer).unwrap();
        assert!(answer == pattern(20_000, number), "connection {number}");
    }
}

fn memory(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    rollup.lines().filter(|it| it.starts_with("Private_")).map(field).sum()
}

fn a_relay_keeps_nothing_that_is_not_taken(lab: &Lab) {
    let relay = start(lab, &[mapping(8084, 84)], &[v6("pod1")]);
    let idle = memory(relay.0);
    let listener = listen("pod1", at(v6("pod1"), 84));
    let mut conn = connect(8084);
    let (mut server, _) = listener.accept().unwrap();
    conn.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0;
    // Until neither the sockets nor the relay take more.
    while let Ok(length) = conn.write(&pattern(65_536, sent)) {
        sent += length;
        assert!(sent < 1 << 30, "somebody takes everything");
    }
    let full = memory(relay.0);
    println!("  the relay's own memory: {idle} KiB idle, {full} KiB with {sent} bytes on their way");
    assert!(full < 1024, "{full} KiB");
    conn.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent);
    // And it waits without being busy while nobody takes anything.
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", relay.0)).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(ticks() - before < 10, "it is busy with nothing");
}

fn a_relay_refuses_what_is_too_much_and_goes_on(lab: &Lab) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if maximum.is_some_and(|it| it < 4096) {
        return println!("skipped: a relay's limit: there may be only {maximum:?} descriptors here");
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let _relay = start(lab, &[mapping(8085, 85)], &[v6("pod1")]);
    let listener = listen("pod1", at(v6("pod1"), 85));
    let mut conns = Vec::new();
    for number in 0..1024 {
        let mut conn = connect(8085);
        let (mut server, _) = listener.accept().unwrap();
        conn.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap_or_else(|error| panic!("connection {number}: {error}"));
        conns.push((conn, server));
    }
    assert_eq!(refusal(8085), ErrorKind::ConnectionReset);
    // The others are none the worse, and one that ends makes room.
    let (mut conn, mut server) = conns.swap_remove(500);
    conn.write_all(b"y").unwrap();
    server.read_exact(&mut [0]).unwrap();
    drop((conn, server));
    for attempt in 0.. {
        // It may not have seen the end of the other one yet.
        let mut conn = match try_connect(8085) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset && attempt < 100 => continue,
            other => other.unwrap(),
        };
        if conn.write_all(b"z").is_ok() && conn.set_read_timeout(Some(Duration::from_millis(50))).is_ok() {
            match conn.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset && attempt < 100 => continue,
                other => assert_eq!(other.unwrap_err().kind(), ErrorKind::WouldBlock),
            }
        }
        break;
    }
}

fn a_relay_passes_failures_on(lab: &Lab) {
    let _relay = start(lab, &[mapping(8086, 86)], &[v6("pod1")]);
    // Nobody listens.
    assert_eq!(refusal(8086), ErrorKind::ConnectionReset);
    let listener = listen("pod1", at(v6("pod1"), 86));
    let abort = |conn: &TcpStream| {
        rustix::net::sockopt::set_socket_linger(conn, Some(Duration::ZERO)).unwrap();
    };
    let mut conn = connect(8086);
    let (server, _) = listener.accept().unwrap();
    abort(&server);
    drop(server);
    assert_eq!(conn.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let conn = connect(8086);
    let (mut server, _) = listener.accept().unwrap();
    abort(&conn);
    drop(conn);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn a_relay_leads_datagrams_back(lab: &Lab) {
    let udp = PortMapping { protocol: Protocol::Udp, ..mapping(5353, 53) };
    for address in [v6("pod1"), v4("pod1")] {
        let _relay = start(lab, &[udp], &[address]);
        let echo = within("pod1", move || UdpSocket::bind(at(address, 53)).unwrap());
        let server = start_within("pod1", move || {
            let mut buffer = vec![0; 65_536];
            loop {
                let (length, from) = echo.recv_from(&mut buffer).unwrap();
                if &buffer[..length] == b"stop" {
                    return;
                }
                echo.send_to(&buffer[..length], from).unwrap();
            }
        });
        // More clients than are remembered at once, each of which gets its own answer.
        let clients: Vec<_> = (0..300).map(|_| UdpSocket::bind("[::1]:0").unwrap()).collect();
        let mut buffer = vec![0; 65_536];
        for (number, client) in clients.iter().enumerate() {
            client.connect(local(5353)).unwrap();
            client.set_read_timeout(Some(LONG)).unwrap();
            let data = pattern(1 + number * 40, number);
            client.send(&data).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert!(buffer[..length] == data, "client {number}");
        }
        // One that was forgotten is known again when it speaks.
        clients[0].send(b"again").unwrap();
        assert_eq!(clients[0].recv(&mut buffer).unwrap(), 5);
        clients[0].send(b"stop").unwrap();
        server.join().unwrap();
        // A pod that does not listen is no reason to end.
        clients[1].send(b"lost").unwrap();
        clients[2].send(b"lost").unwrap();
    }
}

fn a_relay_is_for_ports_of_that_address(lab: &Lab) {
    let zygote = lab.zygote.lock().unwrap();
    let begin = |ports: &[PortMapping]| {
        relay::start(zygote.as_ref().unwrap(), "default/web", &lab.cgroup(), ports, &[v6("pod1")])
    };
    for port in ["127.0.0.1", "0.0.0.0", "2001:db8::1"].map(|it| mapping_at(it, 8087, 80)) {
        assert_eq!(begin(&[port]).unwrap(), None, "{port}");
    }
    let sctp = PortMapping { protocol: Protocol::Sctp, ..mapping(8087, 80) };
    assert_eq!(begin(&[sctp]).unwrap(), None);
    for port in [mapping(8087, 80), mapping_at("::", 8087, 80), mapping_at("::1", 8087, 80)] {
        let relay = begin(&[port]).unwrap().unwrap();
        let error = begin(&[port]).unwrap_err().to_string();
        assert_eq!(error, format!("host port {port} is taken by process {} (coracle-relay)", relay.pid));
        relay::stop(relay).unwrap();
        // Once more is no error.
        relay::stop(relay).unwrap();
    }
}

fn a_relay_holds_nothing_but_its_own(lab: &Lab) {
    let udp = PortMapping { protocol: Protocol::Udp, ..mapping(8088, 53) };
    let relay = start(lab, &[mapping(8088, 80), udp], &[v6("pod1")]);
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", relay.0)).unwrap();
    assert_eq!(proc("cmdline").trim_end_matches('\0'), "coracle-relay default/web");
    assert_eq!(proc("comm").trim_end(), "coracle-relay");
    assert!(proc("cgroup").lines().any(|it| it.contains("coracle-test-network-") && it.ends_with("/shim")));
    assert!(proc("status").lines().any(|it| it == "Threads:\t1"));
    // The three streams and the two sockets, as soon as it has closed what it said by that it is ready.
    let look = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", relay.0)).unwrap().flatten();
        let to = fds.filter_map(|it| std::fs::read_link(it.path()).ok());
        let mut fds: Vec<_> = to.map(|it| it.to_string_lossy().into_owned()).collect();
        fds.sort();
        fds
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut fds = look();
    while fds.len() > 5 && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(5));
        fds = look();
    }
    assert_eq!(fds[..3], ["/dev/null"; 3].map(str::to_owned));
    assert!(fds.len() == 5 && fds[3..].iter().all(|it| it.starts_with("socket:")), "{fds:?}");
}

/// The last one: it ends the zygote.
fn a_relay_outlives_who_asked_for_it(lab: &Lab) {
    let udp = PortMapping { protocol: Protocol::Udp, ..mapping(8089, 89) };
    let relay = start(lab, &[mapping(8089, 89), udp], &[v6("pod1")]);
    let _server = Server::start("pod1", at(v6("pod1"), 89));
    drop(lab.zygote.lock().unwrap().take());
    for _ in 0..2 {
        assert_eq!(ask(HOST, local(8089)).unwrap(), "pod1 fd77::1");
        assert_eq!(ask_udp(HOST, None, local(8089), LONG).unwrap(), "pod1 fd77::1");
    }
    let pid = relay.0;
    drop(relay);
    let left = sh(&format!("cat /proc/{pid}/cmdline 2>/dev/null || true"));
    assert_eq!(left, "", "it is still there");
    assert_eq!(ask(HOST, local(8089)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
