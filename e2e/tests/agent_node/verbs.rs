//! `coracle diff`, `restart` and `why`.

use e2e::agent::{Agent, container_id, restarts};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::{Node, need};
use serde_json::json;

#[test]
fn diff_shows_what_a_change_would_do_and_does_nothing() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let web = |label: &str, env: &str| {
        let variable = json!({"env": [{"name": "A", "value": env}]});
        let containers = json!([with(shell("c", "exec sleep 1000"), variable), shell("d", "exec sleep 1000")]);
        let metadata = json!({"metadata": {"name": "web", "labels": {"l": label}}});
        with(pod("web", json!({"containers": containers})), metadata)
    };
    agent.write("web.yaml", web("1", "1"));
    agent.write("old.yaml", keeper("old"));
    let before = agent.wait_for_running("web");
    agent.wait_for_running("old");
    let diff = |paths: &[std::path::PathBuf]| node.coracle(["diff".into()].into_iter().chain(paths.iter().cloned()));
    diff(&[agent.manifests().to_owned()]).exits(0);

    let dir = node.make_dir("next");
    let write = |name: &str, object: &serde_json::Value| {
        std::fs::write(dir.join(name), object.to_string()).expect("the directory is writable");
        dir.join(name)
    };
    let labelled = diff(&[write("web.yaml", &web("2", "1"))]).exits(1);
    assert_eq!(labelled.stdout(), "Pod default/web: nothing restarts (metadata.labels)\n");
    let changed = diff(&[write("web.yaml", &web("1", "2"))]).exits(1);
    assert_eq!(changed.stdout(), "Pod default/web: container c restarts (env)\n");
    let new = diff(&[write("new.yaml", &keeper("new"))]).exits(1);
    assert_eq!(new.stdout(), "Pod default/new is new\n");
    std::fs::write(dir.join("bad.yaml"), "kind: Pood").expect("the directory is writable");
    diff(&[dir.join("bad.yaml")]).exits(2);
    assert_eq!(container_id(&before, "c"), container_id(&agent.wait_for_running("web"), "c"));
}

#[test]
fn why_names_the_causes_and_what_to_do() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("bad.yaml", pod("bad", json!({"restartPolicy": "Always", "containers": [shell("c", "exit 3")]})));
    agent.write("fine.yaml", keeper("fine"));
    agent.write("broken.yaml", "kind: [");
    agent.wait_for_running("fine");
    agent.wait_for("bad", "held back", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    agent.wait_for("broken.yaml", "invalid", |pod| pod["status"]["reason"] == "Invalid");
    let ask = |name: &str| node.coracle(["why", name]).exits(0).stdout();
    for stopped in [false, true] {
        if stopped {
            agent.stop();
        }
        let said = ask("bad");
        assert!(said.contains("container c waits: CrashLoopBackOff"), "{said}");
        assert!(said.contains("what to do: coracle logs bad -c c --previous"), "{said}");
        assert!(ask("fine").contains("nothing is the matter with it"));
        let said = ask("broken.yaml");
        assert!(said.contains("is Invalid") && said.contains("unclosed bracket"), "{said}");
    }
    node.coracle(["why", "nobody"]).exits(125).says("no pod nobody is known");
}

#[test]
fn restart_starts_one_container_anew_or_the_whole_pod() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let containers = json!([shell("one", "exec sleep 1000"), shell("two", "exec sleep 1000")]);
    agent.write("web.yaml", pod("web", json!({"restartPolicy": "Always", "containers": containers})));
    let before = agent.wait_for_running("web");
    node.coracle(["restart", "web", "-c", "three"]).exits(125).says("no container \"three\"");
    node.coracle(["restart", "web", "-c", "two"]).exits(0).says("container two of pod web is restarted");
    agent.wait_for("web", "restarted in part", |pod| restarts(pod, "two") == Some(1));
    let part = agent.wait_for_running("web");
    assert_eq!(container_id(&before, "one"), container_id(&part, "one"));
    node.coracle(["restart", "web"]).exits(0);
    agent.wait_for("web", "restarted", |pod| restarts(pod, "one") == Some(1));
    let whole = agent.wait_for_running("web");
    assert_eq!(whole["metadata"]["uid"], before["metadata"]["uid"]);
    agent.stop();
    node.coracle(["restart", "web"]).exits(125).says("no agent serves");
}
