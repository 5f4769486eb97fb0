//! Which protocol both ends speak.

use crate::streaming::channels::Error;
use crate::streaming::websocket::Dialect;

/// What was agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `portforward.k8s.io`: pairs of SPDY streams, opened when they are needed.
    Spdy,
    /// `SPDY/3.1+portforward.k8s.io`: the same in the messages of a WebSocket.
    SpdyInWebSocket,
    /// `v4.channel.k8s.io`: two channels of a WebSocket for each port of the request, there from the beginning.
    WebSocket,
    /// `v4.base64.channel.k8s.io`: the same in text messages.
    WebSocketBase64,
}

const SPDY: &str = "portforward.k8s.io";
const WEBSOCKET: [(&str, Protocol); 4] = [
    ("SPDY/3.1+portforward.k8s.io", Protocol::SpdyInWebSocket),
    ("v4.channel.k8s.io", Protocol::WebSocket),
    ("v4.base64.channel.k8s.io", Protocol::WebSocketBase64),
    ("", Protocol::WebSocket),
];

impl Protocol {
    /// The first that a SPDY client offers in `X-Stream-Protocol-Version` and this end speaks.
    pub fn spdy<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        offered.into_iter().any(|offer| offer == SPDY).then_some(Self::Spdy)
    }

    /// The first that a WebSocket client offers in `Sec-WebSocket-Protocol` and this end speaks. One that offers
    /// nothing gets binary channels, and `name` must not be in the answer then.
    pub fn websocket<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut offered = offered.into_iter().peekable();
        let nothing = offered.peek().is_none();
        offered.chain(nothing.then_some("")).find_map(|offer| Some(WEBSOCKET.iter().find(|it| it.0 == offer)?.1))
    }

    /// Its name in the answer to the upgrade.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spdy => SPDY,
            Self::SpdyInWebSocket => WEBSOCKET[0].0,
            Self::WebSocket => WEBSOCKET[1].0,
            Self::WebSocketBase64 => WEBSOCKET[2].0,
        }
    }
}

/// The ports of a request's `port` parameters, each a number or several with commas between. Only the channels of a
/// WebSocket need them: streams of SPDY bring theirs.
pub fn parse_ports<'a>(parameters: impl IntoIterator<Item = &'a str>) -> Result<Vec<u16>, Error> {
    let refuse = |port: &str| Error::Protocol { protocol: "port forward", why: format!("{port:?} is not a port") };
    let ports = parameters.into_iter().flat_map(|it| it.split(','));
    ports.map(|it| it.parse().ok().filter(|port| *port > 0).ok_or_else(|| refuse(it))).collect()
}

/// The two streams of a connection to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its bytes.
    Data,
    /// What went wrong.
    Error,
}

impl Kind {
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Data, Self::Error].into_iter().find(|it| it.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Error => "error",
        }
    }
}

/// What the protocol makes of a WebSocket's messages. Every port has two channels, and a channel's number is a byte.
pub(super) fn dialect(protocol: Protocol, ports: &[u16]) -> Result<Dialect, Error> {
    let base64 = protocol == Protocol::WebSocketBase64;
    // A digit in text, so that the numbers stay among the letters.
    let most = if base64 { 20 } else { 127 };
    if ports.is_empty() || ports.len() > most {
        let why = format!("{} ports in one request, where 1 to {most} may be", ports.len());
        return Err(Error::Protocol { protocol: "port forward", why });
    }
    Ok(Dialect { base64, closes: false, count: u32::try_from(2 * ports.len()).unwrap_or(u32::MAX) })
}
