//! The kernel parameters that pods of a cluster may set: those that can harm nobody else, and what the operator allows.
//! A pod of a manifest is the operator's own word.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::super::refusal::Refusal;
use super::refusal;
use crate::engine::plan::spec_of;

/// What every pod may set: each has its own, and no other pod notices.
/// <https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls>
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why a pod may not have the parameters that it asks for. `allowed` are names, or beginnings of names with a `*`.
pub(super) fn forbidden(pod: &Pod, allowed: &[String]) -> Option<Refusal> {
    let spec = spec_of(pod);
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    let mut names = sysctls.into_iter().flatten().map(|sysctl| sysctl.name.replace('/', "."));
    let why = names.find_map(|name| problem(&name, spec, allowed))?;
    refusal("SysctlForbidden", format!("forbidden sysctl: {why}"))
}

fn problem(name: &str, spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    if !SAFE.contains(&name) && !allowed.iter().any(fits) {
        return Some(format!("{name:?} not allowlisted"));
    }
    // Where the pod shares the host's, the host would be changed.
    let (namespace, shared) = match name.starts_with("net.") {
        true => ("Net", spec.host_network),
        false => ("IPC", spec.host_ipc),
    };
    (shared == Some(true)).then(|| format!("{name:?} not allowed with host {namespace} enabled"))
}
