//! What the streams of an upgraded connection look like to whoever uses them.
//!
//! Every transport has the same semantics:
//! - **Nothing is dropped and nothing grows.** A [`Sender`] takes no more once [`Config::output`] bytes wait to be
//!   written; a stream whose [`Receiver`] is not read stops the reading of the connection once [`Config::buffer`] bytes
//!   wait in it. (Neither SPDY as Kubernetes speaks it nor WebSocket has flow control of one stream: the peer is held
//!   back by TCP, and with it all streams of that connection. A receiver that is dropped holds nobody back: what comes
//!   for it is read and forgotten.)
//! - **Half-close.** `shutdown` of a [`Sender`], or dropping it, ends that direction after what was written. The peer's
//!   end reads as end of file. WebSocket before v5 has no word for it: there the end is the connection's.
//! - **A peer that goes away wakes everybody:** a receiver gets what had arrived, then an error (end of file if the
//!   peer had closed the connection in order), senders get a broken pipe, [`Connection::closed`] returns.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// The connection after the upgrade: hyper's `Upgraded` in `TokioIo`, a TCP or unix socket, a TLS stream, one half of
/// `tokio::io::duplex`.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It asked for the connection.
    Client,
    /// It was asked.
    Server,
}

/// Limits of one connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// Without a byte in either direction for so long, the connection is closed. `None`: never.
    pub idle: Option<Duration>,
    /// How long the client may take to open the streams it asked for, and the server to answer to one.
    pub creation: Duration,
    /// After everything is said: how long to wait for the peer to close, so that it has read what was sent.
    pub linger: Duration,
    /// The most that waits in one receiver before the connection is read no more, in bytes.
    pub buffer: usize,
    /// The most that waits to be written to the connection, in bytes.
    pub output: usize,
    /// The most streams the peer may have open at one time; another one is refused.
    pub streams: usize,
    /// The most that the headers of one stream may be, unpacked, in bytes.
    pub headers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(4 * 3600)),
            creation: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            buffer: 256 << 10,
            output: 64 << 10,
            streams: 1000,
            headers: 16 << 10,
        }
    }
}

/// Why a session could not be had, or has ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("the streaming connection failed: {0}")]
    Io(std::sync::Arc<io::Error>),
    /// The peer does not keep to the protocol.
    #[error("the peer broke the {protocol} protocol: {why}")]
    Protocol {
        /// `SPDY`, `WebSocket`, `remote command`, `port forward`.
        protocol: &'static str,
        /// What it did.
        why: String,
    },
    /// The peer took too long.
    #[error("timed out {0}")]
    Timeout(&'static str),
    /// The connection is closed.
    #[error("the streaming connection is closed")]
    Closed,
    /// The peer does not want this stream.
    #[error("the peer refused the stream")]
    Refused,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(std::sync::Arc::new(error))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(source) => source.kind(),
            Error::Protocol { .. } => io::ErrorKind::InvalidData,
            Error::Timeout(_) => io::ErrorKind::TimedOut,
            Error::Closed => io::ErrorKind::BrokenPipe,
            Error::Refused => io::ErrorKind::ConnectionRefused,
        };
        Self::new(kind, error)
    }
}

pub use super::handles::{Connection, Incoming, Receiver, Sender};
