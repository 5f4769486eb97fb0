//! What a test makes go wrong does go wrong, and heals.

use std::time::Duration;

use e2e::apiserver::{ApiServer, Fault, Weather, Which};
use e2e::kubectl::Kubectl;
use e2e::{Finished, Node, Run, inspect, need};

fn get(node: &Node, kubectl: &Kubectl, server: &ApiServer, timeout: &str) -> Finished {
    let kubeconfig = server.kubeconfig_of_admin();
    let args = ["get", "--raw", "/api/v1/namespaces/default", "--request-timeout", timeout];
    Run::start(&mut kubectl.command(node, &kubeconfig, args), None).wait()
}

#[test]
fn answers_fail_as_often_as_they_are_to() {
    let kubectl = need!(Kubectl::websocket());
    let node = Node::new();
    let server = ApiServer::start(&node);
    let which = Which::of("GET", "/namespaces/default");
    server.fail(which, Fault::Status(500, None), 1);
    get(&node, &kubectl, &server, "0").exits(1);
    get(&node, &kubectl, &server, "0").exits(0);
    // kubectl does as Retry-After says.
    server.fail(which, Fault::Status(429, Some(1)), 1);
    get(&node, &kubectl, &server, "0").exits(0);
    server.fail_always(which, Fault::Silent);
    get(&node, &kubectl, &server, "300ms").exits(1);
    server.heal();
    get(&node, &kubectl, &server, "0").exits(0);
    let statuses: Vec<u16> =
        server.requests().iter().filter(|it| it.path.contains("/namespaces/")).map(|it| it.status).collect();
    assert_eq!(statuses, [500, 200, 429, 200, 0, 200]);
}

#[test]
fn the_server_goes_and_comes_back_with_or_without_what_it_knew() {
    let kubectl = need!(Kubectl::websocket());
    let node = Node::new();
    let server = ApiServer::start(&node);
    let uid = |server: &ApiServer| server.get("namespaces", "default").unwrap()["metadata"]["uid"].clone();
    let before = uid(&server);
    server.stop();
    get(&node, &kubectl, &server, "0").exits(1).says("refused");
    server.come_back();
    get(&node, &kubectl, &server, "0").exits(0);
    assert_eq!(uid(&server), before);
    server.empty();
    assert_ne!(uid(&server), before);
}

#[test]
fn nothing_arrives_while_the_network_is_silent_and_everything_when_it_is_not() {
    let kubectl = need!(Kubectl::websocket());
    let node = Node::new();
    let server = ApiServer::start(&node);
    server.weather(Weather::Silent);
    get(&node, &kubectl, &server, "300ms").exits(1);
    let kubeconfig = server.kubeconfig_of_admin();
    let args = ["get", "--raw", "/api/v1/namespaces/default"];
    let waiting = Run::start(&mut kubectl.command(&node, &kubeconfig, args), None);
    std::thread::sleep(Duration::from_millis(300));
    server.weather(Weather::Fair);
    waiting.wait().exits(0);
}

#[test]
fn a_watch_ends_when_connections_are_torn() {
    let kubectl = need!(Kubectl::websocket());
    let node = Node::new();
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_admin();
    let args = ["get", "--raw", "/api/v1/namespaces?watch=true"];
    let watching = Run::start(&mut kubectl.command(&node, &kubeconfig, args), None);
    inspect::wait_until("a watch", || server.watches("namespaces") == 1);
    server.reset_connections();
    watching.wait();
    inspect::wait_until("no watch", || server.watches("namespaces") == 0);
}

#[test]
fn only_who_knows_the_new_authority_believes_the_server() {
    let kubectl = need!(Kubectl::websocket());
    let node = Node::new();
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_admin();
    let args = ["get", "--raw", "/api/v1/namespaces/default"];
    let ask = || Run::start(&mut kubectl.command(&node, &kubeconfig, args), None).wait();
    server.renew_certificate();
    ask().exits(0);
    server.replace_authority();
    ask().exits(1).says("x509");
    server.kubeconfig_of_admin();
    ask().exits(0);
}
