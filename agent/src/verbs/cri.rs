//! `coracle cri`: the Container Runtime Interface on a unix socket, for a kubelet, crictl or any other client.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use runtime::zygote::Zygote;
use runtime::{Owner, Serving, streaming};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Global;
use crate::cri_socket::Server;
use crate::local;
use crate::privilege::require_root;

/// Flags of `cri`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The socket to serve on [default: coracle.sock in the state directory]
    #[arg(long, value_name = "PATH")]
    cri_socket: Option<PathBuf>,
    /// Address that exec, attach and port-forward are served on; other than loopback only with TLS
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    streaming_address: IpAddr,
    /// Port for that; 0 is one that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    streaming_port: u16,
    /// Certificate for TLS there, PEM
    #[arg(long, value_name = "FILE", requires = "streaming_tls_key_file")]
    streaming_tls_cert_file: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "streaming_tls_cert_file")]
    streaming_tls_key_file: Option<PathBuf>,
}

/// How long work that nobody waits for any more may take then.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Serves until it is told to stop. What runs goes on running.
pub fn main(args: Args, global: &Global, zygote: Option<std::io::Result<Zygote>>) -> anyhow::Result<ExitCode> {
    require_root("serving the container runtime interface")?;
    let zygote = zygote.transpose().context("prepare to start containers")?;
    let socket = args.cri_socket.unwrap_or_else(|| global.state_dir.join("coracle.sock"));
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let streaming = streaming::Options {
        address: args.streaming_address,
        port: args.streaming_port,
        tls: args.streaming_tls_cert_file.zip(args.streaming_tls_key_file),
    };
    let outcome = rt.block_on(serve(global, zygote, &socket, &streaming));
    // What is half done is brought to an end, if that is near: what is cut off the next server takes away.
    rt.shutdown_timeout(LAST_WORK);
    let outcome = outcome.map(|serving| {
        // Its threads may still be at work: who comes next has to wait until this process is gone.
        std::mem::forget(serving);
    });
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    global: &Global,
    zygote: Option<Zygote>,
    path: &Path,
    options: &streaming::Options,
) -> anyhow::Result<Serving> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let (runtime, _) = local::open(global, Owner::Cri, zygote)?;
    let mut server = Server::start(&runtime, path, options).await?;
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stdout(), "serving the container runtime interface on {}", path.display());
    tokio::select! {
        ended = server.ended() => ended?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.finish().await
}
