//! The shim: one a pod, the parent of all its processes.
//!
//! It owns their standard streams, writes their logs, waits for them, and records how they ended; it lives on when the
//! agent does not. One thread runs this loop and never blocks in it; a second one writes the logs. Everything that it
//! knows of the host are descriptors that the runtime opened.

mod attach;
pub mod client;
mod containers;
pub use containers::now;
mod execs;
mod log;
mod orders;
pub mod protocol;
mod sandbox;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};

use crate::launch::Report;
use crate::sys::{fdpass, process};
use containers::Container;
use execs::Session;
use log::LogThread;
use protocol::{Config, Event, Request, Response, VERSION};

/// Runs a shim in a process that the zygote has just forked. `fds` are a sealed [`Config`], a listening socket, and the
/// directories of cgroups.
pub fn main(fds: Vec<OwnedFd>) -> i32 {
    let mut fds = fds.into_iter();
    let (Some(config), Some(listener)) = (fds.next(), fds.next()) else { return 1 };
    match Shim::start(config, listener, fds.map(Some).collect()) {
        Ok(mut shim) => match shim.serve() {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(_) => 1,
    }
}

/// How long the killed may take to leave their cgroup before the shim goes on without having seen it.
const KILL_PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);

/// A connection, by a number that is never used again.
type Conn = u64;

struct Shim {
    listener: OwnedFd,
    children: OwnedFd,
    log: LogThread,
    /// What the sandbox's making came to; an error is what the first caller is told.
    sandbox: Result<sandbox::Sandbox, String>,
    conns: BTreeMap<Conn, OwnedFd>,
    next_conn: Conn,
    watchers: Vec<Conn>,
    containers: BTreeMap<String, Container>,
    execs: Vec<Session>,
    attached: BTreeMap<Conn, attach::Attached>,
    /// Cgroups of execs that have ended and left something running: container and name.
    left: Vec<(String, String)>,
    /// Children that ended before their stage had said who they are.
    unclaimed: Vec<(Pid, i32)>,
    /// Who waits for the end, once it was asked for.
    shutdown: Option<Conn>,
    over: bool,
}

/// What a poll entry stands for.
enum Source {
    Listener,
    Children,
    Log,
    Conn(Conn),
    Container(String),
    Exec(Conn),
}

impl Shim {
    fn start(file: OwnedFd, listener: OwnedFd, mut fds: Vec<Option<OwnedFd>>) -> io::Result<Self> {
        rustix::process::setsid()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        rustix::thread::set_name(c"coracle-shim")?;
        let config: Config = serde_json::from_slice(&read_all(&file)?)?;
        drop(file);
        process::set_title(&format!("coracle-shim {}", config.pod));
        let children = process::child_signal_fd()?;
        // Before the log thread: what unshares and clones here has to be the only thread.
        let sandbox = enter_and_make(config, &mut fds).map_err(|error| error.to_string());
        Ok(Self {
            listener,
            children,
            log: LogThread::start()?,
            sandbox,
            conns: BTreeMap::new(),
            next_conn: 1,
            watchers: Vec::new(),
            containers: BTreeMap::new(),
            execs: Vec::new(),
            attached: BTreeMap::new(),
            left: Vec::new(),
            unclaimed: Vec::new(),
            shutdown: None,
            over: false,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        while !self.over {
            for source in self.wait()? {
                self.handle(&source)?;
            }
            self.tick();
        }
        Ok(())
    }

    /// Waits for something to do. A drain that has a deadline ends the wait.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>)> = vec![
            (Source::Listener, self.listener.as_fd()),
            (Source::Children, self.children.as_fd()),
            (Source::Log, self.log.bell()),
        ];
        sources.extend(self.conns.iter().map(|(&conn, fd)| (Source::Conn(conn), fd.as_fd())));
        for container in self.containers.values() {
            sources.extend(container.reports().map(|fd| (Source::Container(container.id.clone()), fd)));
        }
        for exec in &self.execs {
            sources.extend(exec.reports().map(|fd| (Source::Exec(exec.conn), fd)));
        }
        let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
        let timeout = self.deadline();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        Ok(sources.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|((source, _), _)| source).collect())
    }

    fn deadline(&self) -> Option<Timespec> {
        let nearest = self.containers.values().filter_map(Container::deadline).min()?;
        let left = nearest.saturating_duration_since(std::time::Instant::now()) + std::time::Duration::from_nanos(1);
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
    }

    fn handle(&mut self, source: &Source) -> io::Result<()> {
        match source {
            Source::Listener => self.accept(),
            Source::Children => {
                let _ = rustix::io::read(&self.children, &mut [0; 128]);
                self.reap();
                Ok(())
            }
            Source::Log => {
                for drained in self.log.drained() {
                    if let Some(container) = self.containers.get_mut(&drained.id) {
                        container.drained(drained.lost);
                    }
                }
                self.reopened();
                Ok(())
            }
            Source::Conn(conn) => {
                self.receive(*conn);
                Ok(())
            }
            Source::Container(id) => {
                self.container_report(id);
                Ok(())
            }
            Source::Exec(conn) => {
                self.exec_report(*conn);
                Ok(())
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
        let conn = match accept_with(&self.listener, SocketFlags::CLOEXEC) {
            Ok(conn) => conn,
            // The caller went away, or descriptors ran short: the next one may have more luck.
            Err(_) => return Ok(()),
        };
        let peer = socket_peercred(&conn)?;
        if peer.uid == rustix::process::geteuid() {
            self.conns.insert(self.next_conn, conn);
            self.next_conn += 1;
        }
        Ok(())
    }

    fn receive(&mut self, conn: Conn) {
        let Some(socket) = self.conns.get(&conn) else { return };
        let length = fdpass::next_length(socket).unwrap_or(0).min(fdpass::MAX_MESSAGE);
        let mut buffer = vec![0; length];
        let (length, fds) = match fdpass::receive(socket, &mut buffer) {
            Ok((length, fds)) if length > 0 => (length, fds),
            _ => return self.hung_up(conn),
        };
        match serde_json::from_slice(&buffer[..length]) {
            Ok(request) => self.request(conn, request, fds),
            Err(error) => {
                self.answer(conn, &Response::Refused(format!("the shim cannot read the request: {error}")), &[])
            }
        }
    }

    fn request(&mut self, conn: Conn, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Hello => self.hello(conn),
            Request::Create(create) => self.create(conn, create, fds),
            Request::Start { id } => self.start_container(conn, &id),
            Request::Signal { id, signal } => self.signal(conn, &id, signal),
            Request::Kill { id } => self.kill(conn, &id),
            Request::Remove { id } => self.remove(conn, &id),
            Request::Exec(exec) => self.exec(conn, &exec, fds),
            Request::Attach(attach) => self.attach(conn, &attach),
            Request::CloseStdin => self.attached_stdin_over(conn),
            Request::Reopen { id } => self.reopen(conn, &id, fds),
            Request::Watch => {
                self.watchers.push(conn);
                self.answer(conn, &Response::Done, &[]);
            }
            Request::Shutdown => self.begin_shutdown(conn),
        }
    }

    fn hello(&mut self, conn: Conn) {
        match &self.sandbox {
            Ok(sandbox) => {
                let fds: Vec<BorrowedFd<'_>> = sandbox.namespaces.links.iter().map(|(_, fd)| fd.as_fd()).collect();
                let init = sandbox.init.map(|pid| pid.as_raw_nonzero().get());
                self.answer(conn, &Response::Sandbox { version: VERSION, init }, &fds);
            }
            Err(why) => {
                let why = Response::Refused(why.clone());
                self.answer(conn, &why, &[]);
                self.over = true;
            }
        }
    }

    /// Sends a response; a caller that is gone is dropped.
    fn answer(&self, conn: Conn, response: &Response, fds: &[BorrowedFd<'_>]) {
        let Some(socket) = self.conns.get(&conn) else { return };
        if let Ok(bytes) = serde_json::to_vec(response) {
            // Its hang-up is seen by the poll; nothing else has to be done about it here.
            let _ = fdpass::send(socket, &bytes, fds);
        }
    }

    fn tell(&self, conn: Conn, event: &Event) {
        let Some(socket) = self.conns.get(&conn) else { return };
        if let Ok(bytes) = serde_json::to_vec(event) {
            let _ = fdpass::send(socket, &bytes, &[]);
        }
    }

    fn hung_up(&mut self, conn: Conn) {
        self.conns.remove(&conn);
        self.watchers.retain(|&it| it != conn);
        self.exec_hung_up(conn);
        self.detach(conn);
    }

    /// Collects every child that has ended: a container's, an exec's, the init's, or an orphan that came to this
    /// subreaper.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, signal) => 128 + signal.unwrap_or(0),
            };
            self.ended(pid, code);
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        if let Some(container) = self.containers.values_mut().find(|it| it.pid == Some(pid)) {
            container.ended(code);
        } else if let Some(exec) = self.execs.iter_mut().find(|it| it.pid == Some(pid)) {
            exec.ended(code);
        } else if self.sandbox.as_ref().is_ok_and(|it| it.init == Some(pid))
            && let Ok(sandbox) = &mut self.sandbox
        {
            sandbox.init = None;
        } else if self.containers.values().any(Container::is_unknown) || self.execs.iter().any(Session::is_unknown) {
            self.unclaimed.push((pid, code));
        }
    }

    /// How the child that a report has just named ended, if it has.
    fn claim(&mut self, report: Option<&Report>) -> Option<i32> {
        let Some(Report::Pid(pid)) = report else { return None };
        let found = self.unclaimed.iter().position(|(it, _)| it.as_raw_nonzero().get() == *pid)?;
        Some(self.unclaimed.swap_remove(found).1)
    }

    /// What follows once the descriptors are served: exits whose logs are complete, sessions that are over.
    fn tick(&mut self) {
        let mut exited = Vec::new();
        let mut removed = Vec::new();
        for container in self.containers.values_mut() {
            if container.settle(&self.log) {
                exited.push(container.id.clone());
            }
            removed.extend(container.removal_due());
        }
        for id in exited {
            for &watcher in &self.watchers {
                self.tell(watcher, &Event::Exited { id: id.clone() });
            }
        }
        for (id, conn) in removed {
            self.containers.remove(&id);
            self.answer(conn, &Response::Done, &[]);
        }
        self.finish_execs();
        // Whoever is left in there was a stage.
        if !(self.containers.values().any(Container::is_unknown) || self.execs.iter().any(Session::is_unknown)) {
            self.unclaimed.clear();
        }
        self.finish_shutdown();
    }

    fn begin_shutdown(&mut self, conn: Conn) {
        self.shutdown = Some(conn);
        for container in self.containers.values_mut() {
            container.kill();
        }
    }

    fn finish_shutdown(&mut self) {
        let Some(conn) = self.shutdown else { return };
        if self.containers.values().all(Container::is_over) && self.execs.is_empty() {
            if let Ok(sandbox) = &self.sandbox
                && let Some(init) = sandbox.init
            {
                let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
            }
            self.over = true;
            self.answer(conn, &Response::Done, &[]);
        }
    }
}

/// Enters the shim's own cgroup and makes what the pod's containers share.
fn enter_and_make(config: Config, fds: &mut [Option<OwnedFd>]) -> io::Result<sandbox::Sandbox> {
    let mut cgroups = config.cgroups.clone().into_iter().map(|it| it.take(fds));
    if let Some(own) = cgroups.next() {
        let own = own?;
        crate::launch::enter(&own).map_err(|error| io::Error::other(format!("enter the shim's cgroup: {error}")))?;
    }
    let init = cgroups.next().transpose()?;
    drop(cgroups);
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the user namespace was not passed along");
    let user = config.user.as_ref().map(|it| fds.get_mut(it.fd).and_then(Option::take).ok_or_else(missing));
    sandbox::make(&config, init.as_ref(), user.transpose()?)
}

/// All of a sealed file.
pub(crate) fn read_all(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::from(fd.try_clone()?);
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
