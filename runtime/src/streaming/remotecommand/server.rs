//! The end that runs the command.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Options, Protocol, Size, Status, Version, Wire, sizes};
use crate::streaming::channels::{Config, Connection, Error, Receiver, Role, Sender, Transport};
use crate::streaming::{driver, spdy, websocket};

/// The streams a client opened. Take what is needed out of it; what is dropped is half-closed or ignored.
#[derive(Debug)]
pub struct Server {
    /// From the client to standard input, if it was asked for. Its end of file is the client's half-close.
    pub stdin: Option<Receiver>,
    /// To the client, if it was asked for.
    pub stdout: Option<Sender>,
    /// To the client, if it was asked for and there is no terminal.
    pub stderr: Option<Sender>,
    /// The terminal's sizes, with a terminal.
    pub resize: Option<Resizes>,
    /// For the end.
    pub control: Control,
}

/// The sizes a client's terminal takes.
#[derive(Debug)]
pub struct Resizes {
    receiver: Receiver,
    pending: Vec<u8>,
}

/// What ends the session. Dropping it closes the connection at once, without a status.
#[derive(Debug)]
pub struct Control {
    connection: Connection,
    error: Sender,
    version: Version,
    /// The other directions of the streams: a client takes the end of one for the end of the stream.
    _held: Vec<Sender>,
}

type Halves = (Receiver, Sender);

impl Server {
    /// Waits for the client to open the streams that were asked for (over SPDY; a WebSocket has them from the
    /// beginning).
    pub async fn accept(
        io: impl Transport,
        protocol: Protocol,
        options: Options,
        config: Config,
    ) -> Result<Self, Error> {
        let creation = config.creation;
        let (connection, streams) = match protocol.wire {
            Wire::Spdy => {
                let codec = spdy::Connection::new(Role::Server, &config)?;
                let mut connection = driver::start(io, Box::new(codec), config, false);
                let streams = wait_for_streams(&mut connection, &options.streams(protocol), creation).await?;
                connection.refuse_more();
                (connection, streams)
            }
            Wire::WebSocket | Wire::WebSocketBase64 => {
                let codec = websocket::Channels::new(Role::Server, protocol.channels())?;
                let connection = driver::start(io, Box::new(codec), config, false);
                let names = options.streams(protocol);
                let streams = names.into_iter().map(|name| (name, connection.channel(name.channel()))).collect();
                greet(&connection, options);
                (connection, streams)
            }
        };
        Self::assemble(connection, streams, protocol.version)
    }

    fn assemble(connection: Connection, mut streams: BTreeMap<Name, Halves>, version: Version) -> Result<Self, Error> {
        let mut held = Vec::new();
        let mut input = |halves: Option<Halves>| {
            halves.map(|(receiver, sender)| {
                held.push(sender);
                receiver
            })
        };
        let (stdin, resize) = (input(streams.remove(&Name::Stdin)), input(streams.remove(&Name::Resize)));
        let Some((_, error)) = streams.remove(&Name::Error) else { return Err(Error::Closed) };
        error.make_last();
        Ok(Self {
            stdin,
            stdout: streams.remove(&Name::Stdout).map(|it| it.1),
            stderr: streams.remove(&Name::Stderr).map(|it| it.1),
            resize: resize.map(|receiver| Resizes { receiver, pending: Vec::new() }),
            control: Control { connection, error, version, _held: held },
        })
    }
}

/// The streams of a session. A WebSocket has a channel of that number for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Stdin,
    Stdout,
    Stderr,
    Error,
    Resize,
}

impl Name {
    const ALL: [(Self, &str); 5] = [
        (Self::Stdin, "stdin"),
        (Self::Stdout, "stdout"),
        (Self::Stderr, "stderr"),
        (Self::Error, "error"),
        (Self::Resize, "resize"),
    ];

    pub(super) fn channel(self) -> u32 {
        self as u32
    }

    pub(super) fn text(self) -> &'static str {
        Self::ALL.iter().find(|it| it.0 == self).map_or("", |it| it.1)
    }
}

impl Options {
    /// The streams that make up a session.
    pub(super) fn streams(&self, protocol: Protocol) -> Vec<Name> {
        let mut names = vec![Name::Error];
        let wanted = [
            (Name::Stdin, self.stdin),
            (Name::Stdout, self.stdout),
            (Name::Stderr, self.stderr && !self.tty),
            (Name::Resize, self.tty && (protocol.version >= Version::V3 || protocol.wire != Wire::Spdy)),
        ];
        names.extend(wanted.into_iter().filter(|it| it.1).map(|it| it.0));
        names
    }
}

/// Accepts each of these streams once, and no other.
async fn wait_for_streams(
    connection: &mut Connection,
    names: &[Name],
    creation: Duration,
) -> Result<BTreeMap<Name, Halves>, Error> {
    let mut streams = BTreeMap::new();
    let all = async {
        while streams.len() < names.len() {
            let Some(incoming) = connection.accept().await else { return Err(connection.closed().await) };
            let kind = incoming.headers().get("streamType");
            let name = Name::ALL.iter().find(|it| Some(it.1) == kind).map(|it| it.0);
            if let Some(name) = name.filter(|it| names.contains(it) && !streams.contains_key(it)) {
                streams.insert(name, incoming.accept());
            }
        }
        Ok(())
    };
    match tokio::time::timeout(creation, all).await {
        Ok(result) => result.map(|()| streams),
        Err(_) => Err(Error::Timeout("waiting for the client to open its streams")),
    }
}

/// Tells a client that waits for a first message that the streams are there.
fn greet(connection: &Connection, options: Options) {
    let name = match options {
        Options { stdout: true, .. } => Name::Stdout,
        Options { stderr: true, tty: false, .. } => Name::Stderr,
        _ => Name::Error,
    };
    connection.send_empty(name.channel());
}

impl Resizes {
    /// The next size; `None` when no more will come. Cancel safe.
    pub async fn next(&mut self) -> Option<Size> {
        loop {
            if let Some(size) = sizes::next(&mut self.pending)? {
                return Some(size);
            }
            if self.receiver.read_buf(&mut self.pending).await.ok()? == 0 {
                return None;
            }
        }
    }
}

impl Control {
    /// Tells the client how it ended, after everything that was written to its streams, and closes the connection in
    /// order. Returns when all is written; the client's own closing is awaited in the background for
    /// [`Config::linger`].
    ///
    /// Streams still in use are ended: finish (or drop) the senders first, then call this.
    pub async fn finish(mut self, status: Status) -> Result<(), Error> {
        self.error.write_all(&status.write(self.version)).await?;
        self.connection.finish().await
    }

    /// Returns when the client has gone away, or the connection failed, with the reason. Cancel safe.
    pub async fn closed(&self) -> Error {
        self.connection.closed().await
    }
}
