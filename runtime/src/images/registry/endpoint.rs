//! Requests to one host: authorization, redirects, and what its answers mean.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::Authorizer;
use super::challenge;
use super::dns::HostResolver;
use super::hosts::Host;
use super::options::Timeouts;
use super::tls;
use super::trouble::Trouble;

const USER_AGENT: &str = concat!("coracle/", env!("CARGO_PKG_VERSION"));
/// A blob may be elsewhere, and elsewhere again.
const MAX_REDIRECTS: usize = 5;
/// A stale token, then a fresh one.
const MAX_CHALLENGES: usize = 2;
/// Of an answer that says why not.
const MAX_MESSAGE: usize = 64 << 10;
/// Of that, what is shown.
const SHOWN_MESSAGE: usize = 300;

/// One host of a registry.
pub(super) struct Endpoint {
    pub host: Host,
    auth: Authorizer,
    client: OnceLock<Client>,
    timeouts: Timeouts,
    /// Plain HTTP after all.
    plain: AtomicBool,
    /// It has sent what is not what it was asked for.
    distrusted: AtomicBool,
}

/// What to ask.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub method: &'a Method,
    /// Below the API's own path.
    pub path: &'a str,
    /// Media types.
    pub accept: &'a str,
    /// From which byte on.
    pub from: u64,
}

impl Endpoint {
    pub fn new(host: Host, auth: Authorizer, timeouts: Timeouts) -> Endpoint {
        let (client, plain, distrusted) = Default::default();
        Endpoint { host, auth, client, timeouts, plain, distrusted }
    }

    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    pub fn is_trusted(&self) -> bool {
        !self.distrusted.load(Ordering::Relaxed)
    }

    /// Asks, proves who we are when asked back, and gives an answer that holds what was asked for; 416 too, which the
    /// caller understands better.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Response, Trouble> {
        match self.ask_once(ask).await {
            Err(Problem::NotTls(_)) if self.host.plain_too && !self.plain.swap(true, Ordering::Relaxed) => {
                self.ask_once(ask).await.map_err(Problem::into_trouble)
            }
            other => other.map_err(Problem::into_trouble),
        }
    }

    async fn ask_once(&self, ask: Ask<'_>) -> Result<Response, Problem> {
        let url = self.url(ask.path)?;
        let mut authorization = self.auth.header().await;
        let mut challenges = 0;
        loop {
            let (response, foreign) = self.follow(url.clone(), ask, authorization.clone()).await?;
            let status = response.status();
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(response);
            }
            if status != StatusCode::UNAUTHORIZED || foreign {
                return Err(match explain(response).await {
                    Trouble::Denied { message, .. } => self.auth.denied(&message).await,
                    other => other,
                }
                .into());
            }
            let lines = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let asked = challenge::parse(lines.filter_map(|line| line.to_str().ok()));
            let message = message(response).await;
            if challenges == MAX_CHALLENGES {
                return Err(self.auth.refused(&message).await.into());
            }
            challenges += 1;
            let answer = self.auth.answer(self.client()?, &url, &asked, authorization.as_ref(), &message);
            authorization = Some(self.in_time(answer).await??);
        }
    }

    /// Sends, and follows redirects. True when the answer is another host's.
    async fn follow(
        &self,
        mut url: Url,
        ask: Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<(Response, bool), Problem> {
        let mut headers = self.host.headers.clone();
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let mut foreign = false;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(url.clone(), ask, headers.clone()).await?;
            let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(location) = location else { return Ok((response, foreign)) };
            let next = location.to_str().ok().and_then(|location| url.join(location).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            let next = next.ok_or_else(|| Trouble::Protocol("it redirects to something that is no URL".to_owned()))?;
            if url.scheme() == "https" && next.scheme() == "http" {
                let to = next.host_str().unwrap_or_default();
                return Err(Trouble::Protocol(format!("it redirects to {to} without TLS, which is refused")).into());
            }
            if next.origin() != url.origin() {
                // Neither credentials nor the headers of hosts.toml are for anybody else.
                foreign = true;
                headers = HeaderMap::new();
            }
            url = next;
        }
        Err(Trouble::Protocol(format!("it redirects more than {MAX_REDIRECTS} times")).into())
    }

    async fn send(&self, url: Url, ask: Ask<'_>, mut headers: HeaderMap) -> Result<Response, Problem> {
        if !ask.accept.is_empty()
            && let Ok(accept) = HeaderValue::from_str(ask.accept)
        {
            headers.insert(ACCEPT, accept);
        }
        if ask.from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", ask.from))
        {
            headers.insert(RANGE, range);
        }
        let request = self.client()?.request(ask.method.clone(), url).headers(headers);
        match self.in_time(request.send()).await? {
            Ok(response) => Ok(response),
            Err(error) => Err(match certificate_problem(&error) {
                Some(why) => Trouble::Protocol(format!(
                    "its certificate is not believed: {why}; name who signed it as `ca` in the hosts.toml of {}",
                    self.host.name
                ))
                .into(),
                None if error.is_connect() => Problem::NotTls(Trouble::of(&error)),
                None => Trouble::of(&error).into(),
            }),
        }
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, Trouble> {
        let limit = self.timeouts.stall;
        tokio::time::timeout(limit, future).await.map_err(|_| Trouble::Stalled(limit))
    }

    fn url(&self, path: &str) -> Result<Url, Trouble> {
        let root = match self.plain.load(Ordering::Relaxed) {
            true => self.host.root.replacen("https://", "http://", 1),
            false => self.host.root.clone(),
        };
        let mut url = Url::parse(&format!("{root}{}{path}", self.host.api))
            .map_err(|error| Trouble::Protocol(format!("its URL cannot be made: {error}")))?;
        if let Some(namespace) = &self.host.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Made on the first use: reading the host's certificates is not for nothing.
    fn client(&self) -> Result<&Client, Trouble> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .tls_backend_preconfigured(tls::config(&self.host.tls)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeouts.connect)
            .dns_resolver(HostResolver::default())
            .user_agent(USER_AGENT)
            .http1_only()
            .pool_max_idle_per_host(4);
        // A proxy is for what is elsewhere.
        let builder = if self.host.is_local() { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| Trouble::of(&error))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A trouble, or that the other side may not speak TLS.
enum Problem {
    Trouble(Trouble),
    NotTls(Trouble),
}

impl Problem {
    fn into_trouble(self) -> Trouble {
        match self {
            Problem::Trouble(trouble) | Problem::NotTls(trouble) => trouble,
        }
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Problem {
        Problem::Trouble(trouble)
    }
}

/// Why TLS worked and only the host was not believed to be who it says, if so.
fn certificate_problem<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Some(found);
    }
    // An I/O error passes over what it wraps when it is asked for its source.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(inner) => certificate_problem(inner),
        None => error.source().and_then(certificate_problem),
    }
}

/// What an answer that is not a success means.
pub(super) async fn explain(response: Response) -> Trouble {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(seconds);
    let message = message(response).await;
    match status {
        StatusCode::NOT_FOUND => Trouble::NotFound(message),
        StatusCode::FORBIDDEN => Trouble::Denied { message, advice: String::new() },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Trouble::Busy { status: status.to_string(), message, retry_after }
        }
        status if status.is_server_error() => Trouble::Busy { status: status.to_string(), message, retry_after },
        status => Trouble::Refused { status: status.to_string(), message },
    }
}

/// Only the form in seconds: registries use no other, and a date would need a clock that is right.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The registry's own words in an answer.
async fn message(response: Response) -> String {
    let limit = Duration::from_secs(5);
    let Ok(Ok(bytes)) = tokio::time::timeout(limit, read_all(response, MAX_MESSAGE)).await else {
        return String::new();
    };
    let words = match serde_json::from_slice::<Errors>(&bytes) {
        Ok(found) => {
            let lines = found.errors.into_iter().map(|error| match (error.message, error.code) {
                (message, code) if message.is_empty() => code,
                (message, code) if code.is_empty() => message,
                (message, code) => format!("{message} ({code})"),
            });
            lines.collect::<Vec<_>>().join("; ")
        }
        // A page for a browser says nothing here.
        Err(_) if bytes.first() == Some(&b'<') => String::new(),
        Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
    };
    words.chars().filter(|c| !c.is_control()).take(SHOWN_MESSAGE).collect()
}

/// A body that is to be short.
pub(super) async fn read_all(mut response: Response, limit: usize) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Trouble::of(&error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(Trouble::Protocol(format!("it sends more than the {limit} bytes that are allowed")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
