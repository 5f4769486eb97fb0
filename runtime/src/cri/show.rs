//! Records to messages.

use std::collections::HashMap;

use cri_proto::cri;

use crate::container::{self, Reason, View};
use crate::core::Core;
use crate::error::Result;
use crate::sandbox::{self, NamespaceMode};
use crate::shim::protocol::State;

/// A sandbox's state.
pub fn sandbox_state(core: &Core, record: &sandbox::Record) -> cri::PodSandboxState {
    if record.is_ready(core) { cri::PodSandboxState::SandboxReady } else { cri::PodSandboxState::SandboxNotready }
}

fn metadata(request: &sandbox::Request) -> cri::PodSandboxMetadata {
    cri::PodSandboxMetadata {
        name: request.name.clone(),
        uid: request.uid.clone(),
        namespace: request.namespace.clone(),
        attempt: request.attempt,
    }
}

fn mode(mode: NamespaceMode) -> i32 {
    match mode {
        NamespaceMode::Pod => cri::NamespaceMode::Pod as i32,
        NamespaceMode::Container => cri::NamespaceMode::Container as i32,
        NamespaceMode::Node => cri::NamespaceMode::Node as i32,
    }
}

/// A sandbox's addresses. The host's network has the host's, which are the client's to know; one that was stopped has none.
fn network(record: &sandbox::Record) -> cri::PodSandboxNetworkStatus {
    let addresses = record.addresses().iter().filter(|_| !record.stopped);
    let mut ips = addresses.map(|it| cri::PodIp { ip: it.to_string() });
    cri::PodSandboxNetworkStatus { ip: ips.next().unwrap_or_default().ip, additional_ips: ips.collect() }
}

/// A sandbox, whole.
pub fn sandbox_status(core: &Core, record: &sandbox::Record) -> cri::PodSandboxStatus {
    let modes = record.request.namespaces;
    let options = cri::NamespaceOption {
        network: mode(modes.net),
        pid: mode(modes.pid),
        ipc: mode(modes.ipc),
        userns_options: record.request.user.as_ref().map(super::convert::user_namespace),
        ..Default::default()
    };
    cri::PodSandboxStatus {
        id: record.id.clone(),
        metadata: Some(metadata(&record.request)),
        state: sandbox_state(core, record) as i32,
        created_at: record.created_at,
        network: Some(network(record)),
        linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(cri::Namespace { options: Some(options) }) }),
        labels: record.request.labels.clone().into_iter().collect(),
        annotations: record.request.annotations.clone().into_iter().collect(),
        runtime_handler: String::new(),
    }
}

/// A sandbox in a list.
pub fn sandbox_item(core: &Core, record: &sandbox::Record) -> cri::PodSandbox {
    cri::PodSandbox {
        id: record.id.clone(),
        metadata: Some(metadata(&record.request)),
        state: sandbox_state(core, record) as i32,
        created_at: record.created_at,
        labels: record.request.labels.clone().into_iter().collect(),
        annotations: record.request.annotations.clone().into_iter().collect(),
        runtime_handler: String::new(),
    }
}

/// A container's state.
pub fn container_state(view: Option<&View>) -> cri::ContainerState {
    match view.map(|it| it.state) {
        Some(State::Created) => cri::ContainerState::ContainerCreated,
        Some(State::Running) => cri::ContainerState::ContainerRunning,
        Some(State::Exited) => cri::ContainerState::ContainerExited,
        None => cri::ContainerState::ContainerUnknown,
    }
}

fn container_metadata(record: &container::Record) -> cri::ContainerMetadata {
    cri::ContainerMetadata { name: record.request.name.clone(), attempt: record.request.attempt }
}

fn image_spec(record: &container::Record) -> cri::ImageSpec {
    cri::ImageSpec {
        image: if record.image_name.is_empty() { record.request.image.clone() } else { record.image_name.clone() },
        user_specified_image: record.request.user_image.clone(),
        ..Default::default()
    }
}

/// A container in a list.
pub fn container_item(record: &container::Record, view: Option<&View>) -> cri::Container {
    cri::Container {
        id: record.id.clone(),
        pod_sandbox_id: record.sandbox.clone(),
        metadata: Some(container_metadata(record)),
        image: Some(image_spec(record)),
        image_ref: record.image_ref.clone(),
        image_id: record.image_id.clone(),
        state: container_state(view) as i32,
        created_at: record.created_at,
        labels: record.request.labels.clone().into_iter().collect(),
        annotations: record.request.annotations.clone().into_iter().collect(),
    }
}

/// A container, whole.
pub fn container_status(core: &Core, record: &container::Record) -> Result<cri::ContainerStatus> {
    let view = container::view(core, record)?;
    let reason = view.as_ref().map_or(Reason::None, |it| it.reason);
    let user = record.user(core).ok().map(|user| cri::ContainerUser {
        linux: Some(cri::LinuxContainerUser {
            uid: user.uid.into(),
            gid: user.gid.into(),
            supplemental_groups: user.groups.iter().map(|&gid| gid.into()).collect(),
        }),
    });
    Ok(cri::ContainerStatus {
        id: record.id.clone(),
        metadata: Some(container_metadata(record)),
        state: container_state(view.as_ref()) as i32,
        created_at: record.created_at,
        started_at: view.as_ref().map_or(0, |it| it.started_at),
        finished_at: view.as_ref().map_or(0, |it| it.finished_at),
        exit_code: view.as_ref().map_or(0, |it| it.exit_code),
        image: Some(image_spec(record)),
        image_ref: record.image_ref.clone(),
        image_id: record.image_id.clone(),
        reason: reason.as_str().to_owned(),
        message: view.map(|it| it.message).unwrap_or_default(),
        labels: record.request.labels.clone().into_iter().collect(),
        annotations: record.request.annotations.clone().into_iter().collect(),
        mounts: record.request.mounts.iter().map(mount).collect(),
        log_path: record.log_path.clone().unwrap_or_default(),
        resources: Some(cri::ContainerResources { linux: Some(resources(record)), windows: None }),
        user,
        stop_signal: super::signals::show(record.stop_signal) as i32,
    })
}

fn mount(mount: &container::Mount) -> cri::Mount {
    let propagation = match mount.propagation {
        container::Propagation::Private => cri::MountPropagation::PropagationPrivate,
        container::Propagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
        container::Propagation::Bidirectional => cri::MountPropagation::PropagationBidirectional,
    };
    cri::Mount {
        container_path: mount.target.clone(),
        host_path: mount.source.clone(),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_readonly,
        propagation: propagation as i32,
        selinux_relabel: mount.selinux_relabel,
        image: mount.image.as_ref().map(|it| cri::ImageSpec { image: it.image.clone(), ..Default::default() }),
        image_sub_path: mount.image.as_ref().map(|it| it.sub_path.clone()).unwrap_or_default(),
        mount_options: mount.options.iter().map(|it| it.as_str().to_owned()).collect(),
        ..Default::default()
    }
}

fn resources(record: &container::Record) -> cri::LinuxContainerResources {
    let limits = &record.request.resources;
    let number = |value: Option<u64>| value.and_then(|it| i64::try_from(it).ok()).unwrap_or(0);
    cri::LinuxContainerResources {
        cpu_period: number(limits.cpu_period),
        cpu_quota: limits.cpu_quota.unwrap_or(0),
        cpu_shares: number(limits.cpu_shares),
        memory_limit_in_bytes: limits.memory_limit.unwrap_or(0),
        oom_score_adj: record.request.oom_score_adj.into(),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: limits
            .hugepages
            .iter()
            .map(|it| cri::HugepageLimit { page_size: it.page_size.clone(), limit: it.limit })
            .collect(),
        unified: limits.unified.clone().into_iter().collect(),
        memory_swap_limit_in_bytes: limits.memory_swap.unwrap_or(0),
    }
}

/// Whether labels hold everything that a selector asks for.
pub fn selects(selector: &HashMap<String, String>, labels: &std::collections::BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Every container of a sandbox, whole; one that goes away meanwhile is left out.
pub fn statuses_of(core: &Core, sandbox: &str) -> Result<Vec<cri::ContainerStatus>> {
    let shown = |it: &container::Record| !core.names.is_making(&it.id);
    container::of_sandbox(core, sandbox)?.iter().filter(|it| shown(it)).map(|it| container_status(core, it)).collect()
}
