//! ExecSync: a command run to its end, and what it has printed.

use std::future::Future;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::exec::Session;
use crate::error::{During as _, Error, Result};
use crate::streaming::drain::{Drain, Ended};
use crate::streaming::fd::Stream;

/// The most that is given back of one stream, in bytes; what comes after is read and dropped (CVE-2022-31030).
pub const MAX_OUTPUT: usize = 16 << 20;

/// What a command has printed, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit code; 128 and the signal's number when it was killed.
    pub code: i32,
}

/// Runs the command that `start` starts to its end. A timeout kills it and all that it started, and nothing else; so
/// does dropping this.
pub async fn exec_sync(start: impl Future<Output = Result<Session>>, limit: Option<Duration>) -> Result<Output> {
    let run = async { to_the_end(start.await?).await };
    let Some(limit) = limit else { return run.await };
    // Clients know a timeout by the code, and by these words where codes do not come through.
    let late = || {
        let seconds = limit.as_secs();
        Error::Timeout(format!("failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded"))
    };
    tokio::time::timeout(limit, run).await.map_err(|_| late())?
}

async fn to_the_end(mut session: Session) -> Result<Output> {
    let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
    let drain = Drain::default();
    let (out, err) = (collect(stdout, drain.ended()), collect(stderr, drain.ended()));
    let code = async {
        let code = session.wait().await;
        drain.end();
        code
    };
    let (code, stdout, stderr) = tokio::join!(code, out, err);
    Ok(Output { code: code?, stdout: stdout?, stderr: stderr? })
}

async fn collect(from: Option<std::os::fd::OwnedFd>, mut ended: Ended) -> Result<Vec<u8>> {
    let Some(from) = from else { return Ok(Vec::new()) };
    let mut from = Stream::new(from).during(|| "follow a command's output".into())?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Some(read) = ended.or(from.read(&mut buffer)).await {
        match read.during(|| "read a command's output".into())? {
            0 => break,
            length => all.extend_from_slice(&buffer[..length.min(MAX_OUTPUT - all.len())]),
        }
    }
    Ok(all)
}
