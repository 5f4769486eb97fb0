//! A pod as a whole.

use super::{Context, container, names, resources, security, volume};
use crate::path::Path;
use k8s_openapi::api::core::v1::{Container, HostAlias, Pod, PodDNSConfig, PodSpec, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a container has to know of its pod.
pub(super) struct Surroundings<'a> {
    /// The volumes by name; `None` where they are in such disorder that a missing one means nothing.
    pub volumes: Option<BTreeMap<&'a str, &'a Volume>>,
    pub containers: BTreeSet<&'a str>,
    pub host_network: bool,
    /// `spec.os` is given.
    pub has_os: bool,
    /// The pod's `restartPolicy` is `Never`.
    pub never_restarts: bool,
    /// The pod's grace, in seconds.
    pub grace: i64,
    /// Which container took a port of the host: by port, protocol and address.
    pub host_ports: BTreeMap<(i32, &'a str, &'a str), &'a str>,
}

/// Which list a container stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Main,
    Ephemeral,
}

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, pod: &Pod) {
    let path = path.field("spec");
    let Some(spec) = &pod.spec else {
        context.error(&path, "`spec` is missing");
        return;
    };
    if spec.containers.is_empty() {
        context.error(&path.field("containers"), "a pod has at least one container");
    }
    context.at_least(&path.field("terminationGracePeriodSeconds"), spec.termination_grace_period_seconds, 0);
    context.within(&path.field("activeDeadlineSeconds"), spec.active_deadline_seconds, 1, i64::from(i32::MAX));
    host_name(context, &path, spec);
    if let Some(class) = &spec.runtime_class_name {
        context.check(&path.field("runtimeClassName"), names::dns_subdomain(class));
    }
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let message = "a pod cannot share its own processes and be among the host's";
        context.error_help(&path.field("shareProcessNamespace"), message, "`hostPID` is true: remove one of the two");
    }
    dns(context, &path, spec);
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        host_alias(context, &path.field("hostAliases").index(index), alias);
    }
    security::host_users(context, &path, spec);
    security::pod(context, &path, spec);
    volume::validate(context, &path.field("volumes"), spec);
    resources::pod(context, &path.field("resources"), spec);
    let debuggers: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(crate::as_container).collect();
    containers(context, &path, spec, &debuggers);
}

fn host_name(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    if let Some(hostname) = &spec.hostname {
        context.check(&path.field("hostname"), names::dns_label(hostname));
    }
    if let Some(subdomain) = &spec.subdomain {
        context.check(&path.field("subdomain"), names::dns_label(subdomain));
    }
    let Some(name) = &spec.hostname_override else { return };
    let at = path.field("hostnameOverride");
    if spec.set_hostname_as_fqdn == Some(true) || spec.host_network == Some(true) {
        let other = if spec.host_network == Some(true) { "hostNetwork" } else { "setHostnameAsFQDN" };
        context.key_error(&at, format!("it does not go with `{other}`"), None);
    } else if name.len() > 64 {
        context.error(&at, format!("{} characters, and a host name has at most 64", name.len()));
    } else {
        context.check(&at, names::dns_subdomain(name));
    }
}

fn containers<'a>(context: &mut Context<'_, '_>, path: &Path, spec: &'a PodSpec, debuggers: &'a [Container]) {
    let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let volumes: BTreeMap<&str, &Volume> =
        spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
    let in_order = !volumes.contains_key("") && !context.report.is_settled(&path.field("volumes"));
    let mut surroundings = Surroundings {
        volumes: in_order.then_some(volumes),
        containers: all().map(|container| container.name.as_str()).collect(),
        host_network: spec.host_network == Some(true),
        has_os: spec.os.is_some(),
        never_restarts: spec.restart_policy.as_deref() == Some("Never"),
        grace: spec.termination_grace_period_seconds.unwrap_or(30),
        host_ports: BTreeMap::new(),
    };
    let mut seen = BTreeMap::new();
    let lists: [(&str, Role, &[Container]); 3] = [
        ("initContainers", Role::Init, spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", Role::Main, &spec.containers),
        ("ephemeralContainers", Role::Ephemeral, debuggers),
    ];
    for (list, role, containers) in lists {
        surroundings.host_ports.clear();
        for (index, container) in containers.iter().enumerate() {
            if role == Role::Init {
                // They run one after the other, and are over when the others begin: they may use the same ports.
                surroundings.host_ports.clear();
            }
            let path = path.field(list).index(index);
            let name = path.field("name");
            context.check(&name, names::dns_label(&container.name));
            if let Some(first) = seen.insert(container.name.as_str(), path.clone()) {
                let message = format!("the container name `{}` is used twice", container.name);
                context.error_help(&name, message, format!("the first is {first}"));
            }
            container::validate(context, &path, container, role, &mut surroundings);
        }
    }
    for (index, debugger) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let Some(target) = debugger.target_container_name.as_deref() else { continue };
        if !surroundings.containers.contains(target) {
            let at = path.field("ephemeralContainers").index(index).field("targetContainerName");
            context.error(&at, format!("the pod has no container `{}`", crate::suggest::clip(target)));
        }
    }
}

fn dns(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    let none = PodDNSConfig::default();
    let config = spec.dns_config.as_ref().unwrap_or(&none);
    let path_of = |name: &str| path.field("dnsConfig").field(name);
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") && servers.is_empty() {
        let help = "add `dnsConfig: {nameservers: [192.0.2.53]}`, or use another `dnsPolicy`";
        context.error_help(&path.field("dnsPolicy"), "`dnsPolicy: None` needs at least one name server", help);
    }
    if servers.len() > 3 {
        context.error(&path_of("nameservers"), format!("{} name servers, and at most 3 are used", servers.len()));
    }
    for (index, server) in servers.iter().enumerate() {
        ip(context, &path_of("nameservers").index(index), server);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > 32 || searches.iter().map(|search| search.len() + 1).sum::<usize>() > 2048 {
        context.error(&path_of("searches"), "at most 32 search domains of 2048 characters together are used");
    }
    for (index, search) in searches.iter().enumerate() {
        let bare = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        if search != "." {
            context.check(&path_of("searches").index(index), names::dns_subdomain(&bare));
        }
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            context.missing(&path_of("options").index(index), "name");
        }
    }
}

fn host_alias(context: &mut Context<'_, '_>, path: &Path, alias: &HostAlias) {
    ip(context, &path.field("ip"), &alias.ip);
    for (index, name) in alias.hostnames.iter().flatten().enumerate() {
        context.check(&path.field("hostnames").index(index), names::dns_subdomain(name));
    }
}

/// An address of either family, without a port or a prefix.
pub(super) fn ip(context: &mut Context<'_, '_>, path: &Path, text: &str) {
    if text.parse::<IpAddr>().is_err() {
        context.error(path, format!("`{}` is not an IP address", crate::suggest::clip(text)));
    }
}
