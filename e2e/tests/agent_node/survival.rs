//! What runs is not touched by what becomes of the agent.

use std::fs;

use e2e::agent::{Agent, condition, condition_of, container_id, restarts, status_of};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::{Node, StateDir, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pod that runs for ever and is restarted.
fn server(name: &str) -> Value {
    pod(name, json!({"restartPolicy": "Always", "containers": [shell("c", "echo up; exec sleep 1000")]}))
}

#[test]
fn a_pod_runs_as_long_as_its_manifest_is_there() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}

#[test]
fn neither_a_stop_nor_a_kill_of_the_agent_touches_a_pod() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", server("web"));
    let before = agent.wait_for_running("web");
    for killed in [true, false] {
        if killed {
            agent.kill();
        } else {
            agent.stop();
        }
        assert_eq!(node.exec("web", "c", &["echo", "alive"]).exits(0).stdout(), "alive\n");
        agent.restart();
        let after = agent.wait_for_running("web");
        assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
        assert_eq!(container_id(&before, "c"), container_id(&after, "c"));
        assert_eq!(restarts(&after, "c"), Some(0));
    }
    // It is the agent's again, not merely left over.
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
}

#[test]
fn what_probes_have_proved_outlives_the_agent_and_they_go_on() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("answers");
    for file in ["ready", "alive"] {
        fs::write(dir.join(file), "").expect("it is ours");
    }
    let probe = |failures: u32, script: &str| {
        let command = json!({"exec": {"command": ["sh", "-c", script]}});
        with(json!({"periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": failures}), command)
    };
    let container = json!({
        "startupProbe": probe(1000, "echo x >> /a/startup"),
        "readinessProbe": probe(2, "echo x >> /a/asked; test -e /a/ready"),
        "livenessProbe": probe(3, "echo x >> /a/lived; test -e /a/alive"),
        "volumeMounts": [{"name": "a", "mountPath": "/a"}],
    });
    let spec = json!({
        "restartPolicy": "Always", "containers": [with(shell("c", "echo up; exec sleep 100000"), container)],
        "volumes": [{"name": "a", "hostPath": {"path": dir}}],
    });
    let mut agent = Agent::start_with(&node, ["--restart-backoff", "initial=100ms,max=500ms"]);
    agent.write("web.yaml", pod("web", spec));
    let before = agent.wait_for_running("web");
    let asked = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().lines().count();
    let begun = asked("startup");
    let since = |pod: &Value, kind: &str| {
        let found = condition_of(pod, kind).unwrap_or_else(|| panic!("no {kind}: {pod:#}"));
        (found["status"].clone(), found["lastTransitionTime"].clone())
    };
    agent.kill();
    agent.restart();
    // Asked again, by the new agent; and neither readiness nor the start was in doubt meanwhile.
    let times = asked("asked");
    inspect::wait_until("another question", || asked("asked") > times + 1);
    let after = agent.wait_for_running("web");
    for kind in ["Ready", "ContainersReady"] {
        assert_eq!(since(&before, kind), since(&after, kind), "{}", agent.said());
    }
    assert_eq!(status_of(&after, "c").map(|it| (&it["started"], &it["ready"])), Some((&json!(true), &json!(true))));
    assert_eq!(asked("startup"), begun, "what has started is not asked whether it has");

    // What goes wrong while no agent is there is found by the next one, by the whole threshold.
    agent.kill();
    fs::remove_file(dir.join("ready")).expect("it is there");
    agent.restart();
    agent.wait_for("web", "not ready", |pod| condition(pod, "Ready") == Some(false));
    // One that begins with a container that is not ready does not take it for ready either.
    agent.kill();
    agent.restart();
    let times = asked("asked");
    inspect::wait_until("another question", || asked("asked") > times + 1);
    let still = node.pod("web").expect("it is there");
    assert_eq!(condition(&still, "Ready"), Some(false), "{still:#}");
    fs::write(dir.join("ready"), "").expect("it is ours");
    agent.wait_for_running("web");

    agent.kill();
    fs::remove_file(dir.join("alive")).expect("it is there");
    let lived = asked("lived");
    agent.restart();
    inspect::wait_until("a restart", || node.pod("web").is_some_and(|pod| restarts(&pod, "c") >= Some(1)));
    assert!(asked("lived") >= lived + 3, "it was restarted before its threshold");
    fs::write(dir.join("alive"), "").expect("it is ours");
    let healed = agent.wait_for_running("web");
    assert_eq!(healed["metadata"]["uid"], before["metadata"]["uid"]);
}

#[test]
fn what_changed_while_no_agent_ran_is_caught_up_with() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    for name in ["kept", "removed"] {
        agent.write(&format!("{name}.yaml"), server(name));
    }
    let kept = agent.wait_for_running("kept");
    agent.wait_for_running("removed");
    agent.kill();
    agent.remove("removed.yaml");
    agent.write("added.yaml", server("added"));
    agent.restart();
    agent.wait_until_gone("removed");
    agent.wait_for_running("added");
    assert_eq!(container_id(&kept, "c"), container_id(&agent.wait_for_running("kept"), "c"));
}

#[test]
fn a_pod_that_was_being_stopped_is_stopped_by_the_next_agent() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let stubborn = pod(
        "stubborn",
        json!({"terminationGracePeriodSeconds": 2, "containers": [shell("c", "trap '' TERM; echo up; while :; do sleep 1; done")]}),
    );
    agent.write("stubborn.yaml", stubborn);
    agent.wait_for_running("stubborn");
    agent.remove("stubborn.yaml");
    agent.wait_for("stubborn", "asked to end", |pod| pod["metadata"]["deletionTimestamp"].is_string());
    agent.kill();
    agent.restart();
    agent.wait_until_gone("stubborn");
    agent.stop_with_nothing_left();
}

#[test]
fn after_a_power_cut_the_desired_state_starts_before_any_source_is_read() {
    let mut node = need!(Node::with_busybox());
    let (uid, mut agent);
    {
        agent = Agent::start(&node);
        agent.write("web.yaml", server("web"));
        uid = agent.wait_for_running("web")["metadata"]["uid"].clone();
        agent.kill();
    }
    let manifests = agent.manifests().to_owned();
    drop(agent);
    // The disk with the manifests is not mounted yet.
    let away = node.dir().join("away");
    fs::rename(&manifests, &away).expect("both are in the node's directory");
    node.cut_power(StateDir::Emptied);
    let args = ["--pod-manifest-path".into(), manifests.clone().into_os_string()];
    let mut agent = Agent::prepare_bare(&node, args);
    fs::remove_dir(&manifests).expect("it is empty");
    agent.restart();
    let after = agent.wait_for_running("web");
    assert_eq!(after["metadata"]["uid"], uid);
    fs::rename(&away, &manifests).expect("both are in the node's directory");
    agent.write("late.yaml", server("late"));
    agent.wait_for_running("late");
    assert_eq!(container_id(&after, "c"), container_id(&agent.wait_for_running("web"), "c"));
}

#[test]
fn a_record_that_is_damaged_or_lost_restarts_nothing() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("a.yaml", server("a"));
    agent.write("b.yaml", server("b"));
    let before = ["a", "b"].map(|name| container_id(&agent.wait_for_running(name), "c"));
    for damage in ["{", ""] {
        agent.kill();
        let records = fs::read_dir(node.root_dir.join("desired/files")).expect("it is there");
        let record = records.flatten().next().expect("there are two").path();
        if damage.is_empty() {
            fs::remove_file(record).expect("it is there");
        } else {
            fs::write(record, damage).expect("it is there");
        }
        agent.restart();
        let after = ["a", "b"].map(|name| container_id(&agent.wait_for_running(name), "c"));
        assert_eq!(before, after);
    }
    for name in ["a", "b"] {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
}

#[test]
fn the_pods_end_with_the_agent_only_when_that_is_wished() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start_with(&node, ["--shutdown-pods"]);
    agent.write("web.yaml", server("web"));
    let before = agent.wait_for_running("web");
    agent.stop();
    assert!(inspect::processes(&node).is_empty(), "{}", agent.said());
    agent.restart();
    let after = agent.wait_for("web", "another instance", |pod| {
        container_id(pod, "c").is_some_and(|id| Some(id) != container_id(&before, "c"))
    });
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
}

#[test]
fn two_agents_of_one_node_are_one_too_many() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let second = node.coracle(["agent".as_ref(), "--pod-manifest-path".as_ref(), agent.manifests().as_os_str()]);
    second.exits(125).says("serves the pods of agent");
    // The first one is none the worse.
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    agent.run().signal(Signal::INT);
    agent.wait().exits(0);
}

#[test]
fn an_agent_waits_for_the_last_one_to_have_ended() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.kill();
    let lock = std::fs::File::open(node.state_dir.join("agent.lock")).expect("a lock that ended with its holder");
    lock.lock().expect("nobody has it");
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(lock);
    });
    agent.restart();
    ending.join().expect("it only waits");
    agent.stop();
}

#[test]
fn an_order_that_was_answered_is_carried_out_also_by_the_next_agent() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", server("web"));
    let mut before = agent.wait_for_running("web");
    for verb in [["restart", "web"].as_slice(), &["restart", "web", "-c", "c"], &["delete", "pod", "web"]] {
        node.coracle(verb).exits(0);
        agent.kill();
        agent.restart();
        let id = container_id(&before, "c");
        agent.wait_for("web", "another instance", |pod| container_id(pod, "c").is_some_and(|now| Some(now) != id));
        let after = agent.wait_for_running("web");
        assert_eq!(before["metadata"]["uid"] == after["metadata"]["uid"], verb[0] == "restart", "{verb:?}");
        before = after;
    }
}

#[test]
fn pods_are_stopped_with_the_agent_by_their_priority_within_the_settings_times() {
    let node = need!(Node::with_busybox());
    let config = node.dir().join("config.yaml");
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let times = "shutdownGracePeriod: 68s\nshutdownGracePeriodCriticalPods: 60s\n";
    fs::write(&config, format!("{head}{times}evictionHard: {{memory.available: 1Mi}}\n")).expect("it is ours");
    let mut agent = Agent::prepare(&node, ["--shutdown-pods".into(), "--config".into(), config.into_os_string()]);
    let out = node.make_dir("out");
    let polite = |name: &str, script: &str, class: &str| {
        let mut container = shell("c", &format!("trap '{script}' TERM; echo up; sleep 100000 & wait"));
        container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        let volume = json!({"name": "out", "hostPath": {"path": out.display().to_string()}});
        pod(
            name,
            json!({
                "priorityClassName": class, "terminationGracePeriodSeconds": 3600, "containers": [container], "volumes": [volume],
            }),
        )
    };
    agent.write("low.yaml", polite("low", "sleep 0.5; echo low >> /out/order; exit 0", ""));
    agent.write("high.yaml", polite("high", "echo high >> /out/order; exit 0", "system-cluster-critical"));
    // One that does not end, and has an hour of its own: it gets what is left for those like it.
    agent.write("stubborn.yaml", polite("stubborn", "", ""));
    agent.restart();
    for name in ["low", "high", "stubborn"] {
        agent.wait_for_running(name);
        node.wait_for_output(name, "c", "up");
    }
    agent.stop();
    assert!(inspect::processes(&node).is_empty(), "{}", agent.said());
    assert_eq!(fs::read_to_string(out.join("order")).ok().as_deref(), Some("low\nhigh\n"), "{}", agent.said());
}
