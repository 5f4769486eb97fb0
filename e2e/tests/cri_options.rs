//! What a client of the CRI may ask of a pod and a container, option by option: each shows in what runs, or is refused with
//! InvalidArgument and the name of the field.

#![allow(clippy::unwrap_used)]

#[path = "cri_options/devices.rs"]
mod devices;
#[path = "cri_options/mounts.rs"]
mod mounts;
#[path = "cri_options/process.rs"]
mod process;
#[path = "cri_options/resources.rs"]
mod resources;
#[path = "cri_options/sandbox.rs"]
mod sandbox;
#[path = "cri_options/security.rs"]
mod security;

use e2e::cri::proto::*;
use e2e::cri::{Cri, Endpoint};
use e2e::{BUSYBOX, Node};

/// A pod on a served socket.
struct Pod<'n> {
    cri: Cri<'n>,
    config: PodSandboxConfig,
    id: String,
    count: std::cell::Cell<u32>,
}

impl<'n> Pod<'n> {
    #[track_caller]
    fn new(node: &'n Node) -> Self {
        Self::with(node, |_, _| {})
    }

    /// A pod with some of its configuration changed.
    #[track_caller]
    fn with(node: &'n Node, change: impl FnOnce(&mut PodSandboxConfig, &mut LinuxPodSandboxConfig)) -> Self {
        let cri = Cri::start(node);
        let mut config = cri.pod("p");
        let mut linux = config.linux.take().unwrap_or_default();
        change(&mut config, &mut linux);
        config.linux = Some(linux);
        let id = cri.run_pod(&config);
        Self { cri, config, id, count: Default::default() }
    }

    /// A container that waits, with some of its configuration changed.
    fn config(&self, change: impl FnOnce(&mut ContainerConfig, &mut LinuxContainerConfig)) -> ContainerConfig {
        self.count.set(self.count.get() + 1);
        let mut config = self.cri.container(&format!("c{}", self.count.get()), BUSYBOX, &["sleep", "1000"]);
        // Its own processes, so that the first is the one that was asked for.
        let options = NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        let context = LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        let mut linux = LinuxContainerConfig { security_context: Some(context), ..Default::default() };
        change(&mut config, &mut linux);
        config.linux = Some(linux);
        config
    }

    #[track_caller]
    fn run(&self, change: impl FnOnce(&mut ContainerConfig, &mut LinuxContainerConfig)) -> String {
        self.cri.run_container(&self.id, &self.config, &self.config(change))
    }

    /// A container with some of its security context changed.
    #[track_caller]
    fn secured(&self, change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> String {
        self.run(|_, linux| change(linux.security_context.get_or_insert_default()))
    }

    /// That a container is refused for a field.
    #[track_caller]
    fn refuses(&self, field: &str, change: impl FnOnce(&mut ContainerConfig, &mut LinuxContainerConfig)) {
        let config = self.config(change);
        refused(field, self.cri.try_create_container(&self.id, &self.config, &config));
        let all = self.cri.client().list_containers(Default::default()).unwrap().containers;
        let name = config.metadata.unwrap().name;
        assert!(all.iter().all(|it| it.metadata.as_ref().unwrap().name != name), "{name} is there");
    }

    #[track_caller]
    fn output(&self, id: &str, command: &[&str]) -> String {
        self.cri.output(id, command)
    }

    /// What a command of the shell prints.
    #[track_caller]
    fn sh(&self, id: &str, command: &str) -> String {
        self.cri.output(id, &["sh", "-c", command])
    }

    /// A line of its first process's /proc/1/status, without the name.
    #[track_caller]
    fn status_line(&self, id: &str, name: &str) -> String {
        let text = self.output(id, &["cat", "/proc/1/status"]);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    }
}

/// A mount of the host's.
fn volume(container_path: &str, host_path: &std::path::Path) -> Mount {
    Mount { container_path: container_path.into(), host_path: host_path.display().to_string(), ..Default::default() }
}

/// InvalidArgument that names the field.
#[track_caller]
fn refused<T: std::fmt::Debug>(field: &str, result: Result<T, tonic::Status>) {
    let status = result.expect_err("it is refused");
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert!(status.message().contains(field), "{field}: {status}");
}
