//! What the API server fills in where a manifest says nothing.

use crate::Object;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostPathVolumeSource, Pod, PodSpec, ResourceRequirements, Secret, Volume,
};

/// Fills in an object.
pub(crate) fn apply(object: &mut Object) {
    object.metadata_mut().namespace.get_or_insert_with(|| "default".to_owned());
    match object {
        Object::Pod(pod) => apply_pod(pod),
        Object::ConfigMap(_) => {}
        Object::Secret(secret) => apply_secret(secret),
    }
}

/// `stringData` is for writing only: it becomes `data`, over what is there.
fn apply_secret(secret: &mut Secret) {
    secret.type_.get_or_insert_with(|| "Opaque".to_owned());
    if let Some(strings) = secret.string_data.take() {
        let bytes = strings.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
    }
}

fn apply_pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let string = |field: &mut Option<String>, default: &str| {
        field.get_or_insert_with(|| default.to_owned());
    };
    string(&mut spec.restart_policy, "Always");
    string(&mut spec.dns_policy, "ClusterFirst");
    string(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    // Each name stands for the other, for old readers.
    let account = spec.service_account_name.clone().or_else(|| spec.service_account.clone());
    (spec.service_account_name, spec.service_account) = (account.clone(), account);
    let host_network = spec.host_network == Some(true);
    let PodSpec { containers, init_containers, volumes, .. } = spec;
    for container in containers.iter_mut().chain(init_containers.iter_mut().flatten()) {
        apply_container(container, host_network);
    }
    volumes.iter_mut().flatten().for_each(apply_volume);
}

fn apply_container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    let pull = if tag_is_latest(image) { "Always" } else { "IfNotPresent" };
    container.image_pull_policy.get_or_insert_with(|| pull.to_owned());
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
    container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
    if let Some(context) = &mut container.security_context {
        context.proc_mount.get_or_insert_with(|| "Default".to_owned());
        // Runtimes read capabilities in any case; here they are written in one.
        let lists = context.capabilities.iter_mut().flat_map(|lists| [&mut lists.add, &mut lists.drop]);
        lists.flatten().flatten().for_each(|name| name.make_ascii_uppercase());
    }
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    container.env.iter_mut().flatten().for_each(apply_env);
    for mount in container.volume_mounts.iter_mut().flatten() {
        if mount.read_only == Some(true) {
            mount.recursive_read_only.get_or_insert_with(|| "Disabled".to_owned());
        }
    }
    apply_requests(container.resources.get_or_insert_default());
}

fn apply_env(env: &mut EnvVar) {
    let Some(from) = &mut env.value_from else { return };
    if let Some(field) = &mut from.field_ref {
        field.api_version.get_or_insert_with(|| "v1".to_owned());
    }
    if let Some(resource) = &mut from.resource_field_ref {
        resource.divisor.get_or_insert_with(|| k8s_openapi::apimachinery::pkg::api::resource::Quantity("0".to_owned()));
    }
}

/// What is limited but not requested is requested to its limit.
fn apply_requests(resources: &mut ResourceRequirements) {
    for (name, limit) in resources.limits.iter().flatten() {
        resources.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn apply_volume(volume: &mut Volume) {
    const MODE: i32 = 0o644;
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(MODE);
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(MODE);
    }
    if let Some(HostPathVolumeSource { type_, .. }) = &mut volume.host_path {
        type_.get_or_insert_default();
    }
    let sources =
        [volume.config_map.is_some(), volume.empty_dir.is_some(), volume.host_path.is_some(), volume.secret.is_some()];
    // As in Kubernetes, a volume that says nothing is an empty directory.
    if !sources.contains(&true) {
        volume.empty_dir = Some(Default::default());
    }
}

/// Whether a reference has the tag `latest`, or neither tag nor digest, which means the same.
fn tag_is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
