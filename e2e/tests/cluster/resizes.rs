//! Pods that shall have other resources, and pods for which others make room.

use e2e::agent::{condition, condition_of, container_id};
use e2e::apiserver::ApiServer;
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, is, join, running};

/// A pod that asks for so much of the node's processors.
fn asks(pod: &str, milli: i64) -> Value {
    let mut pod = bound(pod, KEEPS);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": format!("{milli}m")}});
    pod["spec"]["terminationGracePeriodSeconds"] = json!(5);
    pod
}

/// What the node has to give, in thousandths of a processor.
fn allocatable(server: &ApiServer) -> i64 {
    let there =
        server.wait_for("nodes", &crate::name(), "told", |node| node["status"]["allocatable"]["cpu"].is_string());
    let cpu = there["status"]["allocatable"]["cpu"].as_str().unwrap();
    cpu.strip_suffix('m').map_or_else(|| cpu.parse::<i64>().unwrap() * 1000, |milli| milli.parse().unwrap())
}

/// Has a pod's resources changed, as `kubectl patch --subresource resize` does.
#[track_caller]
fn resize(server: &ApiServer, pod: &str, milli: i64) {
    let resources = json!({"requests": {"cpu": format!("{milli}m")}});
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
    server.merge("pods", &format!("default/{pod}/resize"), patch);
}

/// An event of a pod, once it is told.
#[track_caller]
fn event(server: &ApiServer, reason: &str, pod: &str) -> Value {
    let find =
        || server.list("events").into_iter().find(|it| it["reason"] == reason && it["involvedObject"]["name"] == pod);
    inspect::wait_until(&format!("event {reason} of {pod}"), || find().is_some());
    find().unwrap()
}

fn pending(pod: &Value) -> Option<&Value> {
    condition_of(pod, "PodResizePending")
}

fn allocated(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"]
}

#[test]
fn a_resize_waits_for_room_through_a_restart_of_the_agent_and_is_done_when_there_is() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let all = allocatable(&server);
    for name in ["small", "large"] {
        server.create(&asks(name, all / 3));
        running(&server, name);
    }
    let first = server.get("pods", "default/small").unwrap();

    resize(&server, "small", all * 3 / 4);
    let waits = server.wait_for("pods", "default/small", "deferred", |pod| pending(pod).is_some());
    let said = pending(&waits).unwrap();
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("Deferred")));
    let message = format!(
        "Node didn't have enough resource: cpu, requested: {}, used: {}, capacity: {all}",
        all * 3 / 4,
        all / 3
    );
    assert_eq!(said["message"], message);
    assert_eq!(said["observedGeneration"], waits["metadata"]["generation"]);
    assert_eq!(allocated(&waits), &json!(format!("{}m", all / 3)));
    let told = event(&server, "ResizeDeferred", "small");
    assert!(told["message"].as_str().unwrap().starts_with("Pod resize Deferred: {\"containers\":"), "{told:#}");

    agent.kill();
    agent.restart();
    // Something that comes later is told later.
    server.create(&asks("later", 1));
    running(&server, "later");
    let still = server.get("pods", "default/small").unwrap();
    assert_eq!(pending(&still).map(|it| &it["reason"]), Some(&json!("Deferred")), "{still:#}");
    assert_eq!(allocated(&still), allocated(&waits), "what it was given holds for the next agent");

    server.delete("pods", "default/large");
    let wanted = json!(format!("{}m", all * 3 / 4));
    let done = server.wait_for("pods", "default/small", "resized", |pod| {
        pending(pod).is_none() && allocated(pod) == &wanted && condition(pod, "PodResizeInProgress").is_none()
    });
    assert_eq!(container_id(&done, "c"), container_id(&first, "c"), "it runs on");
    event(&server, "ResizeCompleted", "small");
    for pod in ["small", "later"] {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_resize_that_can_never_be_says_so_until_it_is_taken_back() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let all = allocatable(&server);
    server.create(&asks("web", 10));
    running(&server, "web");
    resize(&server, "web", all * 2);
    let never = server.wait_for("pods", "default/web", "infeasible", |pod| pending(pod).is_some());
    let said = pending(&never).unwrap();
    assert_eq!(said["reason"], "Infeasible");
    let message = format!("Node didn't have enough capacity: cpu, requested: {}, capacity: {all}", all * 2);
    assert_eq!(said["message"], message);
    resize(&server, "web", 10);
    server.wait_for("pods", "default/web", "as before", |pod| pending(pod).is_none());
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_critical_pod_has_others_make_room_for_it() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let all = allocatable(&server);
    let mut near = asks("near", all / 2);
    near["spec"]["restartPolicy"] = json!("Always");
    server.create(&near);
    server.create(&asks("other", all / 4));
    for pod in ["near", "other"] {
        running(&server, pod);
    }
    let mut critical = asks("critical", all * 3 / 4);
    critical["spec"]["priority"] = json!(2_000_000_000);
    server.create(&critical);
    let gone = server.wait_for("pods", "default/near", "preempted", is("Failed"));
    assert_eq!(gone["status"]["reason"], "Preempting");
    assert_eq!(gone["status"]["message"], "Preempted in order to admit critical pod");
    assert_eq!(condition(&gone, "DisruptionTarget"), Some(true));
    running(&server, "critical");
    assert_eq!(server.get("pods", "default/other").unwrap()["status"]["phase"], "Running", "nobody goes for nothing");
    assert_eq!(event(&server, "Preempting", "near")["type"], "Warning");

    let mut too_much = asks("too-much", all);
    too_much["spec"]["priority"] = json!(2_000_000_000);
    server.create(&too_much);
    let refused = server.wait_for("pods", "default/too-much", "refused", is("Failed"));
    assert_eq!(refused["status"]["reason"], "UnexpectedAdmissionError");
    for pod in ["near", "other", "critical", "too-much"] {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_critical_pod_waits_for_who_makes_room_also_with_the_next_agent() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let all = allocatable(&server);
    let mut near = asks("near", all * 3 / 4);
    near["spec"]["containers"][0]["command"] = json!(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    near["spec"]["terminationGracePeriodSeconds"] = json!(20);
    server.create(&near);
    running(&server, "near");
    let mut critical = asks("critical", all / 2);
    critical["spec"]["priority"] = json!(2_000_000_000);
    server.create(&critical);
    event(&server, "Preempting", "near");
    agent.kill();
    agent.restart();
    let began = running(&server, "critical");
    let gone = server.wait_for("pods", "default/near", "preempted", is("Failed"));
    assert_eq!(gone["status"]["reason"], "Preempting");
    let time = |pod: &Value, state: &str, when: &str| {
        let time = &pod["status"]["containerStatuses"][0]["state"][state][when];
        time.as_str().unwrap_or_else(|| panic!("{state}: {pod:#}")).to_owned()
    };
    let (ended, began) = (time(&gone, "terminated", "finishedAt"), time(&began, "running", "startedAt"));
    assert!(ended <= began, "it began at {began}, beside who ended at {ended}");
    for pod in ["near", "critical"] {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_critical_pod_that_grows_has_others_make_room_for_it() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let all = allocatable(&server);
    server.create(&asks("near", all / 2));
    let mut critical = asks("critical", all / 4);
    critical["spec"]["priority"] = json!(2_000_000_000);
    server.create(&critical);
    running(&server, "near");
    let before = running(&server, "critical");
    resize(&server, "critical", all * 3 / 4);
    let gone = server.wait_for("pods", "default/near", "preempted", is("Failed"));
    assert_eq!(gone["status"]["reason"], "Preempting");
    let wanted = json!(format!("{}m", all * 3 / 4));
    let done = server.wait_for("pods", "default/critical", "resized", |pod| {
        pending(pod).is_none() && allocated(pod) == &wanted && condition(pod, "PodResizeInProgress").is_none()
    });
    assert_eq!(container_id(&done, "c"), container_id(&before, "c"), "it runs on");
    for pod in ["near", "critical"] {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop_with_nothing_left();
}
