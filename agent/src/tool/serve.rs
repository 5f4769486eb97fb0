//! `serve`: answers every HTTP request with one text, and with the status that a file says.

use std::ffi::OsString;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::http::{self, Head};
use super::{Failure, flag_value, plain, signals, tls};

/// Connections served at once; a further one is closed, which tells its client more than a silent queue would.
const MAX_CONNECTIONS: usize = 512;
/// Enough for a handshake, too; what is not used costs nothing.
const STACK_BYTES: usize = 256 * 1024;
const IDLE: Duration = Duration::from_secs(75);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// `serve --port PORT [--text TEXT] [--address ADDRESS] [--status-file FILE] [--tls] [--log]`
pub fn main(args: &[OsString]) -> Result<u8, Failure> {
    let options = Options::parse(args)?;
    signals::end_on_termination()?;
    let body = options.text.unwrap_or_else(|| format!("hello from {}", pod_name()));
    let tls = if options.tls { Some(tls::Server::new()?) } else { None };
    let site = Site { body: format!("{body}\n"), status_file: options.status_file, tls, log: options.log };
    let site: &'static Site = Box::leak(Box::new(site));
    let listener = listen(options.address, options.port)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    plain::print(format!("serving on {address}\n").as_bytes())?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => start(stream, site),
            // Out of descriptors or memory: connections that end give some back.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What is served.
struct Site {
    body: String,
    /// Holds the status code of answers; none is 200.
    status_file: Option<PathBuf>,
    tls: Option<tls::Server>,
    /// Print the first line of each request.
    log: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    port: u16,
    text: Option<String>,
    address: Option<IpAddr>,
    status_file: Option<PathBuf>,
    tls: bool,
    log: bool,
}

impl Options {
    fn parse(args: &[OsString]) -> Result<Self, Failure> {
        let (mut port, mut options) = (None, Options::default());
        let mut words = args.iter().cloned();
        while let Some(word) = words.next() {
            if let Some(value) = flag_value("--port", &word, &mut words) {
                port = Some(parse_port(&value?)?);
            } else if let Some(value) = flag_value("--text", &word, &mut words) {
                options.text = Some(value?.to_string_lossy().into_owned());
            } else if let Some(value) = flag_value("--address", &word, &mut words) {
                let value = value?;
                let parsed = value.to_str().and_then(|value| value.parse().ok());
                let wrong = || Failure::Usage(format!("{} is not an address", value.display()));
                options.address = Some(parsed.ok_or_else(wrong)?);
            } else if let Some(value) = flag_value("--status-file", &word, &mut words) {
                options.status_file = Some(value?.into());
            } else if word == "--tls" {
                options.tls = true;
            } else if word == "--log" {
                options.log = true;
            } else {
                return Err(Failure::Usage(format!("unexpected {}", word.display())));
            }
        }
        options.port = port.ok_or_else(|| Failure::Usage("--port is missing".into()))?;
        Ok(options)
    }
}

/// The value of `--port`.
pub fn parse_port(value: &OsString) -> Result<u16, Failure> {
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.ok_or_else(|| Failure::Usage(format!("{} is not a port", value.display())))
}

fn pod_name() -> String {
    match std::env::var("POD_NAME") {
        Ok(name) if !name.is_empty() => name,
        _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// Listens on both families unless told an address; on IPv4 alone where the kernel has no IPv6.
pub fn listen(address: Option<IpAddr>, port: u16) -> Result<TcpListener, Failure> {
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

fn start(stream: TcpStream, site: &'static Site) {
    if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let serve = move || {
        // A connection's failure concerns its client, who sees it.
        let _ = receive(stream, site);
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    };
    if thread::Builder::new().stack_size(STACK_BYTES).spawn(serve).is_err() {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn receive(stream: TcpStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    match &site.tls {
        Some(tls) => converse(tls.accept(stream)?, site),
        None => converse(stream, site),
    }
}

fn converse(stream: impl Read + Write, site: &Site) -> io::Result<()> {
    let mut input = BufReader::with_capacity(4096, stream);
    while let Some(head) = Head::read(&mut input)? {
        if site.log {
            let _ = plain::print(format!("{}\n", head.first_line).as_bytes());
        }
        skip_body(&head, &mut input)?;
        let keep = stays_open(&head);
        let connection = if keep { "keep-alive" } else { "close" };
        let mut answer = format!(
            "HTTP/1.1 {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
            site.status(),
            site.body.len()
        );
        if !head.first_line.starts_with("HEAD ") {
            answer.push_str(&site.body);
        }
        input.get_mut().write_all(answer.as_bytes())?;
        input.get_mut().flush()?;
        if !keep {
            break;
        }
    }
    Ok(())
}

impl Site {
    /// The status code and its reason, as the file says now.
    fn status(&self) -> String {
        let held = self.status_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let code = held.and_then(|held| held.trim().parse().ok()).filter(|code: &u16| (200..600).contains(code));
        match code.unwrap_or(200) {
            200 => "200 OK".into(),
            code => format!("{code} As Told"),
        }
    }
}

fn stays_open(head: &Head) -> bool {
    match head.first_line.ends_with("HTTP/1.1") {
        true => !head.says("connection", "close"),
        false => head.says("connection", "keep-alive"),
    }
}

fn skip_body(head: &Head, input: &mut BufReader<impl Read + Write>) -> io::Result<()> {
    if head.says("expect", "100-continue") {
        input.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
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
        let all = Options {
            port: 80,
            text: Some("a b".into()),
            address: Some(Ipv4Addr::LOCALHOST.into()),
            status_file: Some("/s".into()),
            tls: true,
            log: true,
        };
        let words = ["--port", "80", "--text=a b", "--address", "127.0.0.1", "--status-file=/s", "--tls", "--log"];
        assert_eq!(parse(&words), Ok(all));
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
