//! The steps that carry a plan out: each one brings the host and the runtime a little closer to it.

mod start;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tonic::{Code, Status};

use super::Engine;
use super::change::{self, Definition};
use super::config::names::{PodKey, log_path};
use super::config::{self};
use super::image::{self, Image};
use super::plan::{init_of, spec_of};
use crate::csi::{self, CsiError, Published};
use crate::host::{HostError, PodDir, hosts, make_dir, volumes};
use crate::net::Surroundings;
use crate::net::sender::Trouble;

/// A step that did not succeed, in kubelet's word and in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `CreateContainerError`, `ErrImagePull` …
    pub reason: &'static str,
    /// Everything known.
    pub message: String,
    /// It may pass by itself: worth another try even where a first failure ends the pod.
    pub transient: bool,
}

impl Problem {
    pub(super) fn new(reason: &'static str, message: impl ToString) -> Self {
        Problem { reason, message: message.to_string(), transient: false }
    }

    /// Why there is no sandbox. Where nobody can be connected yet the pod waits, however much its first failure counts else.
    fn of_sandbox(status: &Status) -> Self {
        match status.message().contains(&format!("{}: ", runtime::network::cni::NOT_READY)) {
            true => Problem { transient: true, ..Problem::rpc("NetworkNotReady", status) },
            false => Problem::rpc("CreatePodSandboxError", status),
        }
    }

    fn rpc(reason: &'static str, status: &Status) -> Self {
        Problem::new(reason, status.message())
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let transient = matches!(trouble, Trouble::Failed(_));
        Problem { transient, ..Problem::new("NetworkNotReady", trouble) }
    }
}

/// What a started container is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub id: String,
    /// Its log file.
    pub log: PathBuf,
    /// False when its command could not be run: it has ended by now.
    pub ran: bool,
    /// What was left out of its environment.
    pub warnings: Vec<String>,
}

/// The steps of one pod.
#[derive(Clone, Debug)]
pub struct Steps {
    engine: Engine,
    pod: Arc<Pod>,
    key: PodKey,
    dir: PodDir,
    around: Arc<Surroundings>,
}

impl Steps {
    /// The steps of `pod`.
    pub fn new(engine: Engine, pod: Arc<Pod>, around: Arc<Surroundings>) -> Result<Self, HostError> {
        let key = PodKey::of(&pod);
        let dir = PodDir::new(&engine.settings().root_dir, &key.uid)?;
        Ok(Steps { engine, pod, key, dir, around })
    }

    /// The same steps for another definition of the pod.
    pub fn of(&self, pod: Arc<Pod>) -> Self {
        Steps { pod, ..self.clone() }
    }

    /// The same steps, among other pods.
    pub fn among(&self, around: Arc<Surroundings>) -> Self {
        Steps { around, ..self.clone() }
    }

    /// What the pod knows of others.
    pub fn around(&self) -> &Arc<Surroundings> {
        &self.around
    }

    /// The pod's directory.
    pub fn dir(&self) -> &PodDir {
        &self.dir
    }

    /// The directory of the pod's logs.
    pub fn log_directory(&self) -> PathBuf {
        self.key.log_directory(&self.engine.settings().log_dir)
    }

    /// The termination message of an instance.
    pub fn termination(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir.termination(container, attempt)
    }

    /// Makes the pod's directories and volumes, and a sandbox.
    pub async fn create_sandbox(&self, attempt: u32) -> Result<(), Problem> {
        let mut config = config::sandbox::config(&self.pod, attempt, self.engine.settings())
            .map_err(|error| Problem::new("CreatePodSandboxError", error))?;
        let runtime_handler = match spec_of(&self.pod).runtime_class_name.as_deref().filter(|class| !class.is_empty()) {
            Some(class) => self.engine.objects_of(&self.key.uid).handler(class),
            None => Ok(String::new()),
        };
        let runtime_handler = runtime_handler.map_err(|error| Problem::new("CreatePodSandboxError", error))?;
        config.annotations.insert(change::DEFINITION.to_owned(), Definition::of(&self.pod).sandbox);
        let (steps, logs) = (self.clone(), self.log_directory());
        let published = self.published().await?;
        blocking(move || {
            steps.dir.create()?;
            make_dir(&logs, 0o755)?;
            volumes::prepare(&steps.sources(&steps.engine.objects_of(&steps.key.uid), &published)).map(drop)
        })
        .await
        .map_err(|error| Problem::new("FailedMount", error))?;
        let _permit = self.engine.creation().await;
        self.bound(false).await?;
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler };
        let answer = self.engine.cri().runtime.clone().run_pod_sandbox(request).await;
        answer.map(drop).map_err(|status| Problem::of_sandbox(&status))
    }

    /// Has drivers mount the volumes that are theirs, which takes as long as they take.
    async fn published(&self) -> Result<BTreeMap<String, Published>, Problem> {
        let (mut published, spec) = (BTreeMap::new(), spec_of(&self.pod));
        let failed = |why: String| Problem { transient: true, ..Problem::new("FailedMount", why) };
        let (objects, node) = (self.engine.objects_of(&self.key.uid), &self.engine.settings().node.name);
        let group = volumes::group_of(spec).map_err(|error| failed(error.to_string()))?;
        for volume in spec.volumes.iter().flatten() {
            let wish = csi::of(&self.pod, volume, &objects, node, group).map_err(|error| failed(error.to_string()))?;
            let Some(wish) = wish else { continue };
            let done = match self.engine.csi() {
                Some(csi) => csi.publish(&wish, &self.dir).await,
                None => Err(CsiError::NoDirectory(wish.name.clone())),
            };
            let why = |error| format!("MountVolume.SetUp failed for volume \"{}\" : {error}", wish.name);
            published.insert(volume.name.clone(), done.map_err(|error| failed(why(error)))?);
        }
        Ok(published)
    }

    /// Makes the pod's cgroup with the limits of all its containers together, or gives it those of now; or none for a
    /// moment, as one container after the other is changed: each has its own meanwhile.
    async fn bound(&self, loosely: bool) -> Result<(), Problem> {
        let Some(cgroups) = self.engine.pod_cgroups().cloned() else { return Ok(()) };
        let steps = self.clone();
        let work = move || cgroups.prepare(&steps.pod, steps.engine.settings(), loosely);
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|panic| panic.to_string()).and_then(|it| it.map_err(|error| error.to_string()));
        done.map_err(|why| Problem::new("FailedCreatePodContainer", why))
    }

    fn container(&self, name: &str) -> Result<Cow<'_, Container>, Problem> {
        let container = container_of(spec_of(&self.pod), name);
        container.ok_or_else(|| Problem::new("CreateContainerError", "no such container"))
    }

    fn sandbox_config(&self, sandbox: &Sandbox) -> Result<cri::PodSandboxConfig, Problem> {
        config::sandbox::config(&self.pod, sandbox.attempt, self.engine.settings())
            .map_err(|error| Problem::new("CreateContainerConfigError", error))
    }

    /// Makes sure that a container's image is there. It may take long and may be dropped at any time.
    pub async fn ensure_image(&self, name: &str, sandbox: &Sandbox) -> Result<Image, Problem> {
        let (container, sandbox) = (self.container(name)?, self.sandbox_config(sandbox)?);
        let wish = image::Wish { engine: &self.engine, pod: &self.pod, key: &self.key, container: &container, sandbox };
        let problem = |image::ImageProblem { reason, message, transient }| Problem { reason, message, transient };
        let image = image::ensure(&wish).await.map_err(problem)?;
        for volume in volumes::images(spec_of(&self.pod), &container) {
            let sandbox = wish.sandbox.clone();
            image::ensure(&image::Wish { container: &volume, sandbox, ..wish }).await.map_err(problem)?;
        }
        Ok(image)
    }

    /// Gives back what a sandbox holds.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Problem> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        done("StopPodSandboxError", self.engine.cri().runtime.clone().stop_pod_sandbox(request).await)
    }

    /// Forgets a sandbox and its containers.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Problem> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        done("RemovePodSandboxError", self.engine.cri().runtime.clone().remove_pod_sandbox(request).await)
    }

    /// Stops a container within `timeout` seconds.
    pub async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Problem> {
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        done("StopContainerError", self.engine.cri().runtime.clone().stop_container(request).await)
    }

    /// Gives a running container the resources that the pod says.
    pub async fn resize(&self, id: &str, name: &str) -> Result<(), Problem> {
        let container = self.container(name)?;
        let mut linux = config::resources::of_container(spec_of(&self.pod), &container, self.engine.settings());
        // What is not said stays as it is.
        if linux.cpu_quota == 0 {
            linux.cpu_quota = -1;
        }
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..cri::UpdateContainerResourcesRequest::default()
        };
        self.bound(true).await?;
        let answer = self.engine.cri().runtime.clone().update_container_resources(request).await;
        // Another container that is still to be changed may have more than the pod shall have: then it comes later.
        if let Err(problem) = self.bound(false).await {
            tracing::debug!(pod = self.key.name, why = problem.message, "the pod's limits are not set yet");
        }
        answer.map(drop).map_err(|status| Problem::rpc("ResizeError", &status))
    }

    /// Brings files of ConfigMaps, Secrets and of the pod's own fields up to date, and the hosts file where there is one
    /// already.
    pub async fn refresh(&self, ips: Vec<String>) -> Result<(), Problem> {
        let steps = self.clone();
        let done = blocking(move || {
            let hosts = steps.dir.hosts();
            if hosts.exists() {
                steps.write_hosts(&ips, &hosts)?;
            }
            // Nothing of a driver's is refreshed.
            let published = BTreeMap::new();
            volumes::refresh(&steps.sources(&steps.engine.objects_of(&steps.key.uid), &published)).map(drop)
        })
        .await;
        done.map_err(|error| Problem::new("FailedMount", error))
    }

    fn write_hosts(&self, ips: &[String], file: &Path) -> Result<(), HostError> {
        let domain = &self.engine.settings().cluster_domain;
        hosts::write(&self.pod, ips, &self.around.hosts(), domain, file)
    }

    /// Brings the hosts file up to date, for containers that have it.
    pub async fn refresh_hosts(&self, ips: Vec<String>) -> Result<(), Problem> {
        let steps = self.clone();
        let work = move || match steps.dir.hosts() {
            file if file.exists() => steps.write_hosts(&ips, &file),
            _ => Ok(()),
        };
        blocking(work).await.map_err(|error| Problem::new("FailedMount", error))
    }

    /// Forgets a container.
    pub async fn remove_container(&self, id: &str) -> Result<(), Problem> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        done("RemoveContainerError", self.engine.cri().runtime.clone().remove_container(request).await)
    }

    /// Forgets an instance with its log and its termination message.
    pub async fn forget_container(&self, id: &str, name: &str, attempt: u32) -> Result<(), Problem> {
        self.remove_container(id).await?;
        let files = [self.log_directory().join(log_path(name, attempt)), self.termination(name, attempt)];
        for file in files {
            if let Err(error) = std::fs::remove_file(&file)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                let message = format!("cannot remove {}: {error}", file.display());
                return Err(Problem::new("RemoveContainerError", message));
            }
        }
        Ok(())
    }
}

/// The sandbox that a container goes into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// Its attempt.
    pub attempt: u32,
    /// Its addresses.
    pub ips: Vec<String>,
}

/// A container of a pod by name, of whatever kind.
pub fn container_of<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    let container = init_of(spec).iter().chain(&spec.containers).find(|container| container.name == name);
    let ephemeral = || spec.ephemeral_containers.iter().flatten().find(|container| container.name == name);
    container.map(Cow::Borrowed).or_else(|| Some(Cow::Owned(manifests::as_container(ephemeral()?))))
}

fn done<T>(reason: &'static str, answer: Result<T, Status>) -> Result<(), Problem> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(Problem::rpc(reason, &status)),
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
