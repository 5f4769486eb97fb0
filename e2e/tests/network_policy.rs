//! NetworkPolicies, with real packets: who reaches whom, before and after every change, and when nobody looks after it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, container_id};
use e2e::manifest::several;
use e2e::netns::Host;
use e2e::pods::{Pod, end, has_v6, ips, keeper};
use e2e::traffic::{Answerer, PATIENCE, PROTOCOLS, Protocol, SILENCE, ask, ask_within};
use e2e::{Node, deadline, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const OPEN: u16 = 7000;
const CLOSED: u16 = 7001;

/// A pod with labels.
fn labelled(name: &str, labels: Value) -> Value {
    let ports = json!({"ports": PROTOCOLS.map(|it| json!({
        "name": format!("open-{}", it.name().to_lowercase()), "containerPort": OPEN, "protocol": it.name()
    }))});
    let mut pod = keeper(name, ports);
    pod["metadata"]["labels"] = labels;
    pod
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// One way of a packet, and whether it arrives.
#[derive(Clone)]
struct Way<'a> {
    from: (&'a str, &'a Host),
    to: &'a Pod,
    protocol: Protocol,
    port: u16,
    open: bool,
}

/// By every family, protocol and port from one to another: `open` says which ports are, by protocol.
fn ways<'a>(from: (&'a str, &'a Host), to: &'a Pod, open: &[(Protocol, u16)]) -> Vec<Way<'a>> {
    let all = PROTOCOLS.into_iter().flat_map(|protocol| [OPEN, CLOSED].map(|port| (protocol, port)));
    all.map(|(protocol, port)| Way { from, to, protocol, port, open: open.contains(&(protocol, port)) }).collect()
}

/// The same between pods.
fn from<'a>(from: &'a Pod, to: &'a Pod, open: &[(Protocol, u16)]) -> Vec<Way<'a>> {
    ways((&from.name, &from.network), to, open)
}

const ALL: [(Protocol, u16); 4] =
    [(Protocol::Tcp, OPEN), (Protocol::Tcp, CLOSED), (Protocol::Udp, OPEN), (Protocol::Udp, CLOSED)];

/// What does not go as it should.
fn wrong(ways: &[Way<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for way in ways {
        for ip in way.to.ips.iter().filter(|ip| ip.is_ipv4() || has_v6()) {
            let at = SocketAddr::new(*ip, way.port);
            let answer = match way.open {
                true => ask(way.from.1, way.protocol, at),
                false => ask_within(way.from.1, way.protocol, at, SILENCE),
            };
            if answer.as_ref().is_ok_and(|answer| answer.name == way.to.name) != way.open {
                wrong.push(format!("{} to {at} ({}) by {:?}: {answer:?}", way.from.0, way.to.name, way.protocol));
            }
        }
    }
    wrong
}

/// Waits until everything goes as it should.
#[track_caller]
fn settles(what: &str, ways: &[Way<'_>]) {
    let end = Instant::now() + deadline();
    loop {
        let wrong = wrong(ways);
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{what}: {wrong:#?}");
    }
}

/// [`OPEN`] and [`CLOSED`] are answered by both protocols.
fn answerers(pod: &Pod) -> Vec<Answerer> {
    [OPEN, CLOSED].into_iter().flat_map(|port| Answerer::both(&pod.network, port, &pod.name)).collect()
}

/// A pod of any namespace.
fn find(node: &Node, namespace: &str, name: &str) -> Pod {
    let network = inspect::network_of(node, &format!("E2E_POD={name}")).expect("the pod has a process");
    let got = node.coracle(["get", "pods", name, "-n", namespace, "-o", "json"]).exits(0);
    let pod: Value = serde_json::from_str(&got.stdout()).expect("an object");
    Pod { name: name.to_owned(), ips: ips(&pod), network }
}

#[test]
fn a_policy_holds_from_the_first_packet_and_follows_its_manifest() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let ingress = json!({
        "podSelector": app("db"),
        "ingress": [{"from": [{"podSelector": app("api")}], "ports": [{"port": OPEN}]}],
    });
    // Each in a file of its own: what happens to one leaves the others as they are.
    agent.write("policy.yaml", policy("db", ingress));
    for (name, label) in [("db", "db"), ("api", "api"), ("other", "other")] {
        agent.write(&format!("{name}.yaml"), labelled(name, json!({"app": label})));
    }
    let mut far = labelled("far", json!({"app": "api"}));
    far["metadata"]["namespace"] = json!("far");
    agent.write("far.yaml", far);
    let (db, api, other) = (Pod::find(&node, "db"), Pod::find(&node, "api"), Pod::find(&node, "other"));
    let far = find(&node, "far", "far");
    let _answerers = [answerers(&db), answerers(&api), answerers(&other)];
    let before = node.pod("db").expect("the pod is there");

    let matrix = |open_to_api: &[(Protocol, u16)], open_to_all: &[(Protocol, u16)]| {
        [
            from(&api, &db, open_to_api),
            from(&other, &db, open_to_all),
            from(&far, &db, open_to_all),
            // What the policy is not about is as before: the pod's own questions, and the node's.
            from(&db, &other, &ALL),
            from(&api, &other, &ALL),
            ways(("the node", node.host()), &db, &ALL),
        ]
        .concat()
    };
    // Not only in the end: the rules were there before the first process.
    assert_eq!(wrong(&matrix(&[(Protocol::Tcp, OPEN)], &[])), Vec::<String>::new());

    // Another port by its name, a range, another protocol, another namespace.
    let by_name = json!({
        "podSelector": app("db"),
        "ingress": [{
            "from": [{"podSelector": app("api"), "namespaceSelector": {}}],
            "ports": [{"port": "open-udp", "protocol": "UDP"}, {"port": CLOSED, "endPort": CLOSED + 1}],
        }],
    });
    agent.write("policy.yaml", policy("db", by_name));
    let open = [(Protocol::Udp, OPEN), (Protocol::Tcp, CLOSED)];
    let now = [from(&far, &db, &open), from(&api, &db, &open), from(&other, &db, &[])].concat();
    settles("another policy", &now);

    // An agent that is killed takes nothing with it.
    agent.kill();
    assert_eq!(wrong(&now), Vec::<String>::new());
    agent.restart();
    assert_eq!(wrong(&now), Vec::<String>::new());

    // Two policies add up; without any, everybody is open again.
    let more = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": app("other")}]}]});
    agent.write("more.yaml", policy("more", more));
    settles("a second policy", &[from(&other, &db, &ALL), from(&api, &db, &open), from(&db, &other, &[])].concat());
    agent.remove("more.yaml");
    agent.remove("policy.yaml");
    settles("no policy", &matrix(&ALL, &ALL));
    let after = node.pod("db").expect("the pod is there");
    assert_eq!(container_id(&before, "c"), container_id(&after, "c"), "nothing was started again");
    agent.stop();
}

/// Waits until one pod reaches exactly these addresses of another, by both protocols.
#[track_caller]
fn reaches(from: &Pod, to: &Pod, open: &[IpAddr], when: &str) {
    let end = Instant::now() + deadline();
    loop {
        let mut wrong = Vec::new();
        for (at, protocol) in to.at(OPEN).into_iter().flat_map(|at| PROTOCOLS.map(|protocol| (at, protocol))) {
            let expected = open.contains(&at.ip());
            let patience = if expected { PATIENCE } else { SILENCE };
            let answer = ask_within(&from.network, protocol, at, patience);
            if answer.as_ref().is_ok_and(|answer| answer.name == to.name) != expected {
                wrong.push(format!("{at} by {protocol:?}: {answer:?}"));
            }
        }
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{when}: {} to {}: {wrong:#?}", from.name, to.name);
    }
}

#[test]
fn a_policy_holds_in_a_network_and_for_blocks_of_both_families() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let subnets = if has_v6() { json!(["10.66.1.0/24", "fd66:1::/64"]) } else { json!(["10.66.1.0/24"]) };
    let network = json!({"apiVersion": "coracle.dev/v1alpha1", "kind": "Network", "metadata": {"name": "back"},
        "spec": {"subnets": subnets}});
    agent.write("network.yaml", network);
    for (name, label, network) in
        [("db", "db", "back"), ("api", "api", "back"), ("other", "other", "back"), ("flat-api", "api", "flat")]
    {
        let mut pod = labelled(name, json!({"app": label}));
        pod["metadata"]["annotations"] = json!({"coracle.dev/network": network});
        agent.write(&format!("{name}.yaml"), pod);
    }
    let [db, api, other, flat] = ["db", "api", "other", "flat-api"].map(|name| Pod::find(&node, name));
    let _answerers = answerers(&db);
    let all = db.ips.clone();
    let of = |six: bool| all.iter().copied().filter(|ip| ip.is_ipv6() == six).collect::<Vec<_>>();
    let ingress = |from: Value| policy("db", json!({"podSelector": app("db"), "ingress": [{"from": from}]}));
    for (pod, open) in [(&api, &all[..]), (&other, &all[..]), (&flat, &[][..])] {
        reaches(pod, &db, open, "without a policy");
    }

    // By labels: as among the flat ones. What networks keep apart no policy brings together.
    agent.write("policy.yaml", ingress(json!([{"podSelector": app("api")}])));
    for (pod, open) in [(&other, &[][..]), (&api, &all[..]), (&flat, &[][..])] {
        reaches(pod, &db, open, "by labels");
    }

    // By blocks with a hole, of one family and of the other.
    for six in [false, true] {
        if six && !has_v6() {
            println!("skipped in part: no IPv6");
            continue;
        }
        let own = |pod: &Pod| if six { pod.v6() } else { pod.v4() };
        let bits = if six { 128 } else { 32 };
        let cidr = subnets[usize::from(six)].clone();
        let hole = |pod: &Pod| format!("{}/{bits}", own(pod));
        let block = |except: &[&Pod]| {
            let except: Vec<String> = except.iter().map(|pod| hole(pod)).collect();
            json!({"ipBlock": {"cidr": cidr, "except": except}})
        };
        agent.write("policy.yaml", ingress(json!([block(&[&api])])));
        reaches(&api, &db, &[], "in the hole");
        reaches(&other, &db, &of(six), "in the block");
        agent.write("policy.yaml", ingress(json!([block(&[&api, &other]), {"ipBlock": {"cidr": hole(&api)}}])));
        reaches(&other, &db, &[], "in a hole");
        reaches(&api, &db, &of(six), "in a hole, and in a block of its own");
        // What goes out, as well.
        let egress = json!({"podSelector": app("api"), "policyTypes": ["Egress"], "egress": [{"to": [block(&[&db])]}]});
        agent.write("policy.yaml", policy("db", egress));
        reaches(&api, &db, &[], "to the hole");
        reaches(&other, &db, &all, "whom it is not about");
        let egress =
            json!({"podSelector": app("api"), "policyTypes": ["Egress"], "egress": [{"to": [block(&[&other])]}]});
        agent.write("policy.yaml", policy("db", egress));
        reaches(&api, &db, &of(six), "to the block");
    }
    agent.remove("policy.yaml");
    for (pod, open) in [(&api, &all[..]), (&other, &all[..]), (&flat, &[][..])] {
        reaches(pod, &db, open, "without it again");
    }
    agent.stop();
}

#[test]
fn what_goes_out_is_held_back_too_and_answers_are_not() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let egress =
        |to: Value| policy("quiet", json!({"podSelector": app("quiet"), "policyTypes": ["Egress"], "egress": to}));
    let pods = [("quiet", "quiet"), ("db", "db"), ("other", "other")]
        .map(|(name, label)| labelled(name, json!({"app": label})));
    let manifest = |to: Value| {
        let mut all = pods.to_vec();
        all.push(egress(to));
        several(&all)
    };
    // One pod, on one port; and a part of the world.
    let world = e2e::netns::OUTSIDE[0];
    let to = json!([
        {"to": [{"podSelector": app("db")}], "ports": [{"port": OPEN}]},
        {"to": [{"ipBlock": {"cidr": format!("{world}/32")}}], "ports": [{"port": OPEN, "protocol": "UDP"}]},
    ]);
    let run = node.run(manifest(to));
    let (quiet, db, other) = (Pod::find(&node, "quiet"), Pod::find(&node, "db"), Pod::find(&node, "other"));
    let held = [answerers(&quiet), answerers(&db), answerers(&other), Answerer::both(outside, OPEN, "world").into()];
    let all = [
        from(&quiet, &db, &[(Protocol::Tcp, OPEN)]),
        from(&quiet, &other, &[]),
        // Its answers to others pass.
        from(&other, &quiet, &ALL),
        ways(("the node", node.host()), &quiet, &ALL),
    ];
    assert_eq!(wrong(&all.concat()), Vec::<String>::new());
    let at = SocketAddr::new(world, OPEN);
    assert_eq!(ask(&quiet.network, Protocol::Udp, at).map(|it| it.name).ok().as_deref(), Some("world"));
    assert!(ask_within(&quiet.network, Protocol::Tcp, at, SILENCE).is_err());
    assert_eq!(ask(&other.network, Protocol::Tcp, at).map(|it| it.name).ok().as_deref(), Some("world"));
    end(&node, run, (quiet, db, other, held));
}

#[test]
fn the_example_lets_one_in_and_nobody_else() {
    need!(e2e::skip::root());
    let node = Node::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples/network-policy.yaml");
    let mut run = node.start(["run".into(), path]);
    run.wait_for("vault-api/api | hello from vault");
    run.wait_for("stranger");
    let end = Instant::now() + deadline();
    while node.pod("stranger").is_some_and(|pod| pod["status"]["phase"] != "Failed") {
        assert!(Instant::now() < end, "{:#?}", node.pods());
        sleep(Duration::from_millis(50));
    }
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert!(!finished.stdout().contains("stranger/stranger | hello"), "{}", finished.stdout());
    node.assert_nothing_left();
}
