//! A bound pod's life: begun, told of, changed and ended.

use e2e::agent::{condition, container_id};
use e2e::apiserver::ApiServer;
use e2e::{Node, need};
use serde_json::json;

use crate::{KEEPS, bound, is, join, running};

#[test]
fn a_bound_pod_runs_and_is_removed_from_the_server_when_nothing_is_left_of_it() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let made = server.create(&bound("web", KEEPS));
    let pod = server.wait_for("pods", "default/web", "ready", |pod| condition(pod, "Ready") == Some(true));
    for kind in ["PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&pod, kind), Some(true), "{kind} of {pod:#}");
    }
    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["observedGeneration"], pod["metadata"]["generation"]);
    assert_eq!(status["qosClass"], "BestEffort");
    assert!(status["hostIP"].is_string() && status["podIPs"][0]["ip"] == status["podIP"], "{status:#}");
    let patch = server.wait_for_request("the status", |it| it.method == "PATCH" && it.path.ends_with("/web/status"));
    assert_eq!(patch.media, "application/strategic-merge-patch+json");
    assert_eq!(patch.body["metadata"], json!({"uid": made["metadata"]["uid"]}));

    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    let delete = server.wait_for_request("the end", |it| it.method == "DELETE" && it.path.ends_with("/pods/web"));
    assert_eq!(delete.body["gracePeriodSeconds"], 0);
    assert_eq!(delete.body["preconditions"]["uid"], made["metadata"]["uid"]);
    let patches = server.requests().into_iter().filter(|it| it.method == "PATCH" && it.path.ends_with("/web/status"));
    let last = patches.filter_map(|it| it.body["status"]["phase"].as_str().map(str::to_owned)).next_back();
    assert_eq!(last.as_deref(), Some("Succeeded"));
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_has_ended_stays_as_it_ended_until_it_is_deleted() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let mut job = bound("job", "exit 3");
    job["spec"]["restartPolicy"] = json!("Never");
    server.create(&job);
    let ended = server.wait_for("pods", "default/job", "over", is("Failed"));
    assert_eq!(ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    agent.kill();
    agent.restart();
    // Something that comes later is told later.
    server.create(&bound("web", KEEPS));
    running(&server, "web");
    let there = server.get("pods", "default/job").unwrap();
    assert_eq!(there["status"]["containerStatuses"], ended["status"]["containerStatuses"]);
    for pod in ["default/job", "default/web"] {
        server.delete("pods", pod);
        server.wait_until_gone("pods", pod);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_is_ready_when_others_have_passed_it_and_keeps_what_they_wrote() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let mut pod = bound("web", KEEPS);
    pod["spec"]["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    server.create(&pod);
    let held = server.wait_for("pods", "default/web", "up", |pod| condition(pod, "ContainersReady") == Some(true));
    assert_eq!(condition(&held, "Ready"), Some(false));
    let mut conditions = held["status"]["conditions"].clone();
    conditions.as_array_mut().unwrap().push(json!({"type": "example.com/gate", "status": "True"}));
    server.merge("pods", "default/web/status", json!({"status": {"conditions": conditions}}));
    let ready = server.wait_for("pods", "default/web", "ready", |pod| condition(pod, "Ready") == Some(true));
    assert_eq!(condition(&ready, "example.com/gate"), Some(true));
    assert_eq!(container_id(&ready, "c"), container_id(&held, "c"));
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}
