//! The clients' end of a stream: the request for an upgrade, and what follows it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use e2e::cri::Endpoint;
use e2e::cri::proto::{AttachRequest, ExecRequest, PortForwardRequest};
use e2e::deadline;
use runtime::streaming::channels::Config;
use runtime::streaming::portforward;
use runtime::streaming::remotecommand::{Client, Options, Protocol, Status};
use runtime::streaming::websocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How streams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Spdy,
    WebSocket,
}

pub const WIRES: [Wire; 2] = [Wire::Spdy, Wire::WebSocket];

/// What a server answered to one request, and the connection behind it.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub connection: TcpStream,
}

/// Asks for an address with these headers.
pub fn ask(endpoint: &dyn Endpoint, method: &str, url: &str, headers: &str) -> Answer {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is no address of plain HTTP"));
    let (authority, path) = rest.split_once('/').expect("an address with a path");
    let mut connection = endpoint.host().within(|| TcpStream::connect(authority)).expect("it listens");
    connection.set_read_timeout(Some(deadline())).expect("a socket takes a timeout");
    write!(connection, "{method} /{path} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n").expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {head:?}"));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a head has a status");
    Answer { status, head, connection }
}

/// The headers of an upgrade.
pub fn headers(wire: Wire, protocol: &str) -> String {
    match wire {
        Wire::Spdy => {
            format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n")
        }
        Wire::WebSocket => {
            let key = websocket::new_key().expect("randomness");
            format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n"
            )
        }
    }
}

fn upgrade(endpoint: &dyn Endpoint, url: &str, wire: Wire, protocol: &str) -> tokio::net::TcpStream {
    let answer = ask(endpoint, "POST", url, &headers(wire, protocol)).expect_upgrade(protocol);
    answer.set_nonblocking(true).expect("a socket can");
    tokio::net::TcpStream::from_std(answer).expect("a socket is polled")
}

impl Answer {
    fn expect_upgrade(self, protocol: &str) -> TcpStream {
        assert_eq!(self.status, 101, "{}", self.head);
        assert!(self.head.contains(protocol), "{}", self.head);
        self.connection
    }
}

/// Connects to the session of an address. To be called within the client's runtime.
pub async fn session(endpoint: &dyn Endpoint, url: &str, wire: Wire, options: Options) -> Client {
    let (name, protocol) = match wire {
        Wire::Spdy => ("v4.channel.k8s.io", Protocol::spdy(["v4.channel.k8s.io"])),
        Wire::WebSocket => ("v5.channel.k8s.io", Protocol::websocket(["v5.channel.k8s.io"])),
    };
    let io = upgrade(endpoint, url, wire, name);
    Client::start(io, protocol.expect("it is spoken"), options, Config::default()).await.expect("streams open")
}

/// Connects to the ports of an address.
pub fn ports(endpoint: &dyn Endpoint, url: &str, wire: Wire) -> portforward::Client {
    let (name, protocol) = match wire {
        Wire::Spdy => ("portforward.k8s.io", portforward::Protocol::Spdy),
        Wire::WebSocket => ("SPDY/3.1+portforward.k8s.io", portforward::Protocol::SpdyInWebSocket),
    };
    let io = upgrade(endpoint, url, wire, name);
    portforward::Client::new(io, protocol, &[], Config::default()).expect("it begins")
}

/// Output and error only.
pub const OUTPUT: Options = Options { stdin: false, stdout: true, stderr: true, tty: false };
/// With input.
pub const ALL: Options = Options { stdin: true, ..OUTPUT };
/// A terminal.
pub const TERMINAL: Options = Options { stdin: true, stdout: true, stderr: false, tty: true };

/// Exec's address.
pub fn exec(endpoint: &dyn Endpoint, id: &str, options: Options, command: &[&str]) -> String {
    let Options { stdin, stdout, stderr, tty } = options;
    let cmd = command.iter().map(|&word| word.into()).collect();
    let request = ExecRequest { container_id: id.into(), cmd, tty, stdin, stdout, stderr };
    endpoint.client().exec(request).expect("exec is prepared").url
}

/// Attach's address.
pub fn attach(endpoint: &dyn Endpoint, id: &str, options: Options) -> String {
    let Options { stdin, stdout, stderr, tty } = options;
    let request = AttachRequest { container_id: id.into(), tty, stdin, stdout, stderr };
    endpoint.client().attach(request).expect("attach is prepared").url
}

/// PortForward's address.
pub fn port_forward(endpoint: &dyn Endpoint, sandbox: &str) -> String {
    let request = PortForwardRequest { pod_sandbox_id: sandbox.into(), port: Vec::new() };
    endpoint.client().port_forward(request).expect("port-forward is prepared").url
}

/// What a session came to.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: Status,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Feeds a session, ends its input, and follows it to its end.
pub async fn to_the_end(client: Client, input: &[u8]) -> Outcome {
    let Client { mut stdin, stdout, stderr, outcome, resize: _resize } = client;
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A command that reads no more is no failure of the test.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        }
    };
    let read = |from: Option<runtime::streaming::channels::Receiver>| async {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            from.read_to_end(&mut all).await.expect("output comes to its end");
        }
        all
    };
    let everything = async { tokio::join!(feed, read(stdout), read(stderr), outcome.wait()) };
    let ((), stdout, stderr, status) = within(everything).await;
    Outcome { stdout, stderr, status: status.expect("there is a status") }
}

/// Nothing waits for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(deadline() + Duration::from_secs(30), future).await.expect("it comes to its end in time")
}
