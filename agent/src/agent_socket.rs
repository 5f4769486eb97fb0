//! Calls of the running agent's API, through its socket: for verbs that ask one question.

use std::io::{self, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::tool::http;

/// The name of the socket in the state directory.
const SOCKET: &str = "agent.sock";

/// What the agent answers to a request, as JSON; none when no agent serves the state directory. What it refuses is an
/// error with its own words.
pub fn call(state_dir: &Path, method: &str, path: &str) -> anyhow::Result<Option<Value>> {
    let socket = state_dir.join(SOCKET);
    let stream = match connect(state_dir) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("reach the agent at {}", socket.display())),
    };
    let (code, body) = talk(stream, method, path).with_context(|| format!("ask the agent at {}", socket.display()))?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    if (200..300).contains(&code) {
        return Ok(Some(answer));
    }
    match answer["message"].as_str() {
        Some(message) => bail!("{message}"),
        None => bail!("the agent answers {code} to {method} {path}"),
    }
}

/// Connects by a descriptor of the directory: a socket's path is short, whatever the directory's is.
fn connect(state_dir: &Path) -> io::Result<UnixStream> {
    let dir = std::fs::File::open(state_dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

fn talk(mut stream: UnixStream, method: &str, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: coracle\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut input = BufReader::new(stream);
    let head = http::Head::read(&mut input)?.context("it hangs up without an answer")?;
    let code = head.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.with_context(|| format!("it answers {:?}", head.first_line))?;
    let mut body = Vec::new();
    match head.content_length()? {
        Some(length) => http::copy_exactly(&mut input, &mut body, length)?,
        None if head.says("transfer-encoding", "chunked") => http::copy_chunks(&mut input, &mut body)?,
        None => drop(io::copy(&mut input, &mut body)?),
    }
    Ok((code, body))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn asked(answer: &'static str) -> anyhow::Result<Option<Value>> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let answer = call(dir.path(), "POST", "/x?y=z");
        assert!(serving.join().unwrap().starts_with("POST /x?y=z HTTP/1.1\r\nHost: "));
        answer
    }

    #[test]
    fn an_answer_is_read_in_whatever_form_it_comes() {
        let one = Some(serde_json::json!({"a": 1}));
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n{\"a\":1}",
        ] {
            assert_eq!(asked(answer).unwrap(), one, "{answer}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_agents_words() {
        let refused = asked("HTTP/1.1 404 Not Found\r\nContent-Length: 24\r\n\r\n{\"message\":\"not there\"} ");
        assert_eq!(refused.unwrap_err().to_string(), "not there");
        assert!(asked("HTTP/1.1 500 Oh\r\n\r\n").unwrap_err().to_string().contains("500"));
        assert!(asked("").is_err());
    }

    #[test]
    fn where_no_agent_is_there_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(call(dir.path(), "GET", "/").unwrap(), None);
        drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        assert_eq!(call(dir.path(), "GET", "/").unwrap(), None);
        assert_eq!(call(&dir.path().join("none"), "GET", "/").unwrap(), None);
    }
}
