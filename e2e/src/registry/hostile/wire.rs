//! HTTP/1.1, as much of it as a registry needs, and as little of it as a fault wants.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::answer::{Answer, answer, target};
use super::{Fault, Request, Shared};

const CHUNK: usize = 16 * 1024;
/// How often a connection that waits looks whether the registry ends.
const TICK: Duration = Duration::from_millis(100);

/// A request as it came.
pub(super) struct Asked {
    pub method: String,
    pub path: String,
    pub from: Option<u64>,
    pub authorization: Option<String>,
}

/// Answers the requests of one connection. An error is the client's leaving.
pub(super) fn converse(shared: &Shared, stream: TcpStream) {
    let _ = try_converse(shared, stream);
}

fn try_converse(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while wait_for_request(shared, &mut reader)? {
        let Some(asked) = read_request(&mut reader)? else { return Ok(()) };
        let target = target(shared, &asked.path);
        let answer = answer(shared, &asked, target);
        let number = {
            let mut state = shared.lock();
            let (method, path) = (asked.method.clone(), asked.path.clone());
            let (from, authorization) = (asked.from, asked.authorization.clone());
            let (status, at) = (answer.status, Instant::now());
            state.requests.push(Request { target, method, path, from, authorization, status, bytes: 0, at });
            at
        };
        let sent = |bytes: usize| {
            let mut state = shared.lock();
            // Requests may have been forgotten meanwhile.
            let request = state.requests.iter_mut().find(|request| request.at == number && request.target == target);
            if let Some(request) = request {
                request.bytes += bytes as u64;
            }
        };
        if !send(shared, &stream, &asked, &answer, sent)? {
            return Ok(());
        }
    }
    Ok(())
}

/// False when the client has gone or the registry ends.
fn wait_for_request(shared: &Shared, reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
    loop {
        match reader.fill_buf() {
            Ok(bytes) => return Ok(!bytes.is_empty()),
            Err(error) if is_timeout(&error) && !shared.stopping() => {}
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut asked = Asked { method: method.into(), path: path.into(), from: None, authorization: None };
    let mut body = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => body = value.parse().unwrap_or(0),
            "range" => {
                let from = value.strip_prefix("bytes=").and_then(|range| range.split('-').next());
                asked.from = from.and_then(|from| from.parse().ok());
            }
            _ => {}
        }
    }
    io::copy(&mut reader.by_ref().take(body), &mut io::sink())?;
    Ok(Some(asked))
}

/// Status line and headers, with the length that the fault wants.
fn head(answer: &Answer, length: u64) -> String {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match &answer.fault {
        Some(Fault::Endless) => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        Some(Fault::Longer(by)) => head.push_str(&format!("Content-Length: {}\r\n\r\n", length + by)),
        Some(Fault::Shorter(by)) => head.push_str(&format!("Content-Length: {}\r\n\r\n", length.saturating_sub(*by))),
        _ => head.push_str(&format!("Content-Length: {length}\r\n\r\n")),
    }
    head
}

/// Sends an answer; true when the connection can go on.
fn send(
    shared: &Shared,
    stream: &TcpStream,
    asked: &Asked,
    answer: &Answer,
    mut sent: impl FnMut(usize),
) -> io::Result<bool> {
    let body = &answer.body[answer.from..];
    let mut out = stream;
    out.write_all(head(answer, body.len() as u64).as_bytes())?;
    if asked.method == "HEAD" {
        return Ok(true);
    }
    let mut write = |bytes: &[u8], pace: Option<(usize, Duration)>| -> io::Result<()> {
        for chunk in bytes.chunks(pace.map_or(CHUNK, |(size, _)| size)) {
            if shared.stopping() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            out.write_all(chunk)?;
            sent(chunk.len());
            if let Some((_, pause)) = pace {
                std::thread::sleep(pause);
            }
        }
        Ok(())
    };
    let part = |after: usize| &body[..after.min(body.len())];
    match answer.fault {
        Some(Fault::Slow(size, pause)) => write(body, Some((size, pause)))?,
        Some(Fault::Stall(after)) => {
            write(part(after), None)?;
            wait_for_leave(shared, stream)?;
            return Ok(false);
        }
        Some(Fault::Truncate(after)) => {
            write(part(after), None)?;
            return Ok(false);
        }
        Some(Fault::Reset(after)) => {
            write(part(after), None)?;
            // What was sent shall be read first: a reset throws away what is still under way.
            std::thread::sleep(TICK);
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
            return Ok(false);
        }
        Some(Fault::Endless) => loop {
            // A space is white even in JSON: only a limit ends this.
            write(format!("{CHUNK:x}\r\n{}\r\n", " ".repeat(CHUNK)).as_bytes(), None)?;
        },
        Some(Fault::Longer(_) | Fault::Shorter(_)) => {
            write(body, None)?;
            return Ok(false);
        }
        _ => write(body, None)?,
    }
    Ok(true)
}

/// Waits until the client has closed, or the registry ends.
fn wait_for_leave(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while !shared.stopping() {
        match stream.peek(&mut byte) {
            Ok(0) => return Ok(()),
            // It asks for more on the same connection: it will have to wait, too.
            Ok(_) => std::thread::sleep(TICK),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        307 => "Temporary Redirect",
        401 => "Unauthorized",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "By Script",
    }
}
