//! A container, from its definition to its first process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri_proto::cri;
use k8s_openapi::api::core::v1::Container;

use super::{Problem, Sandbox, Started, Steps, blocking};
use crate::csi::Published;
use crate::engine::change::{self, Definition};
use crate::engine::config::env::{self, Environment};
use crate::engine::config::names::log_path;
use crate::engine::config::{self, ConfigError, Objects, security};
use crate::engine::image::Image;
use crate::engine::{follow, links};
use crate::host::volumes::{self, Ready};
use crate::host::{HostError, make_dir, termination};

impl Steps {
    /// Creates and starts one instance of a container.
    pub async fn start_container(
        &self,
        name: &str,
        attempt: u32,
        sandbox: &Sandbox,
        image: Image,
        target: Option<String>,
    ) -> Result<Started, Problem> {
        let container = &*self.container(name)?;
        let settings = self.engine.settings();
        let sandbox_config = self.sandbox_config(sandbox)?;
        security::check_non_root(&self.pod, container, &image.user)
            .map_err(|error| Problem::new("CreateContainerConfigError", error))?;
        let devices = match self.engine.devices() {
            Some(devices) => devices.ready(&self.pod, container).await,
            None => Ok(vec![]),
        };
        let devices = devices.map_err(|error| Problem::new("CreateContainerConfigError", error))?;
        let mut before = links::environment(&self.engine, &self.pod, &self.around).await;
        devices.iter().for_each(|it| it.surround(&mut before));
        let environment = self
            .environment(container, sandbox, before)
            .map_err(|error| Problem::new("CreateContainerConfigError", error))?;
        let warnings = environment.warnings.clone();
        let published = self.published().await?;
        let mounts = self.mounts(container.clone(), environment.clone(), attempt, sandbox.ips.clone(), published).await;
        let mounts = mounts.map_err(|error| Problem::new("CreateContainerConfigError", error))?;
        let instance = config::container::Instance {
            attempt,
            image_ref: image.reference,
            image_user: image.user,
            environment,
            mounts,
        };
        let mut config = config::container::config(&self.pod, container, instance, settings)
            .map_err(|error| Problem::new("CreateContainerConfigError", error))?;
        config.annotations.extend(self.annotations(container));
        devices.iter().for_each(|it| it.apply(&mut config));
        aim(&mut config, target);
        let _permit = self.engine.creation().await;
        let (id, ran) = self.create_and_start(config, sandbox, sandbox_config).await?;
        Ok(Started { id, log: self.log_directory().join(log_path(name, attempt)), ran, warnings })
    }

    /// What says later what a container was made from.
    fn annotations(&self, container: &Container) -> impl Iterator<Item = (String, String)> {
        let definition = Definition::of(&self.pod).containers.remove(&container.name).map(|it| it.hash);
        let objects = follow::hashes(&self.pod, &self.engine.objects_of(&self.key.uid)).remove(&container.name);
        let resources = serde_json::to_string(&container.resources.clone().unwrap_or_default()).ok();
        let named = [(change::DEFINITION, definition), (change::OBJECTS, objects), (change::RESOURCES, resources)];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }

    fn environment(
        &self,
        container: &Container,
        sandbox: &Sandbox,
        before: Environment,
    ) -> Result<Environment, ConfigError> {
        let settings = self.engine.settings();
        let (objects, node) = (self.engine.objects_of(&self.key.uid), &settings.node);
        let (ips, dir) = (&sandbox.ips[..], Some(&self.dir));
        env::on_top_of(before, &env::Sources { pod: &self.pod, objects: &objects, node, ips, dir }, container)
    }

    pub(super) fn sources<'a>(
        &'a self,
        objects: &'a Objects,
        published: &'a BTreeMap<String, Published>,
    ) -> volumes::Sources<'a> {
        volumes::Sources { pod: &self.pod, objects, settings: self.engine.settings(), dir: &self.dir, published }
    }

    /// The container's volumes, hosts file and termination message, ready to be mounted.
    async fn mounts(
        &self,
        container: Container,
        environment: Environment,
        attempt: u32,
        ips: Vec<String>,
        published: BTreeMap<String, Published>,
    ) -> Result<Vec<cri::Mount>, HostError> {
        let steps = self.clone();
        blocking(move || {
            let logs = steps.log_directory().join(&container.name);
            make_dir(&logs, 0o755)?;
            let volumes: BTreeMap<String, Ready> =
                volumes::prepare(&steps.sources(&steps.engine.objects_of(&steps.key.uid), &published))?;
            let mut mounts = volumes::mounts(&container, &volumes, &environment, &steps.dir)?;
            let mut add = |container_path: &str, host_path: PathBuf| {
                if mounts.iter().all(|mount| mount.container_path != container_path) {
                    mounts.push(cri::Mount {
                        container_path: container_path.to_owned(),
                        host_path: host_path.to_string_lossy().into_owned(),
                        ..cri::Mount::default()
                    });
                }
            };
            steps.write_hosts(&ips, &steps.dir.hosts())?;
            add("/etc/hosts", steps.dir.hosts());
            let message = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
            if !message.is_empty() {
                let file = steps.dir.termination(&container.name, attempt);
                termination::create(&file)?;
                add(message, file);
            }
            Ok(mounts)
        })
        .await
    }

    /// The container's id; and true when its process ran, false when its command could not be run.
    async fn create_and_start(
        &self,
        config: cri::ContainerConfig,
        sandbox: &Sandbox,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<(String, bool), Problem> {
        let mut runtime = self.engine.cri().runtime.clone();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let created = runtime.create_container(request).await;
        let id = created.map_err(|status| Problem::rpc("CreateContainerError", &status))?.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: id.clone() };
        let Err(status) = runtime.start_container(request).await else { return Ok((id, true)) };
        // A command that cannot be run is an end like any other, with its code; what has not even ended is taken away.
        let request = cri::ContainerStatusRequest { container_id: id.clone(), verbose: false };
        let seen = runtime.container_status(request).await.ok().and_then(|answer| answer.into_inner().status);
        if seen.is_some_and(|seen| seen.state() == cri::ContainerState::ContainerExited) {
            return Ok((id, false));
        }
        let problem = Problem::rpc("RunContainerError", &status);
        self.remove_container(&id).await.map_err(|removal| Problem {
            message: format!("{}; and the container cannot be removed: {}", problem.message, removal.message),
            ..problem.clone()
        })?;
        Err(problem)
    }
}

/// Puts a container into the process namespace of another one.
fn aim(config: &mut cri::ContainerConfig, target: Option<String>) {
    let options = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    let options = options.and_then(|context| context.namespace_options.as_mut());
    // Where the pod has one process namespace, or the host's, everybody is in there already.
    if let (Some(target_id), Some(options)) = (target, options)
        && options.pid() == cri::NamespaceMode::Container
    {
        options.set_pid(cri::NamespaceMode::Target);
        options.target_id = target_id;
    }
}
