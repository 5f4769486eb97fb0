//! Questions and answers over TCP and UDP between hosts: who reaches whom, and as whom.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::netns::Host;

/// How long an answer may take: the networks of tests are all on this machine, but the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test waits for what must not come.
pub const SILENCE: Duration = Duration::from_millis(700);

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Both.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

impl Protocol {
    /// As a manifest writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }
}

/// What an [`Answerer`] says: its name, and whom it sees asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of who answers.
    pub name: String,
    /// The address that the question seemed to come from.
    pub from: IpAddr,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.name, self.from)
    }
}

impl Answer {
    fn parse(text: &str) -> io::Result<Self> {
        let parsed = text.trim_end().split_once(' ').and_then(|(name, from)| Some((name, from.parse().ok()?)));
        let (name, from) = parsed.ok_or_else(|| io::Error::other(format!("not an answer: {text:?}")))?;
        Ok(Self { name: name.to_owned(), from })
    }
}

/// Answers every question at an address until it is dropped.
pub struct Answerer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    heard: mpsc::Receiver<IpAddr>,
}

impl Answerer {
    /// Answers at `address`, which may be unspecified, on `host` under `name`.
    pub fn start(host: &Host, protocol: Protocol, address: SocketAddr, name: &str) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (stop.clone(), name.to_owned());
        let (tell, heard) = mpsc::channel();
        let thread = match protocol {
            Protocol::Tcp => {
                let listener = host.within(|| TcpListener::bind(address))?;
                listener.set_nonblocking(true)?;
                std::thread::spawn(move || answer_tcp(&listener, &name, &stopped, &tell))
            }
            Protocol::Udp => {
                let socket = host.within(|| UdpSocket::bind(address))?;
                socket.set_read_timeout(Some(Duration::from_millis(20)))?;
                std::thread::spawn(move || answer_udp(&socket, &name, &stopped, &tell))
            }
        };
        Ok(Self { stop, thread: Some(thread), heard })
    }

    /// Answers by both protocols at a port of every address, of every family.
    pub fn both(host: &Host, port: u16, name: &str) -> [Self; 2] {
        PROTOCOLS.map(|protocol| {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            Self::start(host, protocol, any, name)
                .unwrap_or_else(|error| panic!("cannot answer at {port}/{protocol:?} of {host:?}: {error}"))
        })
    }

    /// Who has asked since the last time, within `patience` of now; asking again counts again.
    pub fn heard(&self, patience: Duration) -> Vec<IpAddr> {
        let deadline = Instant::now() + patience;
        let mut heard = Vec::new();
        while let Ok(from) = self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            heard.push(from);
        }
        heard
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no reason to panic; if it did, the test has failed for want of answers.
            let _ = thread.join();
        }
    }
}

fn answer_tcp(listener: &TcpListener, name: &str, stop: &AtomicBool, tell: &mpsc::Sender<IpAddr>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, from)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let answer = Answer { name: name.to_owned(), from: from.ip().to_canonical() };
        // Whoever asked notices when the answer does not arrive.
        let _ = stream.write_all(answer.to_string().as_bytes());
        let _ = tell.send(answer.from);
    }
}

fn answer_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool, tell: &mpsc::Sender<IpAddr>) {
    let mut question = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, from)) = socket.recv_from(&mut question) {
            let answer = Answer { name: name.to_owned(), from: from.ip().to_canonical() };
            let _ = socket.send_to(answer.to_string().as_bytes(), from);
            let _ = tell.send(answer.from);
        }
    }
}

/// Asks at `address` from `host`.
pub fn ask(host: &Host, protocol: Protocol, address: SocketAddr) -> io::Result<Answer> {
    ask_within(host, protocol, address, PATIENCE)
}

/// Asks at `address` from `host`, and waits no longer than `patience`.
pub fn ask_within(host: &Host, protocol: Protocol, address: SocketAddr, patience: Duration) -> io::Result<Answer> {
    let text = host.within(|| match protocol {
        Protocol::Tcp => ask_tcp(address, patience),
        Protocol::Udp => ask_udp(address, patience),
    })?;
    Answer::parse(&text)
}

fn ask_tcp(address: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_udp(address: SocketAddr, patience: Duration) -> io::Result<String> {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: an answer from any other address is no answer.
    socket.connect(address)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(b"who?")?;
    let mut answer = [0; 2048];
    let read = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// What an HTTP server answers to `GET /`.
pub fn get(host: &Host, address: SocketAddr) -> io::Result<String> {
    get_within(host, address, PATIENCE)
}

/// What an HTTP server answers to `GET /` within `patience`.
pub fn get_within(host: &Host, address: SocketAddr, patience: Duration) -> io::Result<String> {
    host.within(|| {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let ok = head.starts_with("HTTP/1.1 200 ");
        if ok { Ok(body.to_owned()) } else { Err(io::Error::other(format!("the server answers {head}"))) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn whoever_asks_is_told_who_answers_and_whom_it_sees() {
        crate::need!(crate::skip::root());
        let host = Host::new().expect("a namespace");
        let answerers = Answerer::both(&host, 7, "seven");
        let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
        for protocol in PROTOCOLS {
            let answer = ask(&host, protocol, (localhost, 7).into()).expect("an answer");
            assert_eq!(answer, Answer { name: "seven".into(), from: localhost });
            assert!(ask_within(&host, protocol, (localhost, 8).into(), Duration::from_millis(100)).is_err());
        }
        assert_eq!(answerers.map(|answerer| answerer.heard(Duration::from_millis(50))), [[localhost], [localhost]]);
    }
}
