//! The end that reaches the ports.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::protocol::{Kind, Protocol, dialect};
use crate::streaming::channels::{Config, Connection, Error, Incoming, Receiver, Role, Sender, Transport};
use crate::streaming::websocket::{Channels, Tunnel};
use crate::streaming::{driver, spdy};

/// Hands out the connections that a client asks for. Dropping it closes the connection and all that it carries: call
/// [`Server::accept`] until it says `None`.
#[derive(Debug)]
pub struct Server {
    connection: Connection,
    /// The channels of a WebSocket, to be handed out. `None`: streams are paired as they come.
    ready: Option<VecDeque<Forward>>,
    /// Streams whose other one has not come, by request.
    halves: BTreeMap<String, Half>,
    creation: Duration,
}

/// One connection to a port, as the client asked for it.
#[derive(Debug)]
pub struct Forward {
    /// The port in the pod.
    pub port: u16,
    /// From the client. Its end of file is the client's half-close.
    pub receiver: Receiver,
    /// To the client.
    pub sender: Sender,
    /// For [`Forward::fail`], if the two above are taken out.
    pub failure: Failure,
}

/// Where to say what went wrong with one connection. Dropping it says that nothing did.
#[derive(Debug)]
pub struct Failure {
    sender: Sender,
}

/// One stream of a pair.
#[derive(Debug)]
struct Half {
    kind: Kind,
    port: u16,
    receiver: Receiver,
    sender: Sender,
    until: Instant,
}

impl Server {
    /// Serves an upgraded connection. The ports of the request are for the channels of a WebSocket alone.
    pub fn new(io: impl Transport, protocol: Protocol, ports: &[u16], config: Config) -> Result<Self, Error> {
        let creation = config.creation;
        let (connection, ready) = match protocol {
            Protocol::Spdy => (spdy_over(io, config)?, None),
            Protocol::SpdyInWebSocket => (spdy_over(Tunnel::new(io, Role::Server)?, config)?, None),
            Protocol::WebSocket | Protocol::WebSocketBase64 => {
                let codec = Channels::new(Role::Server, dialect(protocol, ports)?)?;
                let connection = driver::start(io, Box::new(codec), config, false);
                let ready = ports.iter().zip(0..).map(|(port, at)| channels(&connection, *port, at)).collect();
                (connection, Some(ready))
            }
        };
        Ok(Self { connection, ready, halves: BTreeMap::new(), creation })
    }

    /// The next connection to a port; `None` when the client has gone away or (over the channels of a WebSocket) has
    /// got all its ports and all of them have ended. Cancel safe.
    pub async fn accept(&mut self) -> Option<Forward> {
        if let Some(ready) = &mut self.ready {
            if let Some(forward) = ready.pop_front() {
                return Some(forward);
            }
            self.connection.idle().await;
            // If the client is gone, that is what it was told.
            let _ = self.connection.leave().await;
            return None;
        }
        loop {
            let next = self.halves.values().map(|it| it.until).min();
            let late = async {
                match next {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                incoming = self.connection.accept() => {
                    if let Some(forward) = self.pair(incoming?) {
                        return Some(forward);
                    }
                }
                () = late => self.expire(Instant::now()),
            }
        }
    }

    /// Returns when the client has gone away, with the reason. Cancel safe.
    pub async fn closed(&self) -> Error {
        self.connection.closed().await
    }

    /// Accepts a stream if it is one of a pair, and answers with the pair if it makes one whole.
    fn pair(&mut self, incoming: Incoming) -> Option<Forward> {
        let headers = incoming.headers();
        let kind = Kind::parse(headers.get("streamType")?)?;
        let port = headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
        let request = match headers.get("requestID").filter(|it| !it.is_empty()) {
            Some(request) => request.to_owned(),
            // Clients of old number their streams alone: the error stream comes first, the data stream next.
            None if kind == Kind::Error => format!("stream {}", incoming.id()),
            None => format!("stream {}", incoming.id().checked_sub(2)?),
        };
        let other = self.halves.get(&request);
        if other.is_some_and(|it| it.kind == kind) {
            return None;
        }
        let (receiver, sender) = incoming.accept();
        let half = Half { kind, port, receiver, sender, until: Instant::now() + self.creation };
        let Some(other) = self.halves.remove(&request) else {
            self.halves.insert(request, half);
            return None;
        };
        let (data, error) = if kind == Kind::Data { (half, other) } else { (other, half) };
        let (receiver, sender) = (data.receiver, data.sender);
        Some(Forward { port: data.port, receiver, sender, failure: Failure { sender: error.sender } })
    }

    fn expire(&mut self, now: Instant) {
        let late: Vec<String> = self.halves.iter().filter(|it| it.1.until <= now).map(|it| it.0.clone()).collect();
        for half in late.into_iter().filter_map(|it| self.halves.remove(&it)) {
            half.sender.reset();
        }
    }
}

fn spdy_over(io: impl Transport, config: Config) -> Result<Connection, Error> {
    let codec = spdy::Connection::new(Role::Server, &config)?;
    Ok(driver::start(io, Box::new(codec), config, false))
}

/// The two channels of a port. Each begins with the port's number.
fn channels(connection: &Connection, port: u16, at: u32) -> Forward {
    let (receiver, sender) = connection.channel(2 * at);
    let (_, error) = connection.channel(2 * at + 1);
    for sender in [&sender, &error] {
        sender.begin_with(&port.to_le_bytes());
    }
    Forward { port, receiver, sender, failure: Failure { sender: error } }
}

impl Forward {
    /// Tells the client what went wrong, and cuts the connection off.
    pub async fn fail(self, why: &str) {
        let Self { sender, failure, .. } = self;
        failure.fail(why).await;
        sender.reset();
    }
}

impl Failure {
    /// Tells the client what went wrong with this connection.
    pub async fn fail(mut self, why: &str) {
        // A client that is gone has nothing to be told.
        let _ = self.sender.write_all(why.as_bytes()).await;
    }
}
