//! `coracle.dev/after`.

use e2e::agent::Agent;
use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

fn after(name: &str, others: &str, script: &str) -> Value {
    let metadata = json!({"metadata": {"name": name, "annotations": {"coracle.dev/after": others}}});
    let object = with(pod(name, json!({"containers": [shell("c", script)]})), metadata);
    if others.is_empty() { pod(name, json!({"containers": [shell("c", script)]})) } else { object }
}

const SLEEP: &str = "echo up; exec sleep 1000";

#[test]
fn a_pod_begins_when_those_before_it_are_ready_or_completed() {
    let node = need!(Node::with_busybox());
    let go = node.make_dir("go");
    let agent = Agent::start(&node);
    agent.write("web.yaml", after("web", "db(ready), migrate(completed)", SLEEP));
    agent.write("db.yaml", after("db", "", SLEEP));
    agent.wait_for_running("db");
    let waiting = agent.wait_for("web", "waiting", |pod| pod["status"]["phase"] == "Pending");
    assert!(waiting["status"]["podIP"].is_null(), "it has no sandbox: {waiting:#}");
    let mount = json!({"volumeMounts": [{"name": "go", "mountPath": "/go"}]});
    let migrate = json!({
        "volumes": [{"name": "go", "hostPath": {"path": go}}],
        "containers": [with(shell("c", "until [ -e /go/now ]; do sleep 0.1; done"), mount)],
    });
    agent.write("migrate.yaml", pod("migrate", migrate));
    agent.wait_for_running("migrate");
    assert!(node.pod("web").is_some_and(|pod| pod["status"]["podIP"].is_null()));
    std::fs::write(go.join("now"), "").expect("the directory is writable");
    agent.wait_for_running("web");
    // What has begun goes on whatever becomes of the others.
    agent.remove("db.yaml");
    agent.wait_until_gone("db");
    agent.wait_for_running("web");
}

#[test]
fn a_circle_is_told_and_broken_by_a_change() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    agent.write("a.yaml", after("a", "b", SLEEP));
    agent.write("b.yaml", after("b", "a", SLEEP));
    let told = agent.wait_for("a", "told of the circle", |pod| pod.to_string().contains("DependencyCycle"));
    assert!(told.to_string().contains("default/a after default/b after default/a"), "{told:#}");
    agent.write("b.yaml", after("b", "", SLEEP));
    agent.wait_for_running("a");
}

#[test]
fn pods_that_end_together_end_in_the_opposite_order() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start_with(&node, ["--shutdown-pods"]);
    let notes = node.make_dir("notes");
    let script =
        |name: &str| format!("trap 'sleep 0.3; echo {name} >> /notes/ends; exit 0' TERM; echo up; sleep 100000 & wait");
    let noting = |name: &str, others: &str| {
        let mut object = after(name, others, &script(name));
        object["spec"]["volumes"] = json!([{"name": "notes", "hostPath": {"path": notes}}]);
        object["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "notes", "mountPath": "/notes"}]);
        object["spec"]["terminationGracePeriodSeconds"] = json!(3600);
        object
    };
    let ends = || std::fs::read_to_string(notes.join("ends")).unwrap_or_default();
    let write = |agent: &Agent<'_>| {
        agent.write("one.yaml", e2e::manifest::several(&[noting("db", ""), noting("api", "db"), noting("web", "api")]));
        agent.wait_for_running("web");
        for name in ["db", "api", "web"] {
            node.wait_for_output(name, "c", "up");
        }
    };
    write(&agent);
    agent.remove("one.yaml");
    agent.wait_until_gone("db");
    assert_eq!(ends(), "web\napi\ndb\n");
    write(&agent);
    agent.stop();
    assert_eq!(ends(), "web\napi\ndb\nweb\napi\ndb\n");
}
