//! Running a plug-in: what it reads and prints is bounded, and so is its time. It ends with all that it has started.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::error::seconds;
use super::result::one_line;
use crate::cgroup::Cgroup;
use crate::sys::process::join_before_exec;

/// Bytes of a result.
const MOST_PRINTED: usize = 1 << 20;
/// Bytes of what is kept of its complaints; the rest is read and forgotten.
const MOST_COMPLAINED: usize = 4 << 10;
/// How long it may take to end once it was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Where programs are that plug-ins start, should this process have been told nothing of it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a plug-in failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such program.
    #[error("there is no program {name} in {}; install it, or name its directory with --cni-bin-dir", words(dirs))]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// It could not be started, or not be listened to.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// It took too long.
    #[error("it took longer than {} and was killed", seconds(*.0))]
    TimedOut(Duration),
    /// It printed too much.
    #[error("it printed more than {MOST_PRINTED} bytes and was killed")]
    TooMuch,
    /// It said what is wrong.
    #[error("{}", words_of(*code, message, details))]
    Said {
        /// A number of the specification, or its own.
        code: u64,
        /// In short.
        message: String,
        /// At length.
        details: String,
    },
    /// It ended without a word of the specification.
    #[error("it ended with {status}{}", if complaint.is_empty() { String::new() } else { format!(": {complaint}") })]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it complained of.
        complaint: String,
    },
    /// It did not say what it has done.
    #[error("{0}")]
    NoResult(String),
    /// What it said of a pod makes no sense.
    #[error("its result is unusable: {0}")]
    BadResult(String),
}

fn words(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" or ")
}

fn words_of(code: u64, message: &str, details: &str) -> String {
    let parts: Vec<&str> = [message, details].into_iter().filter(|it| !it.is_empty()).collect();
    format!("{} (code {code})", parts.join("; "))
}

/// What a plug-in is started with.
pub struct Call<'a> {
    /// The program.
    pub program: &'a Path,
    /// Variables besides this process's own.
    pub environment: &'a [(&'static str, String)],
    /// What it reads.
    pub input: &'a [u8],
    /// Where it and what it starts are.
    pub cgroup: Option<&'a Cgroup>,
    /// How long it may take.
    pub limit: Duration,
}

/// What a plug-in has come to.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub printed: Vec<u8>,
    /// What it complained of, in one line.
    pub complaint: String,
}

/// Runs it to its end.
pub fn run(call: &Call<'_>) -> Result<Ended, Failure> {
    let failed = |what: &str| {
        let operation = format!("{what} {}", call.program.display());
        move |source: io::Error| Failure::Io { operation, source }
    };
    let mut child = command(call).and_then(|mut it| it.spawn()).map_err(failed("start"))?;
    let listened = listen(&mut child, call);
    match listened {
        Ok(Heard { status: Some(status), printed, complained }) => {
            Ok(Ended { status, printed, complaint: one_line(&String::from_utf8_lossy(&complained)) })
        }
        unended => {
            kill(&mut child, call.cgroup);
            match unended {
                Ok(heard) if heard.printed.len() > MOST_PRINTED => Err(Failure::TooMuch),
                Ok(_) => Err(Failure::TimedOut(call.limit)),
                Err(error) => Err(failed("listen to")(error)),
            }
        }
    }
}

fn command(call: &Call<'_>) -> io::Result<Command> {
    let mut command = Command::new(call.program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CNI_") {
            command.env_remove(name);
        }
    }
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    command.envs(call.environment.iter().map(|(name, value)| (*name, value)));
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(cgroup) = call.cgroup {
        let doors = cgroup.procs_fds().map_err(io::Error::other)?;
        join_before_exec(&mut command, doors);
    }
    Ok(command)
}

#[derive(Default)]
struct Heard {
    /// None: it has not ended.
    status: Option<ExitStatus>,
    printed: Vec<u8>,
    complained: Vec<u8>,
}

/// Feeds it and listens to it until it has ended, its time is over, or it has printed too much. What it has started may
/// keep its pipes open for ever: nobody waits for their end.
fn listen(child: &mut Child, call: &Call<'_>) -> io::Result<Heard> {
    let deadline = Instant::now() + call.limit;
    let pid =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))?;
    let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut input = (child.stdin.take(), call.input);
    let mut printed = Pipe::new(child.stdout.take().map(OwnedFd::from), MOST_PRINTED + 1)?;
    let mut complained = Pipe::new(child.stderr.take().map(OwnedFd::from), MOST_COMPLAINED)?;
    if let Some(stdin) = &input.0 {
        rustix::io::ioctl_fionbio(stdin, true)?;
    }
    let mut status = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || printed.kept.len() > MOST_PRINTED {
            break;
        }
        wait(&ended, input.0.as_ref().map(AsFd::as_fd), [&printed, &complained], left)?;
        feed(&mut input)?;
        status = child.try_wait()?;
        printed.read()?;
        complained.read()?;
        if status.is_some() {
            break;
        }
    }
    let status = status.filter(|_| printed.kept.len() <= MOST_PRINTED);
    Ok(Heard { status, printed: printed.kept, complained: complained.kept })
}

/// Waits until there is something to do.
fn wait(
    ended: &OwnedFd,
    input: Option<std::os::fd::BorrowedFd<'_>>,
    pipes: [&Pipe; 2],
    left: Duration,
) -> io::Result<()> {
    let mut polled = vec![PollFd::new(ended, PollFlags::IN)];
    polled.extend(input.map(|it| PollFd::from_borrowed_fd(it, PollFlags::OUT)));
    polled.extend(pipes.iter().filter_map(|it| it.fd.as_ref()).map(|it| PollFd::new(it, PollFlags::IN)));
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&left)) {
        Err(rustix::io::Errno::INTR) => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Writes as much as it takes. One that does not read need not.
fn feed((pipe, rest): &mut (Option<impl Write>, &[u8])) -> io::Result<()> {
    let Some(stdin) = pipe else { return Ok(()) };
    while !rest.is_empty() {
        match stdin.write(rest) {
            Ok(written) => *rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error),
        }
    }
    *pipe = None;
    Ok(())
}

/// One of its outputs, and the beginning of what came by it.
struct Pipe {
    fd: Option<std::fs::File>,
    kept: Vec<u8>,
    most: usize,
}

impl Pipe {
    fn new(fd: Option<OwnedFd>, most: usize) -> io::Result<Self> {
        if let Some(fd) = &fd {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self { fd: fd.map(std::fs::File::from), kept: Vec::new(), most })
    }

    /// Takes what is there, though no more than a round of it: who writes without end must not keep the clock from being
    /// looked at.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        for _ in 0..64 {
            let Some(file) = &mut self.fd else { return Ok(()) };
            match file.read(&mut buffer) {
                Ok(0) => self.fd = None,
                Ok(length) => {
                    let room = self.most.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(buffer.get(..length.min(room)).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Ends it and all that it has started.
fn kill(child: &mut Child, cgroup: Option<&Cgroup>) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It was born the leader of a group of its own, and is not reaped yet: the number is still its.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    if let Some(Err(error)) = cgroup.map(|it| it.kill(KILL_PATIENCE)) {
        tracing::warn!(%error, "what a CNI plug-in has started could not be killed");
    }
    let deadline = Instant::now() + KILL_PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that ended well.
pub fn succeeded(status: ExitStatus) -> bool {
    status.success() && status.signal().is_none()
}
