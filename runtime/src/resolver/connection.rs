//! Questions over TCP: two bytes of length before each message.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::message;
use super::server::{Decision, Server};

/// Connections of one pod.
const MOST_OF_CLIENT: usize = 8;

/// Connections of all pods at one address.
const MOST: usize = 128;

/// How long a client may take to ask the next question, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest question.
const LONGEST_QUESTION: usize = 4096;

/// How long it is waited when there is no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

type Clients = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A client's place. It is given back when it is dropped.
struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Place {
    fn of(clients: &Clients, client: IpAddr) -> Option<Self> {
        let mut counts = clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = counts.get(&client).copied().unwrap_or(0);
        if of_client >= MOST_OF_CLIENT || counts.values().sum::<usize>() >= MOST {
            return None;
        }
        counts.insert(client, of_client + 1);
        Some(Self { clients: Arc::clone(clients), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.client)),
        }
    }
}

/// Takes connections at an address.
pub async fn accept(server: Arc<Server>, listener: TcpListener, local: IpAddr) {
    let clients = Clients::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Whoever gets no place, or has none here, sees the connection closed.
        let Some(place) = Place::of(&clients, from.ip()).filter(|_| server.serves(from.ip(), local)) else { continue };
        let server = Arc::clone(&server);
        drop(tokio::spawn(async move {
            // What ends a connection is its client's affair.
            let _ = converse(&server, stream, from.ip(), local).await;
            drop(place);
        }));
    }
}

async fn converse(server: &Server, mut stream: TcpStream, client: IpAddr, local: IpAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let bytes = in_time(question(&mut stream)).await?;
        let answer = match server.decide(&bytes, client, local, false) {
            Decision::Silence => return Ok(()),
            Decision::Now(answer) => answer,
            Decision::Later(question) => {
                let reply = server.forward(&question, client).await;
                message::write(&question, &reply, message::LONGEST)
            }
        };
        let mut framed = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend(answer);
        in_time(stream.write_all(&framed)).await?;
    }
}

async fn question(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_QUESTION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
