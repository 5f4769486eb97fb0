//! Targets that are names: what they mean may change.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::netns::Host;
use e2e::traffic::{Answerer, Protocol};
use e2e::{need, skip};
use serde_json::json;

use super::world::{Echo, PORT, World, round_trip, with_etc};

/// Two addresses of the loopback stand for two machines.
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 12));

fn answerers(host: &Host) -> [Answerer; 2] {
    [(ONE, "one"), (TWO, "two")]
        .map(|(ip, name)| Answerer::start(host, Protocol::Tcp, (ip, 7000).into(), name).expect("a port"))
}

fn world(hosts: &str, resolv_conf: &str) -> World {
    let mut world = World::new();
    world.configure(&json!({"ports": [{"port": PORT}], "targets": ["db:7000"]}));
    let (hosts, resolv_conf) = (world.write("hosts", hosts), world.write("resolv.conf", resolv_conf));
    let config = hosts.with_file_name("config.json");
    let words = ["tool", "ambassador", "--config", config.to_str().expect("a path")];
    world.start_as(with_etc(&hosts, &resolv_conf, &words));
    world
}

#[test]
fn a_name_in_the_hosts_file_is_followed() {
    need!(skip::root());
    let mut world = world("127.0.0.11 db\n", "");
    let _answerers = answerers(&world.host);
    assert_eq!(world.who(PORT).expect("an answer"), "one");
    // In place, as the file is mounted.
    let hosts = world.write("new", "127.0.0.12 db\n").with_file_name("hosts");
    std::fs::write(hosts, "127.0.0.12 db\n").expect("the file is there");
    world.eventually("the name is looked up again", |world| world.who(PORT).is_ok_and(|name| name == "two"));
}

#[test]
fn a_name_that_moves_is_followed_when_its_time_is_over() {
    need!(skip::root());
    let mut world = World::new();
    let dns = Dns::start(&world.host, Some(ONE));
    world
        .configure(&json!({"ports": [{"port": PORT}, {"port": 6380, "targets": ["db:7001"]}], "targets": ["db:7000"]}));
    let (hosts, resolv_conf) =
        (world.write("hosts", ""), world.write("resolv.conf", "nameserver 127.0.0.1\nsearch x.test\n"));
    let config = hosts.with_file_name("config.json");
    let _answerers = answerers(&world.host);
    let _echo = Echo::start(&world.host, (ONE, 7001).into());
    world.start_as(with_etc(
        &hosts,
        &resolv_conf,
        &["tool", "ambassador", "--config", config.to_str().expect("a path")],
    ));
    assert_eq!(world.who(PORT).expect("the client waits for the name"), "one");
    let mut old = world.connect(6380);
    round_trip(&mut old, "before").expect("it stands");
    dns.tell(Some(TWO));
    world.eventually("the name is looked up again", |world| world.who(PORT).is_ok_and(|name| name == "two"));
    round_trip(&mut old, "after").expect("it still stands");
    // A server that is gone changes nothing.
    dns.silence(true);
    dns.wait_until_asked();
    assert_eq!(world.who(PORT).expect("what was known counts"), "two");
    // A name that is gone leads nowhere.
    dns.silence(false);
    dns.tell(None);
    world.eventually("it leads nowhere", |world| world.who(PORT).is_err() && !world.is_ready());
    dns.tell(Some(ONE));
    world.eventually("it is there again", |world| world.who(PORT).is_ok_and(|name| name == "one"));
}

/// A name server that knows `db.x.test`.
struct Dns {
    address: Arc<Mutex<Option<IpAddr>>>,
    silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    asked: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    fn start(host: &Host, address: Option<IpAddr>) -> Self {
        let socket = host.within(|| UdpSocket::bind("127.0.0.1:53")).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        let address = Arc::new(Mutex::new(address));
        let (silent, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (tell, asked) = mpsc::channel();
        let (told, quiet, stopped) = (address.clone(), silent.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut question = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                // Nobody may wait for it.
                let _ = tell.send(());
                if !quiet.load(Ordering::Relaxed) {
                    let known = *told.lock().expect("nobody panics");
                    let _ = socket.send_to(&answer(&question[..length], known), from);
                }
            }
        });
        Self { address, silent, stop, asked, thread: Some(thread) }
    }

    fn tell(&self, address: Option<IpAddr>) {
        *self.address.lock().expect("nobody panics") = address;
    }

    fn silence(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
        while self.asked.try_recv().is_ok() {}
    }

    fn wait_until_asked(&self) {
        self.asked.recv_timeout(e2e::deadline()).expect("it asks again");
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is shown already.
            let _ = thread.join();
        }
    }
}

/// An answer for a second.
fn answer(question: &[u8], known: Option<IpAddr>) -> Vec<u8> {
    let mut message = question.to_vec();
    let named = message[12..].starts_with(b"\x02db\x01x\x04test\0");
    let is_a = message[message.len() - 3] == 1;
    message[2] |= 0x80;
    match known {
        Some(IpAddr::V4(address)) if named => {
            if is_a {
                message[7] = 1;
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                message.extend(address.octets());
            }
        }
        _ => message[3] |= 3,
    }
    message
}
