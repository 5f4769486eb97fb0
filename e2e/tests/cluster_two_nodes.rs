//! Two machines, each a node of the same cluster, whose pods reach each other by routes that somebody has set.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

use e2e::agent::{Agent, condition};
use e2e::apiserver::ApiServer;
use e2e::kubectl::Kubectl;
use e2e::manifest::with;
use e2e::netns::{HOST, Host, OUTSIDE};
use e2e::pods::{Pod, has_v6, ips, keeper};
use e2e::traffic::{Answer, Answerer, PROTOCOLS, Protocol, ask};
use e2e::{Node, Run, fixtures, need};
use serde_json::{Value, json};

/// Where the pods answer.
const PORT: u16 = 7000;

/// Where their nodes lead to that.
const HOST_PORT: u16 = 17_000;

/// The ranges that all the cluster's pods have addresses of.
const CLUSTER: [&str; 2] = ["10.244.0.0/16", "fd00:244::/32"];

/// The network that the nodes are in.
const NODES: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];

/// A node of the cluster: its name, its addresses, what a controller gives to its pods, and what it sends to the other
/// node. The near one takes the other for the router of all pods, its own among them.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    addresses: [IpAddr; 2],
    ranges: [&'static str; 2],
    routes: [&'static str; 2],
}

const NEAR: [&str; 2] = ["10.244.1.0/24", "fd00:244:1::/64"];

const PLACES: [Place; 2] = [
    Place { name: "near", addresses: HOST, ranges: NEAR, routes: CLUSTER },
    Place { name: "far", addresses: OUTSIDE, ranges: ["10.244.2.0/24", "fd00:244:2::/64"], routes: NEAR },
];

/// What is of the families that this machine has.
fn usable<T: Copy>(pair: [T; 2]) -> Vec<T> {
    pair.into_iter().take(if has_v6() { 2 } else { 1 }).collect()
}

fn comma<T: ToString + Copy>(pair: [T; 2]) -> String {
    usable(pair).iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// An agent that is a node, with the range that a controller gives to its pods, and a route to the other node's pods.
fn join<'n>(node: &'n Node, server: &ApiServer, place: Place, other: Place) -> Agent<'n> {
    for (range, gateway) in usable(place.routes).into_iter().zip(other.addresses) {
        node.host().route(range, gateway).unwrap();
    }
    let kubeconfig = server.kubeconfig_of_node(place.name).display().to_string();
    let ca = server.authority_file().display().to_string();
    let (addresses, cluster) = (comma(place.addresses), format!("{},{}", comma(CLUSTER), comma(NODES)));
    let args = [
        ["--kubeconfig", &kubeconfig],
        ["--client-ca-file", &ca],
        ["--hostname-override", place.name],
        ["--node-ip", &addresses],
        ["--non-masquerade-cidr", &cluster],
    ];
    let agent = Agent::start_with(node, args.concat());
    server.wait_for("nodes", place.name, "ready", |node| condition(node, "Ready") == Some(true));
    let ranges = usable(place.ranges);
    server.merge("nodes", place.name, json!({"spec": {"podCIDR": ranges[0], "podCIDRs": ranges}}));
    agent.wait_for_words("the cluster gives addresses to this node's pods");
    agent
}

/// A pod that is bound to a node and published there.
fn bound(name: &str, node: &str) -> Value {
    let ports = PROTOCOLS.map(|it| json!({"containerPort": PORT, "hostPort": HOST_PORT, "protocol": it.name()}));
    let pod = keeper(name, json!({"ports": ports}));
    // With no grace the server would forget the pod at once.
    let spec = json!({"nodeName": node, "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": with(pod["spec"].clone(), spec),
    })
}

/// A pod, once it runs, and what answers in it. Its addresses are of its node's range, and the server says so.
fn find(node: &Node, server: &ApiServer, place: Place) -> (Pod, [Answerer; 2]) {
    let name = format!("on-{}", place.name);
    server.create(&bound(&name, place.name));
    let told =
        server.wait_for("pods", &format!("default/{name}"), "ready", |pod| condition(pod, "Ready") == Some(true));
    let pod = Pod::find(node, &name);
    assert_eq!(ips(&told), pod.ips);
    for (ip, range) in pod.ips.iter().zip(place.ranges) {
        let prefix = range.trim_end_matches("0/24").trim_end_matches(":/64");
        assert!(ip.to_string().starts_with(prefix), "{ip} is not of {range}");
    }
    assert_eq!(pod.ips.len(), usable(place.ranges).len(), "{pod:?}");
    assert_eq!(told["status"]["hostIP"], place.addresses[0].to_string());
    let answerers = Answerer::both(&pod.network, PORT, &name);
    (pod, answerers)
}

#[track_caller]
fn assert_answer(from: &Host, protocol: Protocol, at: SocketAddr, name: &str, own: IpAddr) {
    // A datagram may be lost; who asks by UDP asks again.
    let again = |error| if protocol == Protocol::Udp { ask(from, protocol, at) } else { Err(error) };
    let answer = ask(from, protocol, at).or_else(again);
    let answer = answer.unwrap_or_else(|error| panic!("{own} to {at} by {protocol:?}: {error}"));
    assert_eq!(answer, Answer { name: name.to_owned(), from: own }, "{own} to {at} by {protocol:?}");
}

/// That each pod reaches the other with its own address, by the other's node too, and that each node reaches the other's pod.
#[track_caller]
fn reach_each_other(nodes: [&Node; 2], pods: &[(Pod, [Answerer; 2]); 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let ((asker, _), (asked, _)) = (&pods[from], &pods[to]);
        for protocol in PROTOCOLS {
            let published = usable(PLACES[to].addresses).into_iter().map(|ip| SocketAddr::new(ip, HOST_PORT));
            for at in asked.at(PORT).into_iter().chain(published) {
                let own = asker.ip_like(at.ip());
                assert_answer(&asker.network, protocol, at, &asked.name, own);
            }
            for (at, own) in asked.at(PORT).into_iter().zip(PLACES[from].addresses) {
                assert_answer(nodes[from].host(), protocol, at, &asked.name, own);
            }
        }
    }
}

/// That kubectl is led to each pod, whichever node it is on.
fn talk(node: &Node, kubectl: &Kubectl, server: &ApiServer, pods: &[(Pod, [Answerer; 2]); 2]) {
    let config = server.kubeconfig_of_admin();
    let run = |args: &[&str]| Run::start(&mut kubectl.command(node, &config, args), None).wait().exits(0);
    for (pod, _) in pods {
        run(&["logs", &pod.name]).says("up");
        run(&["exec", &pod.name, "--", "hostname"]).says(&pod.name);
    }
}

#[test]
fn pods_of_two_nodes_reach_each_other_by_routes_with_their_own_addresses() {
    let near = need!(Node::with_busybox());
    let far = Node::beside(&near);
    far.import(&need!(fixtures::busybox()));
    let server = ApiServer::start_at(&near, near.host(), HOST[0]);
    let nodes = [&near, &far];
    let mut agents = [(0, 1), (1, 0)].map(|(own, other)| join(nodes[own], &server, PLACES[own], PLACES[other]));
    let pods = [0, 1].map(|which| find(nodes[which], &server, PLACES[which]));
    nodes.iter().for_each(|node| node.host().wait_until_settled());
    reach_each_other(nodes, &pods);

    match Kubectl::websocket() {
        Ok(kubectl) => talk(&near, &kubectl, &server, &pods),
        Err(why) => e2e::skip::announce(&format!("in part: {why}")),
    }

    for agent in &mut agents {
        agent.kill();
        reach_each_other(nodes, &pods);
        agent.restart();
        reach_each_other(nodes, &pods);
    }
    for (pod, answerers) in pods {
        drop(answerers);
        let which = format!("default/{}", pod.name);
        drop(pod);
        server.delete("pods", &which);
        server.wait_until_gone("pods", &which);
    }
    agents.iter_mut().for_each(Agent::stop_with_nothing_left);
}
