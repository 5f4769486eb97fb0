//! Asking the host's name servers.
//!
//! Each question goes out from a socket of its own, so from a port that nobody can guess, with a number that nobody can
//! guess; the kernel hands to a connected socket nothing but what comes from the server that was asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::conf::Servers;
use super::message::{self, Question};

/// A server's time for one message, before another is asked.
const PATIENCE: Duration = Duration::from_millis(1200);

/// After this time no server is asked any more: clients give up after five seconds.
const DEADLINE: Duration = Duration::from_millis(3600);

/// How often each server is asked at most.
const ROUNDS: usize = 3;

/// How long a server that did not answer is asked last.
const DISFAVOUR: Duration = Duration::from_secs(20);

/// Messages that are no answer to the question, before it is given up: somebody is guessing.
const MOST_STRAYS: usize = 32;

/// The longest message over UDP that is received.
const LONGEST: usize = 4096;

/// An answer, and its bytes as they came.
pub type Answer = (Message, Vec<u8>);

/// The host's name servers.
pub struct Upstream {
    servers: Mutex<Servers>,
    /// Those that did not answer, and until when they are asked last.
    silent: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Upstream {
    /// The servers of this file.
    pub fn new(servers: Servers) -> Self {
        Self { servers: Mutex::new(servers), silent: Mutex::default() }
    }

    /// The servers in the order to ask them, but those at `own`, and whether they are others than before.
    pub fn servers(&self, own: &dyn Fn(IpAddr) -> bool) -> (Vec<SocketAddr>, bool) {
        let (mut servers, changed) = self.servers.lock().unwrap_or_else(PoisonError::into_inner).get(own);
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        silent.retain(|server, until| *until > now && servers.contains(server));
        servers.sort_by_key(|it| silent.contains_key(it));
        (servers, changed)
    }

    /// What the first of these servers answers that knows. Each is asked again as long as there is time, for packets get
    /// lost. None if nobody says anything; what a server says that cannot tell is better than that.
    pub async fn ask(&self, question: &Question, servers: &[SocketAddr]) -> Option<Answer> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut worst = None;
        let mut failed = Vec::new();
        for (number, server) in servers.iter().cycle().take(servers.len() * ROUNDS).enumerate() {
            let all_asked = number >= servers.len();
            if tokio::time::Instant::now() >= deadline || (all_asked && worst.is_some()) {
                break;
            }
            if failed.contains(server) {
                continue;
            }
            match exchange(*server, question).await {
                Ok(answer) if tells(&answer.0) => {
                    self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
                    return Some(answer);
                }
                Ok(answer) => {
                    worst = Some(answer);
                    failed.push(*server);
                }
                Err(error) => {
                    tracing::debug!(%error, %server, "a name server does not answer");
                    self.disfavour(*server);
                    if error.kind() != io::ErrorKind::TimedOut {
                        failed.push(*server);
                    }
                }
            }
        }
        worst
    }

    fn disfavour(&self, server: SocketAddr) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(server, Instant::now() + DISFAVOUR);
    }
}

/// Whether it is an answer, and not that there is none to be had from this server.
fn tells(message: &Message) -> bool {
    matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Asks one server.
async fn exchange(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let answer = in_time(over_udp(server, question, true)).await?;
    // A server of before 1999 does not know what the OPT record is.
    let old = matches!(answer.0.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
    let answer =
        if old && answer.0.edns.is_none() { in_time(over_udp(server, question, false)).await? } else { answer };
    if !answer.0.metadata.truncation {
        return Ok(answer);
    }
    // A part is better than nothing where the rest cannot be had.
    match in_time(over_tcp(server, question)).await {
        Ok(whole) => Ok(whole),
        Err(error) => {
            tracing::debug!(%error, %server, "a long answer could not be fetched over TCP");
            Ok(answer)
        }
    }
}

async fn in_time(asking: impl Future<Output = io::Result<Answer>>) -> io::Result<Answer> {
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_ne_bytes(bytes))
}

fn unwritable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the question cannot be written")
}

async fn over_udp(server: SocketAddr, question: &Question, edns: bool) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The kernel chooses the port, at random.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = number()?;
    socket.send(&message::ask(question, id, edns).ok_or_else(unwritable)?).await?;
    let mut buffer = vec![0; LONGEST];
    for _ in 0..MOST_STRAYS {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = message::answer(&buffer[..length], question, id) {
            buffer.truncate(length);
            return Ok((answer, buffer));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it answers other questions than it was asked"))
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let id = number()?;
    let bytes = message::ask(question, id, true).ok_or_else(unwritable)?;
    let mut framed = u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    let answer = message::answer(&bytes, question, id);
    let answer = answer.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it answers something else"))?;
    Ok((answer, bytes))
}
