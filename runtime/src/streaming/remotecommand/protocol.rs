//! Which protocol both ends speak.

use crate::streaming::websocket::Dialect;

/// How the streams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Streams of SPDY/3.1.
    Spdy,
    /// Channels of a WebSocket, binary messages.
    WebSocket,
    /// Channels of a WebSocket, text messages in base64.
    WebSocketBase64,
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Errors are plain text.
    V1,
    /// As before, with the faults of the first mended.
    V2,
    /// With the terminal's size.
    V3,
    /// The outcome is a `Status`, so exit codes arrive.
    V4,
    /// A WebSocket can end standard input alone.
    V5,
}

/// What was agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// How the streams travel.
    pub wire: Wire,
    /// The version.
    pub version: Version,
    name: &'static str,
}

/// What a client asked to be connected with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error. With a terminal there is none, whatever this says.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

const SPDY: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

const WEBSOCKET: [(&str, Wire, Version); 6] = [
    ("v5.channel.k8s.io", Wire::WebSocket, Version::V5),
    ("v4.channel.k8s.io", Wire::WebSocket, Version::V4),
    ("v4.base64.channel.k8s.io", Wire::WebSocketBase64, Version::V4),
    ("channel.k8s.io", Wire::WebSocket, Version::V1),
    ("base64.channel.k8s.io", Wire::WebSocketBase64, Version::V1),
    ("", Wire::WebSocket, Version::V1),
];

impl Protocol {
    /// The first that a SPDY client offers in `X-Stream-Protocol-Version` and this end speaks.
    pub fn spdy<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        offered.into_iter().find_map(|offer| {
            let (name, version) = *SPDY.iter().find(|(name, _)| *name == offer)?;
            Some(Self { wire: Wire::Spdy, version, name })
        })
    }

    /// The first that a WebSocket client offers in `Sec-WebSocket-Protocol` and this end speaks. One that offers
    /// nothing gets the first version.
    pub fn websocket<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut offered = offered.into_iter().peekable();
        let nothing = offered.peek().is_none();
        offered.chain(nothing.then_some("")).find_map(|offer| {
            let (name, wire, version) = *WEBSOCKET.iter().find(|(name, ..)| *name == offer)?;
            Some(Self { wire, version, name })
        })
    }

    /// What all SPDY clients may offer, the best first.
    pub fn spdy_names() -> impl Iterator<Item = &'static str> {
        SPDY.iter().map(|(name, _)| *name)
    }

    /// What all WebSocket clients may offer, the best first.
    pub fn websocket_names() -> impl Iterator<Item = &'static str> {
        WEBSOCKET.iter().map(|(name, ..)| *name).filter(|name| !name.is_empty())
    }

    /// Its name in the answer to the upgrade; empty if none was asked for, then the answer names none.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What it is to the channels of a WebSocket.
    pub(super) fn channels(self) -> Dialect {
        Dialect { base64: self.wire == Wire::WebSocketBase64, closes: self.version == Version::V5, count: 5 }
    }
}
