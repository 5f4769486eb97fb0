//! Security contexts.

use super::container::confined;
use super::{Context, names};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext};
use std::collections::BTreeSet;

/// User and group ids are what an `int32` holds.
pub(super) const LARGEST_ID: i64 = i32::MAX as i64;

/// What the kernel knows, without the prefix.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// A user namespace owns the pod's other namespaces, so that they cannot be the host's.
pub(super) fn host_users(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    if spec.host_users != Some(false) {
        return unmasked(context, path, spec);
    }
    for (name, host) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)] {
        if host == Some(true) {
            let message = format!("`{name}` cannot be combined with a user namespace");
            context.error_help(&path.field(name), message, "remove it, or `hostUsers: false`");
        }
    }
}

/// What procfs hides is the host's: only root of a namespace of the pod's own may see it.
fn unmasked(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (field, containers) in lists {
        for (index, container) in containers.unwrap_or_default().iter().enumerate() {
            let security = container.security_context.as_ref();
            if security.and_then(|security| security.proc_mount.as_deref()) == Some("Unmasked") {
                let path = path.field(field).index(index).field("securityContext").field("procMount");
                let help = "add `hostUsers: false` to the pod's spec";
                context.error_help(&path, "`Unmasked` needs a user namespace of the pod's own", help);
            }
        }
    }
}

pub(super) fn pod(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    let Some(security) = &spec.security_context else { return };
    let path = path.field("securityContext");
    for (name, id) in
        [("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group), ("fsGroup", security.fs_group)]
    {
        context.within(&path.field(name), id, 0, LARGEST_ID);
    }
    for (index, id) in security.supplemental_groups.iter().flatten().enumerate() {
        context.within(&path.field("supplementalGroups").index(index), Some(*id), 0, LARGEST_ID);
    }
    seccomp(context, &path.field("seccompProfile"), security.seccomp_profile.as_ref());
    app_armor(context, &path.field("appArmorProfile"), security.app_armor_profile.as_ref());
    let mut seen = BTreeSet::new();
    for (index, sysctl) in security.sysctls.iter().flatten().enumerate() {
        let path = path.field("sysctls").index(index).field("name");
        context.check(&path, names::sysctl(&sysctl.name));
        let name = sysctl.name.replace('/', ".");
        let shared = match name.starts_with("net.") {
            true => spec.host_network.filter(|host| *host).map(|_| "hostNetwork"),
            false => spec.host_ipc.filter(|host| *host).map(|_| "hostIPC"),
        };
        if let Some(shared) = shared {
            let message = format!("`{}` would change the host, for `{shared}` is true", clip(&sysctl.name));
            context.error(&path, message);
        }
        if !seen.insert(name) {
            context.error(&path, format!("`{}` is set twice", clip(&sysctl.name)));
        }
    }
}

pub(super) fn container(context: &mut Context<'_, '_>, path: &Path, security: Option<&SecurityContext>) {
    let Some(security) = security else { return };
    context.within(&path.field("runAsUser"), security.run_as_user, 0, LARGEST_ID);
    context.within(&path.field("runAsGroup"), security.run_as_group, 0, LARGEST_ID);
    seccomp(context, &path.field("seccompProfile"), security.seccomp_profile.as_ref());
    app_armor(context, &path.field("appArmorProfile"), security.app_armor_profile.as_ref());
    if security.privileged == Some(true) && security.allow_privilege_escalation == Some(false) {
        let message = "a privileged container has every privilege already";
        let help = "remove `privileged` or `allowPrivilegeEscalation: false`";
        context.error_help(&path.field("allowPrivilegeEscalation"), message, help);
    }
    let Some(capabilities) = &security.capabilities else { return };
    for (list, names) in [("add", &capabilities.add), ("drop", &capabilities.drop)] {
        for (index, name) in names.iter().flatten().enumerate() {
            capability(context, &path.field("capabilities").field(list).index(index), name);
        }
    }
}

fn capability(context: &mut Context<'_, '_>, path: &Path, name: &str) {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || CAPABILITIES.contains(&upper.as_str()) {
        return;
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let message = format!("unknown capability `{}`", clip(name));
    match nearest(bare, CAPABILITIES) {
        Some(near) if near == bare => context.error_help(path, message, format!("without the prefix: `{near}`")),
        Some(near) => context.error_help(path, message, format!("did you mean `{near}`?")),
        None => context.error(path, message),
    }
}

fn seccomp(context: &mut Context<'_, '_>, path: &Path, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let file = profile.localhost_profile.as_deref();
    localhost(context, path, &profile.type_, file);
    if let Some(file) = file.filter(|_| profile.type_ == "Localhost") {
        confined(context, &path.field("localhostProfile"), file);
    }
}

fn app_armor(context: &mut Context<'_, '_>, path: &Path, profile: Option<&AppArmorProfile>) {
    if let Some(profile) = profile {
        localhost(context, path, &profile.type_, profile.localhost_profile.as_deref());
    }
}

fn localhost(context: &mut Context<'_, '_>, path: &Path, ty: &str, profile: Option<&str>) {
    let at = path.field("localhostProfile");
    match (ty, profile) {
        ("Localhost", None) => context.error(&at, "`type: Localhost` needs a `localhostProfile`"),
        ("Localhost", Some(_)) | (_, None) => {}
        (_, Some(_)) => context.error(&at, "`localhostProfile` is only for `type: Localhost`"),
    }
}
