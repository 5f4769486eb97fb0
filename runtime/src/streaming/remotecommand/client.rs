//! The end that wants a command run.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::server::Name;
use super::{Options, Protocol, Size, Status, Version, Wire, sizes};
use crate::streaming::channels::{Config, Connection, Error, Receiver, Role, Sender, Transport};
use crate::streaming::codec::Headers;
use crate::streaming::{driver, spdy, websocket};

/// The most that is taken of what should be a status.
const MAX_STATUS: u64 = 1 << 20;

/// The streams of a command that runs elsewhere.
#[derive(Debug)]
pub struct Client {
    /// To its standard input, if asked for. `shutdown` (or dropping it) ends it.
    pub stdin: Option<Sender>,
    /// From its standard output, if asked for.
    pub stdout: Option<Receiver>,
    /// From its standard error, if asked for and there is no terminal.
    pub stderr: Option<Receiver>,
    /// To tell the size of the terminal, with a terminal.
    pub resize: Option<Resizer>,
    /// The outcome.
    pub outcome: Outcome,
}

/// How a command ended, once it has. Dropping it closes the connection.
#[derive(Debug)]
pub struct Outcome {
    connection: Connection,
    error: Receiver,
    version: Version,
    /// The other directions of the streams, open as long as the session.
    _held: Vec<Sender>,
}

/// Tells the other end the size of the terminal.
#[derive(Debug)]
pub struct Resizer {
    sender: Sender,
}

impl Client {
    /// Opens the streams that were asked for in the request, on a connection upgraded with this protocol.
    pub async fn start(
        io: impl Transport,
        protocol: Protocol,
        options: Options,
        config: Config,
    ) -> Result<Self, Error> {
        let mut streams = BTreeMap::new();
        let names = options.streams(protocol);
        let connection = if protocol.wire == Wire::Spdy {
            let codec = spdy::Connection::new(Role::Client, &config)?;
            let mut connection = driver::start(io, Box::new(codec), config, true);
            connection.refuse_more();
            for name in names {
                let headers = Headers::from_iter([("streamType", name.text())]);
                streams.insert(name, connection.open(&headers).await?);
            }
            connection
        } else {
            let codec = websocket::Channels::new(Role::Client, protocol.channels())?;
            let connection = driver::start(io, Box::new(codec), config, true);
            streams.extend(names.into_iter().map(|name| (name, connection.channel(name.channel()))));
            connection
        };
        let mut held = Vec::new();
        let mut output = |halves: Option<(Receiver, Sender)>| {
            halves.map(|(receiver, sender)| {
                held.push(sender);
                receiver
            })
        };
        let (stdout, stderr) = (output(streams.remove(&Name::Stdout)), output(streams.remove(&Name::Stderr)));
        let Some(error) = output(streams.remove(&Name::Error)) else { return Err(Error::Closed) };
        Ok(Self {
            stdin: streams.remove(&Name::Stdin).map(|it| it.1),
            stdout,
            stderr,
            resize: streams.remove(&Name::Resize).map(|it| Resizer { sender: it.1 }),
            outcome: Outcome { connection, error, version: protocol.version, _held: held },
        })
    }
}

impl Outcome {
    /// Waits for the end. Read the output meanwhile: nothing comes while it waits unread. What had arrived of it can
    /// still be read afterwards.
    pub async fn wait(mut self) -> Result<Status, Error> {
        let mut text = Vec::new();
        // A server may cut the stream off behind the status.
        let end = (&mut self.error).take(MAX_STATUS).read_to_end(&mut text).await;
        if text.is_empty() && (end.is_err() || self.version >= Version::V4) {
            let why = "the session came to its end without a status".into();
            return Err(Error::Protocol { protocol: "remote command", why });
        }
        let status = Status::read(&text, self.version)?;
        // The status is the last that a server says.
        self.connection.end_inputs();
        // Whether the server hears the farewell changes nothing.
        let _ = self.connection.finish().await;
        Ok(status)
    }
}

impl Resizer {
    /// Tells the size.
    pub async fn resize(&mut self, size: Size) -> Result<(), Error> {
        Ok(self.sender.write_all(&sizes::write(size)).await?)
    }
}
