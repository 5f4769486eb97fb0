//! The end that wants a port reached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;

use super::protocol::{Kind, Protocol, dialect};
use crate::streaming::channels::{Config, Connection, Error, Receiver, Role, Sender, Transport};
use crate::streaming::codec::Headers;
use crate::streaming::websocket::{Channels, Tunnel};
use crate::streaming::{driver, spdy};

/// Opens connections to ports of a pod, any number at one time over SPDY. Dropping it closes all of them.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    /// The channels of a WebSocket, each to be had once. `None`: streams are opened.
    channels: Option<Mutex<Vec<(u16, Forwarded)>>>,
    requests: AtomicU64,
}

/// One connection to a port.
#[derive(Debug)]
pub struct Forwarded {
    /// From the port.
    pub receiver: Receiver,
    /// To the port; `shutdown` half-closes over SPDY.
    pub sender: Sender,
    /// What went wrong, as text, until its end of file: empty if nothing did.
    pub error: Receiver,
}

fn broken<T>(why: String) -> Result<T, Error> {
    Err(Error::Protocol { protocol: "port forward", why })
}

impl Client {
    /// Uses an upgraded connection. The ports of the request are for the channels of a WebSocket alone.
    pub fn new(io: impl Transport, protocol: Protocol, ports: &[u16], config: Config) -> Result<Self, Error> {
        let (connection, channels) = match protocol {
            Protocol::Spdy => (spdy_over(io, config)?, None),
            Protocol::SpdyInWebSocket => (spdy_over(Tunnel::new(io, Role::Client)?, config)?, None),
            Protocol::WebSocket | Protocol::WebSocketBase64 => {
                let codec = Channels::new(Role::Client, dialect(protocol, ports)?)?;
                let connection = driver::start(io, Box::new(codec), config, true);
                let pairs = ports.iter().zip(0..).map(|(port, at)| {
                    let (receiver, sender) = connection.channel(2 * at);
                    (*port, Forwarded { receiver, sender, error: connection.channel(2 * at + 1).0 })
                });
                let pairs = pairs.collect();
                (connection, Some(Mutex::new(pairs)))
            }
        };
        Ok(Self { connection, channels, requests: AtomicU64::new(0) })
    }

    /// Connects to a port. Over the channels of a WebSocket each port of the request is to be had once.
    pub async fn connect(&self, port: u16) -> Result<Forwarded, Error> {
        if let Some(channels) = &self.channels {
            return take(channels, port).await;
        }
        let request = self.requests.fetch_add(1, Ordering::Relaxed).to_string();
        let text = port.to_string();
        let headers = |kind: Kind| {
            Headers::from_iter([("streamType", kind.name()), ("port", text.as_str()), ("requestID", request.as_str())])
        };
        // What is dropped here ends: nothing goes to the other end on the stream for errors.
        let (error, _) = self.connection.open(&headers(Kind::Error)).await?;
        let (receiver, sender) = self.connection.open(&headers(Kind::Data)).await?;
        Ok(Forwarded { receiver, sender, error })
    }

    /// Returns when the connection has ended, with the reason. Cancel safe.
    pub async fn closed(&self) -> Error {
        self.connection.closed().await
    }
}

/// Takes the channels of a port, and the number of the port that each begins with.
async fn take(channels: &Mutex<Vec<(u16, Forwarded)>>, port: u16) -> Result<Forwarded, Error> {
    let mut forwarded = {
        let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
        match channels.iter().position(|it| it.0 == port) {
            Some(at) => channels.remove(at).1,
            None => return broken(format!("port {port} is not one of the request, or was taken before")),
        }
    };
    for receiver in [&mut forwarded.receiver, &mut forwarded.error] {
        let said = receiver.read_u16_le().await?;
        if said != port {
            return broken(format!("the channel of port {port} says that it is of port {said}"));
        }
    }
    Ok(forwarded)
}

fn spdy_over(io: impl Transport, config: Config) -> Result<Connection, Error> {
    let codec = spdy::Connection::new(Role::Client, &config)?;
    let mut connection = driver::start(io, Box::new(codec), config, true);
    connection.refuse_more();
    Ok(connection)
}
