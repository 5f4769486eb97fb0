//! What a bound pod's status shows at the server while it begins and runs.

use e2e::agent::{condition, condition_of, container_id, status_of};
use e2e::apiserver::ApiServer;
use e2e::manifest::shell;
use e2e::{Node, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, join, running};

/// When a condition became what it is.
fn since(pod: &Value, kind: &str) -> String {
    let condition = condition_of(pod, kind).unwrap_or_else(|| panic!("no {kind} in {pod:#}"));
    assert_eq!(condition["status"], "True", "{kind} of {pod:#}");
    condition["lastTransitionTime"].as_str().unwrap().to_owned()
}

#[test]
fn conditions_hold_one_after_another() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let mut after = bound("after", KEEPS);
    // Times are told in seconds.
    after["spec"]["initContainers"] = json!([shell("i", "sleep 2")]);
    let orders = [
        (bound("plain", KEEPS), ["PodScheduled", "PodReadyToStartContainers", "ContainersReady", "Ready"]),
        (after, ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"]),
    ];
    for (pod, order) in orders {
        server.create(&pod);
        let which = format!("default/{}", pod["metadata"]["name"].as_str().unwrap());
        let ready = server.wait_for("pods", &which, "ready", |pod| condition(pod, "Ready") == Some(true));
        let times = order.map(|kind| since(&ready, kind));
        assert!(times.is_sorted(), "{order:?}: {times:?}");
        if which == "default/after" {
            assert!(times[0] < times[1], "the init container takes its time: {times:?}");
        }
        server.delete("pods", &which);
        server.wait_until_gone("pods", &which);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_cannot_begin_has_the_conditions_of_how_far_it_came() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let volume = |name: &str, source: Value, inits: Value| {
        let mut pod = bound(name, KEEPS);
        pod["spec"]["volumes"] = json!([{"name": "v"}]);
        pod["spec"]["volumes"][0].as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        pod["spec"]["initContainers"] = inits;
        pod
    };
    let init = || json!([shell("i", "true")]);
    let map = || json!({"configMap": {"name": "none"}});
    let secret = || json!({"secret": {"secretName": "none"}});
    let mut image = bound("image", KEEPS);
    image["spec"]["containers"][0]["image"] = json!("coracle.test/none:1");
    image["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    // PodReadyToStartContainers, Initialized.
    let rows = [
        (volume("map", map(), json!([])), [false, true]),
        (volume("map-init", map(), init()), [false, false]),
        (volume("secret", secret(), json!([])), [false, true]),
        (volume("secret-init", secret(), init()), [false, false]),
        (image, [true, true]),
    ];
    for (pod, _) in &rows {
        server.create(pod);
    }
    for (pod, expected) in rows {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let which = format!("default/{name}");
        let waits = |pod: &Value| {
            let reason = status_of(pod, "c").map(|it| it["state"]["waiting"]["reason"].clone());
            reason.is_some_and(|reason| reason.is_string() && (name != "image" || reason == "ErrImageNeverPull"))
        };
        let seen = server.wait_for("pods", &which, "waiting", waits);
        let found = ["PodReadyToStartContainers", "Initialized"].map(|kind| condition(&seen, kind).unwrap());
        assert_eq!(found, expected, "{seen:#}");
        assert_eq!((condition(&seen, "PodScheduled"), seen["status"]["phase"].as_str()), (Some(true), Some("Pending")));
        for kind in ["Ready", "ContainersReady"] {
            assert_eq!(condition_of(&seen, kind).unwrap()["reason"], "ContainersNotReady", "{kind} of {seen:#}");
        }
        server.delete("pods", &which);
        server.wait_until_gone("pods", &which);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn ephemeral_containers_are_added_to_a_pod_that_runs() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    server.create(&bound("web", KEEPS));
    let before = running(&server, "web");
    let add = |name: &str, target: &str| {
        let mut debugger = shell(name, "grep -q trap /proc/1/cmdline && echo sees its target; exec sleep 1000");
        debugger["targetContainerName"] = json!(target);
        let known = server.get("pods", "default/web").unwrap()["spec"]["ephemeralContainers"].clone();
        let mut all = known.as_array().cloned().unwrap_or_default();
        all.push(debugger);
        server.merge("pods", "default/web/ephemeralcontainers", json!({"spec": {"ephemeralContainers": all}}));
        server.wait_for("pods", "default/web", "debugged", |pod| {
            let all = pod["status"]["ephemeralContainerStatuses"].as_array();
            all.into_iter().flatten().any(|it| it["name"] == name && it["state"]["running"].is_object())
        })
    };
    let first = add("one", "c");
    node.wait_for_output("web", "one", "sees its target");
    let second = add("two", "c");
    for pod in [&first, &second] {
        assert_eq!(container_id(pod, "c"), container_id(&before, "c"));
        assert_eq!(condition(pod, "Ready"), Some(true));
    }
    assert_eq!(container_id(&second, "one"), container_id(&first, "one"));
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}
