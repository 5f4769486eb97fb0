//! Device plug-ins: what becomes of their devices on a node of a cluster, and of the pods that ask for them.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::PathBuf;

use e2e::agent::{Agent, container_id};
use e2e::apiserver::ApiServer;
use e2e::deviceplugin::{BROKEN, Plugin, VERSION};
use e2e::{Node, inspect, manifest, need};
use serde_json::{Value, json};

const NAME: &str = "worker";

const UNIT: &str = "example.com/dev";

const ENDS: &str = "until [ -e /tmp/end ]; do sleep 0.1; done";

const KEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// A node of a cluster where plug-ins register.
fn join<'n>(node: &'n Node, server: &ApiServer, more: &[&str]) -> Agent<'n> {
    let compat = ["--kubelet-compat-dir".into(), node.root_dir.with_file_name("kubelet").into()];
    Agent::start_with(node, of_cluster(server).into_iter().chain(compat).chain(more.iter().map(OsString::from)))
}

/// A node of a cluster where none can register.
fn join_deaf<'n>(node: &'n Node, server: &ApiServer) -> Agent<'n> {
    Agent::start_with(node, of_cluster(server))
}

fn of_cluster(server: &ApiServer) -> [OsString; 4] {
    ["--kubeconfig".into(), server.kubeconfig_of_node(NAME).into(), "--hostname-override".into(), NAME.into()]
}

/// Where plug-ins have their sockets.
fn plugins(node: &Node) -> PathBuf {
    node.root_dir.with_file_name("kubelet").join("device-plugins")
}

/// A pod of the node that asks for so many devices.
fn asks(pod: &str, devices: usize, script: &str) -> Value {
    let mut container = manifest::shell("c", script);
    container["resources"] = json!({"limits": {UNIT: devices.to_string()}, "requests": {UNIT: devices.to_string()}});
    let mut pod = manifest::pod(pod, json!({"containers": [container]}));
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(NAME);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(5);
    pod
}

/// Waits until the node has so many devices, and so many of them to give.
#[track_caller]
fn has(server: &ApiServer, capacity: usize, allocatable: usize) {
    let told = |node: &Value, list: &str| node["status"][list][UNIT].as_str().map(str::to_owned);
    let wanted = (Some(capacity.to_string()), Some(allocatable.to_string()));
    let what = format!("with {capacity} devices, {allocatable} to give");
    server.wait_for("nodes", NAME, &what, |node| (told(node, "capacity"), told(node, "allocatable")) == wanted);
}

#[track_caller]
fn is(server: &ApiServer, pod: &str, phase: &str) -> Value {
    server.wait_for("pods", &format!("default/{pod}"), phase, |pod| pod["status"]["phase"] == phase)
}

/// Has the container of the pod `one` end, and waits for the next one, which has the device that it had.
#[track_caller]
fn starts_again_with_b(node: &Node, server: &ApiServer, before: &Value) {
    node.exec("one", "c", &["touch", "/tmp/end"]).exits(0);
    let id = container_id(before, "c");
    let again = |pod: &Value| container_id(pod, "c").is_some_and(|it| Some(it) != id);
    server.wait_for("pods", "default/one", "started again", again);
    assert_eq!(node.exec("one", "c", &["sh", "-c", "echo $UNITS"]).exits(0).stdout(), "b\n");
}

#[track_caller]
fn remove(server: &ApiServer, agent: &Agent<'_>, pods: &[&str]) {
    for pod in pods {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
        agent.wait_until_gone(pod);
    }
}

/// Ends the agent when no pod is there any more: no device is anybody's, and the socket goes with the directory.
#[track_caller]
fn end(node: &Node, mut agent: Agent<'_>) {
    let records = node.state_dir.join("devices");
    assert_eq!(std::fs::read_dir(records).unwrap().count(), 0);
    agent.stop();
    node.coracle(["gc", "--all"]).exits(0);
    node.assert_nothing_left();
    assert!(!plugins(node).join("kubelet.sock").exists());
}

#[test]
fn a_pod_has_the_devices_that_it_asks_for_until_it_is_over() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server, &[]);
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true), ("b", true), ("c", true), ("d", false)]);
    plugin.register(UNIT).unwrap();
    has(&server, 4, 3);

    server.create(&asks("one", 2, KEEPS));
    let one = is(&server, "one", "Running");
    assert_eq!(plugin.calls(), ["Allocate b,c", "PreStartContainer b,c"], "the healthy ones that it prefers");
    let sh = |script: &str| node.exec("one", "c", &["sh", "-c", script]).exits(0).stdout();
    assert_eq!(sh("echo $UNITS; cd /dev; echo unit-*"), "b,c\nunit-b unit-c\n");
    assert_eq!(sh("stat -c %t:%T /dev/unit-b; echo x > /dev/unit-b && cat /dev/unit-c"), "1:3\n");
    assert_eq!(sh("ls /unit | grep -x null"), "null\n");
    node.exec("one", "c", &["touch", "/unit/file"]).exits(1);

    // Too few are left; whoever asks for none has none.
    server.create(&asks("two", 2, KEEPS));
    let two = is(&server, "two", "Failed");
    assert_eq!(two["status"]["reason"], format!("OutOf{UNIT}"));
    let message = two["status"]["message"].as_str().unwrap();
    assert!(message.ends_with("example.com/dev, requested: 2, used: 2, capacity: 3"), "{message}");
    server.create(&asks("none", 0, "ls /dev/unit-* || exit 0; exit 1"));
    is(&server, "none", "Succeeded");

    // An agent that was killed knows who has what, and its plug-in finds a new socket.
    agent.kill();
    agent.restart();
    inspect::wait_until("the old socket is gone", || !plugin.has_socket());
    has(&server, 0, 0);
    drop(plugin);
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true), ("b", true), ("c", true)]);
    plugin.register(UNIT).unwrap();
    has(&server, 3, 3);
    assert_eq!(container_id(&is(&server, "one", "Running"), "c"), container_id(&one, "c"));
    server.create(&asks("three", 1, "echo $UNITS"));
    is(&server, "three", "Succeeded");
    assert_eq!(plugin.calls(), ["Allocate a", "PreStartContainer a"]);

    // What is over has none, though it is still to be seen.
    server.create(&asks("four", 1, "exit 0"));
    is(&server, "four", "Succeeded");
    remove(&server, &agent, &["one"]);
    server.create(&asks("five", 3, KEEPS));
    is(&server, "five", "Running");
    assert!(plugin.calls().contains(&"Allocate a,b,c".to_owned()), "{:?}", plugin.calls());
    remove(&server, &agent, &["two", "three", "four", "five", "none"]);
    end(&node, agent);
}

#[test]
fn what_a_plug_in_says_of_its_devices_is_the_nodes_and_costs_no_pod_its_own() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let agent = join(&node, &server, &[]);
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true), ("b", true)]);
    plugin.register(UNIT).unwrap();
    has(&server, 2, 2);
    let mut one = asks("one", 1, ENDS);
    one["spec"]["restartPolicy"] = json!("Always");
    server.create(&one);
    let before = is(&server, "one", "Running");
    plugin.tell(&[("a", true), ("b", false)]);
    has(&server, 2, 1);
    let after = is(&server, "one", "Running");
    assert_eq!(container_id(&after, "c"), container_id(&before, "c"), "it keeps what it has");

    // Gone, its devices are there and cannot be had; the container starts again with what it was given.
    drop(plugin);
    has(&server, 2, 0);
    starts_again_with_b(&node, &server, &before);
    server.create(&asks("two", 1, KEEPS));
    assert_eq!(is(&server, "two", "Failed")["status"]["reason"], format!("OutOf{UNIT}"));

    // Back again, under another name.
    let plugin = Plugin::serve(&plugins(&node), "other.sock", &[("b", true), ("c", true)]);
    plugin.register(UNIT).unwrap();
    has(&server, 2, 2);
    server.create(&asks("three", 1, KEEPS));
    is(&server, "three", "Running");
    assert_eq!(plugin.calls().first().map(String::as_str), Some("Allocate c"));

    // A list that means nothing is the last one.
    plugin.tell(&[("c", true), ("c", true)]);
    has(&server, 2, 0);
    agent.wait_for_words("it lists the device \"c\" twice");
    remove(&server, &agent, &["one", "two", "three"]);
    end(&node, agent);
}

#[test]
fn where_no_plug_in_can_register_pods_keep_their_devices_and_none_begins_without() {
    let mut node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server, &[]);
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true), ("b", true)]);
    plugin.register(UNIT).unwrap();
    has(&server, 2, 2);
    let mut one = asks("one", 1, ENDS);
    one["spec"]["restartPolicy"] = json!("Always");
    server.create(&one);
    let before = is(&server, "one", "Running");
    agent.kill();
    drop((agent, plugin));

    let mut agent = join_deaf(&node, &server);
    has(&server, 0, 0);
    starts_again_with_b(&node, &server, &before);
    agent.kill();
    drop(agent);

    // After a reboot nobody has anything: the pod waits.
    node.cut_power_but_not_the_network();
    let mut agent = join_deaf(&node, &server);
    agent.wait_for_words("no device plug-in serves example.com/dev now; the agent runs without --kubelet-compat-dir");
    agent.kill();
    drop(agent);

    // Whatever the back-off says, a plug-in that comes is what it waits for.
    let agent = join(&node, &server, &["--restart-backoff", "initial=1h,max=1h,reset=1ms"]);
    agent.wait_for_words("no device plug-in serves example.com/dev now; see whether its pod runs");
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true)]);
    plugin.register(UNIT).unwrap();
    inspect::wait_until("the pod has its device", || plugin.calls().contains(&"Allocate a".to_owned()));
    is(&server, "one", "Running");
    remove(&server, &agent, &["one"]);
    end(&node, agent);
}

#[test]
fn a_plug_in_that_does_not_give_its_devices_has_the_pod_refused_and_the_devices_stay_free() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let agent = join(&node, &server, &[]);
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true), (BROKEN, true)]);
    plugin.register(UNIT).unwrap();
    has(&server, 2, 2);
    server.create(&asks("one", 1, KEEPS));
    let one = is(&server, "one", "Failed");
    assert_eq!(one["status"]["reason"], "UnexpectedAdmissionError");
    let said = "Pod was rejected: Allocate failed due to the device plug-in of example.com/dev: Allocate: it is broken, \
                which is unexpected";
    assert_eq!(one["status"]["message"], said);
    // Others are not kept from what that one has not.
    plugin.tell(&[("a", true), ("b", true)]);
    inspect::wait_until("two devices are given", || {
        server.create(&asks("two", 2, "echo $UNITS"));
        let over = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let two = server.wait_for("pods", "default/two", "over", over);
        remove(&server, &agent, &["two"]);
        two["status"]["phase"] == "Succeeded"
    });
    remove(&server, &agent, &["one"]);
    end(&node, agent);
}

#[test]
fn who_registers_what_cannot_be_is_told_why() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let agent = join(&node, &server, &[]);
    let plugin = Plugin::serve(&plugins(&node), "unit.sock", &[("a", true)]);
    let rows = [
        ("v1alpha", "unit.sock", UNIT, "\"v1alpha\" is not spoken here; v1beta1 is"),
        (VERSION, "unit.sock", "dev", "\"dev\" is not the name of an extended resource"),
        (VERSION, "unit.sock", "kubernetes.io/dev", "is not the name of an extended resource"),
        (VERSION, "unit.sock", "example.com/a/b", "is not the name of an extended resource"),
        (VERSION, "../unit.sock", UNIT, "is no name of a plug-in's socket"),
        (VERSION, "kubelet.sock", UNIT, "is no name of a plug-in's socket"),
        (VERSION, "kubelet.sock.lock", UNIT, "is not a socket"),
        (VERSION, "none.sock", UNIT, "No such file"),
    ];
    for (version, endpoint, resource, said) in rows {
        let refused = plugin.register_as(version, endpoint, resource).unwrap_err();
        assert!(refused.message().contains(said), "{said}: {}", refused.message());
    }
    plugin.register(UNIT).unwrap();
    has(&server, 1, 1);
    end(&node, agent);
}
