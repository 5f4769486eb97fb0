//! `coracle port-forward`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use runtime::streaming::channels::Config;
use runtime::streaming::portforward::{Client as Ports, Forwarded, Protocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::api::client::{Client, pod};
use crate::cli::Global;

/// The longest error that is shown.
const LONGEST: u64 = 4096;

/// Flags of `port-forward`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Pod
    #[arg(value_name = "POD")]
    pod: String,
    /// Ports: PORT, LOCAL:REMOTE, or :REMOTE for any local one
    #[arg(value_name = "[LOCAL:]REMOTE", required = true, value_parser = ports)]
    ports: Vec<(u16, u16)>,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is not a port"));
    let local = if local.is_empty() { 0 } else { number(local)? };
    match number(remote)? {
        0 => Err("the pod has no port 0".into()),
        remote => Ok((local, remote)),
    }
}

/// Listens here, and connects whoever comes with the pod, until it is interrupted.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let client = Client::of(&global.state_dir);
    let name = args.pod.strip_prefix("pod/").unwrap_or(&args.pod);
    super::block_on(async {
        let protocol = Protocol::Spdy;
        let io = client.upgrade(&pod(&args.namespace, name, "portforward"), protocol.name()).await?;
        let tunnel = Arc::new(Ports::new(io, protocol, &[], Config::default()).context("begin to forward")?);
        let mut listening = JoinSet::new();
        for (local, remote) in &args.ports {
            let address = SocketAddr::new(args.address, *local);
            let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            anstream::println!("Forwarding from {} -> {remote}", listener.local_addr()?);
            listening.spawn(accept(listener, *remote, Arc::clone(&tunnel)));
        }
        tokio::select! {
            why = tunnel.closed() => bail!("lost the connection to pod {name}: {why}"),
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
            Some(ended) = listening.join_next() => ended?.map(|()| ExitCode::SUCCESS),
        }
    })
}

async fn accept(listener: TcpListener, port: u16, tunnel: Arc<Ports>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accept a connection")?;
        let tunnel = Arc::clone(&tunnel);
        tokio::spawn(async move {
            if let Err(error) = forward(stream, port, &tunnel).await {
                anstream::eprintln!("error: forward to port {port}: {error:#}");
            }
        });
    }
}

async fn forward(stream: TcpStream, port: u16, tunnel: &Ports) -> anyhow::Result<()> {
    let Forwarded { mut receiver, mut sender, error } = tunnel.connect(port).await?;
    let (mut from_here, mut to_here) = stream.into_split();
    let up = async {
        // An end of either side is the end of that direction alone.
        let _ = tokio::io::copy(&mut from_here, &mut sender).await;
        let _ = sender.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut receiver, &mut to_here).await;
        let _ = to_here.shutdown().await;
    };
    let told = async {
        let mut text = String::new();
        let _ = error.take(LONGEST).read_to_string(&mut text).await;
        text
    };
    tokio::pin!(up, down, told);
    tokio::select! {
        ((), ()) = async { tokio::join!(up, down) } => Ok(()),
        text = async { match told.await { text if text.is_empty() => std::future::pending().await, text => text } } => {
            bail!(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_kubectl_takes_them() {
        for (text, expected) in [("80", Some((80, 80))), ("8080:80", Some((8080, 80))), (":80", Some((0, 80)))] {
            assert_eq!(ports(text).ok(), expected, "{text}");
        }
        for text in ["", ":", "80:", "0", "x", "1:2:3", "70000"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }
}
