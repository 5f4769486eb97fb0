//! One HTTP request: its token, its upgrade, and the session that follows.

use std::convert::Infallible;
use std::sync::Arc;

use super::channels::Config;
use super::remotecommand::{self, Options};
use super::{portforward, serve, websocket};
use crate::core::Core;
use crate::sandbox::{self, NamespaceMode};
use crate::sessions::{Sessions, Wanted};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

const SPDY: &str = "SPDY/3.1";
const WEBSOCKET: &str = "websocket";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What requests are answered from.
pub struct State {
    /// The runtime.
    pub core: Arc<Core>,
    /// Prepared sessions.
    pub sessions: Sessions,
    /// How a connection is bounded.
    pub config: Config,
}

/// How the client wants to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Upgrade {
    Spdy,
    /// With the answer to its key.
    WebSocket(String),
}

/// What was agreed upon.
enum Agreed {
    Command(remotecommand::Protocol),
    Ports(portforward::Protocol),
}

/// A refusal: the status and why.
type Refusal = (StatusCode, String);

/// Answers one request. `place` is dropped when its session is over.
pub async fn answer(
    state: Arc<State>,
    place: impl Send + 'static,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let address = request.uri().path().to_owned();
    Ok(join(state, &address, place, request))
}

/// Answers a request for the session of an address, whatever the request's own is.
pub fn join(
    state: Arc<State>,
    address: &str,
    place: impl Send + 'static,
    request: Request<Incoming>,
) -> Response<String> {
    upgrade(state, address, place, request).unwrap_or_else(|(status, why)| {
        let mut response = Response::new(format!("{why}\n"));
        *response.status_mut() = status;
        if status == StatusCode::FORBIDDEN {
            for name in remotecommand::Protocol::spdy_names() {
                let value = hyper::header::HeaderValue::from_static(name);
                response.headers_mut().append(ACCEPTED_PROTOCOLS, value);
            }
        }
        response
    })
}

fn upgrade(
    state: Arc<State>,
    address: &str,
    place: impl Send + 'static,
    request: Request<Incoming>,
) -> Result<Response<String>, Refusal> {
    if ![Method::GET, Method::POST].contains(request.method()) {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "streams are asked for by GET or POST".into()));
    }
    let gone = || "no session waits here: an address is good for one use, within a minute";
    let wanted = state.sessions.take(address).ok_or_else(|| (StatusCode::NOT_FOUND, gone().into()))?;
    let upgrade = wished(request.headers())?;
    let (agreed, name) = agree(&upgrade, &wanted, request.headers())?;
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(CONNECTION, "Upgrade");
    let response = match &upgrade {
        Upgrade::Spdy => response.header(UPGRADE, SPDY).header(STREAM_PROTOCOL, name),
        Upgrade::WebSocket(accept) => {
            let response = response.header(UPGRADE, WEBSOCKET).header(SEC_WEBSOCKET_ACCEPT, accept);
            if name.is_empty() { response } else { response.header(SEC_WEBSOCKET_PROTOCOL, name) }
        }
    };
    let response = response.body(String::new());
    tokio::spawn(async move {
        let _place = place;
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => converse(&state, wanted, agreed, TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "a client went away before its session began"),
        }
    });
    response.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// What the client wants to be upgraded to.
fn wished(headers: &HeaderMap) -> Result<Upgrade, Refusal> {
    let bad = |why: &str| Err((StatusCode::BAD_REQUEST, format!("unable to upgrade: {why}")));
    let asks = list(headers, &CONNECTION).iter().any(|it| it.eq_ignore_ascii_case("upgrade"));
    let to = list(headers, &UPGRADE);
    let is = |name: &str| to.iter().any(|it| it.eq_ignore_ascii_case(name));
    if !asks || !(is(SPDY) || is(WEBSOCKET)) {
        return bad("send Connection: Upgrade and Upgrade: SPDY/3.1 or websocket");
    }
    if is(SPDY) {
        return Ok(Upgrade::Spdy);
    }
    if list(headers, &SEC_WEBSOCKET_VERSION) != ["13"] {
        return bad("Sec-WebSocket-Version has to be 13");
    }
    match headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()) {
        Some(key) => Ok(Upgrade::WebSocket(websocket::accept_key(key))),
        None => bad("there is no Sec-WebSocket-Key"),
    }
}

/// The protocol that both speak, and its name.
fn agree(upgrade: &Upgrade, wanted: &Wanted, headers: &HeaderMap) -> Result<(Agreed, &'static str), Refusal> {
    let header = if *upgrade == Upgrade::Spdy { STREAM_PROTOCOL } else { SEC_WEBSOCKET_PROTOCOL };
    let mut offered = list(headers, &header);
    let ports = matches!(wanted, Wanted::PortForward { .. });
    if *upgrade == Upgrade::Spdy && offered.is_empty() {
        // Clients from before there was a choice.
        offered.push(if ports { "portforward.k8s.io" } else { "channel.k8s.io" });
    }
    let all = offered.join(", ");
    let agreed = match (upgrade, ports) {
        (Upgrade::Spdy, false) => remotecommand::Protocol::spdy(offered).map(|it| (Agreed::Command(it), it.name())),
        (Upgrade::Spdy, true) => portforward::Protocol::spdy(offered).map(|it| (Agreed::Ports(it), it.name())),
        (_, false) => remotecommand::Protocol::websocket(offered).map(|it| (Agreed::Command(it), it.name())),
        (_, true) => {
            let nothing = offered.is_empty();
            portforward::Protocol::websocket(offered)
                .map(|it| (Agreed::Ports(it), if nothing { "" } else { it.name() }))
        }
    };
    agreed.ok_or_else(|| {
        let verb = wanted.verb();
        (StatusCode::FORBIDDEN, format!("unable to upgrade: none of the protocols {all:?} is one for {verb}"))
    })
}

/// The values of a header that may be repeated and may have commas.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|it| !it.is_empty()).collect()
}

async fn converse(state: &State, wanted: Wanted, agreed: Agreed, io: impl super::channels::Transport) {
    let core = Arc::clone(&state.core);
    let (config, verb) = (state.config.clone(), wanted.verb());
    let done = async {
        match (wanted, agreed) {
            (Wanted::Exec { container, exec, stdout, stderr }, Agreed::Command(protocol)) => {
                let options = Options { stdin: exec.stdin, stdout, stderr, tty: exec.tty };
                let client = remotecommand::Server::accept(io, protocol, options, config).await?;
                serve::exec(core, container, exec, client).await;
            }
            (Wanted::Attach { container, attach, tty }, Agreed::Command(protocol)) => {
                let options = Options { stdin: attach.stdin, stdout: attach.stdout, stderr: attach.stderr, tty };
                let client = remotecommand::Server::accept(io, protocol, options, config).await?;
                serve::attach(core, container, attach, client).await;
            }
            (Wanted::PortForward { sandbox, ports }, Agreed::Ports(protocol)) => {
                let client = portforward::Server::new(io, protocol, &ports, config)?;
                let namespace = sandbox::load(&core, &sandbox).ok();
                let own = namespace.filter(|it| it.request.namespaces.net != NamespaceMode::Node);
                serve::port_forward(own.map(|it| core.pins_dir(&it.id).join("net")), client).await;
            }
            _ => {}
        }
        Ok::<(), super::channels::Error>(())
    };
    if let Err(error) = done.await {
        tracing::debug!(%error, verb, "a session could not begin");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), hyper::header::HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn upgrades_are_known_however_they_are_written() {
        let spdy = [("connection", "keep-alive, Upgrade"), ("upgrade", "spdy/3.1")];
        assert_eq!(wished(&headers(&spdy)).unwrap(), Upgrade::Spdy);
        let websocket = [
            ("connection", "upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert!(matches!(wished(&headers(&websocket)).unwrap(), Upgrade::WebSocket(_)));
        for missing in 0..websocket.len() {
            let mut some = websocket.to_vec();
            some.remove(missing);
            assert_eq!(wished(&headers(&some)).unwrap_err().0, StatusCode::BAD_REQUEST, "without {missing}");
        }
        let other = [("connection", "upgrade"), ("upgrade", "h2c")];
        assert_eq!(wished(&headers(&other)).unwrap_err().0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn the_protocol_is_one_for_what_is_wanted() {
        let ports = Wanted::PortForward { sandbox: "s".into(), ports: vec![1] };
        let attach = Wanted::Attach { container: "c".into(), attach: Default::default(), tty: false };
        for (upgrade, wanted, offered, agreed) in [
            (Upgrade::Spdy, &ports, "portforward.k8s.io", Some("portforward.k8s.io")),
            (Upgrade::Spdy, &ports, "v4.channel.k8s.io", None),
            (Upgrade::Spdy, &attach, "v9.channel.k8s.io, v4.channel.k8s.io", Some("v4.channel.k8s.io")),
            (Upgrade::Spdy, &attach, "portforward.k8s.io", None),
        ] {
            let headers = headers(&[("x-stream-protocol-version", offered)]);
            let got = agree(&upgrade, wanted, &headers);
            assert_eq!(got.as_ref().ok().map(|it| it.1), agreed, "{offered}");
            assert!(got.err().is_none_or(|it| it.0 == StatusCode::FORBIDDEN));
        }
        assert_eq!(agree(&Upgrade::Spdy, &attach, &HeaderMap::new()).unwrap().1, "channel.k8s.io");
    }
}
