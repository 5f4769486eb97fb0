//! How events come to the API server.

use e2e::apiserver::{ApiServer, Fault, Which};
use e2e::manifest::keeper;
use e2e::{Node, inspect, need};
use serde_json::Value;

use crate::{NAME, join, ready};

fn reasons(server: &ApiServer, kind: &str) -> Vec<String> {
    let events = server.list("events");
    let of = events.iter().filter(|it| it["involvedObject"]["kind"] == kind);
    of.filter_map(|it| it["reason"].as_str().map(str::to_owned)).collect()
}

#[test]
fn events_of_the_node_and_its_pods_are_told_in_kubelet_s_name() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &[]);
    ready(&server);
    agent.write("web.yaml", keeper("web"));
    inspect::wait_until("the events", || {
        let (of_node, of_pod) = (reasons(&server, "Node"), reasons(&server, "Pod"));
        let has = |all: &[String], reason: &str| all.iter().any(|it| it == reason);
        has(&of_node, "NodeReady") && has(&of_node, "Starting") && has(&of_pod, "Started")
    });
    let events = server.list("events");
    let of_pod: Vec<&Value> = events.iter().filter(|it| it["involvedObject"]["kind"] == "Pod").collect();
    for event in &of_pod {
        assert_eq!(
            event["involvedObject"]["name"],
            format!("web-{NAME}"),
            "a file's pod is known by its mirror: {event:#}"
        );
        assert_eq!(
            (event["source"]["component"].as_str(), event["source"]["host"].as_str()),
            (Some("kubelet"), Some(NAME))
        );
    }
    agent.stop();
}

#[test]
fn events_that_wait_for_the_server_are_told_when_it_is_back() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    server.stop();
    let mut agent = join(&node, &kubeconfig, &[]);
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    server.fail(Which::of("POST", "/events"), Fault::Status(500, None), 1);
    server.come_back();
    inspect::wait_until("the events", || reasons(&server, "Pod").iter().any(|it| it == "Started"));
    let names: Vec<Value> = server.list("events").iter().map(|it| it["metadata"]["name"].clone()).collect();
    let mut once = names.clone();
    once.dedup();
    assert_eq!(names, once, "each is told once");
    agent.stop();
}
