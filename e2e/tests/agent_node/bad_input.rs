//! What is wrong is seen, and stops nothing.

use std::fs;

use e2e::agent::{Agent, condition, container_id};
use e2e::manifest::{keeper, pod, several, shell, with};
use e2e::{Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

fn is_invalid(pod: &Value) -> bool {
    pod["status"]["reason"] == "Invalid" && pod["status"]["phase"] == "Failed"
}

#[track_caller]
fn message(agent: &Agent<'_>, name: &str) -> String {
    let pod = agent.wait_for(name, "invalid", is_invalid);
    pod["status"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_bad_manifest_is_an_object_and_its_last_good_version_runs_on() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", keeper("web"));
    let before = agent.wait_for_running("web");

    let bad = with(keeper("web"), json!({"spec": {"containers": [{"name": "c", "imag": "x"}]}}));
    agent.write("web.yaml", serde_json::to_string_pretty(&bad).expect("JSON"));
    let said = message(&agent, "web.yaml");
    assert!(said.contains("unknown field `imag`") && said.contains("web.yaml:"), "{said}");
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
    agent.wait_for_words("is not used, and the pod goes on as it was");

    // Neither a restart of the agent nor one with nothing good in it changes that.
    agent.kill();
    agent.write("never.yaml", "kind: Pod\n  apiVersion: [");
    agent.restart();
    message(&agent, "never.yaml");
    message(&agent, "web.yaml");
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
    let table = node.coracle(["get", "pods"]).exits(0);
    assert!(table.stdout().lines().any(|line| line.starts_with("web.yaml") && line.contains("Invalid")), "{table}");

    agent.write("web.yaml", keeper("web"));
    agent.wait_until_gone("web.yaml");
    agent.remove("never.yaml");
    agent.wait_until_gone("never.yaml");
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
}

#[test]
fn an_emptied_manifest_stops_nothing() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    agent.write("web.yaml", keeper("web"));
    let before = agent.wait_for_running("web");
    agent.write_in_place("web.yaml", "");
    assert!(message(&agent, "web.yaml").contains("remove the file to remove its pods"));
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
}

#[test]
fn of_two_files_with_one_pod_the_first_has_it() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", keeper("web"));
    let before = agent.wait_for_running("web");
    // Earlier by name, later in time; and what else is in that file waits with it.
    agent.write("a.yaml", several(&[keeper("web"), keeper("other")]));
    let said = message(&agent, "a.yaml");
    assert!(said.contains("Pod default/web is already at") && said.contains("web.yaml:1"), "{said}");
    agent.kill();
    agent.restart();
    message(&agent, "a.yaml");
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
    assert!(node.pod("other").is_none());
    agent.remove("web.yaml");
    agent.wait_until_gone("a.yaml");
    agent.wait_for_running("other");
    agent.wait_for("web", "the other file's", |pod| {
        pod["metadata"]["annotations"]["coracle.dev/file"].as_str().is_some_and(|file| file.ends_with("a.yaml"))
            && condition(pod, "Ready") == Some(true)
    });
}

#[test]
fn a_manifest_that_becomes_a_directory_stops_nothing() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let path = agent.write("web.yaml", keeper("web"));
    let before = agent.wait_for_running("web");
    fs::rename(&path, agent.path("web")).expect("it is there");
    fs::create_dir(&path).expect("the name is free");
    // Between the two it was gone, and may have been seen so: then it starts anew, when it is a file again.
    let said = message(&agent, "web.yaml");
    assert!(said.contains("is a directory, not a manifest"), "{said}");
    fs::remove_dir(&path).expect("it is empty");
    fs::rename(agent.path("web"), &path).expect("it is there");
    agent.wait_until_gone("web.yaml");
    let after = agent.wait_for_running("web");
    assert_eq!(before["spec"], after["spec"]);
}

#[test]
fn a_directory_that_goes_away_stops_nothing_and_is_said_to_be_missing() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    agent.write("web.yaml", keeper("web"));
    let before = agent.wait_for_running("web");
    let away = node.dir().join("away");
    fs::rename(agent.manifests(), &away).expect("both are in the node's directory");
    let missing = agent.wait_for("manifests", "missing", |pod| pod["status"]["reason"] == "Unreadable");
    let said = missing["status"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("what came from there goes on as it is"), "{said}");
    fs::rename(&away, agent.manifests()).expect("both are in the node's directory");
    agent.wait_until_gone("manifests");
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
}

#[test]
fn a_config_map_that_is_missing_is_waited_for_and_one_that_vanishes_stops_nothing() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let env = json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]});
    let container = with(shell("c", "echo $A; exec sleep 1000"), env);
    agent.write("web.yaml", pod("web", json!({"restartPolicy": "Always", "containers": [container]})));
    let waiting = agent.wait_for("web", "waiting", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
    let said = waiting["status"]["containerStatuses"][0]["state"]["waiting"]["message"].to_string();
    assert!(said.contains("settings"), "{said}");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}});
    agent.write("settings.yaml", map);
    let running = agent.wait_for_running("web");
    agent.remove("settings.yaml");
    agent.write("zzz.yaml", keeper("zzz"));
    agent.wait_for_running("zzz");
    assert_eq!(container_id(&running, "c"), container_id(&agent.wait_for_running("web"), "c"));
}

#[test]
fn what_cannot_be_begun_with_is_said_at_once() {
    let node = need!(Node::with_busybox());
    node.coracle(["agent"]).exits(125).says("--pod-manifest-path");
    let endpoint = node.dir().join("nobody.sock").display().to_string();
    let manifests = node.make_dir("manifests").display().to_string();
    let with = |endpoint: &str| {
        node.coracle(["agent", "--pod-manifest-path", &manifests, "--container-runtime-endpoint", endpoint])
    };
    with(&format!("unix://{endpoint}")).exits(125).says("nobody.sock");
    with("http://127.0.0.1:1").exits(2).says("unix:///");
}

#[test]
fn a_read_only_root_directory_is_an_error() {
    let mut node = need!(Node::with_busybox());
    let root = node.root_dir.clone();
    let mount = |args: &[&str]| std::process::Command::new("mount").args(args).arg(&root).status().expect("mount runs");
    assert!(mount(&["--bind", &root.display().to_string()]).success());
    assert!(mount(&["-o", "remount,bind,ro"]).success());
    let undo = root.clone();
    node.on_drop(move || drop(std::process::Command::new("umount").arg(undo).status()));
    let mut agent = Agent::prepare(&node, [] as [&str; 0]);
    agent.launch();
    agent.wait().exits(125).says(&root.display().to_string()).says("Read-only file system");
}

#[test]
fn a_signal_while_pods_begin_ends_the_agent_in_good_order() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::prepare(&node, [] as [&str; 0]);
    for number in 0..5 {
        agent.write(&format!("{number}.yaml"), keeper(&format!("p{number}")));
    }
    agent.restart();
    agent.run().signal(Signal::TERM);
    agent.wait().exits(0);
    agent.restart();
    for number in 0..5 {
        agent.wait_for_running(&format!("p{number}"));
    }
}
