//! Bound pods while the agent, or the server, is away.

use e2e::agent::container_id;
use e2e::apiserver::ApiServer;
use e2e::{Node, need};

use crate::{KEEPS, bound, join, running};

#[test]
fn pods_run_on_when_the_agent_is_killed() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    for pod in ["web", "leaves"] {
        server.create(&bound(pod, KEEPS));
    }
    let before = running(&server, "web");
    running(&server, "leaves");
    agent.kill();
    server.delete("pods", "default/leaves");
    agent.restart();
    server.wait_until_gone("pods", "default/leaves");
    let after = running(&server, "web");
    assert_eq!(container_id(&after, "c"), container_id(&before, "c"));
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}

#[test]
fn the_last_known_pods_start_without_the_server_and_what_it_dropped_ends_when_it_is_back() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    for pod in ["web", "dropped"] {
        server.create(&bound(pod, KEEPS));
    }
    let before = running(&server, "web");
    running(&server, "dropped");
    server.stop();
    // Asked for while it cannot be heard.
    server.delete_within("pods", "default/dropped", 0);
    agent.kill();
    agent.restart();
    for pod in ["web", "dropped"] {
        agent.wait_for_running(pod);
    }
    server.come_back();
    agent.wait_until_gone("dropped");
    server.create(&bound("new", KEEPS));
    running(&server, "new");
    let after = running(&server, "web");
    assert_eq!(container_id(&after, "c"), container_id(&before, "c"));
    for pod in ["default/web", "default/new"] {
        server.delete("pods", pod);
        server.wait_until_gone("pods", pod);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_forgotten_version_lists_again_and_stops_nothing() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&bound("web", KEEPS));
    let before = running(&server, "web");
    server.compact();
    server.end_watches();
    server.create(&bound("new", KEEPS));
    running(&server, "new");
    let after = running(&server, "web");
    assert_eq!(container_id(&after, "c"), container_id(&before, "c"));
    for pod in ["default/web", "default/new"] {
        server.delete("pods", pod);
        server.wait_until_gone("pods", pod);
    }
    agent.stop_with_nothing_left();
}
