//! `coracle agent` on a node, with a directory of manifests of its own.
//!
//! ```no_run
//! use e2e::agent::Agent;
//! use e2e::{Node, manifest, need};
//!
//! let node = Node::with_busybox().expect("root");
//! let mut agent = Agent::start(&node);
//! agent.write("web.yaml", manifest::keeper("web"));
//! let before = agent.wait_for_running("web");
//! agent.kill();
//! agent.restart();
//! assert_eq!(agent.wait_for_running("web")["metadata"]["uid"], before["metadata"]["uid"]);
//! agent.remove("web.yaml");
//! agent.wait_until_gone("web");
//! ```

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::finished::{Finished, Line};
use crate::{Node, Run, deadline, inspect};

/// What the agent says when it has begun to follow its sources.
const READY: &str = "the agent is ready";

/// A running agent. Dropping it kills it; what it ran is collected with its node.
pub struct Agent<'n> {
    node: &'n Node,
    manifests: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(String, String)>,
    run: Option<Run>,
    /// What the agents before this one said.
    said: Vec<Line>,
}

impl<'n> Agent<'n> {
    /// Starts one that follows the node's directory `manifests`, and waits until it does.
    #[track_caller]
    pub fn start(node: &'n Node) -> Self {
        Self::start_with(node, [] as [&str; 0])
    }

    /// Starts one with more arguments.
    #[track_caller]
    pub fn start_with<S: Into<OsString>>(node: &'n Node, args: impl IntoIterator<Item = S>) -> Self {
        let mut agent = Self::prepare(node, args);
        agent.restart();
        agent
    }

    /// One that is not started yet: manifests can be written first.
    pub fn prepare<S: Into<OsString>>(node: &'n Node, args: impl IntoIterator<Item = S>) -> Self {
        let manifests = node.make_dir("manifests");
        let mut all = vec![OsString::from("--pod-manifest-path"), manifests.clone().into()];
        all.extend(args.into_iter().map(Into::into));
        Self { node, manifests, args: all, environment: Vec::new(), run: None, said: Vec::new() }
    }

    /// One that is not started yet, with these arguments alone.
    pub fn prepare_bare<S: Into<OsString>>(node: &'n Node, args: impl IntoIterator<Item = S>) -> Self {
        let manifests = node.make_dir("manifests");
        let args = args.into_iter().map(Into::into).collect();
        Self { node, manifests, args, environment: Vec::new(), run: None, said: Vec::new() }
    }

    /// Sets a variable of the next agent's environment.
    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Adds an argument of the next agent.
    pub fn arg(&mut self, arg: impl Into<OsString>) {
        self.args.push(arg.into());
    }

    /// Starts it without waiting for anything.
    pub fn launch(&mut self) -> &mut Run {
        assert!(self.run.is_none(), "the agent runs already");
        let mut command = self.node.command(["agent"]);
        command.args(&self.args).env("RUST_LOG", "info");
        if !self.args.iter().any(|arg| arg.to_string_lossy().starts_with("--config")) {
            command.arg("--config").arg(calm(self.node));
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        self.run.insert(Run::start(&mut command, None))
    }

    /// Starts it, after [`Agent::kill`] or [`Agent::stop`], and waits until it follows its sources.
    #[track_caller]
    pub fn restart(&mut self) {
        self.launch().wait_for(READY);
    }

    /// Kills it with SIGKILL, as the kernel might.
    pub fn kill(&mut self) {
        let mut run = self.run.take().expect("the agent runs");
        if run.is_running() {
            run.signal(Signal::KILL);
        }
        self.said.extend(run.wait().lines);
    }

    /// Stops it with SIGTERM, as systemd does, and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) -> Finished {
        let mut run = self.run.take().expect("the agent runs");
        run.signal(Signal::TERM);
        let finished = run.wait();
        self.said.extend(finished.lines.iter().cloned());
        finished.exits(0)
    }

    /// Stops it and asserts that nothing is left, as it must be when no manifest is. What the node has for pods as such
    /// goes with `gc`.
    #[track_caller]
    pub fn stop_with_nothing_left(&mut self) {
        // What an API server has removed is recorded until that is heard of and done.
        let recorded =
            |dir: &str| fs::read_dir(self.node.root_dir.join("desired").join(dir)).into_iter().flatten().count();
        inspect::wait_until("no record of a cluster's pods", || {
            recorded("bound") + recorded("objects") + recorded("ending") == 0
        });
        self.stop();
        self.node.coracle(["gc"]).exits(0);
        self.node.assert_nothing_left();
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub fn wait(&mut self) -> Finished {
        self.run.take().expect("the agent runs").wait()
    }

    /// The process.
    pub fn run(&mut self) -> &mut Run {
        self.run.as_mut().expect("the agent runs")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.run.as_mut().is_some_and(Run::is_running)
    }

    /// The node.
    pub fn node(&self) -> &'n Node {
        self.node
    }

    /// The directory of manifests.
    pub fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// The path of a manifest.
    pub fn path(&self, file: &str) -> PathBuf {
        self.manifests.join(file)
    }

    /// Writes a manifest beside its place and moves it there, as most editors do.
    pub fn write(&self, file: &str, text: impl Display) -> PathBuf {
        let (path, new) = (self.path(file), self.manifests.join(format!(".{file}.new")));
        fs::write(&new, text.to_string()).expect("the directory of manifests is writable");
        fs::rename(&new, &path).expect("the directory of manifests is writable");
        path
    }

    /// Writes a manifest in its place, as a shell does.
    pub fn write_in_place(&self, file: &str, text: impl Display) -> PathBuf {
        let path = self.path(file);
        fs::write(&path, text.to_string()).expect("the directory of manifests is writable");
        path
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).expect("the manifest is there");
    }

    /// Waits until a pod satisfies `done` and returns it; shows what the agent said if it never does.
    #[track_caller]
    pub fn wait_for(&self, pod: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + deadline();
        loop {
            match self.node.pod(pod) {
                Some(pod) if done(&pod) => return pod,
                there if Instant::now() > end => {
                    panic!("pod {pod} is never {what}: {there:#?}\nthe agent said:\n{}", self.said())
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until a pod is in a phase.
    #[track_caller]
    pub fn wait_for_phase(&self, pod: &str, phase: &str) -> Value {
        self.wait_for(pod, phase, |pod| pod["status"]["phase"] == phase)
    }

    /// Waits until every container of a pod is ready.
    #[track_caller]
    pub fn wait_for_running(&self, pod: &str) -> Value {
        self.wait_for(pod, "ready", |pod| condition(pod, "Ready") == Some(true))
    }

    /// Waits until nothing is known of a pod.
    #[track_caller]
    pub fn wait_until_gone(&self, pod: &str) {
        let end = Instant::now() + deadline();
        while let Some(there) = self.node.pod(pod) {
            assert!(Instant::now() < end, "pod {pod} stays: {there:#?}\nthe agent said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the agent, or one before it, has said something; the line.
    #[track_caller]
    pub fn wait_for_words(&self, text: &str) -> String {
        let end = Instant::now() + deadline();
        loop {
            if let Some(line) = self.lines().into_iter().find(|line| line.text.contains(text)) {
                return line.text;
            }
            assert!(Instant::now() < end, "the agent never says {text:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing is different from what it should be, however long the agent takes for that within `patience`.
    #[track_caller]
    pub fn settles(&self, patience: Duration, mut differences: impl FnMut() -> Vec<String>) {
        let end = Instant::now() + patience;
        loop {
            let wrong = differences();
            if wrong.is_empty() {
                return;
            }
            let (wrong, said) = (wrong.join("\n"), self.said());
            assert!(Instant::now() < end, "after {patience:?} still:\n{wrong}\nthe agent said:\n{said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Every line of this agent and those before it.
    pub fn lines(&self) -> Vec<Line> {
        self.said.iter().cloned().chain(self.run.iter().flat_map(Run::lines)).collect()
    }

    /// All that was said, for messages.
    pub fn said(&self) -> String {
        self.lines().iter().map(|line| format!("  {}\n", line.text)).collect()
    }
}

/// A configuration by which the agent lets the node be as it is: a disk that others have filled is no matter of a test
/// that says nothing of it.
fn calm(node: &Node) -> PathBuf {
    let path = node.dir().join("calm.yaml");
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
        imageGCHighThresholdPercent: 100\nevictionHard: {memory.available: 1Mi}\n";
    fs::write(&path, text).expect("the node's directory is writable");
    path
}

/// Whether a condition of a pod holds.
pub fn condition(pod: &Value, kind: &str) -> Option<bool> {
    Some(condition_of(pod, kind)?["status"] == "True")
}

/// A condition of a pod.
pub fn condition_of<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The restart count of a container.
pub fn restarts(pod: &Value, container: &str) -> Option<u64> {
    status_of(pod, container)?["restartCount"].as_u64()
}

/// The id of a container, by which one instance is told from another.
pub fn container_id(pod: &Value, container: &str) -> Option<String> {
    status_of(pod, container)?["containerID"].as_str().map(str::to_owned)
}

/// The status of a container.
pub fn status_of<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    lists.iter().flat_map(|list| pod["status"][list].as_array()).flatten().find(|status| status["name"] == container)
}
