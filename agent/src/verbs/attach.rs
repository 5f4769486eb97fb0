//! `coracle attach`

use std::io::{Read as _, Write};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use hyper::Method;
use runtime::streaming::channels::{Config, Receiver, Sender};
use runtime::streaming::remotecommand::{self, Protocol, Resizer, Size, Status};
use rustix::termios;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::exec::terminal::Raw;
use crate::api::client::{Client, Options, pod};
use crate::cli::Global;

/// Bytes copied at a time.
const CHUNK: usize = 32 * 1024;

/// Flags of `attach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pass standard input to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Make this terminal the container's, which has to have one
    #[arg(short, long)]
    tty: bool,
    /// Container; the pod's first by default
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Pod
    #[arg(value_name = "POD")]
    pod: String,
}

/// Joins this process's streams with a container's until that ends.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let client = Client::of(&global.state_dir);
    let name = args.pod.strip_prefix("pod/").unwrap_or(&args.pod);
    super::block_on(async {
        let shown = client.ask(Method::GET, &pod(&args.namespace, name, ""), None).await?.object;
        let (container, terminal) = choose(&shown, args.container.as_deref())?;
        let tty = args.tty && terminal;
        if args.tty && !terminal {
            anstream::eprintln!("warning: container {container} has no terminal; attached without");
        }
        let options = remotecommand::Options { stdin: args.stdin, stdout: true, stderr: !tty, tty };
        let Some(protocol) = Protocol::spdy(["v4.channel.k8s.io"]) else { bail!("no protocol to attach by") };
        let word = |yes: bool| if yes { "true" } else { "false" };
        let address = Options::default()
            .with("container", &container)
            .with("stdin", word(options.stdin))
            .with("stdout", "true")
            .with("stderr", word(options.stderr))
            .with("tty", word(tty));
        let io = client.upgrade(&address.of(&pod(&args.namespace, name, "attach")), protocol.name()).await?;
        let session = remotecommand::Client::start(io, protocol, options, Config::default()).await;
        converse(session.context("attach")?).await
    })
}

/// The container that is named, or the first, and whether it has a terminal.
fn choose(pod: &Value, asked: Option<&str>) -> anyhow::Result<(String, bool)> {
    let empty = Vec::new();
    let of = |list: &str| pod["spec"][list].as_array().unwrap_or(&empty).iter();
    let mut all = of("containers").chain(of("initContainers")).chain(of("ephemeralContainers"));
    let found = all.find(|it| asked.is_none_or(|asked| it["name"] == asked));
    let Some(found) = found else { bail!("the pod has no container {}", asked.unwrap_or_default()) };
    Ok((found["name"].as_str().unwrap_or_default().to_owned(), found["tty"] == true))
}

async fn converse(session: remotecommand::Client) -> anyhow::Result<ExitCode> {
    let remotecommand::Client { stdin, stdout, stderr, resize, outcome } = session;
    let input = std::io::stdin();
    let _raw = if stdin.is_some() && resize.is_some() { Raw::enter(input.as_fd())? } else { None };
    let copying = async {
        let (out, err) = (print(stdout, std::io::stdout()), print(stderr, std::io::stderr()));
        anyhow::Ok(tokio::join!(outcome.wait(), out, err).0?)
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ended = copying => match ended? {
            Status::Success => Ok(ExitCode::SUCCESS),
            Status::ExitCode(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
            Status::Failure(why) => bail!(why),
        },
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        never = feed(stdin) => never,
        never = follow_size(resize) => never,
    }
}

/// Copies output, on threads that may wait for whoever reads it.
async fn print(from: Option<Receiver>, to: impl Write + Send + 'static) {
    let Some(mut from) = from else { return };
    let mut waiting = Some(to);
    let mut buffer = vec![0; CHUNK];
    while let (Some(mut to), Ok(length @ 1..)) = (waiting.take(), from.read(&mut buffer).await) {
        let bytes = buffer[..length].to_vec();
        let written = tokio::task::spawn_blocking(move || {
            to.write_all(&bytes)?;
            to.flush()?;
            std::io::Result::Ok(to)
        });
        // Without a reader there is nothing to print to.
        waiting = written.await.ok().and_then(Result::ok);
    }
}

/// Copies input, read on a thread that sits in a read until our own end.
async fn feed<T>(to: Option<Sender>) -> T {
    if let Some(mut to) = to {
        let (read, mut typed) = mpsc::channel::<Vec<u8>>(4);
        std::thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
                if read.blocking_send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        while let Some(bytes) = typed.recv().await {
            // The container may close its input: its end tells why.
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
    std::future::pending().await
}

/// Tells the size of this terminal, now and whenever it changes.
async fn follow_size<T>(to: Option<Resizer>) -> anyhow::Result<T> {
    let Some(mut to) = to else { return std::future::pending().await };
    let mut changes = signal(SignalKind::window_change()).context("watch the terminal's size")?;
    loop {
        if let Ok(size) = termios::tcgetwinsize(std::io::stdin().as_fd()) {
            // It fails when the session has just ended.
            let _ = to.resize(Size { width: size.ws_col, height: size.ws_row }).await;
        }
        if changes.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}
