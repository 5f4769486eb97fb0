//! HTTP and HTTPS, as kubelet asks: no proxy, no verification, one connection a request, redirects on the same host.

use std::pin::{Pin, pin};

use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{HTTPGetAction, HTTPHeader};
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::dial::{DialError, address, dial};
use super::{ActionError, Answer, MAX_ANSWER, Outcome, Subject, tls};

/// How many requests a server may make of one, by sending each on to another path of its own.
const MAX_REQUESTS: usize = 10;

/// The version of Kubernetes whose probes these are: some servers tell probes from people by it.
const KUBERNETES: &str = "1.37";

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A probe.
    Probe,
    /// A hook.
    Lifecycle,
}

impl Purpose {
    /// `kube-probe/VERSION`, which servers and their logs know.
    pub fn user_agent(self) -> String {
        let purpose = match self {
            Purpose::Probe => "probe",
            Purpose::Lifecycle => "lifecycle",
        };
        format!("kube-{purpose}/{KUBERNETES}")
    }
}

/// A request to be made.
#[derive(Clone, Debug)]
pub struct Request {
    url: Url,
    headers: HeaderMap,
}

impl Request {
    /// The request that a manifest describes.
    pub fn new(subject: &Subject, get: &HTTPGetAction, purpose: Purpose) -> Result<Self, ActionError> {
        let port = subject.port(&get.port)?;
        let host = subject.host(get.host.as_deref())?;
        let https = get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let at = address(host, port);
        let url = format!("{}://{at}/", if https { "https" } else { "http" });
        let mut url = Url::parse(&url).map_err(|error| bad(&url, error))?;
        let path = get.path.as_deref().unwrap_or("/");
        let (path, query) = match path.split('#').next().unwrap_or_default().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path.split('#').next().unwrap_or_default(), None),
        };
        url.set_path(path);
        url.set_query(query);
        Ok(Request { url, headers: headers(get.http_headers.as_deref().unwrap_or_default(), purpose, &at)? })
    }

    /// The whole address.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The same request to where an answer points; `None` when that is another host, which is not asked.
    fn redirected(&self, location: &str) -> Result<Option<Request>, ActionError> {
        let url = self.url.join(location).map_err(|error| bad(location, error))?;
        if url.host_str() != self.url.host_str() || !["http", "https"].contains(&url.scheme()) {
            return Ok(None);
        }
        let mut headers = self.headers.clone();
        // A name that the manifest gives stays for as long as the server speaks of paths alone.
        if Url::parse(location).is_ok() {
            let at = address(host_of(&url), url.port_or_known_default().unwrap_or(80));
            headers.insert(HOST, HeaderValue::from_str(&at).map_err(|error| bad(&at, error))?);
        }
        Ok(Some(Request { url, headers }))
    }
}

fn bad(what: &str, reason: impl ToString) -> ActionError {
    ActionError::BadRequest { what: what.to_owned(), reason: reason.to_string() }
}

/// The host without the brackets that an IPv6 address has in an URL.
fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn headers(given: &[HTTPHeader], purpose: Purpose, at: &str) -> Result<HeaderMap, ActionError> {
    let mut headers = HeaderMap::new();
    for header in given {
        let name = HeaderName::try_from(header.name.as_str()).map_err(|error| bad(&header.name, error))?;
        let value = HeaderValue::from_str(&header.value).map_err(|error| bad(&header.name, error))?;
        headers.append(name, value);
    }
    if !headers.contains_key(USER_AGENT) {
        let value = purpose.user_agent();
        headers.insert(USER_AGENT, HeaderValue::from_str(&value).map_err(|error| bad(&value, error))?);
    }
    match headers.get(ACCEPT) {
        None => drop(headers.insert(ACCEPT, HeaderValue::from_static("*/*"))),
        // Given, and empty: the manifest does not want it.
        Some(value) if value.is_empty() => drop(headers.remove(ACCEPT)),
        Some(_) => {}
    }
    if headers.get(HOST).is_none_or(HeaderValue::is_empty) {
        headers.insert(HOST, HeaderValue::from_str(at).map_err(|error| bad(at, error))?);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

/// An answer, as much of it as is looked at.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}")]
    Tls(std::io::Error),
    #[error("{0}")]
    Protocol(String),
    #[error("stopped after {MAX_REQUESTS} redirects")]
    TooManyRedirects,
    /// A head came, and its body did not: that is neither good nor bad.
    #[error(transparent)]
    Unjudged(ActionError),
}

/// A probe: 200 to 399 is well; a redirect to another host is not followed, and is well with a warning.
pub async fn probe(request: Request) -> Outcome {
    let url = request.url().to_owned();
    match follow(request).await {
        Ok(reply) if (200..300).contains(&reply.status.as_u16()) => Ok(Answer::Passed),
        Ok(reply) if (300..400).contains(&reply.status.as_u16()) => {
            let body = String::from_utf8_lossy(&reply.body);
            Ok(Answer::Warned(format!("Probe terminated redirects, Response body: {body}")))
        }
        Ok(reply) => Ok(Answer::Failed(format!("HTTP probe failed with statuscode: {}", reply.status.as_u16()))),
        Err(HttpError::Unjudged(error)) => Err(error),
        Err(error) => Ok(Answer::Failed(format!("Get {url:?}: {error}"))),
    }
}

/// A hook: whatever the server answers, it was told. A server that does not speak TLS is told without it.
pub async fn hook(request: Request) -> Outcome {
    let url = request.url().to_owned();
    let failed = |error: HttpError| Answer::Failed(format!("Get {url:?}: {error}"));
    match follow(request.clone()).await {
        Ok(_) | Err(HttpError::Unjudged(ActionError::BrokenOff(_))) => Ok(Answer::Passed),
        Err(HttpError::Tls(error)) if speaks_plain_http(&error) => {
            let mut plain = request;
            plain.headers.remove(http::header::AUTHORIZATION);
            if plain.url.set_scheme("http").is_err() {
                return Ok(failed(HttpError::Tls(error)));
            }
            match follow(plain).await {
                Ok(_) => Ok(Answer::Warned(format!("{url:?} got an HTTP answer to HTTPS; asked again with HTTP"))),
                Err(error) => Ok(failed(error)),
            }
        }
        Err(HttpError::Unjudged(error)) => Err(error),
        Err(error) => Ok(failed(error)),
    }
}

/// A record that TLS cannot be, where the first bytes of an answer should have been one.
fn speaks_plain_http(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

async fn follow(mut request: Request) -> Result<Reply, HttpError> {
    for _ in 0..MAX_REQUESTS {
        let reply = ask(&request).await?;
        let follows = matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = reply.location.as_deref().filter(|location| follows && !location.is_empty()) else {
            return Ok(reply);
        };
        match request.redirected(location).map_err(|error| HttpError::Protocol(error.to_string()))? {
            Some(next) => request = next,
            None => return Ok(reply),
        }
    }
    Err(HttpError::TooManyRedirects)
}

async fn ask(request: &Request) -> Result<Reply, HttpError> {
    let host = host_of(&request.url);
    let port = request.url.port_or_known_default().unwrap_or(80);
    let stream = dial(host, port).await?;
    if request.url.scheme() == "https" {
        let stream = tls::connect(host, stream, None).await.map_err(HttpError::Tls)?;
        converse(TokioIo::new(stream), request).await
    } else {
        converse(TokioIo::new(stream), request).await
    }
}

/// One request and its answer, on a connection that is not used again.
async fn converse<T: AsyncRead + AsyncWrite + Unpin>(io: TokioIo<T>, request: &Request) -> Result<Reply, HttpError> {
    let protocol = |error: hyper::Error| HttpError::Protocol(words(&error));
    let (mut sender, connection) = http1::handshake::<_, String>(io).await.map_err(protocol)?;
    let target = match request.url.query() {
        Some(query) => format!("{}?{query}", request.url.path()),
        None => request.url.path().to_owned(),
    };
    let mut message = http::Request::new(String::new());
    *message.method_mut() = Method::GET;
    *message.uri_mut() = target.parse().map_err(|error| HttpError::Unjudged(bad(&target, error)))?;
    message.headers_mut().clone_from(&request.headers);
    let exchange = async {
        let answer = sender.send_request(message).await.map_err(protocol)?;
        let (status, location) = (answer.status(), answer.headers().get(LOCATION).cloned());
        let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
        let body = beginning(answer.into_body()).await;
        let body = body.map_err(|error| HttpError::Unjudged(ActionError::BrokenOff(words(&error))))?;
        Ok(Reply { status, location, body })
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    let mut over = false;
    loop {
        tokio::select! {
            reply = &mut exchange => return reply,
            // What has come before the end is still to be read; an error reaches the exchange, too.
            _ = &mut connection, if !over => over = true,
        }
    }
}

/// As much of a body as is looked at. What it is longer does not matter.
async fn beginning(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut all = Vec::new();
    while all.len() < MAX_ANSWER {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data[..data.len().min(MAX_ANSWER - all.len())]);
        }
    }
    Ok(all)
}

/// hyper's own words and those of what it comes from.
fn words(error: &hyper::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
