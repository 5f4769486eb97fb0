//! What is written and what is not; who may ask.

use std::process::Command;

use e2e::kubectl::{Cluster, Transport};
use e2e::manifest::keeper;
use e2e::{Run, debian};

crate::by_both! {
    a_deleted_pod_is_started_anew_from_its_file
    what_cannot_be_written_is_refused_with_the_reason
    nobody_is_answered_without_the_token
}

fn a_deleted_pod_is_started_anew_from_its_file(cluster: &Cluster) {
    let before = cluster.run(&keeper("web"));
    if cluster.transport() == Transport::WebSocket {
        // An old one wants a document first that only says whether this is known.
        let dry = cluster.kubectl(["delete", "pod", "web", "--dry-run=server"]).exits(0);
        assert_eq!(cluster.json(&["get", "pod", "web"])["metadata"]["uid"], before["metadata"]["uid"], "{dry}");
    }
    let deleted = cluster.kubectl(["delete", "pod", "web"]).exits(0);
    assert!(deleted.stdout().contains("pod \"web\" deleted"), "{deleted}");
    assert!(deleted.stderr().contains("web.yaml"), "{deleted}");
    let after = cluster.wait_for("web", "another one", |pod| {
        pod["metadata"]["uid"] != before["metadata"]["uid"] && pod["status"]["phase"] == "Running"
    });
    assert_ne!(
        after["status"]["containerStatuses"][0]["containerID"],
        before["status"]["containerStatuses"][0]["containerID"]
    );
    cluster.kubectl(["delete", "pod", "other"]).exits(1).says("NotFound");
}

fn what_cannot_be_written_is_refused_with_the_reason(cluster: &Cluster) {
    cluster.run(&keeper("web"));
    let file = cluster.node.manifest(keeper("new"));
    // Each checks the fields first, an old one by a document of its own.
    let create = ["create", "-f", file.to_str().unwrap()];
    let apply = ["apply", "-f", file.to_str().unwrap()];
    let label = ["label", "pod", "web", "a=b"];
    let namespace = ["delete", "namespace", "default", "--wait=false"];
    for args in [&create[..], &apply, &label, &namespace] {
        let refused = cluster.kubectl(args).exits(1).stderr();
        assert!(refused.contains("comes from its manifests; change the file"), "{args:?}: {refused}");
    }
    assert_eq!(cluster.text(["get", "pods", "-o", "name"]), "pod/web");
}

fn nobody_is_answered_without_the_token(cluster: &Cluster) {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let server = text.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().to_owned();
    let wrong = cluster.kubectl(["get", "pods", "--token=0123456789abcdef0123456789abcdef"]).exits(1).stderr();
    assert!(wrong.contains("Unauthorized") || wrong.contains("logged in"), "{wrong}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(cluster.kubeconfig()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let Ok(curl) = debian::program("curl", "curl") else { e2e::skip!("no curl") };
    for path in ["/api/v1/pods", "/version", "/readyz"] {
        let mut command = Command::new(&curl);
        command.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}\\n"]).arg(format!("{server}{path}"));
        let code = Run::start(&mut cluster.node.host().command(command), None).wait().stdout();
        assert_eq!(code.trim(), "401", "{path}");
    }
    // Without TLS there is no answer at all.
    let mut command = Command::new(&curl);
    command.args(["-s", "-m", "5"]).arg(server.replace("https://", "http://"));
    assert!(!Run::start(&mut cluster.node.host().command(command), None).wait().status.success());
}
