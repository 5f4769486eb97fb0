//! Bound pods that somebody changes while they run, and after.

use e2e::agent::{condition, container_id, restarts, status_of};
use e2e::apiserver::ApiServer;
use e2e::manifest::shell;
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, is, join, running};

/// Another image, which holds the same.
const OTHER: &str = "coracle.test/busybox:2";

/// A node that has both images.
fn node() -> Result<Node, String> {
    let node = Node::with_busybox()?;
    node.import_variant(OTHER, json!({"Labels": {"version": "2"}}), &[])?;
    Ok(node)
}

/// A pod of two containers that end soon when they are asked to, by a policy.
fn two(name: &str, policy: &str) -> Value {
    let mut pod = bound(name, KEEPS);
    pod["spec"]["restartPolicy"] = json!(policy);
    pod["spec"]["containers"].as_array_mut().unwrap().push(shell("d", KEEPS));
    pod
}

/// Gives the first container of a list another image.
fn change_image(server: &ApiServer, pod: &str, list: &str) {
    let which = format!("default/{pod}");
    inspect::wait_until("the change", || {
        let mut there = server.get("pods", &which).unwrap();
        there["spec"][list][0]["image"] = json!(OTHER);
        let path = format!("/api/v1/namespaces/default/pods/{pod}");
        // Whoever reports of the pod meanwhile comes first.
        server.ask(e2e::apiserver::User::admin(), "PUT", &path, "application/json", there).is_ok()
    });
}

/// Has a pod come and begin: what was wanted before has been seen by then.
fn later(server: &ApiServer, name: &str) {
    server.create(&bound(name, KEEPS));
    running(server, name);
    server.delete("pods", &format!("default/{name}"));
    server.wait_until_gone("pods", &format!("default/{name}"));
}

/// How many instances of a container the runtime has, with those that have ended.
fn instances(node: &Node, pod: &str, container: &str) -> u64 {
    restarts(&node.pod(pod).unwrap(), container).unwrap() + 1
}

#[test]
fn another_image_restarts_its_container_alone_whatever_the_policy() {
    let node = need!(node());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let pods = [("always", "Always"), ("on-failure", "OnFailure"), ("never", "Never")];
    for (name, policy) in pods {
        server.create(&two(name, policy));
    }
    for (name, _) in pods {
        let before = running(&server, name);
        change_image(&server, name, "containers");
        let after = server.wait_for("pods", &format!("default/{name}"), "of another image", |pod| {
            let seen = status_of(pod, "c").unwrap();
            seen["image"] == OTHER && seen["state"]["running"].is_object() && seen["restartCount"] == 1
        });
        assert_eq!(container_id(&after, "d"), container_id(&before, "d"), "{name}");
        assert_eq!(after["status"]["observedGeneration"], 2, "{name}");
    }
    for (name, _) in pods {
        server.delete("pods", &format!("default/{name}"));
        server.wait_until_gone("pods", &format!("default/{name}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn another_image_of_an_init_container_begins_nothing_again() {
    let node = need!(node());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let mut pod = two("web", "Always");
    pod["spec"]["initContainers"] = json!([shell("i", "until [ -e /v/go ]; do sleep 0.1; done")]);
    let go = node.make_dir("go");
    pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": go}}]);
    pod["spec"]["initContainers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    server.create(&pod);
    let runs = |pod: &Value| status_of(pod, "i").is_some_and(|it| it["state"]["running"].is_object());
    let first = server.wait_for("pods", "default/web", "initializing", runs);
    change_image(&server, "web", "initContainers");
    later(&server, "later");
    let then = server.get("pods", "default/web").unwrap();
    assert_eq!(container_id(&then, "i"), container_id(&first, "i"), "it goes on while it runs");
    std::fs::write(go.join("go"), "").unwrap();
    let up = running(&server, "web");
    assert_eq!(restarts(&up, "i"), Some(0));
    agent.kill();
    agent.restart();
    later(&server, "later");
    let after = running(&server, "web");
    assert_eq!((container_id(&after, "c"), restarts(&after, "i")), (container_id(&up, "c"), Some(0)));
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}

#[test]
fn what_is_over_does_not_begin_again_by_another_image() {
    let node = need!(node());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let mut late = bound("late", KEEPS);
    late["spec"]["activeDeadlineSeconds"] = json!(1);
    late["spec"]["restartPolicy"] = json!("Always");
    let mut job = bound("job", "exit 0");
    job["spec"]["restartPolicy"] = json!("Never");
    for (pod, phase) in [(late, "Failed"), (job, "Succeeded")] {
        let name = pod["metadata"]["name"].as_str().unwrap();
        server.create(&pod);
        server.wait_for("pods", &format!("default/{name}"), "over", is(phase));
        change_image(&server, name, "containers");
    }
    later(&server, "later");
    agent.kill();
    agent.restart();
    later(&server, "later");
    for (name, phase) in [("late", "Failed"), ("job", "Succeeded")] {
        assert_eq!(instances(&node, name, "c"), 1, "{name}");
        assert_eq!(server.get("pods", &format!("default/{name}")).unwrap()["status"]["phase"], phase);
        server.delete("pods", &format!("default/{name}"));
        server.wait_until_gone("pods", &format!("default/{name}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_somebody_else_says_is_over_is_stopped_for_good() {
    let node = need!(node());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    server.create(&two("web", "Always"));
    running(&server, "web");
    let said = json!({"status": {"phase": "Failed", "reason": "NodeLost", "message": "m"}});
    server.merge("pods", "default/web/status", said);
    let ended = |pod: &Value| status_of(pod, "c").is_some_and(|it| it["state"]["terminated"].is_object());
    server.wait_for("pods", "default/web", "stopped", ended);
    agent.kill();
    agent.restart();
    later(&server, "later");
    let there = server.get("pods", "default/web").unwrap();
    assert!(ended(&there) && there["status"]["phase"] == "Failed", "{there:#}");
    assert_eq!((restarts(&there, "c"), condition(&there, "Ready")), (Some(0), Some(false)));
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_deadline_that_is_shortened_ends_the_pod() {
    let node = need!(node());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let mut pod = bound("web", KEEPS);
    pod["spec"]["activeDeadlineSeconds"] = json!(1000);
    pod["spec"]["restartPolicy"] = json!("Always");
    server.create(&pod);
    running(&server, "web");
    server.merge("pods", "default/web", json!({"spec": {"activeDeadlineSeconds": 1}}));
    let over = server.wait_for("pods", "default/web", "over", is("Failed"));
    assert_eq!(over["status"]["reason"], "DeadlineExceeded");
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_container_begins_when_the_annotation_is_mended_that_its_volume_is_named_by() {
    let node = need!(node());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let args = ["--restart-backoff", "initial=100ms,max=200ms", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let mut agent = e2e::agent::Agent::start_with(&node, args);
    let mut pod = bound("web", KEEPS);
    let part = json!({"name": "PART", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['part']"}}});
    pod["metadata"]["annotations"] = json!({"part": "/absolute"});
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["env"] = json!([part]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(PART)"}]);
    server.create(&pod);
    server.wait_for("pods", "default/web", "refused", |pod| {
        status_of(pod, "c").is_some_and(|it| it["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    });
    server.merge("pods", "default/web", json!({"metadata": {"annotations": {"part": "mended"}}}));
    let after = running(&server, "web");
    assert_eq!(restarts(&after, "c"), Some(0));
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}
