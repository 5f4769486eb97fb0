//! The range of addresses that the cluster gives to this node's pods: the runtime is told of it, as kubelet does.

use cri_proto::cri;
use k8s_openapi::api::core::v1::Node;

use crate::channel::Cri;
use crate::cluster::Link;

/// Tells it whenever it is another one. A runtime that has pods with other addresses keeps these.
pub async fn follow(link: Link, cri: Cri) {
    let mut node = link.node();
    let mut told = String::new();
    loop {
        let ranges = node.borrow_and_update().as_deref().map(ranges).unwrap_or_default();
        if !ranges.is_empty() && ranges != told {
            let config = cri::RuntimeConfig { network_config: Some(cri::NetworkConfig { pod_cidr: ranges.clone() }) };
            let request = cri::UpdateRuntimeConfigRequest { runtime_config: Some(config) };
            match cri.runtime.clone().update_runtime_config(request).await {
                Ok(_) => {
                    tracing::info!(ranges, "the cluster gives addresses to this node's pods");
                    told = ranges;
                }
                Err(status) => {
                    tracing::warn!(ranges, error = status.message(), "the cluster's addresses for pods cannot be used");
                }
            }
        }
        if node.changed().await.is_err() {
            return;
        }
    }
}

fn ranges(node: &Node) -> String {
    let Some(spec) = &node.spec else { return String::new() };
    match (&spec.pod_cidrs, &spec.pod_cidr) {
        (Some(ranges), _) if !ranges.is_empty() => ranges.join(","),
        (_, one) => one.clone().unwrap_or_default(),
    }
}
