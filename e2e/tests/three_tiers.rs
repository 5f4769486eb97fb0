//! The example of private networks, links and an ambassador: three tiers, and the database on another machine.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use e2e::agent::{condition, container_id};
use e2e::inspect::wait_until;
use e2e::netns::{HOST, Host};
use e2e::pods::{ips, stop};
use e2e::traffic::get;
use e2e::{Finished, Node, need};
use serde_json::Value;

/// Where visitors ask.
const VISIT: SocketAddr = SocketAddr::new(HOST[0], 8080);

/// The tiers, and the port that each serves.
const TIERS: [(&str, u16); 3] = [("web", 8080), ("api", 8080), ("db", 5432)];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../manifests/examples/{name}.yaml"))
}

fn fetch(node: &Node, pod: &Value, host: &str, port: u16) -> Finished {
    let [name, container] = ["/metadata/name", "/spec/containers/0/name"].map(|at| pod.pointer(at));
    let [name, container] = [name, container].map(|it| it.and_then(Value::as_str).expect("it has a name"));
    let url = format!("http://{host}:{port}/");
    node.exec(name, container, &["/bin/coracle", "tool", "fetch", "--timeout", "2s", &url])
}

fn in_url(ip: &IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

fn ready(node: &Node, name: &str) -> Value {
    node.wait_for_pod(name, "ready", |pod| condition(pod, "Ready") == Some(true))
}

/// That a visitor reaches the api, soon: a container is there before its program listens.
fn visit(from: &Host) {
    wait_until("an answer", || get(from, VISIT).is_ok_and(|it| it == "hello from the api\n"));
}

#[test]
fn each_tier_reaches_the_next_one_and_no_other_and_the_database_may_come_and_go() {
    need!(e2e::skip::root());
    let near = Node::new();
    let far = Node::beside(&near);
    let mut run = near.start(["run".into(), example("three-tiers")]);
    run.wait_for("api: WaitingForLinks: link db: pod default/db is not ready");
    let database = far.start(["run".into(), example("three-tiers-remote")]);
    let pods = TIERS.map(|(name, _)| ready(&near, name));
    run.wait_for("api/schema | hello from the database");
    for host in [near.outside(), near.host()] {
        visit(host);
    }

    // By name where there is a link, at every address where there is none.
    let [web, api, _] = &pods;
    fetch(&near, web, "api", 8080).exits(0).says("hello from the api");
    fetch(&near, api, "db", 5432).exits(0).says("hello from the database");
    let not_linked = [(0, 2), (1, 0), (2, 0), (2, 1)];
    std::thread::scope(|scope| {
        for (from, to) in not_linked {
            for ip in ips(&pods[to]) {
                let (near, from) = (&near, &pods[from]);
                scope.spawn(move || fetch(near, from, &in_url(&ip), TIERS[to].1).exits(1));
            }
        }
    });
    for (link, target) in [("web.api", "pod/default/api"), ("api.db", "pod/default/db")] {
        let said = near.coracle(["get", "links", link, "-o", "json"]).exits(0).stdout();
        let link: Value = serde_json::from_str(&said).expect("it is JSON");
        assert_eq!((&link["spec"]["target"], &link["status"]["state"]), (&target.into(), &"Ready".into()), "{link:#}");
        assert!(link["status"]["connections"].as_u64() > Some(0), "{link:#}");
    }

    // Without the database the api is not ready; with it, it is again, and the same.
    stop(database);
    near.wait_for_pod("api", "without its database", |pod| condition(pod, "Ready") == Some(false));
    let database = far.start(["run".into(), example("three-tiers-remote")]);
    let again = TIERS.map(|(name, _)| ready(&near, name));
    for ((name, _), (before, after)) in TIERS.iter().zip(pods.iter().zip(&again)) {
        let container = if *name == "db" { "ambassador" } else { name };
        assert_eq!(container_id(before, container), container_id(after, container), "{name}");
    }
    visit(near.outside());
    stop(run);
    stop(database);
    for node in [&near, &far] {
        node.assert_nothing_left();
    }
}
