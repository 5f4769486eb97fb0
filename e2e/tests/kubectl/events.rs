//! events.

use std::time::Instant;

use e2e::kubectl::{Cluster, Transport};
use e2e::manifest::{pod, shell};
use serde_json::json;

crate::by_both! {
    what_happens_is_told_and_counted
}

fn what_happens_is_told_and_counted(cluster: &Cluster) {
    let mut watching = cluster.start_kubectl(["get", "events", "-w", "--field-selector", "involvedObject.name=crash"]);
    let spec = json!({"containers": [shell("c", "exit 1")], "restartPolicy": "Always"});
    cluster.write("crash.yaml", pod("crash", spec));
    watching.wait_for("Back-off restarting failed container c in pod crash_default(");
    let event = |reason: &str| {
        let list = cluster.json(&["get", "events", "--field-selector", &format!("reason={reason},type!=Odd")]);
        list["items"].as_array().unwrap().first().cloned()
    };
    let end = Instant::now() + e2e::deadline();
    while event("Started").is_none_or(|it| it["count"].as_u64() < Some(2)) {
        assert!(Instant::now() < end, "{:#?}", event("Started"));
    }
    let started = event("Started").unwrap();
    assert_eq!(started["involvedObject"]["fieldPath"], "spec.containers{c}");
    assert_eq!(started["message"], "Container started");
    let lines = cluster.text(["get", "events", "-o", "wide"]);
    let line = lines.lines().find(|line| line.contains("BackOff")).unwrap();
    assert!(line.contains("Warning") && line.contains("pod/crash") && line.contains("coracle, "), "{lines}");
    if cluster.transport() == Transport::WebSocket {
        let told = cluster.text(["events", "--for", "pod/crash", "--types=Warning"]);
        assert!(told.contains("BackOff") && !told.contains("Started"), "{told}");
    }
}
