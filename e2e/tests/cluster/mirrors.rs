//! Pods of manifests, as the server shows them.

use e2e::agent::container_id;
use e2e::apiserver::ApiServer;
use e2e::manifest::{keeper, pod, shell};
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{is, join};

#[test]
fn a_pod_of_a_manifest_is_mirrored_until_its_manifest_is_gone() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let name = crate::name();
    let mut agent = join(&node, &server.kubeconfig_of_node(&name));
    agent.write("web.yaml", keeper("web"));
    let which = format!("default/web-{name}");
    let mirror = server.wait_for("pods", &which, "running", is("Running"));
    let meta = &mirror["metadata"];
    assert_eq!(meta["annotations"]["kubernetes.io/config.source"], "file");
    assert!(meta["annotations"]["kubernetes.io/config.mirror"].is_string());
    let registered = server.get("nodes", &name).unwrap();
    assert_eq!(meta["ownerReferences"][0]["kind"], "Node");
    assert_eq!(meta["ownerReferences"][0]["uid"], registered["metadata"]["uid"]);

    // What a user deletes is made again, and its pod runs on.
    let pod = agent.wait_for_running("web");
    server.delete("pods", &which);
    let again = server.wait_for("pods", &which, "made again", |it| {
        it["metadata"]["uid"] != mirror["metadata"]["uid"] && it["status"]["phase"] == "Running"
    });
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&again), id(&mirror));
    assert_eq!(agent.wait_for_running("web")["metadata"]["uid"], pod["metadata"]["uid"]);

    agent.remove("web.yaml");
    server.wait_until_gone("pods", &which);
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_mirror_follows_its_manifest_and_comes_back_however_it_is_deleted() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let name = crate::name();
    let mut agent = join(&node, &server.kubeconfig_of_node(&name));
    agent.write("web.yaml", keeper("web"));
    let which = format!("default/web-{name}");
    let first = server.wait_for("pods", &which, "running", is("Running"));
    let other = |before: &Value| {
        let before = before["metadata"]["uid"].clone();
        move |pod: &Value| pod["metadata"]["uid"] != before && pod["status"]["phase"] == "Running"
    };
    let mut changed = keeper("web");
    changed["metadata"]["labels"] = json!({"version": "2"});
    changed["spec"]["containers"][0]["env"] = json!([{"name": "VERSION", "value": "2"}]);
    agent.write("web.yaml", &changed);
    let second = server.wait_for("pods", &which, "made again", other(&first));
    assert_eq!(second["metadata"]["labels"]["version"], "2");
    assert_eq!(second["spec"]["containers"][0]["env"][0]["value"], "2");

    server.delete_within("pods", &which, 0);
    let third = server.wait_for("pods", &which, "made again", other(&second));
    let ran = container_id(&third, "c");

    agent.remove("web.yaml");
    server.wait_until_gone("pods", &which);
    agent.write("web.yaml", &changed);
    let fourth = server.wait_for("pods", &which, "there again", other(&third));
    assert_ne!(container_id(&fourth, "c"), ran);
    agent.remove("web.yaml");
    server.wait_until_gone("pods", &which);
    agent.stop_with_nothing_left();
}

#[test]
fn a_mirror_stays_while_its_pod_ends() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let name = crate::name();
    let mut agent = join(&node, &server.kubeconfig_of_node(&name));
    let dir = node.make_dir("shared");
    let script = "trap 'until [ -e /v/go ]; do sleep 0.1; done; exit' TERM; : > /v/up; while :; do sleep 0.1; done";
    let mut slow = pod("slow", json!({"terminationGracePeriodSeconds": 1000, "containers": [shell("c", script)]}));
    slow["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": dir}}]);
    slow["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    agent.write("slow.yaml", &slow);
    let which = format!("default/slow-{name}");
    let before = server.wait_for("pods", &which, "running", is("Running"));
    inspect::wait_until("it has begun", || dir.join("up").exists());
    agent.remove("slow.yaml");
    agent.wait_for("slow", "ending", |pod| pod["metadata"]["deletionTimestamp"].is_string());
    // Something that comes later is told later.
    agent.write("later.yaml", keeper("later"));
    server.wait_for("pods", &format!("default/later-{name}"), "running", is("Running"));
    let there = server.get("pods", &which).expect("it has not ended");
    assert_eq!((&there["metadata"]["uid"], is("Running")(&there)), (&before["metadata"]["uid"], true), "{there:#}");
    std::fs::write(dir.join("go"), "").unwrap();
    server.wait_until_gone("pods", &which);
    agent.remove("later.yaml");
    server.wait_until_gone("pods", &format!("default/later-{name}"));
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_whose_manifest_goes_while_no_agent_runs_is_stopped_with_its_mirror() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let name = crate::name();
    let mut agent = join(&node, &server.kubeconfig_of_node(&name));
    agent.write("web.yaml", keeper("web"));
    let which = format!("default/web-{name}");
    server.wait_for("pods", &which, "running", is("Running"));
    agent.kill();
    agent.remove("web.yaml");
    server.delete_within("pods", &which, 0);
    agent.restart();
    agent.wait_until_gone("web");
    assert_eq!(server.get("pods", &which), None);
    agent.stop_with_nothing_left();
}
