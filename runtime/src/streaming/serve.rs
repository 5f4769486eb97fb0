//! What a session does once its client is connected: copying, until one side is done.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::channels::{Receiver, Sender};
use super::connect::connect;
use super::drain::{Drain, Ended};
use super::fd::Stream;
use super::portforward::{self, Forward};
use super::remotecommand::{self, Control, Resizes, Status};
use crate::container::{self, Attach, News};
use crate::core::Core;
use crate::error::{During as _, Error, Result};

/// What a terminal takes as the end of input.
const END_OF_INPUT: &[u8] = &[4];

/// Bytes copied at a time.
const CHUNK: usize = 32 * 1024;

/// After the pod's side of a forwarded connection has ended, the client's side may be silent for this long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a command for a client. A client that goes away kills it.
pub async fn exec(core: Arc<Core>, container: String, exec: container::Exec, client: remotecommand::Server) {
    let remotecommand::Server { stdin, stdout, stderr, resize, control } = client;
    let (tty, wants_stdin) = (exec.tty, exec.stdin);
    let start = move || container::exec(&core, &container::load(&core, &container)?, &exec);
    let run = async {
        let mut session = blocking(start).await?;
        let terminal = stream(session.terminal.take())?;
        let (mut input, mut out, err) =
            (stream(session.stdin.take())?, stream(session.stdout.take())?, stream(session.stderr.take())?);
        if tty {
            (input, out) = (terminal.clone().filter(|_| wants_stdin), terminal.clone());
        }
        let drain = Drain::default();
        let code = async {
            let code = session.wait().await;
            drain.end();
            code
        };
        let over = async { tokio::join!(code, pump(out, stdout, drain.ended()), pump(err, stderr, drain.ended())).0 };
        let last = if tty { END_OF_INPUT } else { &[] };
        tokio::select! {
            code = over => code,
            never = async { feed(stdin, input, last).await; pending().await } => never,
            never = follow_size(resize, terminal) => never,
        }
    };
    tokio::select! {
        why = control.closed() => tracing::debug!(%why, "the client of a command is gone"),
        ended = run => finish(control, match ended {
            Ok(0) => Status::Success,
            Ok(code) => Status::ExitCode(code),
            Err(error) => Status::Failure(error.to_string()),
        }).await,
    }
}

/// Joins a client with a container's streams until the container ends or the client goes away.
pub async fn attach(core: Arc<Core>, container: String, attach: Attach, client: remotecommand::Server) {
    let remotecommand::Server { stdin, stdout, stderr, resize, control } = client;
    let start = move || container::attach(&core, &container::load(&core, &container)?, &attach);
    let run = async {
        let mut attached = blocking(start).await?;
        let terminal = stream(attached.terminal.take())?;
        let (out, err) = (stream(attached.stdout.take())?, stream(attached.stderr.take())?);
        let input = stream(attached.stdin.take())?.or(terminal.clone().filter(|_| attach.stdin));
        let (stdin_closed, running) = (Notify::new(), Drain::default());
        let news = async {
            loop {
                match attached.next().await? {
                    News::Ended => return Ok(()),
                    News::TooSlow => return Err(too_slow()),
                    News::StdinClosed => stdin_closed.notify_one(),
                }
            }
        };
        // The shim closes what it gives us at the end, after everything that was written.
        let over =
            async { tokio::join!(news, pump(out, stdout, running.ended()), pump(err, stderr, running.ended())).0 };
        let feeding = async {
            tokio::select! {
                () = feed(stdin, input, &[]) => {}
                () = stdin_closed.notified() => {}
            }
            attached.stdin_over();
            pending().await
        };
        tokio::select! {
            ended = over => ended,
            never = feeding => never,
            never = follow_size(resize, terminal) => never,
        }
    };
    tokio::select! {
        why = control.closed() => tracing::debug!(%why, "an attached client is gone"),
        ended = run => finish(control, match ended {
            Ok(()) => Status::Success,
            Err(error) => Status::Failure(error.to_string()),
        }).await,
    }
}

fn too_slow() -> Error {
    let why = "the container writes faster than this client reads, and waits for none; its log has everything";
    Error::Conflict(format!("detached: {why}"))
}

/// Connects a client to ports of the network namespace that is pinned at `namespace`, as often as it likes.
pub async fn port_forward(namespace: Option<PathBuf>, mut client: portforward::Server) {
    // Dropping it ends what is left when the client has gone away.
    let mut forwards = JoinSet::new();
    loop {
        tokio::select! {
            next = client.accept() => match next {
                Some(next) => drop(forwards.spawn(forward(namespace.clone(), next))),
                None => return,
            },
            Some(_) = forwards.join_next(), if !forwards.is_empty() => {}
        }
    }
}

async fn forward(namespace: Option<PathBuf>, client: Forward) {
    let port = client.port;
    let connection = match connect(namespace, port).await {
        Ok(connection) => connection,
        Err(error) => return client.fail(&format!("cannot connect to port {port} in the pod: {error}")).await,
    };
    let Forward { mut receiver, mut sender, failure, .. } = client;
    let (from_pod, mut to_pod) = connection.into_split();
    let mut from_pod = BufReader::with_capacity(CHUNK, from_pod);
    let pod_ended = Notify::new();
    let up = async {
        let (mut buffer, mut ended) = (vec![0; CHUNK], false);
        loop {
            let read = tokio::select! {
                read = receiver.read(&mut buffer) => read,
                () = pod_ended.notified(), if !ended => { ended = true; continue }
                () = tokio::time::sleep(LAST_WORDS), if ended => break,
            };
            match read {
                Ok(length @ 1..) if to_pod.write_all(&buffer[..length]).await.is_ok() => {}
                _ => break,
            }
        }
        // The pod sees the half-close; what it still has to say goes on.
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let copied = tokio::io::copy_buf(&mut from_pod, &mut sender).await;
        let _ = sender.shutdown().await;
        pod_ended.notify_one();
        copied
    };
    if let (Err(error), ()) = tokio::join!(down, up) {
        failure.fail(&format!("port {port} in the pod: {error}")).await;
    }
}

/// Runs work of the runtime on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from).during(|| "do what was requested".into())?
}

fn stream(fd: Option<OwnedFd>) -> Result<Option<Stream>> {
    fd.map(Stream::new).transpose().during(|| "follow a container's stream".into())
}

/// Tells the client how it ended, as far as it still listens.
async fn finish(control: Control, status: Status) {
    if let Err(error) = control.finish(status).await {
        tracing::debug!(%error, "a client has not heard how its session ended");
    }
}

/// Copies output until its end; without anybody who wants it, to nowhere.
async fn pump(from: Option<Stream>, mut to: Option<Sender>, mut ended: Ended) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK];
    while let Some(Ok(length @ 1..)) = ended.or(from.read(&mut buffer)).await {
        if let Some(sender) = &mut to
            && sender.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
    if let Some(mut sender) = to {
        // What follows is the end of the session, which says whether anybody is there.
        let _ = sender.shutdown().await;
    }
}

/// Copies input until its end, says `last`, and closes.
async fn feed(from: Option<Receiver>, to: Option<Stream>, last: &[u8]) {
    let Some(mut from) = from else { return };
    let Some(mut to) = to else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => break,
            // An error: the command does not read any more, and its end tells why.
            Ok(length) if to.write_all(&buffer[..length]).await.is_ok() => {}
            Ok(_) | Err(_) => return,
        }
    }
    let _ = to.write_all(last).await;
}

/// Gives a terminal the sizes that the client's takes.
async fn follow_size<T>(sizes: Option<Resizes>, terminal: Option<Stream>) -> T {
    if let (Some(mut sizes), Some(terminal)) = (sizes, terminal) {
        while let Some(size) = sizes.next().await {
            let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            // It fails when the terminal has just ended, which is told otherwise.
            let _ = tcsetwinsize(&terminal, size);
        }
    }
    pending().await
}
