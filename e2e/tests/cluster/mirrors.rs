//! Pods of manifests, as the server shows them.

use e2e::apiserver::ApiServer;
use e2e::manifest::keeper;
use e2e::{Node, need};

use crate::{is, join};

#[test]
fn a_pod_of_a_manifest_is_mirrored_until_its_manifest_is_gone() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let name = crate::name();
    let mut agent = join(&node, &server.kubeconfig_of_node(&name));
    agent.write("web.yaml", keeper("web"));
    let which = format!("default/web-{name}");
    let mirror = server.wait_for("pods", &which, "running", is("Running"));
    let meta = &mirror["metadata"];
    assert_eq!(meta["annotations"]["kubernetes.io/config.source"], "file");
    assert!(meta["annotations"]["kubernetes.io/config.mirror"].is_string());
    let registered = server.get("nodes", &name).unwrap();
    assert_eq!(meta["ownerReferences"][0]["kind"], "Node");
    assert_eq!(meta["ownerReferences"][0]["uid"], registered["metadata"]["uid"]);

    // What a user deletes is made again, and its pod runs on.
    let pod = agent.wait_for_running("web");
    server.delete("pods", &which);
    let again = server.wait_for("pods", &which, "made again", |it| {
        it["metadata"]["uid"] != mirror["metadata"]["uid"] && it["status"]["phase"] == "Running"
    });
    let id = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&again), id(&mirror));
    assert_eq!(agent.wait_for_running("web")["metadata"]["uid"], pod["metadata"]["uid"]);

    agent.remove("web.yaml");
    server.wait_until_gone("pods", &which);
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}
