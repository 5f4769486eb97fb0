//! The network between the server and its clients, with its failures.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;

const CHUNK: usize = 16 * 1024;

/// How the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// Everything arrives.
    #[default]
    Fair,
    /// Every piece takes so long.
    Slow(Duration),
    /// Nothing arrives, on either side, and neither is told: as when a router is gone. What was sent meanwhile arrives when
    /// the weather is better.
    Silent,
}

/// How the network is, and how often every connection was torn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sky {
    /// For what is on its way.
    pub weather: Weather,
    /// Every connection from before the last one is torn.
    pub torn: u64,
}

/// The server's end of a connection; the network is between it and the client's.
pub fn through(stream: TcpStream, sky: watch::Receiver<Sky>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(CHUNK);
    tokio::spawn(carry_both(stream, far, sky));
    near
}

async fn carry_both(mut stream: TcpStream, mut far: DuplexStream, sky: watch::Receiver<Sky>) {
    let torn = sky.borrow().torn;
    let mut tears = sky.clone();
    let (mut from_far, mut to_far) = tokio::io::split(&mut far);
    let (mut from_client, mut to_client) = stream.split();
    let is_torn = tokio::select! {
        _ = tears.wait_for(|sky| sky.torn != torn) => true,
        _ = async {
            let (_, _) = tokio::join!(
                carry(&mut from_client, &mut to_far, sky.clone()),
                carry(&mut from_far, &mut to_client, sky.clone()),
            );
        } => false,
    };
    if is_torn {
        // So that it is a reset and not an end; one that cannot be set has gone already.
        let _ = stream.set_zero_linger();
    }
}

/// Carries one direction to its end, and says the end to the other side.
async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut sky: watch::Receiver<Sky>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let weather = match sky.wait_for(|sky| sky.weather != Weather::Silent).await {
            Ok(sky) => sky.weather,
            Err(_) => return Ok(()),
        };
        if let Weather::Slow(time) = weather {
            tokio::time::sleep(time).await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
