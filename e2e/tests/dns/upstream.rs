//! A name server of the outside, with one behaviour a name.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::netns::Host;

/// The address of every name that has one.
pub const ADDRESS: [u8; 4] = [198, 51, 100, 7];

/// Long texts in the answer for `big`, each of this length.
pub const TEXTS: u16 = 12;
pub const TEXT: usize = 200;

const A: u16 = 1;
const TXT: u16 = 16;

type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

/// The server. It answers until it is dropped.
pub struct Upstream {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counts: Counts,
}

impl Upstream {
    /// Answers at an address of a host.
    pub fn start(host: &Host, address: IpAddr) -> Self {
        let place = SocketAddr::new(address, 53);
        let (udp, tcp) = host.within(|| (UdpSocket::bind(place), TcpListener::bind(place)));
        let (udp, tcp) = (udp.expect("port 53 is free"), tcp.expect("port 53 is free"));
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        tcp.set_nonblocking(true).expect("a socket");
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Counts::default());
        let (stopped, counted) = (stop.clone(), counts.clone());
        let datagrams = std::thread::spawn(move || answer_udp(&udp, &stopped, &counted));
        let (stopped, counted) = (stop.clone(), counts.clone());
        let connections = std::thread::spawn(move || answer_tcp(&tcp, &stopped, &counted));
        Self { stop, threads: vec![datagrams, connections], counts }
    }

    /// How often it was asked for a name.
    pub fn count(&self, name: &str) -> usize {
        self.counts.lock().expect("no thread panicked").get(name).copied().unwrap_or(0)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer_udp(socket: &UdpSocket, stop: &AtomicBool, counts: &Counts) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        for answer in answers(&buffer[..length], true, counts) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn answer_tcp(listener: &TcpListener, stop: &AtomicBool, counts: &Counts) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let mut length = [0; 2];
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut message).is_err() {
            continue;
        }
        for answer in answers(&message, false, counts) {
            let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat());
        }
    }
}

/// The messages that follow a question.
fn answers(question: &[u8], udp: bool, counts: &Counts) -> Vec<Vec<u8>> {
    let (name, end) = name(question);
    let kind = u16::from_be_bytes([question[end], question[end + 1]]);
    *counts.lock().expect("no thread panicked").entry(name.clone()).or_default() += 1;
    let asked = &question[..end + 4];
    let address = |ttl: u32| vec![(A, ttl, ADDRESS.to_vec())];
    let label = name.split('.').next().unwrap_or_default();
    match label {
        "silent" => Vec::new(),
        // What the search list of the host makes of a name.
        _ if name.ends_with("lan.example") => vec![reply(asked, 3, false, &[])],
        "broken" => vec![reply(asked, 2, false, &[])],
        "big" if udp => vec![reply(asked, 0, true, &[])],
        "big" => {
            let text = [&[TEXT as u8][..], &[b'x'; TEXT]].concat();
            vec![reply(asked, 0, false, &vec![(TXT, 300, text); TEXTS.into()])]
        }
        "missing" => vec![reply(asked, 3, false, &[])],
        "liar" => {
            // Another number, another question, no answer at all; then the truth.
            let lie = vec![(A, 300, vec![203, 0, 113, 66])];
            let mut number = reply(asked, 0, false, &lie);
            number[1] ^= 1;
            let mut other = reply(asked, 0, false, &lie);
            other[13] ^= 1;
            vec![number, other, asked.to_vec(), vec![7; 5], reply(asked, 0, false, &address(300))]
        }
        _ if kind == A => vec![reply(asked, 0, false, &address(300))],
        _ => vec![reply(asked, 0, false, &[])],
    }
}

fn name(message: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 1)
}

fn reply(asked: &[u8], code: u8, cut: bool, records: &[(u16, u32, Vec<u8>)]) -> Vec<u8> {
    let mut message = asked.to_vec();
    message[2] = 0x81 | if cut { 2 } else { 0 };
    message[3] = 0x80 | code;
    message[4..12].copy_from_slice(&[0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    for (kind, ttl, data) in records {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}
