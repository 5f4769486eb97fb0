//! One container.

use super::pod::{Role, Surroundings, ip};
use super::{Context, env, names, probe, resources, restart, security};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Volume, VolumeMount};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn validate<'a>(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &'a Container,
    role: Role,
    surroundings: &mut Surroundings<'a>,
) {
    match container.image.as_deref() {
        None => context.missing(path, "image"),
        Some(name) => image(context, &path.field("image"), name),
    }
    for (name, list) in [("command", &container.command), ("args", &container.args)] {
        for (index, text) in list.iter().flatten().enumerate() {
            no_nul(context, &path.field(name).index(index), text);
        }
    }
    absolute(context, &path.field("workingDir"), container.working_dir.as_deref());
    absolute(context, &path.field("terminationMessagePath"), container.termination_message_path.as_deref());
    ports(context, &path.field("ports"), container, surroundings);
    env::validate(context, path, container, surroundings);
    resources::validate(context, &path.field("resources"), container.resources.as_ref());
    security::container(context, &path.field("securityContext"), container.security_context.as_ref());
    mounts(context, &path.field("volumeMounts"), container, role, surroundings);
    // What an ephemeral container cannot have is said already.
    if role == Role::Ephemeral {
        return;
    }
    let ends = role == Role::Init && container.restart_policy.as_deref() != Some("Always");
    if ends {
        probe::none(context, path, container);
    } else {
        probe::validate(context, path, container, surroundings);
    }
    restart::validate(context, path, container, role == Role::Init && !ends);
    restart::resizing(context, path, container, ends, surroundings);
}

pub(super) fn image(context: &mut Context<'_, '_>, path: &Path, name: &str) {
    if name.contains(char::is_whitespace) {
        context.error(path, format!("`{}` has a blank in it", clip(name)));
    }
}

/// The kernel ends a string there.
pub(super) fn no_nul(context: &mut Context<'_, '_>, path: &Path, text: &str) {
    if text.contains('\0') {
        context.error(path, "a NUL character cannot be passed to a process");
    }
}

fn absolute(context: &mut Context<'_, '_>, path: &Path, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.starts_with('/')) {
        context.error_help(path, format!("`{}` is not an absolute path", clip(text)), format!("`/{}`?", clip(text)));
    }
}

fn ports<'a>(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &'a Container,
    surroundings: &mut Surroundings<'a>,
) {
    let mut seen = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.index(index);
        context.within(&path.field("containerPort"), Some(i64::from(port.container_port)), 1, 65535);
        context.within(&path.field("hostPort"), port.host_port.map(i64::from), 0, 65535);
        if let Some(name) = &port.name {
            context.check(&path.field("name"), names::port_name(name));
            if !seen.insert(name) {
                context.error(&path.field("name"), format!("the port name `{name}` is used twice"));
            }
        }
        if let Some(address) = &port.host_ip {
            ip(context, &path.field("hostIP"), address);
        }
        host_port(context, &path, container, port, surroundings);
    }
}

fn host_port<'a>(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &'a Container,
    port: &'a ContainerPort,
    surroundings: &mut Surroundings<'a>,
) {
    let at = path.field("hostPort");
    let asked = port.host_port.filter(|port| *port != 0);
    let taken = match (asked, surroundings.host_network) {
        (None, false) => {
            if port.host_ip.is_some() {
                let help = "add the `hostPort` that is to be open on this address";
                context.key_warning(&path.field("hostIP"), "`hostIP` has no effect without `hostPort`", help);
            }
            return;
        }
        (Some(asked), true) if asked != port.container_port => {
            let message = format!("in the host's network `hostPort` is the `containerPort`, {}", port.container_port);
            context.error(&at, message);
            return;
        }
        (asked, _) => asked.unwrap_or(port.container_port),
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let address = port.host_ip.as_deref().unwrap_or_default();
    let owner = container.name.as_str();
    if let Some(first) = surroundings.host_ports.insert((taken, protocol, address), owner) {
        let at = if asked.is_some() { at } else { path.field("containerPort") };
        context.error(&at, format!("port {taken}/{protocol} of the host is taken by container `{first}`"));
    }
}

fn mounts(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &Container,
    role: Role,
    surroundings: &Surroundings<'_>,
) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.index(index);
        volume(context, &path.field("name"), &mount.name, surroundings);
        let at = path.field("mountPath");
        absolute(context, &at, Some(&mount.mount_path));
        if let Some(first) = seen.insert(mount.mount_path.trim_end_matches('/'), index) {
            let message = format!("`{}` is mounted on twice", clip(&mount.mount_path));
            context.error_help(&at, message, format!("the first is volumeMounts[{first}]"));
        }
        sub_path(context, &path, mount, role);
        mount_mode(context, &path, mount, container);
    }
}

/// The volume of this name, if there is one.
pub(super) fn volume<'a>(
    context: &mut Context<'_, '_>,
    path: &Path,
    name: &str,
    surroundings: &Surroundings<'a>,
) -> Option<&'a Volume> {
    let volumes = surroundings.volumes.as_ref()?;
    let found = volumes.get(name).copied();
    if found.is_none() {
        let help = match nearest(name, volumes.keys().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add it to `spec.volumes`".to_owned(),
        };
        context.error_help(path, format!("there is no volume `{}`", clip(name)), help);
    }
    found
}

fn sub_path(context: &mut Context<'_, '_>, path: &Path, mount: &VolumeMount, role: Role) {
    let given = [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)];
    for (name, sub) in given {
        let Some(sub) = sub else { continue };
        confined(context, &path.field(name), sub);
        if role == Role::Ephemeral {
            context.key_error(&path.field(name), "an ephemeral container mounts whole volumes", None);
        }
    }
    if given.iter().all(|(_, sub)| sub.is_some()) {
        context.key_error(&path.field("subPathExpr"), "a mount has a `subPath` or a `subPathExpr`, not both", None);
    }
}

/// A path that stays below where it starts.
pub(super) fn confined(context: &mut Context<'_, '_>, path: &Path, text: &str) {
    if text.starts_with('/') {
        context.error(path, format!("`{}` must be a relative path", clip(text)));
    } else if text.split('/').any(|part| part == "..") {
        context.error(path, format!("`{}` must not contain `..`", clip(text)));
    }
}

fn mount_mode(context: &mut Context<'_, '_>, path: &Path, mount: &VolumeMount, container: &Container) {
    let propagation = mount.mount_propagation.as_deref().unwrap_or("None");
    let privileged = container.security_context.as_ref().and_then(|security| security.privileged) == Some(true);
    if propagation == "Bidirectional" && !privileged {
        let message = "`Bidirectional` needs a privileged container";
        let help = "set `securityContext.privileged`, or use `HostToContainer`";
        context.error_help(&path.field("mountPropagation"), message, help);
    }
    let recursive = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if recursive != "Disabled" && mount.read_only != Some(true) {
        context.error(&path.field("recursiveReadOnly"), format!("`{recursive}` needs `readOnly: true`"));
    } else if recursive != "Disabled" && propagation != "None" {
        let message = format!("`{recursive}` does not go with `mountPropagation: {propagation}`");
        context.error(&path.field("recursiveReadOnly"), message);
    }
}
