//! Everything of the node is on one disk, and that is full: while the agent runs, while manifests come, change and go,
//! and while it starts. What runs goes on, what cannot be done says why, and is done when there is room again.

use e2e::agent::{Agent, container_id, restarts};
use e2e::loopfs::Ballast;
use e2e::manifest::{keeper, pod, shell};
use e2e::{Node, need};
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=500ms"];

fn server(name: &str, word: &str) -> Value {
    let container = shell("c", &format!("echo {word}; exec sleep 1000"));
    pod(name, json!({"restartPolicy": "Always", "containers": [container]}))
}

fn fill(node: &Node) -> Ballast {
    Ballast::fill(node.disk().expect("a small disk"))
}

fn is_changed(before: &Value) -> impl Fn(&Value) -> bool {
    let before = container_id(before, "c");
    move |pod| container_id(pod, "c").is_some_and(|id| Some(id) != before)
}

#[test]
fn manifests_that_come_change_and_go_on_a_full_disk_are_followed_as_far_as_that_goes() {
    let node = need!(Node::on_small_disk(48, 8000));
    let agent = Agent::start_with(&node, BACKOFF);
    for name in ["kept", "changed", "removed"] {
        agent.write(&format!("{name}.yaml"), server(name, "one"));
    }
    let [kept, changed, removed] = ["kept", "changed", "removed"].map(|name| agent.wait_for_running(name));
    let full = fill(&node);
    agent.write("late.yaml", server("late", "one"));
    agent.wait_for_words("No space left on device");
    agent.write("changed.yaml", server("changed", "two"));
    agent.remove("removed.yaml");
    // To stop something takes no room.
    agent.wait_until_gone("removed");
    drop(full);
    agent.wait_for_running("late");
    agent.wait_for("changed", "another instance", is_changed(&changed));
    let after = agent.wait_for_running("kept");
    assert_eq!((container_id(&kept, "c"), restarts(&after, "c")), (container_id(&after, "c"), Some(0)));
    assert_eq!(kept["metadata"]["uid"], after["metadata"]["uid"]);
    agent.write("removed.yaml", server("removed", "one"));
    let again = agent.wait_for_running("removed");
    assert_ne!(again["metadata"]["uid"], removed["metadata"]["uid"]);
    node.coracle(["delete", "pod", "kept"]).exits(0);
    agent.wait_for("kept", "another pod", |pod| pod["metadata"]["uid"] != kept["metadata"]["uid"]);
}

#[test]
fn an_agent_that_starts_on_a_full_disk_takes_its_pods_over_and_follows_when_there_is_room() {
    let node = need!(Node::on_small_disk(48, 8000));
    let mut agent = Agent::start_with(&node, BACKOFF);
    for name in ["kept", "changed", "removed"] {
        agent.write(&format!("{name}.yaml"), server(name, "one"));
    }
    let [kept, changed, _] = ["kept", "changed", "removed"].map(|name| agent.wait_for_running(name));
    agent.kill();
    let full = fill(&node);
    agent.remove("removed.yaml");
    agent.write("changed.yaml", server("changed", "two"));
    agent.write("late.yaml", server("late", "one"));
    agent.restart();
    agent.wait_until_gone("removed");
    assert_eq!(node.exec("kept", "c", &["echo", "alive"]).exits(0).stdout(), "alive\n");
    // And once more, with nothing of that written down.
    agent.kill();
    agent.restart();
    agent.wait_for_words("No space left on device");
    drop(full);
    agent.wait_for_running("late");
    agent.wait_for("changed", "another instance", is_changed(&changed));
    let after = agent.wait_for_running("kept");
    assert_eq!((container_id(&kept, "c"), restarts(&after, "c")), (container_id(&after, "c"), Some(0)));
    assert!(node.pod("removed").is_none());
}

#[test]
fn the_first_agent_of_a_full_disk_says_what_it_lacks() {
    let node = need!(Node::on_small_disk(48, 8000));
    let full = fill(&node);
    let mut agent = Agent::prepare(&node, BACKOFF);
    agent.write("web.yaml", keeper("web"));
    agent.launch();
    agent.wait().exits(125).says("No space left on device");
    drop(full);
    agent.restart();
    agent.wait_for_running("web");
}
