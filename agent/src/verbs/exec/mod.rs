//! `coracle exec`

mod stdio;
pub mod target;
pub mod terminal;

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context as _;
use cri_proto::cri::ExecRequest;
use runtime::{Runtime, Session};
use tokio::signal::unix::{SignalKind, signal};

use self::stdio::{Copying, Streams};
use self::target::Target;
use self::terminal::Raw;
use crate::channel::{Channel, Cri};
use crate::cli::Global;
use crate::failure;
use crate::local;
use crate::privilege::require_root;
use crate::record;

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pass standard input to the command
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Container; the pod's first by default
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Namespace of the pod, where its name alone does not tell
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Pod
    #[arg(value_name = "POD")]
    pod: String,
    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command and ends with its exit code.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("running a command in a pod")?;
    let record = record::find(&global.state_dir, &global.this_boot()?, &args.pod, args.namespace.as_deref())?;
    let target = target::choose(&record, args.container.as_deref())?;
    if let Some(others) = &target.defaulted {
        eprintln!("Defaulted container {:?} out of: {others}", target.container);
    }
    super::block_on(async {
        let (runtime, channel) = local::open(global, target.owner.clone(), None)?;
        let what = || format!("run {} in container {} of pod {}", args.command[0], target.container, args.pod);
        match begin(&runtime, channel, &target, &args).await.with_context(what) {
            Ok(session) => converse(session, args.stdin).await.with_context(what),
            Err(error) => match launch_code(&error) {
                Some(code) => {
                    failure::report(Err(error));
                    Ok(ExitCode::from(code))
                }
                None => Err(error),
            },
        }
    })
}

async fn begin(runtime: &Runtime, channel: Channel, target: &Target, args: &Args) -> anyhow::Result<Session> {
    let request = ExecRequest {
        container_id: target.container_id.clone(),
        cmd: args.command.clone(),
        tty: args.tty,
        stdin: args.stdin,
        stdout: true,
        // A terminal has one stream; the CRI refuses to split it.
        stderr: !args.tty,
    };
    let url = Cri::new(channel).runtime.exec(request).await?.into_inner().url;
    let runtime = runtime.clone();
    Ok(tokio::task::spawn_blocking(move || runtime.take_session(&url)).await??)
}

/// The exit code that a shell would give for a command that could not be run: 127 if it is not there, 126 otherwise.
fn launch_code(error: &anyhow::Error) -> Option<u8> {
    match error.chain().find_map(|cause| cause.downcast_ref())? {
        runtime::Error::Launch(failure) => u8::try_from(failure.code).ok(),
        _ => None,
    }
}

/// Joins this process's standard streams with the session's until the command ends or a signal ends us. Either way the
/// session is dropped on return, which kills a command that still runs, and the terminal is as it was.
async fn converse(mut session: Session, stdin: bool) -> anyhow::Result<ExitCode> {
    let master = session.terminal.as_ref().map(|it| it.try_clone()).transpose()?;
    let input = std::io::stdin();
    let _raw = if stdin && master.is_some() { Raw::enter(input.as_fd())? } else { None };
    let streams = Streams {
        stdin: session.stdin.take(),
        stdout: session.stdout.take(),
        stderr: session.stderr.take(),
        terminal: session.terminal.take(),
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let copying = Copying::start(streams, stdin)?;
    let finish = async {
        let code = session.wait().await?;
        tokio::task::spawn_blocking(move || copying.drain()).await?;
        anyhow::Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    };
    tokio::select! {
        code = finish => code,
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        _ = hangup.recv() => Ok(ExitCode::from(129)),
        failed = terminal::follow_size(master.as_ref()) => failed.map(|never| match never {}),
    }
}
