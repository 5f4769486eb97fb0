//! How the node comes to its certificates, and renews them.

use std::path::Path;
use std::time::Duration;

use e2e::apiserver::ApiServer;
use e2e::{Node, inspect, need};

use crate::{NAME, join, ready};

/// The certificates that the node has had.
fn kept(dir: &Path, prefix: &str) -> usize {
    let names =
        std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|it| it.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("{prefix}-2")) && name.ends_with(".pem")).count()
}

/// Arguments for a bootstrap.
fn bootstrap<'a>(kubeconfig: &'a Path, certificates: &'a Path) -> [&'a str; 4] {
    ["--bootstrap-kubeconfig", kubeconfig.to_str().unwrap(), "--cert-dir", certificates.to_str().unwrap()]
}

#[test]
fn a_node_gets_its_certificate_by_bootstrap_and_does_not_ask_again_with_the_next_agent() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let (first, certificates) = (server.bootstrap_kubeconfig(), node.dir().join("pki"));
    let kubeconfig = node.dir().join("kubelet.conf");
    server.approve_clients(false);
    let mut agent = join(&node, &kubeconfig, &bootstrap(&first, &certificates));
    let request = server.wait_for_request("a request for a certificate", |it| it.method == "POST" && it.status == 201);
    let name = request.body["metadata"]["name"].as_str().unwrap().to_owned();
    // Nobody has decided: the next agent goes on with the same request.
    agent.kill();
    agent.restart();
    server.approve(&name);
    ready(&server);
    assert_eq!(server.list("certificatesigningrequests").len(), 1, "{}", server.told());
    let node_s = server
        .requests()
        .into_iter()
        .rev()
        .find(|it| it.path.ends_with(&format!("/nodes/{NAME}/status")) || it.path.ends_with("/nodes"));
    assert_eq!(node_s.unwrap().user, format!("system:node:{NAME}"));
    agent.kill();
    std::fs::remove_file(&first).unwrap();
    agent.restart();
    server.forget();
    server.wait_for_request("a sign of life", |it| it.method == "PUT" && it.status == 200);
    assert_eq!(kept(&certificates, "kubelet-client"), 1);
    agent.stop();
}

#[test]
fn a_certificate_is_renewed_before_it_runs_out_and_used_at_once() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let (first, certificates) = (server.bootstrap_kubeconfig(), node.dir().join("pki"));
    // Its life began a while ago: more than nine tenths of it are over, and the next one is a long one.
    server.certificates_live(Duration::from_secs(40));
    let kubeconfig = node.dir().join("kubelet.conf");
    let mut agent = join(&node, &kubeconfig, &bootstrap(&first, &certificates));
    ready(&server);
    server.certificates_live(Duration::from_secs(365 * 24 * 3600));
    inspect::wait_until("a second certificate", || kept(&certificates, "kubelet-client") > 1);
    agent.wait_for_words("the API server is asked with other credentials");
    server.forget();
    server.wait_for_request("a sign of life", |it| it.method == "PUT" && it.status == 200);
    agent.stop();
}

#[test]
fn a_kubeconfig_that_changes_is_read_again() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &[]);
    ready(&server);
    std::fs::write(&kubeconfig, "nonsense").unwrap();
    agent.wait_for_words("the kubeconfig has changed and cannot be used");
    server.forget();
    server.wait_for_request("a sign of life all the same", |it| it.method == "PUT" && it.status == 200);
    server.replace_authority();
    server.reset_connections();
    assert_eq!(server.kubeconfig_of_node(NAME), kubeconfig);
    agent.wait_for_words("the API server is asked with other credentials");
    server.forget();
    server.wait_for_request("a sign of life", |it| it.method == "PUT" && it.status == 200);
    agent.stop();
}

#[test]
fn the_node_s_server_gets_a_certificate_for_the_node_s_addresses_once_somebody_approves() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let (kubeconfig, certificates) = (server.kubeconfig_of_node(NAME), node.dir().join("pki"));
    let config = node.dir().join("kubelet.yaml");
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n\
                imageGCHighThresholdPercent: 100\nevictionHard: {memory.available: 1Mi}\n";
    std::fs::write(&config, text).unwrap();
    let more = ["--config", config.to_str().unwrap(), "--cert-dir", certificates.to_str().unwrap()];
    let mut agent = join(&node, &kubeconfig, &more);
    let request = server.wait_for_request("a request for a certificate", |it| {
        it.method == "POST" && it.body["spec"]["signerName"] == "kubernetes.io/kubelet-serving" && it.status == 201
    });
    assert_eq!(request.user, format!("system:node:{NAME}"));
    assert_eq!(kept(&certificates, "kubelet-server"), 0);
    server.approve(request.body["metadata"]["name"].as_str().unwrap());
    inspect::wait_until("a certificate", || kept(&certificates, "kubelet-server") == 1);
    agent.stop();
}
