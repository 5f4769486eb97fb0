//! A registry in this process, over plain HTTP, that does what a test tells it.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;

use crate::images::Digest;

/// How to answer one request, instead of as a registry should.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status with headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// So many bytes of the body, then the connection is closed.
    Cut(usize),
    /// So many bytes of the body, then nothing for a while.
    Stall(usize),
    /// The whole, whatever range was asked for.
    NoRange,
    /// Other bytes of the same length.
    Lie,
}

#[derive(Default)]
struct State {
    content: HashMap<String, (String, Vec<u8>)>,
    /// Answers to the next requests whose path contains the key.
    tricks: Vec<(String, VecDeque<Answer>)>,
    /// Method, path and headers of all requests, with the bytes of body sent.
    log: Vec<Seen>,
    /// What requests must carry, and the challenge otherwise.
    guard: Option<(String, String)>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// Plain or TLS.
pub trait Wire: std::io::Read + Write + Send {}

impl<T: std::io::Read + Write + Send> Wire for T {}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    pub sent: usize,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stall,
}

#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { state: Arc::default(), port: listener.local_addr().unwrap().port() };
        let serving = server.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = serving.clone();
                std::thread::spawn(move || server.connection(stream));
            }
        });
        server
    }

    /// From now on connections are TLS.
    pub fn use_tls(&self, config: rustls::ServerConfig) {
        self.state().tls = Some(Arc::new(config));
    }

    fn connection(&self, stream: TcpStream) {
        let tls = self.state().tls.clone();
        let wire: Box<dyn Wire> = match tls {
            Some(config) => Box::new(rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), stream)),
            None => Box::new(stream),
        };
        let mut reader = BufReader::new(wire);
        while self.serve(&mut reader).is_some() {}
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Something at a path of the API.
    pub fn put(&self, path: &str, media_type: &str, bytes: &[u8]) {
        self.state().content.insert(path.to_owned(), (media_type.to_owned(), bytes.to_vec()));
    }

    /// The next requests whose path contains `path` are answered so.
    pub fn trick(&self, path: &str, answers: &[Answer]) {
        self.state().tricks.push((path.to_owned(), answers.iter().cloned().collect()));
    }

    /// Requests must carry this authorization, or are challenged so.
    pub fn guard(&self, authorization: &str, challenge: &str) {
        self.state().guard = Some((authorization.to_owned(), challenge.to_owned()));
    }

    pub fn content(&self, path: &str) -> Vec<u8> {
        self.state().content.get(path).map(|(_, bytes)| bytes.clone()).unwrap()
    }

    pub fn log(&self) -> Vec<Seen> {
        self.state().log.clone()
    }

    pub fn blobs_asked(&self) -> usize {
        self.log().iter().filter(|seen| seen.path.contains("/blobs/")).count()
    }

    /// Publishes an image of blobs and the tars inside; gives the manifest's digest and the blobs'.
    pub fn publish(&self, name: &str, tag: &str, blobs: &[Vec<u8>], tars: &[Vec<u8>]) -> (Digest, Vec<Digest>) {
        let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config = json!({
            "architecture": crate::images::platform::architecture(), "os": "linux",
            "config": { "Cmd": ["/bin/app"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let layers: Vec<Digest> = blobs.iter().map(|blob| Digest::of(blob)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&config), "size": config.len(),
            },
            "layers": blobs.iter().zip(&layers).map(|(blob, digest)| json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": blob.len(),
            })).collect::<Vec<_>>(),
        });
        for (blob, digest) in blobs.iter().zip(&layers) {
            self.put(&format!("/v2/{name}/blobs/{digest}"), "application/octet-stream", blob);
        }
        self.put(&format!("/v2/{name}/blobs/{}", Digest::of(&config)), "application/octet-stream", &config);
        (self.put_manifest(name, tag, &manifest.to_string()), layers)
    }

    /// A manifest or index under a tag and its digest.
    pub fn put_manifest(&self, name: &str, tag: &str, text: &str) -> Digest {
        let digest = Digest::of(text.as_bytes());
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let media_type = value["mediaType"].as_str().unwrap_or("application/json").to_owned();
        for reference in [tag, digest.as_str()] {
            self.put(&format!("/v2/{name}/manifests/{reference}"), &media_type, text.as_bytes());
        }
        digest
    }

    /// Serves one request; `None` when the connection is over.
    fn serve(&self, reader: &mut BufReader<Box<dyn Wire>>) -> Option<()> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
        std::io::Read::read_exact(reader, &mut body).ok()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let mut seen = Seen { method, path, headers, body, sent: 0 };
        let goes_on = self.answer(reader.get_mut(), &mut seen);
        let stalls = goes_on == Some(Next::Stall);
        self.state().log.push(seen);
        if stalls {
            std::thread::sleep(Duration::from_secs(2));
        }
        goes_on.filter(|next| *next == Next::GoOn).map(drop)
    }

    fn answer(&self, stream: &mut Box<dyn Wire>, seen: &mut Seen) -> Option<Next> {
        let bare = seen.path.split('?').next().unwrap_or_default().to_owned();
        let (content, trick, guard) = {
            let mut state = self.state();
            let trick = state.tricks.iter_mut().find(|(part, answers)| bare.contains(part) && !answers.is_empty());
            let trick = trick.and_then(|(_, answers)| answers.pop_front());
            (state.content.get(&bare).cloned(), trick, state.guard.clone().filter(|_| bare.starts_with("/v2/")))
        };
        if let Some((wanted, challenge)) = guard
            && seen.headers.get("authorization") != Some(&wanted)
        {
            let text = r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#;
            let head =
                format!("HTTP/1.1 401 No\r\nwww-authenticate: {challenge}\r\ncontent-length: {}\r\n\r\n", text.len());
            return stream.write_all(format!("{head}{text}").as_bytes()).ok().map(|()| Next::GoOn);
        }
        if let Some(Answer::Status(status, headers, body)) = &trick {
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
            return stream.write_all(text.as_bytes()).ok().map(|()| Next::GoOn);
        }
        let Some((media_type, mut bytes)) = content else {
            let text = r#"{"errors":[{"code":"NOT_FOUND","message":"there is no such thing"}]}"#;
            let text = format!("HTTP/1.1 404 X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            return stream.write_all(text.as_bytes()).ok().map(|()| Next::GoOn);
        };
        if matches!(trick, Some(Answer::Lie)) {
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        let from = seen.headers.get("range").and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.filter(|_| !matches!(trick, Some(Answer::NoRange))).unwrap_or(0);
        let total = bytes.len();
        let part = &bytes[from.min(total)..];
        let status = if from > 0 { "206 Partial" } else { "200 OK" };
        let range = format!("content-range: bytes {from}-{}/{total}\r\n", total.saturating_sub(1));
        let range = if from > 0 { range } else { String::new() };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\n{range}content-length: {}\r\n\r\n", part.len());
        stream.write_all(head.as_bytes()).ok()?;
        let part = match trick {
            Some(Answer::Cut(limit) | Answer::Stall(limit)) => &part[..limit.min(part.len())],
            _ => part,
        };
        let part = if seen.method == "HEAD" { &[] } else { part };
        stream.write_all(part).ok()?;
        seen.sent = part.len();
        match trick {
            Some(Answer::Cut(_)) => None,
            Some(Answer::Stall(_)) => Some(Next::Stall),
            _ => Some(Next::GoOn),
        }
    }
}
