//! User namespaces and id mappings.

use std::collections::HashMap;

use cri_proto::cri;

use crate::error::{Error, Result};
use crate::sandbox::{NamespaceMode, Namespaces};
use crate::userns::{IdMap, IdMapping, UserNamespace};

/// By this annotation a sandbox leaves it to the runtime which ids of the host it gets.
const ANNOTATION: &str = "coracle.dev/user-namespace";
const AUTO: &str = "auto";

const FIELD: &str = "namespace_options.userns_options";

/// A sandbox's.
pub fn of_sandbox(
    options: Option<&cri::UserNamespace>,
    annotations: &HashMap<String, String>,
    modes: Namespaces,
) -> Result<Option<UserNamespace>> {
    let chosen = match annotations.get(ANNOTATION).map(String::as_str) {
        None => false,
        Some(AUTO) => true,
        Some(other) => {
            return Err(Error::Invalid(format!("the annotation {ANNOTATION} is {other:?}; it can be {AUTO:?}")));
        }
    };
    let Some(map) = pod(options)? else { return Ok(None) };
    match (chosen, map == IdMap::default()) {
        (true, false) => {
            return Err(Error::Invalid(format!("{FIELD} has mappings, and {ANNOTATION} leaves them to the runtime")));
        }
        (false, _) => check(&map)?,
        (true, true) => {}
    }
    for (mode, name) in [(modes.net, "network"), (modes.pid, "pid"), (modes.ipc, "ipc")] {
        if mode == NamespaceMode::Node {
            let why = "a pod with a user namespace cannot have the host's";
            return Err(Error::Invalid(format!("namespace_options.{name} is NODE: {why}")));
        }
    }
    Ok(Some(UserNamespace { map, chosen }))
}

/// The one that a container expects. Without mappings it is one that the runtime has chosen.
pub fn of_container(options: Option<&cri::UserNamespace>) -> Result<Option<IdMap>> {
    let map = pod(options)?;
    if let Some(map) = map.as_ref().filter(|it| **it != IdMap::default()) {
        check(map)?;
    }
    Ok(map)
}

/// The mappings of a namespace of the pod's; none for the host's.
fn pod(options: Option<&cri::UserNamespace>) -> Result<Option<IdMap>> {
    let Some(options) = options else { return Ok(None) };
    let mode = cri::NamespaceMode::try_from(options.mode)
        .map_err(|_| Error::Invalid(format!("{FIELD}.mode {} is not known", options.mode)))?;
    let given = !(options.uids.is_empty() && options.gids.is_empty());
    match mode {
        cri::NamespaceMode::Node if given => {
            Err(Error::Invalid(format!("{FIELD}.mode is NODE, the host's user namespace, and has mappings")))
        }
        cri::NamespaceMode::Node => Ok(None),
        cri::NamespaceMode::Pod => Ok(Some(map(&options.uids, &options.gids))),
        other => Err(Error::Invalid(format!("{FIELD}.mode cannot be {}: it is POD or NODE", other.as_str_name()))),
    }
}

/// One stretch of each, with the pod's root in it.
fn check(map: &IdMap) -> Result<()> {
    for (mappings, name) in [(&map.uids, "uids"), (&map.gids, "gids")] {
        let count = mappings.len();
        if count != 1 {
            return Err(Error::Invalid(format!("{FIELD}.{name} has {count} mappings: it has to be one")));
        }
        if mappings.iter().any(|it| it.container != 0) {
            return Err(Error::Invalid(format!("{FIELD}.{name} does not map the container's id 0 first")));
        }
    }
    map.check(FIELD)?;
    let lengths = |mappings: &[IdMapping]| mappings.iter().map(|it| it.length).collect::<Vec<_>>();
    if lengths(&map.uids) != lengths(&map.gids) {
        return Err(Error::Invalid(format!("{FIELD} maps a different number of uids and gids")));
    }
    Ok(())
}

/// How a mount's ids are mapped; none where nothing is said.
pub fn of_mount(mount: &cri::Mount) -> Result<Option<IdMap>> {
    if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() {
        return Ok(None);
    }
    let map = map(&mount.uid_mappings, &mount.gid_mappings);
    map.check(&format!("the mount at {}", mount.container_path))?;
    Ok(Some(map))
}

fn map(uids: &[cri::IdMapping], gids: &[cri::IdMapping]) -> IdMap {
    let one = |it: &cri::IdMapping| IdMapping { container: it.container_id, host: it.host_id, length: it.length };
    IdMap { uids: uids.iter().map(one).collect(), gids: gids.iter().map(one).collect() }
}

/// As a sandbox's status has it.
pub fn show(user: &UserNamespace) -> cri::UserNamespace {
    let all = |mappings: &[IdMapping]| {
        let one = |it: &IdMapping| cri::IdMapping { container_id: it.container, host_id: it.host, length: it.length };
        mappings.iter().map(one).collect()
    };
    cri::UserNamespace { mode: cri::NamespaceMode::Pod as i32, uids: all(&user.map.uids), gids: all(&user.map.gids) }
}

#[cfg(test)]
mod tests;
