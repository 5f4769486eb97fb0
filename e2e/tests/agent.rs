//! The agent: a directory of manifests becomes running pods, and stays so.

use e2e::agent::{Agent, container_id};
use e2e::manifest::keeper;
use e2e::{Node, need};

#[test]
fn a_pod_runs_as_long_as_its_manifest_is_there() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", keeper("web"));
    let before = agent.wait_for_running("web");
    agent.kill();
    assert_eq!(node.exec("web", "c", &["echo", "alive"]).exits(0).stdout(), "alive\n");
    agent.restart();
    let after = agent.wait_for_running("web");
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(container_id(&before, "c"), container_id(&after, "c"));
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    agent.stop();
}
