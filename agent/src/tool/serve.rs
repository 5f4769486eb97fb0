//! `serve`: answers every HTTP request with one text.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::http::{self, Head};
use super::{Failure, flag_value, plain, signals};

/// Connections served at once; a further one is closed, which tells its client more than a silent queue would.
const MAX_CONNECTIONS: usize = 512;
const STACK_BYTES: usize = 64 * 1024;
const IDLE: Duration = Duration::from_secs(75);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// `serve --port PORT [--text TEXT] [--address ADDRESS]`
pub fn main(args: &[OsString]) -> Result<u8, Failure> {
    let options = Options::parse(args)?;
    signals::end_on_termination()?;
    let body = options.text.unwrap_or_else(|| format!("hello from {}", pod_name()));
    let body: &'static str = Box::leak(format!("{body}\n").into_boxed_str());
    let listener = listen(options.address, options.port)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    plain::print(format!("serving on {address}\n").as_bytes())?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => start(stream, body),
            // Out of descriptors or memory: connections that end give some back.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Options {
    port: u16,
    text: Option<String>,
    address: Option<IpAddr>,
}

impl Options {
    fn parse(args: &[OsString]) -> Result<Self, Failure> {
        let (mut port, mut text, mut address) = (None, None, None);
        let mut words = args.iter().cloned();
        while let Some(word) = words.next() {
            if let Some(value) = flag_value("--port", &word, &mut words) {
                let value = value?;
                let number = value.to_str().and_then(|value| value.parse().ok());
                port = Some(number.ok_or_else(|| Failure::Usage(format!("{} is not a port", value.display())))?);
            } else if let Some(value) = flag_value("--text", &word, &mut words) {
                text = Some(value?.to_string_lossy().into_owned());
            } else if let Some(value) = flag_value("--address", &word, &mut words) {
                let value = value?;
                let parsed = value.to_str().and_then(|value| value.parse().ok());
                address = Some(parsed.ok_or_else(|| Failure::Usage(format!("{} is not an address", value.display())))?);
            } else {
                return Err(Failure::Usage(format!("unexpected {}", word.display())));
            }
        }
        let port = port.ok_or_else(|| Failure::Usage("--port is missing".into()))?;
        Ok(Self { port, text, address })
    }
}

fn pod_name() -> String {
    match std::env::var("POD_NAME") {
        Ok(name) if !name.is_empty() => name,
        _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// Listens on both families unless told an address; on IPv4 alone where the kernel has no IPv6.
fn listen(address: Option<IpAddr>, port: u16) -> Result<TcpListener, Failure> {
    let outcome = match address {
        Some(address) => bind(SocketAddr::new(address, port)),
        None => match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
            other => other,
        },
    };
    outcome.map_err(|e| Failure::Failed(format!("listen on port {port}: {}", io::Error::from(e))))
}

fn bind(address: SocketAddr) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // The default for this is a sysctl; both families are wanted whatever it says.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1024)?;
    Ok(TcpListener::from(socket))
}

fn start(stream: TcpStream, body: &'static str) {
    if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let serve = move || {
        // A connection's failure concerns its client, who sees it.
        let _ = converse(&stream, body);
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    };
    if thread::Builder::new().stack_size(STACK_BYTES).spawn(serve).is_err() {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(stream: &TcpStream, body: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(4096, stream);
    while let Some(head) = Head::read(&mut input)? {
        skip_body(&head, &mut input, &mut &*stream)?;
        let keep = stays_open(&head);
        let connection = if keep { "keep-alive" } else { "close" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
            body.len()
        );
        if !head.first_line.starts_with("HEAD ") {
            answer.push_str(body);
        }
        (&mut &*stream).write_all(answer.as_bytes())?;
        if !keep {
            break;
        }
    }
    Ok(())
}

fn stays_open(head: &Head) -> bool {
    match head.first_line.ends_with("HTTP/1.1") {
        true => !head.says("connection", "close"),
        false => head.says("connection", "keep-alive"),
    }
}

fn skip_body(head: &Head, input: &mut BufReader<&TcpStream>, out: &mut impl Write) -> io::Result<()> {
    if head.says("expect", "100-continue") {
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if head.says("transfer-encoding", "chunked") {
        return http::copy_chunks(input, &mut io::sink());
    }
    http::copy_exactly(input, &mut io::sink(), head.content_length()?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, Failure> {
        Options::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_take_their_value_either_way() {
        let all = Options { port: 80, text: Some("a b".into()), address: Some(Ipv4Addr::LOCALHOST.into()) };
        assert_eq!(parse(&["--port", "80", "--text=a b", "--address", "127.0.0.1"]), Ok(all));
    }

    #[test]
    fn wrong_flags_are_named() {
        for (words, why) in [
            (&[][..], "--port is missing"),
            (&["--port"], "--port needs a value"),
            (&["--port", "70000"], "70000 is not a port"),
            (&["--port=80", "x"], "unexpected x"),
            (&["--portal=80"], "unexpected --portal=80"),
            (&["--port=80", "--address=here"], "here is not an address"),
        ] {
            assert_eq!(parse(words), Err(Failure::Usage(why.into())));
        }
    }
}
