//! What the runtime says about one pod, and what the worker remembers about it: the planner's whole input besides the
//! desired pod and the time.

use cri_proto::cri;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::change;
use super::history::History;

/// One pod as observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodStatusView {
    /// Sandboxes, newest (highest attempt) first.
    pub sandboxes: Vec<SandboxView>,
    /// Containers of every sandbox, newest attempt first.
    pub containers: Vec<ContainerView>,
    /// What the worker remembers.
    pub history: History,
}

/// One sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxView {
    /// Its id.
    pub id: String,
    /// Counts the pod's sandboxes from 0.
    pub attempt: u32,
    /// False once its shim or network is gone.
    pub ready: bool,
    /// Wall clock, nanoseconds.
    pub created_at: i64,
    /// Its addresses.
    pub ips: Vec<String>,
    /// The hash of what it was made from.
    pub definition: Option<String>,
    /// The runtime does not know it any more: it is remembered.
    pub gone: bool,
}

/// One instance of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Its id.
    pub id: String,
    /// The name in the pod's spec.
    pub name: String,
    /// The sandbox that it is in.
    pub sandbox: String,
    /// Counts the instances of this name from 0: the restart count, and the name of the log file.
    pub attempt: u32,
    /// What it does.
    pub state: State,
    /// Wall clock, nanoseconds; 0 when it never started.
    pub started_at: i64,
    /// Wall clock, nanoseconds; 0 while it has not ended.
    pub finished_at: i64,
    /// The image as the runtime names it.
    pub image: String,
    /// The image's id or digest.
    pub image_ref: String,
    /// The absolute path of its log.
    pub log_path: String,
    /// The hash of what it was made from.
    pub definition: Option<String>,
    /// The hash of the objects that it was made with, where it follows them.
    pub objects: Option<String>,
    /// The requests and limits that it was made with.
    pub resources: Option<ResourceRequirements>,
    /// What its process may use, as the runtime says.
    pub limits: Option<Limits>,
    /// Who its process runs as.
    pub user: Option<User>,
    /// The signal that stops it.
    pub stop_signal: Option<String>,
    /// The runtime does not know it any more: it is remembered.
    pub gone: bool,
}

/// What a process may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of a processor, in thousandths; 0 for no limit.
    pub cpu_milli: i64,
    /// Bytes; 0 for no limit.
    pub memory: i64,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its uid.
    pub uid: i64,
    /// Its gid.
    pub gid: i64,
    /// Its other groups.
    pub groups: Vec<i64>,
}

/// What a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Made, its process not started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited(Exit),
    /// The runtime cannot tell.
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 and the signal when a signal ended it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown` …
    pub reason: String,
    /// More, for people.
    pub message: String,
}

impl ContainerView {
    /// The exit, where the container has ended. A container that nothing is known about counts as ended with 255.
    pub fn exit(&self) -> Option<Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit.clone()),
            State::Unknown => Some(Exit {
                code: 255,
                reason: "ContainerStatusUnknown".into(),
                message: "the container could not be located when its state was asked for".into(),
            }),
            State::Created | State::Running => None,
        }
    }

    /// Whether its process runs.
    pub fn running(&self) -> bool {
        self.state == State::Running
    }

    /// Converts the runtime's answer; `sandbox` is not part of it.
    pub fn from_cri(status: &cri::ContainerStatus, sandbox: &str) -> Self {
        let metadata = status.metadata.clone().unwrap_or_default();
        let state = match status.state() {
            cri::ContainerState::ContainerCreated => State::Created,
            cri::ContainerState::ContainerRunning => State::Running,
            cri::ContainerState::ContainerExited => {
                State::Exited(Exit { code: status.exit_code, reason: reason(status), message: status.message.clone() })
            }
            cri::ContainerState::ContainerUnknown => State::Unknown,
        };
        ContainerView {
            id: status.id.clone(),
            name: metadata.name,
            sandbox: sandbox.to_owned(),
            attempt: metadata.attempt,
            state,
            started_at: status.started_at,
            finished_at: status.finished_at,
            image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
            image_ref: status.image_ref.clone(),
            log_path: status.log_path.clone(),
            definition: status.annotations.get(change::DEFINITION).cloned(),
            objects: status.annotations.get(change::OBJECTS).cloned(),
            resources: status.annotations.get(change::RESOURCES).and_then(|text| serde_json::from_str(text).ok()),
            limits: status.resources.as_ref().and_then(|resources| resources.linux.as_ref()).map(limits),
            user: status.user.as_ref().and_then(|user| user.linux.clone()).map(|user| User {
                uid: user.uid,
                gid: user.gid,
                groups: user.supplemental_groups,
            }),
            stop_signal: stop_signal(status.stop_signal()),
            gone: false,
        }
    }
}

fn limits(linux: &cri::LinuxContainerResources) -> Limits {
    let period = linux.cpu_period.max(1);
    let cpu_milli = if linux.cpu_quota > 0 { linux.cpu_quota.saturating_mul(1000) / period } else { 0 };
    Limits { cpu_milli, memory: linux.memory_limit_in_bytes.max(0) }
}

/// The signal as a manifest writes it.
fn stop_signal(signal: cri::Signal) -> Option<String> {
    let name = signal.as_str_name().strip_prefix("SIGNAL_").unwrap_or_default();
    (signal != cri::Signal::RuntimeDefault).then(|| name.replace("RTMINPLUS", "RTMIN+").replace("RTMAXMINUS", "RTMAX-"))
}

fn reason(status: &cri::ContainerStatus) -> String {
    match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed".into(),
        ("", _) => "Error".into(),
        (reason, _) => reason.to_owned(),
    }
}

impl PodStatusView {
    /// Sorts what the runtime listed: newest first, by attempt, never by clock.
    pub fn new(mut sandboxes: Vec<SandboxView>, mut containers: Vec<ContainerView>, history: History) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        containers.sort_by(|a, b| a.name.cmp(&b.name).then(b.attempt.cmp(&a.attempt)));
        PodStatusView { sandboxes, containers, history }
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.first()
    }

    /// The instances of a container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerView> {
        self.containers.iter().filter(move |container| container.name == name)
    }

    /// The newest instance of a container, in whatever sandbox.
    pub fn latest(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest instance of a container in one sandbox.
    pub fn latest_in(&self, name: &str, sandbox: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name && container.sandbox == sandbox)
    }
}
