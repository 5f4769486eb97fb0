//! Links between pods that reach nobody else: which packets go through, and when.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, condition, container_id};
use e2e::manifest::{several, with};
use e2e::pods::{Pod, end, ips, keeper, stop};
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, SILENCE, ask, ask_within};
use e2e::{Node, deadline, need};
use serde_json::{Map, Value, json};

/// What the source of a link declares.
const OPEN: u16 = 7000;

/// What it listens on besides.
const CLOSED: u16 = 7001;

fn member(name: &str, network: &str, links: &str) -> Value {
    let ports = PROTOCOLS.map(|protocol| json!({"containerPort": OPEN, "protocol": protocol.name()}));
    let annotations = [("coracle.dev/links", links), ("coracle.dev/network", network)];
    let annotations: Map<_, _> = annotations
        .into_iter()
        .filter(|it| !it.1.is_empty())
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    with(keeper(name, json!({"ports": ports})), json!({"metadata": {"name": name, "annotations": annotations}}))
}

/// As an agent keeps it, in whatever network the node's default is.
fn kept(name: &str, links: &str) -> Value {
    let mut pod = member(name, "", links);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod
}

/// Running pods that answer at both ports by both protocols and families.
struct Lot {
    pods: Vec<Pod>,
    _answerers: Vec<[Answerer; 2]>,
}

impl Lot {
    fn find(node: &Node, names: &[&str]) -> Self {
        let pods: Vec<Pod> = names.iter().map(|name| Pod::find(node, name)).collect();
        let answerers = |pod: &Pod| [OPEN, CLOSED].map(|port| Answerer::both(&pod.network, port, &pod.name));
        let answerers = pods.iter().flat_map(answerers).collect();
        Self { pods, _answerers: answerers }
    }

    fn get(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| pod.name == name).expect("it is one of them")
    }

    /// Every pod asks every other one at both ports: those of `links` get answers at the open one, and nothing else does.
    #[track_caller]
    fn assert_reach(&self, links: &[(&str, &str)], when: &str) {
        let reaches = |from: &Pod, to: &Pod, port: u16| port == OPEN && links.contains(&(&from.name, &to.name));
        let ways = self.pods.iter().flat_map(|from| self.pods.iter().map(move |to| (from, to)));
        let ways = ways.filter(|(from, to)| from.name != to.name).flat_map(|(from, to)| {
            let ports = [OPEN, CLOSED].into_iter().flat_map(|port| to.at(port));
            ports.flat_map(move |at| PROTOCOLS.map(|protocol| (from, to, at, protocol)))
        });
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let asking = ways.map(|(from, to, at, protocol)| {
                scope.spawn(move || wrong(from, to, at, protocol, reaches(from, to, at.port())))
            });
            let asking: Vec<_> = asking.collect();
            asking.into_iter().filter_map(|it| it.join().expect("it asks")).collect()
        });
        assert_eq!(wrong, Vec::<String>::new(), "{when}");
    }
}

fn wrong(from: &Pod, to: &Pod, at: SocketAddr, protocol: Protocol, reaches: bool) -> Option<String> {
    let answer =
        if reaches { ask(&from.network, protocol, at) } else { ask_within(&from.network, protocol, at, SILENCE) };
    let right = match &answer {
        Ok(answer) => reaches && answer.name == to.name && answer.from == from.ip_like(at.ip()),
        Err(_) => !reaches,
    };
    (!right).then(|| format!("{} to {} at {at} by {protocol:?}: {answer:?}", from.name, to.name))
}

/// Whether the pod finds the alias by DNS, at these addresses.
fn finds(node: &Node, pod: &str, alias: &str, source: &Pod) -> bool {
    let said = node.exec(pod, "c", &["nslookup", &format!("{alias}.default.svc.cluster.local")]).stdout();
    source.ips.iter().all(|ip| said.contains(&ip.to_string()))
}

/// How many connections a link was used for.
#[track_caller]
fn connections(node: &Node, link: &str) -> u64 {
    let said = node.coracle(["get", "links", link, "-o", "json"]).exits(0).stdout();
    let link: Value = serde_json::from_str(&said).expect("it is JSON");
    link["status"]["connections"].as_u64().unwrap_or_else(|| panic!("nobody counts: {link:#}"))
}

/// Waits until a pod is reached, or not, by every protocol and family.
#[track_caller]
fn wait_until(reached: bool, from: &Pod, to: &Pod) {
    let end = Instant::now() + deadline();
    for at in to.at(OPEN) {
        for protocol in PROTOCOLS {
            while ask_within(&from.network, protocol, at, SILENCE).is_ok() != reached {
                assert!(Instant::now() < end, "{} to {at} by {protocol:?}: never {reached}", from.name);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

#[test]
fn a_link_opens_declared_ports_one_way_whatever_the_networks() {
    let node = need!(Node::with_busybox());
    let network = json!({"apiVersion": "coracle.dev/v1alpha1", "kind": "Network", "metadata": {"name": "back"}});
    let source = || node.run(member("db", "private", ""));
    let mut db = source();
    let mut run = node.run(several(&[
        network,
        member("alone", "private", "db:redis, flat"),
        member("apart", "back", "db:redis"),
        member("flat", "flat", "db:redis"),
        member("stranger", "private", ""),
    ]));
    let names = ["db", "alone", "apart", "flat", "stranger"];
    let links = [("alone", "db"), ("apart", "db"), ("flat", "db"), ("alone", "flat")];
    let lot = Lot::find(&node, &names);
    assert_eq!(connections(&node, "alone.redis"), 0, "nobody has asked");
    lot.assert_reach(&links, "at first");
    let asked = 2 * lot.get("db").ips.len() as u64;
    for link in ["alone.redis", "apart.redis", "flat.redis"] {
        let counted = connections(&node, link);
        assert!(counted >= asked, "{link}: {counted} of {asked}");
    }
    for pod in ["alone", "apart", "flat"] {
        assert!(finds(&node, pod, "redis", lot.get("db")), "{pod} finds its alias");
    }
    assert!(!finds(&node, "stranger", "redis", lot.get("db")), "an alias is its pod's alone");

    // The source goes and comes; who is linked to it goes on.
    let before = lot.get("db").ips.clone();
    drop(lot);
    stop(db);
    db = source();
    let lot = Lot::find(&node, &names);
    assert_eq!(lot.get("db").ips, before, "an address is a name's");
    lot.assert_reach(&links, "after the source was made anew");
    assert!(run.is_running());
    drop(lot);
    stop(db);
    end(&node, run, ());
}

#[test]
fn links_outlive_their_source_and_the_agent_and_end_when_taken_away() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start_with(&node, ["--default-network", "private"]);
    let names = ["web", "db", "other"];
    for (name, links) in [("web", "db"), ("db", ""), ("other", "")] {
        agent.write(&format!("{name}.yaml"), kept(name, links));
    }
    let web = agent.wait_for_running("web");
    let lot = Lot::find(&node, &names);
    let links = [("web", "db")];
    lot.assert_reach(&links, "at first");
    let before = agent.wait_for_running("db");
    drop(lot);

    node.coracle(["delete", "pod", "db", "--grace-period", "0"]).exits(0);
    let anew = agent.wait_for("db", "made anew", |pod| {
        pod["metadata"]["uid"] != before["metadata"]["uid"] && condition(pod, "Ready") == Some(true)
    });
    assert_eq!(ips(&anew), ips(&before), "an address is a name's");
    let lot = Lot::find(&node, &names);
    lot.assert_reach(&links, "after the source was made anew");
    let counted = connections(&node, "web.db");
    assert!(counted > 0, "{counted}");

    agent.kill();
    lot.assert_reach(&links, "without an agent");
    agent.restart();
    lot.assert_reach(&links, "with the next agent");
    assert!(finds(&node, "web", "db", lot.get("db")), "the next one answers names");

    agent.write("web.yaml", kept("web", ""));
    wait_until(false, lot.get("web"), lot.get("db"));
    lot.assert_reach(&[], "without the link");
    agent.write("web.yaml", kept("web", "db"));
    wait_until(true, lot.get("web"), lot.get("db"));
    lot.assert_reach(&links, "with the link again");
    let now = agent.wait_for_running("web");
    assert_eq!(container_id(&now, "c"), container_id(&web, "c"), "all the time it is the same");
    drop(lot);
    for name in names {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
    agent.stop_with_nothing_left();
}
