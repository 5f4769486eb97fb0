//! Exec, attach and port-forward, over SPDY and over WebSocket.

#![allow(clippy::unwrap_used)]

mod cri_streaming {
    mod attaching;
    mod execs;
    mod forwarding;
    mod requests;
    mod wire;
}

use e2e::BUSYBOX;
use e2e::cri::proto::{ContainerConfig, PodSandboxConfig};
use e2e::cri::{Cri, Endpoint};

/// A pod with one container that runs a script.
fn pod_with(
    cri: &Cri<'_>,
    script: &str,
    change: impl FnOnce(&mut ContainerConfig),
) -> (PodSandboxConfig, String, String) {
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let mut container = cri.container("c", BUSYBOX, &["sh", "-c", script]);
    change(&mut container);
    let id = cri.run_container(&sandbox, &pod, &container);
    (pod, sandbox, id)
}

/// Waits until no process of a container has this in its command line, or one has.
#[track_caller]
fn wait_for_process(cri: &Cri<'_>, id: &str, text: &str, there: bool) {
    let deadline = std::time::Instant::now() + e2e::deadline();
    loop {
        let list = cri.output(id, &["ps", "-o", "args"]);
        if list.lines().any(|line| line.contains(text)) == there {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{text:?} there: {}: {list}", !there);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
