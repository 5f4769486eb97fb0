//! The harness of the CRI's tests, on both runtimes.

use e2e::cri::proto::{ContainerState, VersionRequest};
use e2e::cri::{Containerd, Cri, Endpoint};
use e2e::{BUSYBOX, Node, need};

fn a_pod_runs(endpoint: &dyn Endpoint) {
    let version = endpoint.client().version(VersionRequest::default()).expect("it serves");
    assert_eq!(version.runtime_name, endpoint.name());
    let pod = endpoint.pod("p");
    let sandbox = endpoint.run_pod(&pod);
    let container = endpoint.container("c", BUSYBOX, &["sh", "-c", "echo up; echo oops >&2; exec sleep 1000"]);
    let id = endpoint.run_container(&sandbox, &pod, &container);
    assert_eq!(endpoint.output(&id, &["echo", "hello"]), "hello");
    endpoint.wait_for_log(&pod, &container, "oops");
    assert_eq!(endpoint.logs(&pod, &container).len(), 2);
    endpoint.stop_container(&id, 0);
    let status = endpoint.wait_for_state(&id, ContainerState::ContainerExited);
    assert_eq!(status.exit_code, 137);
}

#[test]
fn coracle_serves_and_is_restarted() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    a_pod_runs(&cri);
    cri.stop();
    cri.restart();
    a_pod_list_has_one(&cri);
    cri.kill();
    cri.restart();
    a_pod_list_has_one(&cri);
}

fn a_pod_list_has_one(endpoint: &dyn Endpoint) {
    let pods = endpoint.client().list_pod_sandbox(Default::default()).expect("it serves");
    assert_eq!(pods.items.len(), 1);
}

#[test]
fn containerd_serves_and_leaves_nothing() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let containerd = need!(Containerd::start(&node));
    a_pod_runs(&containerd);
    a_pod_list_has_one(&containerd);
}
