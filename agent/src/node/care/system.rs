//! What kind of system the node is.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSwapStatus, NodeSystemInfo,
};

use crate::channel::Cri;
use cri_proto::cri;

/// Reads it. What cannot be read is left empty.
pub async fn info(cri: &Cri, boot_id: &str) -> NodeSystemInfo {
    let request = cri::VersionRequest { version: "0.1.0".into() };
    let runtime = cri.runtime.clone().version(request).await.map(tonic::Response::into_inner);
    let runtime = runtime.map(|it| format!("{}://{}", it.runtime_name, it.runtime_version)).unwrap_or_default();
    let uname = rustix::system::uname();
    let first = |paths: &[&str]| paths.iter().find_map(|path| line(Path::new(path))).unwrap_or_default();
    NodeSystemInfo {
        architecture: go_arch(std::env::consts::ARCH).to_owned(),
        boot_id: boot_id.to_owned(),
        container_runtime_version: runtime,
        kernel_version: uname.release().to_string_lossy().into_owned(),
        kubelet_version: crate::version::KUBELET.to_owned(),
        machine_id: first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
        operating_system: "linux".into(),
        os_image: std::fs::read_to_string("/etc/os-release").ok().as_deref().and_then(os_name).unwrap_or_default(),
        system_uuid: first(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id", "/etc/machine-id"]),
        swap: std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(swap),
        ..NodeSystemInfo::default()
    }
}

/// `SwapTotal` of proc(5), in bytes; a node without swap says nothing, as kubelet has it.
fn swap(meminfo: &str) -> Option<NodeSwapStatus> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:"))?;
    let kilobytes: i64 = line.split_whitespace().next()?.parse().ok()?;
    let capacity = kilobytes.checked_mul(1024).filter(|bytes| *bytes > 0)?;
    Some(NodeSwapStatus { capacity: Some(capacity) })
}

/// What the container runtime says that it can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Abilities {
    /// What its handlers can do; none where it does not say.
    pub handlers: Option<Vec<NodeRuntimeHandler>>,
    /// What it can do with all of them.
    pub features: Option<NodeFeatures>,
}

impl Abilities {
    /// Those of an answer to a question for the status.
    pub fn of(answer: &cri::StatusResponse) -> Self {
        let handler = |it: &cri::RuntimeHandler| {
            let features = it.features.unwrap_or_default();
            NodeRuntimeHandler {
                name: Some(it.name.clone()),
                features: Some(NodeRuntimeHandlerFeatures {
                    recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                    user_namespaces: Some(features.user_namespaces),
                }),
            }
        };
        let handlers: Vec<_> = answer.runtime_handlers.iter().map(handler).collect();
        let features = answer.features.as_ref();
        Abilities {
            handlers: (!handlers.is_empty()).then_some(handlers),
            features: features
                .map(|it| NodeFeatures { supplemental_groups_policy: Some(it.supplemental_groups_policy) }),
        }
    }
}

fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim_matches(['\0', '\n', ' ']).to_owned()).filter(|text| !text.is_empty())
}

/// As Go, and with it Kubernetes, names architectures.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"` of os-release(5).
fn os_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_is_read() {
        let text = "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(os_name(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(os_name("NAME=x"), None);
    }

    #[test]
    fn a_node_without_swap_says_nothing_of_it() {
        assert_eq!(swap("SwapTotal:           0 kB\n"), None);
        assert_eq!(swap("MemTotal: 1 kB\nSwapTotal:       16 kB\n"), Some(NodeSwapStatus { capacity: Some(16_384) }));
    }

    #[test]
    fn what_the_runtime_can_do_is_said_as_it_says_it() {
        assert_eq!(Abilities::of(&cri::StatusResponse::default()), Abilities::default());
        let features = cri::RuntimeHandlerFeatures { user_namespaces: true, ..Default::default() };
        let answer = cri::StatusResponse {
            runtime_handlers: vec![cri::RuntimeHandler { features: Some(features), ..Default::default() }],
            features: Some(cri::RuntimeFeatures { supplemental_groups_policy: true, ..Default::default() }),
            ..Default::default()
        };
        let said = serde_json::json!([Abilities::of(&answer).handlers, Abilities::of(&answer).features]);
        let features = serde_json::json!({"recursiveReadOnlyMounts": false, "userNamespaces": true});
        let expected = serde_json::json!([[{"name": "", "features": features}], {"supplementalGroupsPolicy": true}]);
        assert_eq!(said, expected);
    }
}
