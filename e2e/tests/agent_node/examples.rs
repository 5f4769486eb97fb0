//! The examples that say that they are for the agent, and a mounted ConfigMap that follows its manifest.

use std::path::Path;

use e2e::agent::{Agent, container_id};
use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::json;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../manifests/examples/{name}.yaml"));
    std::fs::read_to_string(path).expect("the example is there")
}

#[test]
fn order_starts_the_web_server_after_the_others_and_stops_it_before_them() {
    need!(e2e::skip::root());
    let node = Node::new();
    let mut agent = Agent::start_with(&node, ["--shutdown-pods"]);
    agent.write("order.yaml", example("order"));
    let web = agent.wait_for_running("order-web");
    let db = agent.wait_for_running("order-db");
    let migrate = agent.wait_for_phase("order-migrate", "Succeeded");
    let ended = &migrate["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"];
    let begun = |pod: &serde_json::Value| {
        let started = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
        started.as_str().expect("it has started").to_owned()
    };
    assert!(begun(&web).as_str() >= ended.as_str().expect("it has ended"), "{web:#} {migrate:#}");
    assert!(begun(&web) >= begun(&db), "{web:#} {db:#}");
    agent.stop();
}

#[test]
fn restart_on_change_restarts_the_container_that_is_made_with_the_config_map() {
    need!(e2e::skip::root());
    let node = Node::new();
    let agent = Agent::start(&node);
    let text = example("restart-on-change");
    agent.write("greeting.yaml", &text);
    let before = agent.wait_for_running("restart-on-change");
    agent.write("greeting.yaml", text.replace("TEXT: hello", "TEXT: goodbye"));
    let after = agent.wait_for("restart-on-change", "started again", |pod| {
        let id = container_id(pod, "web");
        id.is_some() && id != container_id(&before, "web") && pod["status"]["phase"] == "Running"
    });
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"], "the sandbox stays");
}

#[test]
fn a_mounted_config_map_follows_its_manifest_and_nothing_is_restarted() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let map = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"word": text}});
    agent.write("words.yaml", map("first"));
    let mount = json!({"volumeMounts": [{"name": "words", "mountPath": "/words"}]});
    let reader = json!({
        "volumes": [{"name": "words", "configMap": {"name": "words"}}],
        "containers": [with(shell("c", "exec sleep 1000"), mount)],
    });
    agent.write("reader.yaml", pod("reader", reader));
    let before = agent.wait_for_running("reader");
    agent.write("words.yaml", map("second"));
    agent.wait_for("reader", "shown the new word", |_| {
        node.exec("reader", "c", &["cat", "/words/word"]).stdout().trim() == "second"
    });
    let now = node.pod("reader").expect("the pod is there");
    assert_eq!(container_id(&now, "c"), container_id(&before, "c"));
}
