//! Pods that an API server binds, while it is away, silent, refusing, or another one: they run on, restart by policy, and
//! are told of when it is back.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use e2e::agent::{Agent, condition, container_id, restarts, status_of};
use e2e::apiserver::{ApiServer, Fault, Seen, Weather, Which};
use e2e::manifest::shell;
use e2e::{Node, StateDir, inspect, need};
use serde_json::{Value, json};

/// The node's name.
const NAME: &str = "worker";

/// A node with its API server and its agent.
struct World<'n> {
    server: ApiServer,
    agent: Agent<'n>,
}

impl<'n> World<'n> {
    fn start(node: &'n Node) -> Self {
        Self::with(ApiServer::start(node), node)
    }

    fn with(server: ApiServer, node: &'n Node) -> Self {
        let kubeconfig = server.kubeconfig_of_node(NAME);
        let args = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--hostname-override", NAME];
        let agent = Agent::start_with(node, args.into_iter().chain(["--restart-backoff", "initial=100ms,max=500ms"]));
        server.wait_for("nodes", NAME, "ready", |node| condition(node, "Ready") == Some(true));
        Self { server, agent }
    }

    /// Binds a pod to the node.
    fn bind(&self, name: &str, script: &str) -> Value {
        self.server.create(&pod(name, script))
    }

    #[track_caller]
    fn wait_for(&self, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let end = std::time::Instant::now() + e2e::deadline();
        loop {
            let there = self.server.get("pods", &format!("default/{name}"));
            if let Some(pod) = there.as_ref().filter(|pod| done(pod)) {
                return pod.clone();
            }
            let (told, said) = (self.server.told(), self.agent.said());
            let is_time = std::time::Instant::now() < end;
            assert!(is_time, "pod {name} is never {what}: {there:#?}\n{told}\nthe agent said:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn running(&self, name: &str) -> Value {
        self.wait_for(name, "ready", |pod| condition(pod, "Ready") == Some(true))
    }

    #[track_caller]
    fn delete(&self, name: &str) {
        let which = format!("default/{name}");
        self.server.delete_within("pods", &which, 1);
        self.server.wait_until_gone("pods", &which);
    }
}

/// A pod of the node, as the API server has it.
fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NAME, "terminationGracePeriodSeconds": 1, "containers": [shell("c", script)]},
    })
}

/// What runs for ever and ends at once when it is told to.
const KEEPER: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 1; done";

/// What ends, with a failure, when a file is there; the file goes then.
fn until_told(dir: &std::path::Path) -> Value {
    let mut pod = pod("web", "trap 'exit 0' TERM; while :; do [ -e /a/end ] && rm /a/end && exit 1; sleep 0.1; done");
    pod["spec"]["volumes"] = json!([{"name": "a", "hostPath": {"path": dir}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "a", "mountPath": "/a"}]);
    pod
}

fn is_status_of(seen: &Seen, pod: &str) -> bool {
    seen.method == "PATCH" && seen.path.ends_with(&format!("/pods/{pod}/status"))
}

#[test]
fn pods_run_on_and_restart_while_the_server_is_away_and_it_is_told_when_it_is_back() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("told");
    let mut world = World::start(&node);
    world.server.create(&until_told(&dir));
    let before = world.running("web");
    world.server.stop();
    world.agent.wait_for_words("the API server cannot be reached");
    std::fs::write(dir.join("end"), "").unwrap();
    inspect::wait_until("a restart", || node.pod("web").is_some_and(|pod| restarts(&pod, "c") == Some(1)));
    assert_eq!(world.server.get("pods", "default/web").unwrap()["status"], before["status"], "nobody could tell it");
    world.server.come_back();
    let after = world
        .wait_for("web", "restarted", |pod| restarts(pod, "c") == Some(1) && condition(pod, "Ready") == Some(true));
    assert_ne!(container_id(&before, "c"), container_id(&after, "c"));
    world.delete("web");
    world.agent.stop_with_nothing_left();
}

#[test]
fn what_was_bound_and_deleted_meanwhile_is_caught_up_with() {
    let node = need!(Node::with_busybox());
    let mut world = World::start(&node);
    world.bind("old", KEEPER);
    world.bind("kept", KEEPER);
    let kept = world.running("kept");
    world.running("old");
    world.server.stop();
    // The server's clients are not the only ones who change what it knows.
    world.server.delete_within("pods", "default/old", 1);
    world.bind("new", KEEPER);
    world.server.compact();
    world.server.come_back();
    world.running("new");
    world.server.wait_until_gone("pods", "default/old");
    assert_eq!(container_id(&world.running("kept"), "c"), container_id(&kept, "c"));
    world.delete("new");
    world.delete("kept");
    world.agent.stop_with_nothing_left();
}

#[test]
fn a_watch_from_too_long_ago_begins_anew_and_touches_nothing_that_runs() {
    let node = need!(Node::with_busybox());
    let mut world = World::start(&node);
    world.bind("web", KEEPER);
    let before = world.running("web");
    for _ in 0..3 {
        world.server.compact();
        world.server.end_watches();
        world.server.reset_connections();
    }
    world.bind("next", KEEPER);
    world.running("next");
    assert_eq!(container_id(&world.running("web"), "c"), container_id(&before, "c"));
    world.delete("web");
    world.delete("next");
    world.agent.stop_with_nothing_left();
}

#[test]
fn a_status_that_is_refused_or_whose_answer_is_lost_is_told_again() {
    let node = need!(Node::with_busybox());
    let mut world = World::start(&node);
    let status = Which::of("PATCH", "/pods/web/status");
    world.server.fail(status, Fault::Status(429, Some(1)), 1);
    world.server.fail(status, Fault::Status(500, None), 1);
    world.server.fail(status, Fault::Lost, 1);
    world.bind("web", KEEPER);
    world.running("web");
    world.server.fail(Which::of("DELETE", "/pods/web"), Fault::Lost, 1);
    world.delete("web");
    let statuses: Vec<u16> =
        world.server.requests().iter().filter(|it| is_status_of(it, "web")).map(|it| it.status).collect();
    assert!(statuses.contains(&429) && statuses.contains(&500) && statuses.contains(&200), "{statuses:?}");
    world.agent.stop_with_nothing_left();
}

#[test]
fn a_network_that_swallows_everything_is_noticed_and_pods_outlive_it() {
    let node = need!(Node::with_busybox());
    let mut world = World::start(&node);
    world.bind("web", KEEPER);
    let before = world.running("web");
    world.server.weather(Weather::Silent);
    world.agent.wait_for_words("the API server cannot be reached");
    world.bind("next", KEEPER);
    world.server.weather(Weather::Fair);
    world.running("next");
    assert_eq!(container_id(&world.running("web"), "c"), container_id(&before, "c"));
    world.delete("web");
    world.delete("next");
    world.agent.stop_with_nothing_left();
}

#[test]
fn pods_that_another_storage_does_not_know_are_stopped_and_its_own_are_run() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    // By its versions another storage is known, which must not have as many as these soon.
    for number in 0..500 {
        let meta = json!({"name": format!("history-{number}"), "namespace": "default"});
        server.create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}));
    }
    let mut world = World::with(server, &node);
    world.bind("web", KEEPER);
    let before = world.running("web");
    world.server.stop();
    world.server.empty();
    let other = world.bind("web", KEEPER);
    world.server.come_back();
    let after = world.running("web");
    assert_eq!(after["metadata"]["uid"], other["metadata"]["uid"]);
    assert_ne!(container_id(&before, "c"), container_id(&after, "c"));
    world.delete("web");
    world.agent.stop_with_nothing_left();
}

#[test]
fn after_a_reboot_without_the_server_the_last_known_pods_start() {
    let mut node = need!(Node::with_busybox());
    let kubeconfig = {
        let mut world = World::start(&node);
        world.bind("web", KEEPER);
        world.running("web");
        world.agent.kill();
        node.dir().join("apiserver")
    };
    node.cut_power(StateDir::Emptied);
    let file = kubeconfig.join(format!("node-{NAME}.kubeconfig"));
    let args = ["--kubeconfig", file.to_str().unwrap(), "--hostname-override", NAME];
    let agent = Agent::start_with(&node, args);
    agent.wait_for_running("web");
}

#[test]
fn after_a_reboot_with_the_server_there_its_pods_run_again_and_those_that_ended_do_not() {
    let mut node = need!(Node::with_busybox());
    let (server, before, ended) = {
        let mut world = World::start(&node);
        world.bind("web", KEEPER);
        let mut over = pod("over", "exit 0");
        over["spec"]["restartPolicy"] = json!("Never");
        world.server.create(&over);
        let before = world.running("web");
        let ended = world.wait_for("over", "over", |pod| pod["status"]["phase"] == "Succeeded");
        world.agent.kill();
        (world.server, before, ended)
    };
    node.cut_power_but_not_the_network();
    let mut world = World::with(server, &node);
    let after = world.wait_for("web", "restarted", |pod| restarts(pod, "c") == Some(1));
    let after = world.wait_for("web", "ready", |pod| {
        pod["metadata"]["uid"] == after["metadata"]["uid"] && condition(pod, "Ready") == Some(true)
    });
    let last = &status_of(&after, "c").unwrap()["lastState"]["terminated"];
    assert_eq!(last["containerID"], container_id(&before, "c").unwrap(), "{after:#}");
    let boot = |server: &ApiServer| server.get("nodes", NAME).unwrap()["status"]["nodeInfo"]["bootID"].to_string();
    inspect::wait_until("another boot of the node", || boot(&world.server).contains("-boot-1"));
    let there = world.server.get("pods", "default/over").unwrap();
    assert_eq!(there["status"]["containerStatuses"], ended["status"]["containerStatuses"]);
    world.delete("web");
    world.delete("over");
    world.agent.stop_with_nothing_left();
}

#[test]
fn an_agent_that_is_killed_while_the_server_is_away_goes_on_with_what_runs() {
    let node = need!(Node::with_busybox());
    let mut world = World::start(&node);
    world.bind("web", KEEPER);
    let before = world.running("web");
    world.server.stop();
    world.agent.kill();
    world.agent.restart();
    let there = world.agent.wait_for_running("web");
    assert_eq!(container_id(&there, "c"), container_id(&before, "c"));
    world.server.come_back();
    world.bind("next", KEEPER);
    world.running("next");
    assert_eq!(container_id(&world.running("web"), "c"), container_id(&before, "c"));
    world.delete("web");
    world.delete("next");
    world.agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_has_ended_is_removed_there_also_by_an_agent_that_found_it_ended_before_it_found_the_server() {
    let node = need!(Node::with_busybox());
    let mut world = World::start(&node);
    world.bind("web", KEEPER);
    world.running("web");
    world.server.fail_always(Which::of("DELETE", "/pods/web"), Fault::Status(500, None));
    world.server.delete_within("pods", "default/web", 1);
    world.server.wait_for_request("its removal", |it| it.method == "DELETE" && it.path.ends_with("/pods/web"));
    world.agent.kill();
    world.server.stop();
    world.server.heal();
    world.agent.restart();
    world.agent.wait_for_words("the API server cannot be reached");
    world.server.come_back();
    let gone = || world.server.get("pods", "default/web").is_none().then_some(());
    assert!(inspect::wait_for(gone).is_some(), "it stays, and the agent said:\n{}", world.agent.said());
    world.agent.stop_with_nothing_left();
}
