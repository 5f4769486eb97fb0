//! A change restarts only what it must.

use e2e::agent::{Agent, container_id, status_of};
use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

fn two(labels: Value, first: Value, second: Value) -> Value {
    let sleeper = |name: &str| shell(name, "exec sleep 1000");
    let spec =
        json!({"restartPolicy": "Always", "containers": [with(sleeper("one"), first), with(sleeper("two"), second)]});
    with(pod("web", spec), json!({"metadata": {"name": "web", "labels": labels}}))
}

fn ids(pod: &Value) -> [String; 2] {
    ["one", "two"].map(|name| container_id(pod, name).expect("it has started"))
}

fn none() -> Value {
    json!({})
}

#[test]
fn labels_restart_nothing_and_one_containers_environment_that_one() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    agent.write("web.yaml", two(none(), none(), none()));
    let before = agent.wait_for_running("web");
    agent.write("web.yaml", two(json!({"tier": "front"}), none(), none()));
    let labelled = agent.wait_for("web", "labelled", |pod| pod["metadata"]["labels"]["tier"] == "front");
    assert_eq!(ids(&before), ids(&labelled));

    let env = json!({"env": [{"name": "COLOUR", "value": "green"}]});
    agent.write("web.yaml", two(json!({"tier": "front"}), none(), env));
    agent.wait_for("web", "changed", |pod| {
        container_id(pod, "two").is_some_and(|id| id != ids(&before)[1])
            && status_of(pod, "two").is_some_and(|status| status["state"]["running"].is_object())
    });
    let changed = agent.wait_for_running("web");
    assert_eq!(ids(&before)[0], ids(&changed)[0]);
    assert_eq!(before["metadata"]["uid"], changed["metadata"]["uid"]);
    assert_eq!(node.exec("web", "two", &["sh", "-c", "echo $COLOUR"]).exits(0).stdout(), "green\n");
}

#[test]
fn a_pod_that_moves_to_another_file_goes_on() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let path = agent.write("web.yaml", two(none(), none(), none()));
    let before = agent.wait_for_running("web");
    std::fs::rename(path, agent.path("a-web.yaml")).expect("it is there");
    let file = agent.path("a-web.yaml").display().to_string();
    let after = agent.wait_for("web", "in the other file", |pod| {
        pod["metadata"]["annotations"]["coracle.dev/file"] == file.as_str()
    });
    assert_eq!((ids(&before), &before["metadata"]["uid"]), (ids(&after), &after["metadata"]["uid"]));
}

#[test]
fn a_file_that_is_touched_or_written_again_as_it_was_changes_nothing() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    agent.write("web.yaml", two(none(), none(), none()));
    let before = agent.wait_for_running("web");
    agent.write("web.yaml", two(none(), none(), none()));
    agent.write_in_place("web.yaml", format!("# a comment\n{}", two(none(), none(), none())));
    // What comes after it has been read when this one runs.
    agent.write("zzz.yaml", e2e::manifest::keeper("zzz"));
    agent.wait_for_running("zzz");
    assert_eq!(ids(&before), ids(&agent.wait_for_running("web")));
}

#[test]
fn other_host_aliases_are_in_the_hosts_file_of_the_containers_that_run() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let web = |name: &str| {
        let mut pod = e2e::manifest::keeper("web");
        pod["spec"]["hostAliases"] = json!([{"ip": "192.0.2.7", "hostnames": [name]}]);
        pod
    };
    agent.write("web.yaml", web("one.example"));
    let before = agent.wait_for_running("web");
    agent.write("web.yaml", web("two.example"));
    let hosts = || node.exec("web", "c", &["cat", "/etc/hosts"]).stdout();
    let changed = || hosts().contains("192.0.2.7\ttwo.example").then_some(());
    assert!(e2e::inspect::wait_for(changed).is_some(), "{}", hosts());
    assert!(!hosts().contains("one.example"));
    assert_eq!(e2e::agent::container_id(&before, "c"), e2e::agent::container_id(&agent.wait_for_running("web"), "c"));
}
