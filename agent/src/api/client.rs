//! The other end: Coracle's own verbs, which ask the agent over its socket.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The largest answer that is read at once.
const MOST: usize = 256 << 20;

const WARNING: HeaderName = HeaderName::from_static("warning");
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Asks the agent of a state directory.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What the agent says, beside the object: what its user should know.
#[derive(Clone, Debug)]
pub struct Said {
    /// The object.
    pub object: Value,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// There is no agent that listens.
#[derive(Debug, thiserror::Error)]
#[error("no agent serves {}; start one with: coracle agent --pod-manifest-path DIR", .0.display())]
pub struct NotServed(PathBuf);

/// The options of an address.
pub struct Options(form_urlencoded::Serializer<'static, String>);

impl Default for Options {
    fn default() -> Self {
        Self(form_urlencoded::Serializer::new(String::new()))
    }
}

impl Options {
    /// One more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.append_pair(name, value);
        self
    }

    /// One more, if there is a value.
    pub fn and(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Behind a path.
    pub fn of(mut self, path: &str) -> String {
        format!("{path}?{}", self.0.finish())
    }
}

/// The address of a pod, or of a part of it.
pub fn pod(namespace: &str, name: &str, part: &str) -> String {
    let part = if part.is_empty() { String::new() } else { format!("/{part}") };
    format!("/api/v1/namespaces/{namespace}/pods/{name}{part}")
}

impl Client {
    /// The agent whose state is in a directory.
    pub fn of(state_dir: &Path) -> Self {
        Self { socket: state_dir.join("agent.sock") }
    }

    /// Asks for something whole.
    pub async fn ask(&self, method: Method, address: &str, body: Option<&Value>) -> anyhow::Result<Said> {
        self.ask_for(method, address, "application/json", body).await
    }

    /// Asks for something whole, in a form of its own.
    pub async fn ask_for(
        &self,
        method: Method,
        address: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Said> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(address).header("accept", accept);
        let answer = self.send(request.body(Full::from(body))?).await?;
        let warned = answer.headers().get_all(WARNING).into_iter().filter_map(|it| it.to_str().ok());
        let warnings = warned.map(|text| unquoted(text).to_owned()).collect();
        Ok(Said { object: serde_json::from_slice(&whole(answer).await?).context("read the agent's answer")?, warnings })
    }

    /// Asks for objects that come one a line.
    pub async fn follow(&self, address: &str) -> anyhow::Result<Lines> {
        let answer = self.send(Request::builder().uri(address).body(Full::default())?).await?;
        if answer.status() != StatusCode::OK {
            whole(answer).await?;
            bail!("the agent has no stream at {address}");
        }
        Ok(Lines { body: answer.into_body(), pending: Vec::new() })
    }

    /// Asks for a connection that streams go over.
    pub async fn upgrade(&self, address: &str, protocol: &str) -> anyhow::Result<TokioIo<Upgraded>> {
        let request = Request::builder().method(Method::POST).uri(address);
        let request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "SPDY/3.1");
        let request = request.header(STREAM_PROTOCOL, protocol).body(Full::default())?;
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            whole(answer).await?;
            bail!("the agent does not begin a session");
        }
        Ok(TokioIo::new(hyper::upgrade::on(answer).await.context("begin a session")?))
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let stream = self.connect().await?;
        request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("coracle"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("speak to the agent")?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.context("speak to the agent")
    }

    async fn connect(&self) -> anyhow::Result<UnixStream> {
        let at = self.socket.display();
        // A path of any length: the directory is opened first.
        let (Some(dir), Some(name)) = (self.socket.parent(), self.socket.file_name()) else {
            bail!("{at} is no path of a socket");
        };
        let connected = async {
            let dir = std::fs::File::open(dir)?;
            let short = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
            UnixStream::connect(Path::new(&short).join(name)).await
        };
        connected.await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NotServed(self.socket.clone()).into(),
            _ => anyhow::Error::new(error).context(format!("reach the agent at {at}")),
        })
    }
}

/// Objects that come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    pending: Vec<u8>,
}

impl Lines {
    /// The next one; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).context("read the agent's answer");
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.context("read the agent's answer")?.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }
}

/// The body of an answer that is no refusal.
async fn whole(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let code = answer.status();
    let read = Limited::new(answer.into_body(), MOST).collect().await;
    let bytes = read.map_err(anyhow::Error::from_boxed).context("read the agent's answer")?.to_bytes();
    if code.is_client_error() || code.is_server_error() {
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        bail!("{}", status["message"].as_str().unwrap_or(text.trim()));
    }
    Ok(bytes)
}

/// The text of a warning.
fn unquoted(text: &str) -> &str {
    text.split_once('"').map_or(text, |(_, rest)| rest.strip_suffix('"').unwrap_or(rest))
}
