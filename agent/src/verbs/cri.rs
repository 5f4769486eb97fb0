//! `coracle cri`: the Container Runtime Interface on a unix socket, for a kubelet, crictl or any other client.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use runtime::Owner;
use runtime::zygote::Zygote;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;

use crate::cli::Global;
use crate::local;
use crate::privilege::require_root;

/// Flags of `cri`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The socket to serve on [default: coracle.sock in the state directory]
    #[arg(long, value_name = "PATH")]
    cri_socket: Option<PathBuf>,
}

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
    let outcome = rt.block_on(serve(global, zygote, &socket));
    rt.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(global: &Global, zygote: Option<Zygote>, socket: &Path) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let (runtime, _) = local::open(global, Owner::Cri, zygote)?;
    let adopting = runtime.clone();
    tokio::task::spawn_blocking(move || adopting.adopt(&Owner::Cri)).await?.context("follow the pods that run")?;
    let listener = listen(socket).await?;
    println!("serving the container runtime interface on {}", socket.display());
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tonic::transport::Server::builder()
        .add_routes(runtime.services(Owner::Cri))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await
        .context("serve the container runtime interface")?;
    std::fs::remove_file(socket).with_context(|| format!("remove {}", socket.display()))
}

/// A socket that nobody but root can reach, in the place of one that nobody serves any more.
async fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(socket).await.is_ok() {
        bail!("somebody serves on {} already; stop it, or name another socket with --cri-socket", socket.display());
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old socket {}", socket.display()));
        }
        _ => {}
    }
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(socket);
    rustix::process::umask(old);
    listener.with_context(|| format!("listen on {}", socket.display()))
}
