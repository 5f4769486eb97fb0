//! What `verbose` adds: what crictl inspect shows, and what scripts take from it. Where containerd has a name for a
//! thing, it has that.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::container;
use crate::core::Core;
use crate::error::Result;
use crate::sandbox::{self, NamespaceMode};

fn wrap(info: &Value) -> HashMap<String, String> {
    HashMap::from([("info".to_owned(), info.to_string())])
}

/// A sandbox: the process that holds its namespaces, if it has one, and where the namespaces are.
pub fn sandbox(core: &Core, record: &sandbox::Record) -> HashMap<String, String> {
    let modes = record.request.namespaces;
    let pins = core.pins_dir(&record.id);
    let pinned = [("network", "net", modes.net), ("ipc", "ipc", modes.ipc), ("uts", "uts", modes.net)];
    let own = pinned.iter().filter(|(_, _, mode)| *mode != NamespaceMode::Node && !record.stopped);
    let namespaces: Vec<Value> = own.map(|(kind, name, _)| json!({"type": kind, "path": pins.join(name)})).collect();
    let process = |it: &Option<crate::ids::Process>| it.filter(|_| !record.stopped).map_or(0, |it| it.pid);
    wrap(&json!({
        "pid": process(&record.init),
        "shimPid": process(&record.shim),
        "processStatus": if record.is_ready(core) { "running" } else { "deleted" },
        "netNamespaceClosed": record.stopped,
        "image": "",
        "runtimeHandler": "",
        "runtimeType": "coracle",
        "config": record.request,
        "network": record.attachment,
        "cni": record.cni,
        "runtimeSpec": {
            "hostname": record.request.hostname,
            "annotations": record.request.annotations,
            "linux": {"namespaces": namespaces, "cgroupsPath": record.cgroup()},
        },
    }))
}

/// A container: its process, what was asked for and what could not be given.
pub fn container(core: &Core, record: &container::Record) -> Result<HashMap<String, String>> {
    let view = container::view(core, record)?;
    let runs = view.as_ref().filter(|it| it.state != crate::shim::protocol::State::Exited);
    let process = record.process(core).ok();
    Ok(wrap(&json!({
        "sandboxID": record.sandbox,
        "pid": runs.map_or(0, |it| it.pid),
        "removing": false,
        "snapshotKey": record.id,
        "snapshotter": "overlayfs",
        "runtimeType": "coracle",
        "config": record.request,
        "notes": record.notes,
        "runtimeSpec": {
            "process": process,
            "root": {"path": core.container_root(&record.id)},
            "annotations": record.request.annotations,
            "linux": {"cgroupsPath": record.cgroup},
        },
    })))
}
