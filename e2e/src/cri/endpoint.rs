//! What a test does with a runtime, whichever it is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cri_proto::cri::*;
use tonic::Status;

use super::{Client, Entry};
use crate::netns::Host;
use crate::{Node, deadline};

/// A runtime that serves the CRI. Every helper fails the test where the runtime does not answer as it must.
pub trait Endpoint: Sync {
    /// Its name, as Version says it.
    fn name(&self) -> &'static str;

    /// A client of it.
    fn client(&self) -> &Client;

    /// The node that it lives in.
    fn node(&self) -> &Node;

    /// The network that it runs in: pods are reached from here.
    fn host(&self) -> &Host;

    /// A directory of its own, where tests put what they mount.
    fn dir(&self) -> &Path;

    /// A shared mount that the test and the runtime both see: what either mounts below is mounted for the other.
    fn shared_dir(&self) -> &Path;

    /// The cgroup that its pods are to be put below.
    fn cgroup_parent(&self) -> String;

    /// Imports the archive of the image `reference` and waits until the endpoint knows it.
    fn import(&self, archive: &Path, reference: &str);

    /// Makes a directory for a test's files.
    fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        path
    }

    /// A pod with a name, a uid that follows from it, and a log directory.
    fn pod(&self, name: &str) -> PodSandboxConfig {
        let metadata =
            PodSandboxMetadata { name: name.into(), uid: format!("uid-{name}"), namespace: "e2e".into(), attempt: 0 };
        PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            log_directory: self.make_dir(&format!("logs/{name}")).display().to_string(),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: self.cgroup_parent(), ..Default::default() }),
            ..Default::default()
        }
    }

    /// A container that runs a command of an image and logs to `NAME.log`.
    fn container(&self, name: &str, image: &str, command: &[&str]) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: image.into(), ..Default::default() }),
            command: command.iter().map(|&word| word.into()).collect(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig::default()),
            ..Default::default()
        }
    }

    /// RunPodSandbox.
    #[track_caller]
    fn run_pod(&self, config: &PodSandboxConfig) -> String {
        self.try_run_pod(config).unwrap_or_else(|status| panic!("RunPodSandbox on {}: {status}", self.name()))
    }

    /// RunPodSandbox that may fail.
    fn try_run_pod(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        self.client().run_pod_sandbox(request).map(|answer| answer.pod_sandbox_id)
    }

    /// CreateContainer.
    #[track_caller]
    fn create_container(&self, sandbox: &str, pod: &PodSandboxConfig, container: &ContainerConfig) -> String {
        self.try_create_container(sandbox, pod, container)
            .unwrap_or_else(|status| panic!("CreateContainer on {}: {status}", self.name()))
    }

    /// CreateContainer that may fail.
    fn try_create_container(
        &self,
        sandbox: &str,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(container.clone()),
            sandbox_config: Some(pod.clone()),
        };
        self.client().create_container(request).map(|answer| answer.container_id)
    }

    /// StartContainer.
    #[track_caller]
    fn start_container(&self, id: &str) {
        self.try_start_container(id).unwrap_or_else(|status| panic!("StartContainer on {}: {status}", self.name()));
    }

    /// StartContainer that may fail.
    fn try_start_container(&self, id: &str) -> Result<(), Status> {
        self.client().start_container(StartContainerRequest { container_id: id.into() }).map(drop)
    }

    /// CreateContainer and StartContainer.
    #[track_caller]
    fn run_container(&self, sandbox: &str, pod: &PodSandboxConfig, container: &ContainerConfig) -> String {
        let id = self.create_container(sandbox, pod, container);
        self.start_container(&id);
        id
    }

    /// CreateContainer, StartContainer, and the wait for its end.
    #[track_caller]
    fn run_to_end(&self, sandbox: &str, pod: &PodSandboxConfig, container: &ContainerConfig) -> ContainerStatus {
        let id = self.run_container(sandbox, pod, container);
        self.wait_for_state(&id, ContainerState::ContainerExited)
    }

    /// StopContainer.
    #[track_caller]
    fn stop_container(&self, id: &str, timeout: i64) {
        let request = StopContainerRequest { container_id: id.into(), timeout };
        let stopped = self.client().stop_container(request);
        stopped.unwrap_or_else(|status| panic!("StopContainer on {}: {status}", self.name()));
    }

    /// RemoveContainer.
    #[track_caller]
    fn remove_container(&self, id: &str) {
        let removed = self.client().remove_container(RemoveContainerRequest { container_id: id.into() });
        removed.unwrap_or_else(|status| panic!("RemoveContainer on {}: {status}", self.name()));
    }

    /// StopPodSandbox.
    #[track_caller]
    fn stop_pod(&self, sandbox: &str) {
        let stopped = self.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.into() });
        stopped.unwrap_or_else(|status| panic!("StopPodSandbox on {}: {status}", self.name()));
    }

    /// StopPodSandbox and RemovePodSandbox.
    #[track_caller]
    fn remove_pod(&self, sandbox: &str) {
        self.stop_pod(sandbox);
        let removed = self.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.into() });
        removed.unwrap_or_else(|status| panic!("RemovePodSandbox on {}: {status}", self.name()));
    }

    /// ExecSync with enough time.
    #[track_caller]
    fn exec_sync(&self, id: &str, command: &[&str]) -> ExecSyncResponse {
        self.try_exec_sync(id, command, 60).unwrap_or_else(|status| panic!("ExecSync on {}: {status}", self.name()))
    }

    /// ExecSync that may fail; a timeout of 0 is none.
    fn try_exec_sync(&self, id: &str, command: &[&str], timeout: i64) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(|&word| word.into()).collect();
        self.client().exec_sync(ExecSyncRequest { container_id: id.into(), cmd, timeout })
    }

    /// What a command in a container prints on standard output, without the last newline; it must exit with 0.
    #[track_caller]
    fn output(&self, id: &str, command: &[&str]) -> String {
        let answer = self.exec_sync(id, command);
        let [out, err] = [&answer.stdout, &answer.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(answer.exit_code, 0, "{command:?} on {}: {out}{err}", self.name());
        out.trim_end_matches('\n').to_owned()
    }

    /// ContainerStatus.
    #[track_caller]
    fn status_of(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = self.client().container_status(request);
        let answer = answer.unwrap_or_else(|status| panic!("ContainerStatus on {}: {status}", self.name()));
        answer.status.unwrap_or_else(|| panic!("ContainerStatus on {} without a status", self.name()))
    }

    /// PodSandboxStatus.
    #[track_caller]
    fn pod_status(&self, sandbox: &str) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.into(), verbose: false };
        let answer = self.client().pod_sandbox_status(request);
        let answer = answer.unwrap_or_else(|status| panic!("PodSandboxStatus on {}: {status}", self.name()));
        answer.status.unwrap_or_else(|| panic!("PodSandboxStatus on {} without a status", self.name()))
    }

    /// Waits until a container is in a state.
    #[track_caller]
    fn wait_for_state(&self, id: &str, state: ContainerState) -> ContainerStatus {
        self.wait_for(id, state.as_str_name(), &|status| status.state == state as i32)
    }

    /// Waits until a container's status is as `done` wants it.
    #[track_caller]
    fn wait_for(&self, id: &str, what: &str, done: &dyn Fn(&ContainerStatus) -> bool) -> ContainerStatus {
        let deadline = Instant::now() + deadline();
        loop {
            let status = self.status_of(id);
            if done(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{} on {} is never {what}: {status:#?}", id, self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The entries of a container's log until now.
    fn logs(&self, pod: &PodSandboxConfig, container: &ContainerConfig) -> Vec<Entry> {
        Entry::read(&self.log_file(pod, container))
    }

    /// Waits until a container's log has an entry with this text and returns all until then.
    #[track_caller]
    fn wait_for_log(&self, pod: &PodSandboxConfig, container: &ContainerConfig, text: &str) -> Vec<Entry> {
        let deadline = Instant::now() + deadline();
        loop {
            let entries = self.logs(pod, container);
            if entries.iter().any(|entry| entry.text.contains(text)) {
                return entries;
            }
            assert!(Instant::now() < deadline, "the log on {} never has {text:?}: {entries:#?}", self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where a container's log is.
    fn log_file(&self, pod: &PodSandboxConfig, container: &ContainerConfig) -> PathBuf {
        Path::new(&pod.log_directory).join(&container.log_path)
    }

    /// Stops and removes every pod; what cannot be is an error.
    fn remove_everything(&self) -> Result<(), String> {
        let failed = |what: &str, status: Status| format!("{what} on {}: {status}", self.name());
        let pods = self.client().list_pod_sandbox(ListPodSandboxRequest::default());
        for pod in pods.map_err(|status| failed("ListPodSandbox", status))?.items {
            let pod_sandbox_id = pod.id;
            let stopped =
                self.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() });
            stopped.map_err(|status| failed("StopPodSandbox", status))?;
            let removed = self.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id });
            removed.map_err(|status| failed("RemovePodSandbox", status))?;
        }
        Ok(())
    }
}

/// Labels or annotations.
pub fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}
