//! When it is served, and by which settings.

use e2e::agent::Agent;
use e2e::apiserver::{Authority, User};
use e2e::manifest::keeper;
use e2e::{Node, need};

use super::client::{Client, Cluster, PORT, serving};

#[test]
fn without_an_api_server_it_is_served_when_it_is_asked_for_to_those_that_somebody_vouches_for() {
    let node = need!(Node::with_busybox());
    let authority = Authority::new();
    let mut agent = Agent::prepare(&node, serving(&node, &authority));
    agent.restart();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], PORT));
    assert!(node.host().within(|| std::net::TcpStream::connect(address)).is_err(), "nobody has asked for it");
    agent.stop();
    agent.arg(format!("--port={PORT}"));
    agent.restart();
    agent.wait_for_words("kubelet's API is served");
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    let known = authority.client(&User::new("somebody", &[]));
    let client = Client::new(&node, authority.certificate(), Some(&known));
    assert_eq!(client.get("/pods").json()["items"][0]["metadata"]["name"], "web", "there is no mirror of it");
    assert_eq!(client.ask("POST", "/run/default/web/c?cmd=echo%20hi", "").body, "hi\n");
    assert_eq!(client.get("/configz").json()["kubeletconfig"]["authorization"]["mode"], "AlwaysAllow");
    let nobody = Client::new(&node, authority.certificate(), None).says("Authorization: Bearer x");
    assert_eq!(nobody.get("/pods").code, 401);
    agent.stop();
}

#[test]
fn what_nobody_could_ever_use_is_an_error_at_the_start() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::prepare(&node, ["--port=10250".to_owned()]);
    agent.launch();
    let ended = agent.wait();
    assert!(!ended.status.success() && ended.text().contains("--client-ca-file"), "{ended}");
    let mut args = serving(&node, &Authority::new());
    args.extend(["--port=10250".into(), "--authorization-mode=Webhook".into()]);
    let mut agent = Agent::prepare(&node, args);
    agent.launch();
    let ended = agent.wait();
    assert!(!ended.status.success() && ended.text().contains("--authorization-mode AlwaysAllow"), "{ended}");
}

#[test]
fn what_acts_on_pods_can_be_switched_off() {
    let node = need!(Node::with_busybox());
    let config = node.dir().join("config.yaml");
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let text = format!("{head}enableDebuggingHandlers: false\nevictionHard: {{memory.available: 1Mi}}\n");
    std::fs::write(&config, text).unwrap();
    let cluster = Cluster::start_with(&node, &["--config", config.to_str().unwrap()]);
    let client = cluster.admin();
    for path in ["/logs/", "/runningpods/", "/containerLogs/a/b/c", "/exec/a/b/c", "/configz"] {
        let answer = client.get(path);
        assert_eq!((answer.code, answer.body.as_str()), (405, "Debug endpoints are disabled.\n"), "{path}");
    }
    for path in ["/healthz", "/pods", "/metrics", "/metrics/resource", "/stats/summary"] {
        assert_eq!(client.get(path).code, 200, "{path}");
    }
}
