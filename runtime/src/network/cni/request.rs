//! What a plug-in is told: its configuration, with what belongs to this question, and the variables of its environment.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::INTERFACE;
use super::cache::Attachment;
use super::config::{List, capabilities};

/// What is asked, with what only goes with it.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Connect a pod; with the result of the plug-in before.
    Add(Option<&'a Value>),
    /// Take back what was done for a pod; with the result of all.
    Del(Option<&'a Value>),
    /// See whether a pod is connected as it was said; with the result of all.
    Check(&'a Value),
    /// Whether pods can be connected.
    Status,
    /// Take back what was done for others than these: ids of sandboxes.
    Gc(&'a [String]),
}

impl Ask<'_> {
    /// Its name in the specification.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Del(_) => "DEL",
            Self::Check(_) => "CHECK",
            Self::Status => "STATUS",
            Self::Gc(_) => "GC",
        }
    }
}

/// What a plug-in of a list reads. `offered`: what it may ask to be told by its capabilities.
pub fn configuration(
    list: &List,
    plugin: &Map<String, Value>,
    ask: Ask<'_>,
    offered: &BTreeMap<String, Value>,
) -> Map<String, Value> {
    let mut told = plugin.clone();
    told.retain(|key, _| !key.starts_with("cni.dev/"));
    told.remove("cniVersions");
    told.insert("name".into(), list.name.clone().into());
    told.insert("cniVersion".into(), list.version.clone().into());
    let previous = match ask {
        Ask::Add(previous) => previous,
        // It is passed since then.
        Ask::Del(previous) => previous.filter(|_| list.speaks("0.4.0")),
        Ask::Check(previous) => Some(previous),
        Ask::Status => None,
        Ask::Gc(valid) => {
            let valid = valid.iter().map(|id| serde_json::json!({"containerID": id, "ifname": INTERFACE}));
            let valid: Value = valid.collect();
            // By the name that it had by mistake, too: some plug-ins know only that.
            told.insert("cni.dev/attachments".into(), valid.clone());
            told.insert("cni.dev/valid-attachments".into(), valid);
            None
        }
    };
    if let Some(previous) = previous {
        told.insert("prevResult".into(), previous.clone());
    }
    let asked = capabilities(plugin);
    let config: Map<String, Value> = offered
        .iter()
        .filter(|(name, _)| asked.contains(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    told.remove("capabilities");
    if !config.is_empty() {
        told.insert("runtimeConfig".into(), config.into());
    }
    told
}

/// The directories in which plug-ins find each other.
pub fn path(dirs: &[std::path::PathBuf]) -> String {
    dirs.iter().map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(":")
}

/// The variables of a question about a pod. `namespace`: whether its network namespace is still there.
pub fn environment(attachment: &Attachment, verb: &str, namespace: bool) -> Vec<(&'static str, String)> {
    let netns = if namespace { attachment.netns.to_string_lossy().into_owned() } else { String::new() };
    vec![
        ("CNI_COMMAND", verb.to_owned()),
        ("CNI_CONTAINERID", attachment.sandbox.clone()),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", INTERFACE.to_owned()),
        ("CNI_ARGS", attachment.args.clone()),
        ("CNI_PATH", path(&attachment.bin_dirs)),
    ]
}

/// Who the pod is, as Kubernetes' runtimes say it.
pub fn args(namespace: &str, name: &str, sandbox: &str, uid: &str) -> Result<String, String> {
    for value in [namespace, name, uid] {
        if value.contains([';', '=']) || value.chars().any(char::is_control) {
            return Err(format!(
                "{value:?} cannot be told to a CNI plug-in: it has a `;`, a `=` or a control character"
            ));
        }
    }
    Ok(format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={sandbox};\
         K8S_POD_UID={uid}"
    ))
}
