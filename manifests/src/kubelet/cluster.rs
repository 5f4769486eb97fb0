//! What the node is in its cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use super::Cluster;
use super::settings::Checker;
use super::types::KubeletConfiguration;
use crate::path::Path;
use crate::suggest::{clip, nearest};

/// The effects of a taint.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Reads it. 0 is nothing said, as in kubelet, but of rates, where it is no limit.
pub(super) fn of(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Cluster {
    let default = Cluster::default();
    let update = "nodeStatusUpdateFrequency";
    let update = checker.period(update, &raw.node_status_update_frequency, default.status_update_frequency);
    let report = checker.duration("nodeStatusReportFrequency", &raw.node_status_report_frequency);
    // Who has it looked at in another time has it told in that time, too.
    let otherwise = match raw.node_status_update_frequency {
        Some(_) => update,
        None => default.status_report_frequency,
    };
    let lease = raw.node_lease_duration_seconds.filter(|it| *it != 0);
    let lease = checker.number("nodeLeaseDurationSeconds", lease, (1, i32::MAX), 40);
    let (requests, events) = (default.requests, default.events);
    Cluster {
        register: raw.register_node.unwrap_or(default.register),
        taints: taints(raw, checker),
        provider_id: raw.provider_id.clone().filter(|it| !it.is_empty()),
        status_update_frequency: update,
        status_report_frequency: report.filter(|it| !it.is_zero()).unwrap_or(otherwise),
        lease_duration: Duration::from_secs(lease.into()),
        requests: (
            checker.number("kubeAPIQPS", raw.kube_api_qps, (0, i32::MAX), requests.0),
            checker.number("kubeAPIBurst", raw.kube_api_burst.filter(|it| *it != 0), (1, i32::MAX), requests.1),
        ),
        events: (
            checker.number("eventRecordQPS", raw.event_record_qps, (0, i32::MAX), events.0),
            checker.number("eventBurst", raw.event_burst.filter(|it| *it != 0), (1, i32::MAX), events.1),
        ),
        rotate_certificates: raw.rotate_certificates,
        server_tls_bootstrap: raw.server_tls_bootstrap.unwrap_or(false),
    }
}

fn taints(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Vec<Taint> {
    let mut taints = Vec::new();
    for (index, taint) in raw.register_with_taints.iter().flatten().enumerate() {
        let path = Path::default().field("registerWithTaints").index(index);
        if taint.key.is_empty() {
            checker.error(&path.field("key"), "a taint has a key", None);
        }
        if !EFFECTS.contains(&taint.effect.as_str()) {
            let near = nearest(&taint.effect, EFFECTS).map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` is not one of {}", clip(&taint.effect), EFFECTS.join(", "));
            checker.error(&path.field("effect"), message, near);
        }
        let value = taint.value.clone().filter(|it| !it.is_empty());
        taints.push(Taint { key: taint.key.clone(), value, effect: taint.effect.clone(), time_added: None });
    }
    taints
}
