//! The API server away, silent, refusing, or another one.

use std::time::Duration;

use e2e::agent::Agent;
use e2e::apiserver::{ApiServer, Fault, Weather, Which};
use e2e::manifest::keeper;
use e2e::{Node, inspect, need};

use crate::{NAME, join, ready, renewed};

/// Waits until the lease is renewed from now on.
#[track_caller]
fn alive(server: &ApiServer) {
    let before = renewed(server);
    inspect::wait_until("a renewed lease", || renewed(server).is_some_and(|it| Some(it) != before));
}

/// How often the agent said something.
fn said(agent: &Agent<'_>, text: &str) -> usize {
    agent.lines().iter().filter(|line| line.text.contains(text)).count()
}

#[test]
fn pods_run_on_while_the_server_is_away_and_the_node_is_told_of_when_it_is_back() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &[]);
    ready(&server);
    server.stop();
    agent.wait_for_words("the API server cannot be reached");
    // What a file asks for needs no server.
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    server.come_back();
    agent.wait_for_words("the API server answers again");
    alive(&server);
    assert_eq!(said(&agent, "the API server cannot be reached"), 1, "{}", agent.said());
    agent.stop();
}

#[test]
fn an_agent_that_begins_without_the_server_runs_what_files_ask_for_and_joins_later() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    server.stop();
    let mut agent = join(&node, &kubeconfig, &[]);
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    server.come_back();
    ready(&server);
    agent.stop();
}

#[test]
fn a_server_that_says_nothing_any_more_is_noticed_and_found_again() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &[]);
    ready(&server);
    server.weather(Weather::Silent);
    agent.wait_for_words("the API server cannot be reached");
    server.weather(Weather::Fair);
    server.reset_connections();
    alive(&server);
    agent.stop();
}

#[test]
fn answers_that_fail_are_asked_for_again() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    server.fail(Which::of("POST", "/nodes"), Fault::Status(500, None), 2);
    server.fail(Which::of("POST", "/leases"), Fault::Status(429, Some(1)), 1);
    server.fail(Which::of("PATCH", "/status"), Fault::Lost, 1);
    let mut agent = join(&node, &kubeconfig, &[]);
    ready(&server);
    inspect::wait_until("a lease", || renewed(&server).is_some());
    server.compact();
    server.end_watches();
    server.fail(Which::of("PUT", "/leases"), Fault::Slow(Duration::from_millis(300)), 1);
    alive(&server);
    agent.stop();
}
