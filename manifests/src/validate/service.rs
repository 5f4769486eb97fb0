//! Services.

use super::{Context, names, selector};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// The address of a Service that has none.
const NONE: &str = "None";

/// A day.
const LONGEST_AFFINITY: i64 = 86_400;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, service: &Service) {
    let path = path.field("spec");
    let Some(spec) = &service.spec else {
        context.error(&path, "`spec` is missing");
        return;
    };
    if !kind(context, &path, spec) {
        return;
    }
    ports(context, &path.field("ports"), spec);
    match &spec.selector {
        Some(labels) if !labels.is_empty() => selector::labels(context, &path.field("selector"), labels),
        _ => {
            let help = "say which pods it leads to, by their labels; Endpoints and EndpointSlices do not run here, and an \
                        `Ambassador` leads to what is no pod of this node";
            context.error_help(&path.field("selector"), "`selector` is missing", help);
        }
    }
    affinity(context, &path, spec);
    addresses(context, &path, spec);
}

/// Whether it is of the one type that runs.
fn kind(context: &mut Context<'_, '_>, path: &Path, spec: &ServiceSpec) -> bool {
    let at = path.field("type");
    let help = match spec.type_.as_deref() {
        None | Some("ClusterIP") => return true,
        Some("NodePort" | "LoadBalancer") => {
            "a `ClusterIP` is reached within the node; from outside a pod is reached by a `hostPort` of its container"
        }
        Some("ExternalName") if spec.external_name.is_some() => return false,
        Some("ExternalName") => "an `Ambassador` leads to what is no pod of this node",
        Some(other) => {
            let help = nearest(other, TYPES).map_or_else(|| TYPES.join(", "), |near| format!("did you mean `{near}`?"));
            context.error_help(&at, format!("`{}` is not a type of Service", clip(other)), help);
            return false;
        }
    };
    let name = spec.type_.as_deref().unwrap_or_default();
    context.error_help(&at, format!("a Service of type `{name}` does not run here"), help);
    false
}

/// Whether it has no address of its own.
fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(NONE)
        || spec.cluster_ips.as_deref().unwrap_or_default().first().is_some_and(|it| it == NONE)
}

fn ports(context: &mut Context<'_, '_>, path: &Path, spec: &ServiceSpec) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) {
        context.error_help(path, "`ports` is missing", "add `ports: [{port: 80}]`, or `clusterIP: None`");
    }
    let (mut names, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        match &port.name {
            None if ports.len() > 1 => {
                context.error_help(&path.field("name"), "`name` is missing", "of several ports each has a name");
            }
            None => {}
            Some(name) => {
                context.check(&path.field("name"), names::dns_label(name));
                if let Some(first) = names.insert(name.as_str(), index) {
                    let message = format!("two ports are called `{}`", clip(name));
                    context.error_help(&path.field("name"), message, format!("the first is ports[{first}]"));
                }
            }
        }
        context.within(&path.field("port"), Some(i64::from(port.port)), 1, 65535);
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if let Some(first) = numbers.insert((protocol, port.port), index) {
            let message = format!("port {}/{protocol} is there twice", port.port);
            context.error_help(&path.field("port"), message, format!("the first is ports[{first}]"));
        }
        target(context, &path.field("targetPort"), port);
    }
}

fn target(context: &mut Context<'_, '_>, path: &Path, port: &ServicePort) {
    match &port.target_port {
        // The same as the port.
        None | Some(IntOrString::Int(0)) => {}
        Some(IntOrString::Int(number)) => context.within(path, Some(i64::from(*number)), 1, 65535),
        Some(IntOrString::String(name)) if name.is_empty() => {}
        Some(IntOrString::String(name)) => port_name(context, path, name),
    }
}

/// The name of a container's port, where a number would do as well.
pub(super) fn port_name(context: &mut Context<'_, '_>, path: &Path, name: &str) {
    match name.parse::<u16>() {
        Ok(number) => {
            let message = format!("`\"{number}\"` is not the name of a port");
            context.error_help(path, message, format!("a number: `{number}`"));
        }
        Err(_) => context.check(path, names::port_name(name)),
    }
}

fn affinity(context: &mut Context<'_, '_>, path: &Path, spec: &ServiceSpec) {
    let Some(config) = &spec.session_affinity_config else { return };
    let path = path.field("sessionAffinityConfig");
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        let message = "`sessionAffinityConfig` has no effect without `sessionAffinity: ClientIP`";
        context.key_warning(&path, message, "add that, or remove this");
        return;
    }
    let seconds = config.client_ip.as_ref().and_then(|it| it.timeout_seconds).map(i64::from);
    context.within(&path.field("clientIP").field("timeoutSeconds"), seconds, 1, LONGEST_AFFINITY);
}

fn addresses(context: &mut Context<'_, '_>, path: &Path, spec: &ServiceSpec) {
    let (families, addresses) =
        (spec.ip_families.as_deref().unwrap_or_default(), spec.cluster_ips.as_deref().unwrap_or_default());
    for (index, family) in families.iter().enumerate() {
        let at = path.field("ipFamilies").index(index);
        if !FAMILIES.contains(&family.as_str()) {
            context.error_help(&at, format!("`{}` is not an address family", clip(family)), FAMILIES.join(", "));
        } else if families[..index].contains(family) {
            context.error(&at, format!("`{family}` is there twice"));
        }
    }
    let at = path.field("clusterIPs");
    match (&spec.cluster_ip, addresses.first()) {
        (None, Some(first)) => context.error_help(
            &path.field("clusterIP"),
            "`clusterIP` is missing, and `clusterIPs` is there",
            format!("add `clusterIP: {}`", clip(first)),
        ),
        (Some(one), Some(first)) if one != first => {
            context.error(&at.index(0), format!("`{}` is not `clusterIP`, which is `{}`", clip(first), clip(one)));
        }
        (Some(one), None) => drop(address(context, &path.field("clusterIP"), one, families.first())),
        _ => {}
    }
    if addresses.len() > 1 && addresses.iter().any(|it| it == NONE) {
        context.error(&at, "`None` stands alone, if it is there");
        return;
    }
    let parsed =
        addresses.iter().enumerate().map(|(index, text)| address(context, &at.index(index), text, families.get(index)));
    let parsed: Vec<IpAddr> = parsed.collect::<Vec<_>>().into_iter().flatten().collect();
    if parsed.len() > 2 || matches!(parsed.as_slice(), [one, two] if one.is_ipv4() == two.is_ipv4()) {
        context.error(&at, "a Service has at most one address of each family");
    }
    let many = |count: usize| count > 1 && spec.ip_family_policy.as_deref() == Some("SingleStack");
    for (name, count) in [("clusterIPs", addresses.len()), ("ipFamilies", families.len())] {
        if many(count) {
            context.error(&path.field(name), "of `ipFamilyPolicy: SingleStack` there is one");
        }
    }
}

/// An address as it has to be written, of the family that it has to be of.
fn address(context: &mut Context<'_, '_>, path: &Path, text: &str, family: Option<&String>) -> Option<IpAddr> {
    if text == NONE {
        return None;
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = "an address such as `10.96.0.10`; `None` for a Service without one";
        context.error_help(path, format!("`{}` is not an address", clip(text)), help);
        return None;
    };
    let is = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if family.is_some_and(|family| family != is) {
        context.error(path, format!("`{address}` is not of the family that `ipFamilies` names for it"));
    }
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        context.error(path, format!("`{address}` cannot lead to pods"));
    }
    Some(address)
}
