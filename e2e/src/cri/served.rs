//! `coracle cri` on a node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::shared::SharedDir;
use super::{Client, Endpoint};
use crate::netns::Host;
use crate::{Finished, Node, Run};

/// A served socket. Dropping it stops and removes every pod on it and ends the server; the node's drop then checks what is left.
pub struct Cri<'n> {
    node: &'n Node,
    args: Vec<String>,
    socket: PathBuf,
    client: Client,
    dir: PathBuf,
    shared: SharedDir,
    run: Option<Run>,
}

impl<'n> Cri<'n> {
    /// Serves and waits until it does.
    #[track_caller]
    pub fn start(node: &'n Node) -> Self {
        Self::start_with(node, &[])
    }

    /// Serves with more flags: `--registry-config-dir` and others.
    #[track_caller]
    pub fn start_with(node: &'n Node, args: &[&str]) -> Self {
        let socket = node.dir().join("cri.sock");
        let dir = node.make_dir("cri");
        let mut cri = Self {
            node,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            client: Client::new(&socket),
            socket,
            shared: SharedDir::new(&dir),
            dir,
            run: None,
        };
        cri.serve();
        cri
    }

    #[track_caller]
    fn serve(&mut self) {
        let mut command = self.node.command(["cri", "--cri-socket"]);
        command.arg(&self.socket).args(&self.args);
        let mut run = Run::start(&mut command, None);
        run.wait_for("serving the container runtime interface on");
        self.run = Some(run);
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The serving process, to be looked at; it panics if there is none now.
    pub fn run(&mut self) -> &mut Run {
        self.run.as_mut().expect("it serves")
    }

    /// The serving process's id.
    pub fn pid(&self) -> Pid {
        self.run.as_ref().expect("it serves").pid()
    }

    /// Ends the server with SIGTERM; what it runs goes on.
    #[track_caller]
    pub fn stop(&mut self) -> Finished {
        let mut run = self.run.take().expect("it serves");
        run.signal(Signal::TERM);
        run.wait().exits(0)
    }

    /// Ends the server with SIGKILL; what it runs goes on.
    pub fn kill(&mut self) {
        let mut run = self.run.take().expect("it serves");
        run.signal(Signal::KILL);
        // Nothing waits for the end of its output: a zygote of it may take a moment more.
        drop(run);
    }

    /// Serves again after [`Cri::stop`] or [`Cri::kill`]; the client connects anew by itself.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.run.is_none(), "it serves: stop() or kill() it first");
        self.serve();
    }

    /// Ends it without removing any pod: for what the node's `gc --all` or a later server is to find.
    pub fn leave(mut self) {
        if self.run.is_some() {
            self.stop();
        }
    }
}

impl Endpoint for Cri<'_> {
    fn name(&self) -> &'static str {
        "coracle"
    }

    fn client(&self) -> &Client {
        &self.client
    }

    fn node(&self) -> &Node {
        self.node
    }

    fn host(&self) -> &Host {
        self.node.host()
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn shared_dir(&self) -> &Path {
        self.shared.path()
    }

    fn cgroup_parent(&self) -> String {
        String::new()
    }

    fn import(&self, archive: &Path, _reference: &str) {
        self.node.import(archive);
    }
}

impl Drop for Cri<'_> {
    fn drop(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        let failed = if run.is_running() { self.remove_everything().err() } else { Some("it has ended".into()) };
        if run.is_running() {
            run.signal(Signal::TERM);
        }
        if std::thread::panicking() {
            // The test says why; what the server said may explain it. Its drop kills it if it does not end.
            std::thread::sleep(Duration::from_millis(300));
            let lines: Vec<String> = run.lines().into_iter().map(|line| line.text).collect();
            eprintln!("coracle cri said: {lines:#?}\n{}", failed.unwrap_or_default());
            return;
        }
        let finished = run.wait();
        assert!(failed.is_none(), "the last pods cannot be removed: {failed:?}\n{finished}");
        finished.exits(0);
    }
}
