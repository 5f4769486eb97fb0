//! `fetch`: prints what a URL serves, or says why it cannot.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::http::{self, Head};
use super::{Failure, flag_value, resolve, signals};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// `fetch [--timeout DURATION] URL`
pub fn main(args: &[OsString]) -> Result<u8, Failure> {
    let (url, timeout) = parse(args)?;
    signals::end_on_termination()?;
    let deadline = Instant::now() + timeout;
    fetch(&url, deadline, &mut io::stdout().lock()).map_err(|why| Failure::Failed(format!("{}: {why}", url.text)))?;
    Ok(0)
}

#[derive(Debug, PartialEq)]
struct Url {
    text: String,
    host: String,
    port: u16,
    path: String,
}

fn parse(args: &[OsString]) -> Result<(Url, Duration), Failure> {
    let (mut url, mut timeout) = (None, DEFAULT_TIMEOUT);
    let mut words = args.iter().cloned();
    while let Some(word) = words.next() {
        if let Some(value) = flag_value("--timeout", &word, &mut words) {
            let value = value?;
            timeout = value
                .to_str()
                .and_then(duration)
                .ok_or_else(|| Failure::Usage(format!("{} is not a duration such as 2s or 500ms", value.display())))?;
        } else if url.is_some() || word.to_string_lossy().starts_with('-') {
            return Err(Failure::Usage(format!("unexpected {}", word.display())));
        } else {
            url = Some(Url::parse(&word.to_string_lossy()).map_err(Failure::Usage)?);
        }
    }
    Ok((url.ok_or_else(|| Failure::Usage("which URL?".into()))?, timeout))
}

/// `2s`, `500ms`, `1m`, `1.5` (seconds).
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        _ => return None,
    };
    let span = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()?;
    // An instant that far ahead must exist.
    (span <= Duration::from_secs(86_400 * 365)).then_some(span)
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => return Err(format!("{scheme}:// is not supported, only http://")),
            None => return Err(format!("{text} does not begin with http://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let wrong = || format!("{text} names no host and port that can be asked");
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or_else(wrong)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port {
            "" | ":" => 80,
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(wrong)?,
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
        if host.is_empty() || host.contains(odd) || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { text: text.to_owned(), host: host.to_owned(), port, path })
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

fn fetch(url: &Url, deadline: Instant, out: &mut impl Write) -> Result<(), String> {
    let addresses = resolve::lookup(&url.host, deadline)?;
    let stream = connect(&addresses, url.port, deadline)?;
    let mut timed = Timed { stream: &stream, deadline };
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: coracle/{}\r\naccept: */*\r\nconnection: close\r\n\r\n",
        url.path,
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    timed.write_all(request.as_bytes()).map_err(|e| format!("send the request: {e}"))?;
    let mut input = BufReader::new(timed);
    let read = |e: io::Error| format!("read the answer: {e}");
    let head = loop {
        let head = Head::read(&mut input).map_err(read)?.ok_or("the server closed the connection without an answer")?;
        // 1xx announces the answer proper.
        if status(&head)? >= 200 {
            break head;
        }
    };
    let code = status(&head)?;
    if !(200..300).contains(&code) {
        let line = head.first_line.split_once(' ').map_or("", |(_, rest)| rest);
        let hint = head.field("location").map(|to| format!(" (see {to})")).unwrap_or_default();
        return Err(format!("the server answers {line}{hint}"));
    }
    body(&head, code, &mut input, out).and_then(|()| out.flush()).or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(read(error)),
    })
}

fn status(head: &Head) -> Result<u16, String> {
    let mut words = head.first_line.split_whitespace();
    let protocol = words.next().unwrap_or_default();
    let code = words.next().and_then(|code| code.parse().ok());
    code.filter(|_| protocol.starts_with("HTTP/1.")).ok_or_else(|| format!("this is not HTTP/1: {:?}", head.first_line))
}

fn body(head: &Head, code: u16, input: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    if code == 204 {
        return Ok(());
    }
    if head.says("transfer-encoding", "chunked") {
        return http::copy_chunks(input, out);
    }
    match head.content_length()? {
        Some(length) => http::copy_exactly(input, out, length),
        None => io::copy(input, out).map(drop),
    }
}

/// Connects to the first address that accepts; each has its share of the time that is left.
fn connect(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, String> {
    let mut trouble = String::from("no address");
    for (at, address) in addresses.iter().enumerate() {
        let shares = (addresses.len() - at) as u32;
        let share = deadline.saturating_duration_since(Instant::now()) / shares;
        let address = SocketAddr::new(*address, port);
        if share.is_zero() {
            return Err(format!("connect to {address}: timed out"));
        }
        match TcpStream::connect_timeout(&address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                trouble = format!("connect to {address}: timed out");
            }
            Err(error) => trouble = format!("connect to {address}: {error}"),
        }
    }
    Err(trouble)
}

/// A stream whose every read and write ends at one deadline.
struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")) } else { Ok(Some(left)) }
    }
}

/// A socket's time-out comes as "would block", which says nothing to a reader.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::Error::new(io::ErrorKind::TimedOut, "timed out") } else { error }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(timed_out)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_path() {
        for (text, host, port, path, authority) in [
            ("http://web", "web", 80, "/", "web"),
            ("HTTP://web:8080/a?b#c", "web", 8080, "/a?b", "web:8080"),
            ("http://web?x=1", "web", 80, "/?x=1", "web"),
            ("http://[::1]:81/", "::1", 81, "/", "[::1]:81"),
            ("http://10.0.0.1:/x", "10.0.0.1", 80, "/x", "10.0.0.1"),
        ] {
            let url = Url { text: text.into(), host: host.into(), port, path: path.into() };
            assert_eq!(url.authority(), authority);
            assert_eq!(Url::parse(text), Ok(url));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for text in
            ["web", "https://web", "http://", "http://:80", "http://[::1", "http://a:b", "http://u@web", "http://a/ b"]
        {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, span) in [
            ("2s", Some(Duration::from_secs(2))),
            ("500ms", Some(Duration::from_millis(500))),
            ("1m", Some(Duration::from_secs(60))),
            ("1.5", Some(Duration::from_millis(1500))),
            ("2h", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("s", None),
        ] {
            assert_eq!(duration(text), span, "{text}");
        }
    }
}
