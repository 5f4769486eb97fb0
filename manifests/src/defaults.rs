//! What the API server fills in where a manifest says nothing.

use crate::Object;
use crate::resources;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EnvVar, EnvVarSource, HTTPGetAction, HostPathVolumeSource, Lifecycle,
    ObjectFieldSelector, PersistentVolumeClaim, Pod, PodSpec, Probe, ResourceFieldSelector, ResourceRequirements,
    Secret, Service, Volume,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Fills in an object.
pub(crate) fn apply(object: &mut Object) {
    object.metadata_mut().namespace.get_or_insert_with(|| "default".to_owned());
    match object {
        Object::Pod(pod) => apply_pod(pod),
        Object::ConfigMap(_) => {}
        Object::Secret(secret) => apply_secret(secret),
        Object::PersistentVolumeClaim(claim) => apply_claim(claim),
        Object::Service(service) => apply_service(service),
        Object::NetworkPolicy(policy) => apply_policy(policy),
        Object::Network(network) => network.spec.fill(),
        Object::Ambassador(ambassador) => ambassador.spec.fill(),
    }
}

fn apply_service(service: &mut Service) {
    const AFFINITY_SECONDS: i32 = 10_800;
    let Some(spec) = &mut service.spec else { return };
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    match spec.session_affinity.get_or_insert_with(|| "None".to_owned()).as_str() {
        "ClientIP" => {
            let config = spec.session_affinity_config.get_or_insert_default();
            config.client_ip.get_or_insert_default().timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        _ => spec.session_affinity_config = None,
    }
    if spec.cluster_ips.is_none() {
        spec.cluster_ips = spec.cluster_ip.clone().map(|address| vec![address]);
    }
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        let unset = match &port.target_port {
            None => true,
            Some(IntOrString::Int(number)) => *number == 0,
            Some(IntOrString::String(name)) => name.is_empty(),
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
}

fn apply_policy(policy: &mut NetworkPolicy) {
    let spec = policy.spec.get_or_insert_default();
    spec.pod_selector.get_or_insert_default();
    let ports = spec.ingress.iter_mut().flatten().filter_map(|rule| rule.ports.as_mut());
    let ports = ports.chain(spec.egress.iter_mut().flatten().filter_map(|rule| rule.ports.as_mut()));
    for port in ports.flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
        let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let types = ["Ingress"].into_iter().chain(egress.then_some("Egress"));
        spec.policy_types = Some(types.map(str::to_owned).collect());
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

fn apply_claim(claim: &mut PersistentVolumeClaim) {
    if let Some(spec) = &mut claim.spec {
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
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
    for debugger in spec.ephemeral_containers.iter_mut().flatten() {
        let mut container = crate::as_container(debugger);
        apply_container(&mut container, host_network);
        debugger.env = container.env;
        debugger.image_pull_policy = container.image_pull_policy;
        debugger.security_context = container.security_context;
        debugger.termination_message_path = container.termination_message_path;
        debugger.termination_message_policy = container.termination_message_policy;
        debugger.volume_mounts = container.volume_mounts;
    }
    apply_pod_resources(spec);
}

/// What a pod as a whole asks for, where it says something about itself: what its containers ask for, else its limits.
fn apply_pod_resources(spec: &mut PodSpec) {
    let (requests, limits) = (resources::total(spec, "requests"), resources::total(spec, "limits"));
    let Some(own) = &mut spec.resources else { return };
    let huge = |name: &str| name.starts_with("hugepages-");
    if own.limits.is_some() || own.requests.is_some() {
        // Huge pages are not overcommitted: what is requested has a limit.
        for (name, sum) in limits.iter().filter(|(name, _)| huge(name)) {
            let requested = own.requests.as_ref().is_some_and(|requests| requests.contains_key(name));
            if !requested {
                let limits = own.limits.get_or_insert_default();
                limits.entry(name.clone()).or_insert_with(|| Quantity(sum.to_string()));
            }
        }
    }
    let Some(limits) = own.limits.as_ref().filter(|limits| !limits.is_empty()) else { return };
    let asked = own.requests.get_or_insert_default();
    for (name, sum) in requests.iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        asked.entry(name.clone()).or_insert_with(|| Quantity(sum.to_string()));
    }
    for (name, limit) in limits {
        asked.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn apply_container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    container.image_pull_policy.get_or_insert_with(|| pull_policy(image));
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
    let Container { liveness_probe, readiness_probe, startup_probe, lifecycle, .. } = container;
    [liveness_probe, readiness_probe, startup_probe].into_iter().flatten().for_each(apply_probe);
    if let Some(Lifecycle { post_start, pre_stop, .. }) = lifecycle {
        [post_start, pre_stop].into_iter().flatten().filter_map(|hook| hook.http_get.as_mut()).for_each(apply_http);
    }
}

fn apply_probe(probe: &mut Probe) {
    // An explicit 0 is no answer either.
    for (field, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        *field = field.filter(|value| *value != 0).or(Some(default));
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
    probe.http_get.iter_mut().for_each(apply_http);
}

fn apply_http(http: &mut HTTPGetAction) {
    http.path.get_or_insert_with(|| "/".to_owned());
    http.scheme.get_or_insert_with(|| "HTTP".to_owned());
}

fn apply_env(env: &mut EnvVar) {
    let Some(EnvVarSource { field_ref, resource_field_ref, file_key_ref, .. }) = &mut env.value_from else { return };
    apply_refs(field_ref, resource_field_ref);
    if let Some(file) = file_key_ref {
        file.optional.get_or_insert(false);
    }
}

fn apply_refs(field: &mut Option<ObjectFieldSelector>, resource: &mut Option<ResourceFieldSelector>) {
    if let Some(field) = field {
        field.api_version.get_or_insert_with(|| "v1".to_owned());
    }
    if let Some(resource) = resource {
        resource.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
    }
}

fn apply_files(files: &mut Option<Vec<DownwardAPIVolumeFile>>) {
    for file in files.iter_mut().flatten() {
        apply_refs(&mut file.field_ref, &mut file.resource_field_ref);
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
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(MODE);
        apply_files(&mut downward.items);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(MODE);
        let fields = projected.sources.iter_mut().flatten().filter_map(|source| source.downward_api.as_mut());
        fields.for_each(|fields| apply_files(&mut fields.items));
    }
    if let Some(image) = &mut volume.image {
        let reference = image.reference.as_deref().unwrap_or_default();
        image.pull_policy.get_or_insert_with(|| pull_policy(reference));
    }
    if let Some(HostPathVolumeSource { type_, .. }) = &mut volume.host_path {
        type_.get_or_insert_default();
    }
    // As in Kubernetes, a volume that says nothing is an empty directory.
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(Default::default());
    }
}

fn pull_policy(image: &str) -> String {
    if tag_is_latest(image) { "Always" } else { "IfNotPresent" }.to_owned()
}

/// Whether a reference has the tag `latest`, or neither tag nor digest, which means the same.
fn tag_is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
