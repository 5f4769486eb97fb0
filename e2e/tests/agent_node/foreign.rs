//! The agent on Debian's containerd, which others use too; and beside its pods, a CRI socket for others.

use e2e::agent::{Agent, condition, container_id, restarts, status_of};
use e2e::cri::{Containerd, Endpoint as _};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::{BUSYBOX, Node, inspect, need};
use serde_json::{Value, json};

#[test]
fn on_containerd_pods_start_change_survive_the_agent_and_go() {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    // Somebody else's pod, in the same runtime.
    let other = containerd.pod("other");
    let sandbox = containerd.run_pod(&other);
    let others = containerd.run_container(&sandbox, &other, &containerd.container("c", BUSYBOX, &["sleep", "1000"]));

    let endpoint = format!("unix://{}", containerd.socket().display());
    let mut agent = Agent::start_with(&node, ["--container-runtime-endpoint", &endpoint]);
    let web = |colour: &str| {
        let env = json!({"env": [{"name": "COLOUR", "value": colour}]});
        let containers =
            json!([shell("kept", "exec sleep 1000"), with(shell("c", "echo $COLOUR; exec sleep 1000"), env)]);
        pod("web", json!({"restartPolicy": "Always", "containers": containers}))
    };
    agent.write("web.yaml", web("green"));
    let before = agent.wait_for_running("web");
    assert!(container_id(&before, "c").is_some_and(|id| id.starts_with("containerd://")), "{before:#}");

    agent.kill();
    agent.write("web.yaml", web("blue"));
    agent.write("late.yaml", keeper("late"));
    agent.restart();
    agent.wait_for("web", "changed", |pod| {
        container_id(pod, "c").is_some_and(|id| Some(id) != container_id(&before, "c"))
    });
    let after = agent.wait_for_running("web");
    assert_eq!(container_id(&before, "kept"), container_id(&after, "kept"));
    assert_eq!((restarts(&after, "kept"), &before["metadata"]["uid"]), (Some(0), &after["metadata"]["uid"]));
    agent.wait_for_running("late");

    for name in ["web", "late"] {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
    agent.stop();
    assert_eq!(containerd.exec_sync(&others, &["echo", "alive"]).stdout, b"alive\n", "it is none of the agent's");
}

#[test]
fn cri_clients_are_served_beside_the_agents_pods() {
    let node = need!(Node::with_busybox());
    let socket = node.dir().join("cri.sock");
    let agent = Agent::start_with(&node, ["--cri-socket".into(), socket.clone().into_os_string()]);
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    let client = e2e::cri::Client::new(&socket);
    let version = client.version(Default::default()).expect("it is served");
    assert_eq!(version.runtime_name, "coracle");
    let listed = client.list_pod_sandbox(Default::default()).expect("it is served");
    assert!(listed.items.is_empty(), "the agent's pods are none of theirs: {listed:?}");
}

#[test]
fn pods_in_a_runtime_that_the_agent_used_before_are_told_of() {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    let endpoint = format!("unix://{}", containerd.socket().display());
    let mut there = Agent::start_with(&node, ["--container-runtime-endpoint", &endpoint]);
    there.write(
        "web.yaml",
        pod("web", json!({"restartPolicy": "Always", "containers": [shell("c", "exec sleep 1000")]})),
    );
    there.wait_for_running("web");
    there.stop();

    let mut here = Agent::start(&node);
    let said = here.wait_for_words("still runs in the runtime that it used before");
    assert!(said.contains("default/web") && said.contains(&endpoint), "{said}");
    here.wait_for("web", "one of Coracle's own", |pod| {
        container_id(pod, "c").is_some_and(|id| id.starts_with("coracle://")) && condition(pod, "Ready") == Some(true)
    });
    here.stop();
    // The other way around; and where nothing of the agent is left, there is nothing to say.
    there.restart();
    let said = there.wait_for_words("coracle gc --all");
    assert!(said.contains("default/web"), "{said}");
    there.remove("web.yaml");
    there.wait_until_gone("web");
    there.stop();
    node.coracle(["gc", "--all"]).exits(0);
    let again = Agent::start(&node);
    again.write("late.yaml", keeper("late"));
    again.wait_for_running("late");
    assert!(!again.said().contains("still runs in the runtime"), "{}", again.said());
}

/// On another runtime exec goes through its CRI, and the other kinds through its network.
#[test]
fn probes_of_every_kind_are_asked_of_containerds_pods() {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    let endpoint = format!("unix://{}", containerd.socket().display());
    let args = ["--container-runtime-endpoint", &endpoint, "--restart-backoff", "initial=100ms,max=500ms"];
    let agent = Agent::start_with(&node, args);
    let dir = node.make_dir("answers");
    let tell = |file: &str, word: &str| {
        // At once: what is half written is something else.
        let (new, file) = (dir.join(format!("{file}.new")), dir.join(file));
        std::fs::write(&new, word).and_then(|()| std::fs::rename(new, file)).expect("it is ours");
    };
    let sick = [("exec", "sick"), ("http", "503"), ("grpc", "NOT_SERVING"), ("alive", "200")];
    sick.iter().for_each(|(file, word)| tell(file, word));
    let probe = |kind: &str, failures: u32, action: Value| {
        let patient = json!({"periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": failures});
        json!({kind: with(patient, action)})
    };
    let mounts =
        json!({"volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "coracle", "mountPath": "/coracle"}]});
    let run = |name: &str, script: &str| with(shell(name, script), mounts.clone());
    let ready = |action: Value| probe("readinessProbe", 1, action);
    let http = |port: u16| json!({"httpGet": {"port": port, "path": "/"}});
    let live = [
        run("live", "exec /coracle tool serve --port 8003 --status-file /a/alive"),
        probe("startupProbe", 1000, json!({"exec": {"command": ["test", "-e", "/a/begin"]}})),
        probe("livenessProbe", 1, http(8003)),
    ];
    let containers = [
        with(
            run("exec", "exec sleep 100000"),
            ready(json!({"exec": {"command": ["grep", "-q", "healthy", "/a/exec"]}})),
        ),
        with(run("http", "exec /coracle tool serve --port 8001 --status-file /a/http"), ready(http(8001))),
        with(
            run("tcp", "until [ -e /a/listen ]; do sleep 0.1; done; exec /coracle tool serve --port 8002"),
            ready(json!({"tcpSocket": {"port": 8002}})),
        ),
        with(
            run("grpc", "exec /coracle tool health --port 9000 --status-file /a/grpc"),
            ready(json!({"grpc": {"port": 9000}})),
        ),
        live.into_iter().reduce(with).expect("there are three"),
    ];
    let binary = e2e::binary::coracle().display().to_string();
    let volumes = json!([
        {"name": "a", "hostPath": {"path": dir}}, {"name": "coracle", "hostPath": {"path": binary, "type": "File"}},
    ]);
    let spec = json!({"restartPolicy": "Always", "containers": containers, "volumes": volumes});
    agent.write("probed.yaml", pod("probed", spec));
    let is = |pod: &Value, container: &str, what: &str| status_of(pod, container).and_then(|it| it[what].as_bool());
    let all = ["exec", "http", "tcp", "grpc"];
    agent.wait_for("probed", "sick", |pod| {
        all.iter().all(|it| is(pod, it, "ready") == Some(false) && is(pod, it, "started") == Some(true))
            && is(pod, "live", "started") == Some(false)
    });
    for (file, word) in [("exec", "healthy"), ("http", "200"), ("grpc", "SERVING"), ("listen", ""), ("begin", "")] {
        tell(file, word);
    }
    let healthy = agent.wait_for_running("probed");
    for container in all.iter().chain(&["live"]) {
        assert_eq!(restarts(&healthy, container), Some(0), "{container}: {healthy:#}");
    }
    sick[..3].iter().for_each(|(file, word)| tell(file, word));
    agent.wait_for("probed", "sick again", |pod| {
        ["exec", "http", "grpc"].iter().all(|it| is(pod, it, "ready") == Some(false))
            && is(pod, "tcp", "ready") == Some(true)
    });
    tell("alive", "500");
    inspect::wait_until("a restart for its liveness", || {
        node.pod("probed").is_some_and(|pod| restarts(&pod, "live") >= Some(1))
    });
    for (file, word) in [("exec", "healthy"), ("http", "200"), ("grpc", "SERVING"), ("alive", "200")] {
        tell(file, word);
    }
    let healed = agent.wait_for_running("probed");
    for container in all {
        assert_eq!(
            container_id(&healthy, container),
            container_id(&healed, container),
            "{container} is none the worse"
        );
    }
    agent.remove("probed.yaml");
    agent.wait_until_gone("probed");
}
