//! A node of a cluster with pods and Services, and what has to hold of who reaches whom.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use e2e::Node;
use e2e::agent::Agent;
use e2e::apiserver::ApiServer;
use e2e::netns::{HOST, Host, OUTSIDE};
use e2e::pods::{Pod, has_v6, keeper};
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, SILENCE, ask, ask_within};
use serde_json::{Value, json};

use super::replay::Mode;

/// What every pod listens on.
const PORT: u16 = 7000;
/// What the node listens on, as pods of its network do.
const OF_NODE: u16 = 7443;
/// Where `web` is published by its pod.
const PUBLISHED: u16 = 8080;
/// The port of every Service.
const SERVED: u16 = 80;

/// The range of this node's pods, and that of all nodes'.
pub const PODS: &str = "10.99.0.0/24,fd99::/64";
pub const CLUSTER: &str = "10.99.0.0/16,fd99::/56";

/// What kube-proxy sets, so that 127.0.0.1 leads somewhere, and leaves.
pub const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

/// A Service: its name, the last number of its addresses, who is behind it, its port of the node.
type Row = (&'static str, u8, &'static [&'static str], Option<u16>);

const SERVICES: [Row; 7] = [
    ("both", 10, &["web", "peer"], None),
    ("single", 11, &["web"], Some(30080)),
    ("local", 12, &["web"], Some(30081)),
    ("sticky", 13, &["web", "peer"], None),
    ("empty", 14, &[], None),
    ("node", 15, &["HOST"], None),
    ("apart", 16, &["apart"], Some(30082)),
];

fn number(name: &str) -> u8 {
    SERVICES.iter().find(|it| it.0 == name).unwrap().1
}

/// A Service's address.
pub fn cluster_ip(name: &str, six: bool) -> IpAddr {
    let number = number(name);
    match six {
        false => Ipv4Addr::new(10, 96, 0, number).into(),
        true => format!("fd96::{number}").parse().unwrap(),
    }
}

fn node_port(name: &str) -> u16 {
    SERVICES.iter().find(|it| it.0 == name).and_then(|it| it.3).unwrap()
}

pub fn families() -> Vec<bool> {
    if has_v6() { vec![false, true] } else { vec![false] }
}

/// The name of the node.
pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// Pods on a node of a cluster, who answers in them, and the node's neighbour.
pub struct World<'n> {
    pub node: &'n Node,
    pub server: ApiServer,
    pub pods: Vec<Pod>,
    agent: Agent<'n>,
    answerers: Vec<Answerer>,
}

impl<'n> World<'n> {
    pub fn new(node: &'n Node) -> Self {
        node.outside();
        let server = ApiServer::start(node);
        let kubeconfig = server.kubeconfig_of_node(&node_name());
        let given = kubeconfig.to_str().unwrap();
        let agent =
            Agent::start_with(node, ["--kubeconfig", given, "--pod-cidr", PODS, "--service-cidr", "10.97.0.0/24"]);
        // One after the other: recordings have their addresses by name, and are easier to read when those stay.
        let pods: Vec<Pod> = ["web", "peer", "apart"].map(|name| begin(node, &server, name)).into();
        let mut answerers: Vec<_> = pods.iter().flat_map(|it| Answerer::both(&it.network, PORT, &it.name)).collect();
        for six in families() {
            // At one address: the kernel would answer a pod from the one that the pod knows as its gateway.
            let at = SocketAddr::new(HOST[usize::from(six)], OF_NODE);
            answerers.extend(PROTOCOLS.map(|it| Answerer::start(node.host(), it, at, "node").unwrap()));
        }
        Self { node, server, pods, agent, answerers }
    }

    pub fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|it| it.name == name).unwrap()
    }

    /// What does not do what it should.
    pub fn wrong(&self, mode: Mode) -> Vec<String> {
        let mut wrong = Vec::new();
        for six in families() {
            for protocol in PROTOCOLS {
                let asked = Asking { world: self, six, protocol };
                wrong.extend(asked.by_cluster_ip().into_iter().chain(asked.by_node_port(mode)));
            }
            wrong.extend(Asking { world: self, six, protocol: Protocol::Tcp }.refused());
        }
        wrong
    }

    pub fn end(mut self) {
        drop((self.answerers, self.pods));
        for name in ["web", "peer", "apart"] {
            self.server.delete("pods", &format!("default/{name}"));
            self.server.wait_until_gone("pods", &format!("default/{name}"));
        }
        self.node.host().within(|| fs::write(ROUTE_LOCALNET, "0")).unwrap();
        self.agent.stop_with_nothing_left();
    }
}

fn begin(node: &Node, server: &ApiServer, name: &str) -> Pod {
    let mut container = json!({"ports": [{"containerPort": PORT}]});
    if name == "web" {
        let ports = PROTOCOLS.map(|it| json!({"containerPort": PORT, "hostPort": PUBLISHED, "protocol": it.name()}));
        container["ports"] = json!(ports);
    }
    let mut pod = keeper(name, container);
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(node_name());
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    if name == "apart" {
        pod["metadata"]["annotations"] = json!({"coracle.dev/network": "private"});
    }
    server.create(&pod);
    Pod::find(node, name)
}

/// The Services and EndpointSlices that kube-proxy is given.
pub fn services(world: &World<'_>) -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, _, behind, node_port) in SERVICES {
        let port = |protocol: Protocol| {
            let mut port = json!({"name": protocol.name().to_lowercase(), "protocol": protocol.name(), "port": SERVED,
                "targetPort": PORT});
            if let Some(number) = node_port {
                port["nodePort"] = json!(number);
            }
            port
        };
        let addresses: Vec<IpAddr> = families().into_iter().map(|six| cluster_ip(name, six)).collect();
        let kinds: Vec<&str> = addresses.iter().map(|it| if it.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
        let mut spec = json!({"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": kinds,
            "ipFamilyPolicy": "PreferDualStack", "ports": PROTOCOLS.map(port),
            "type": if node_port.is_some() { "NodePort" } else { "ClusterIP" }});
        if name == "local" {
            spec["externalTrafficPolicy"] = json!("Local");
        }
        if name == "sticky" {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
        }
        let metadata = json!({"name": name, "namespace": "default"});
        objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}));
        for six in families() {
            objects.push(slice(world, name, behind, six));
        }
    }
    objects
}

fn slice(world: &World<'_>, name: &str, behind: &[&str], six: bool) -> Value {
    let (family, kind) = if six { (1, "IPv6") } else { (0, "IPv4") };
    let address = |who: &&str| match *who {
        "HOST" => HOST[family],
        pod => world.pod(pod).ip_like(HOST[family]),
    };
    let endpoint = |who: &&str| {
        json!({"addresses": [address(who)], "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": node_name()})
    };
    let number = if behind == ["HOST"] { OF_NODE } else { PORT };
    let ports = PROTOCOLS.map(|it| json!({"name": it.name().to_lowercase(), "protocol": it.name(), "port": number}));
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
        "metadata": {"name": format!("{name}-{}", kind.to_lowercase()), "namespace": "default",
            "labels": {"kubernetes.io/service-name": name}},
        "endpoints": behind.iter().map(endpoint).collect::<Vec<_>>(), "ports": ports})
}

/// One protocol of one family.
struct Asking<'a> {
    world: &'a World<'a>,
    six: bool,
    protocol: Protocol,
}

impl Asking<'_> {
    fn family(&self) -> usize {
        usize::from(self.six)
    }

    fn service(&self, name: &str) -> SocketAddr {
        SocketAddr::new(cluster_ip(name, self.six), SERVED)
    }

    fn of_node(&self, port: u16) -> SocketAddr {
        SocketAddr::new(HOST[self.family()], port)
    }

    fn of(&self, pod: &str) -> IpAddr {
        self.world.pod(pod).ip_like(HOST[self.family()])
    }

    /// Complains unless one of these answers, who sees `from` if that is said.
    fn answers(&self, who: &str, host: &Host, at: SocketAddr, names: &[&str], from: Option<IpAddr>) -> Option<String> {
        let answer = ask(host, self.protocol, at);
        let right = answer
            .as_ref()
            .is_ok_and(|it| names.contains(&it.name.as_str()) && from.is_none_or(|from| from == it.from));
        (!right).then(|| format!("{who} to {at} by {:?}: {answer:?}, not {names:?} asked by {from:?}", self.protocol))
    }

    /// Complains if anybody answers.
    fn is_silent(&self, who: &str, host: &Host, at: SocketAddr) -> Option<String> {
        let answer = ask_within(host, self.protocol, at, SILENCE).ok()?;
        Some(format!("{who} to {at} by {:?}: {answer:?}, and nobody should answer", self.protocol))
    }

    fn by_cluster_ip(&self) -> Vec<String> {
        let (host, web, peer) = (self.world.node.host(), self.world.pod("web"), self.world.pod("peer"));
        let apart = self.world.pod("apart");
        let both = ["web", "peer"];
        let mut wrong: Vec<Option<String>> = vec![
            self.answers("the host", host, self.service("both"), &both, None),
            self.answers("the host", host, self.service("single"), &["web"], None),
            self.answers("a pod", &peer.network, self.service("single"), &["web"], Some(self.of("peer"))),
            // It would not take a packet from its own address.
            self.answers("a pod to itself", &web.network, self.service("single"), &["web"], None),
            // Its node, and what is in the node's network, is reached as pods are.
            self.answers("a pod", &peer.network, self.service("node"), &["node"], Some(self.of("peer"))),
            self.answers("a pod", &peer.network, self.of_node(OF_NODE), &["node"], Some(self.of("peer"))),
            self.is_silent("a private pod", &apart.network, self.service("node")),
            self.is_silent("a private pod", &apart.network, self.of_node(OF_NODE)),
            // A Service opens nothing that a network closes.
            self.is_silent("a pod to a private one", &peer.network, self.service("apart")),
            self.is_silent("a private pod", &apart.network, self.service("single")),
            self.answers("the host", host, self.service("apart"), &["apart"], None),
        ];
        let first = ask(&peer.network, self.protocol, self.service("sticky")).map(|it| it.name).unwrap_or_default();
        let again = || self.answers("a client", &peer.network, self.service("sticky"), &[&first], None);
        wrong.extend((0..6).map(|_| again()));
        wrong.into_iter().flatten().collect()
    }

    fn by_node_port(&self, mode: Mode) -> Vec<String> {
        let node = self.world.node;
        let (outside, web, peer) = (node.outside(), self.world.pod("web"), self.world.pod("peer"));
        let (single, local) = (self.of_node(node_port("single")), self.of_node(node_port("local")));
        let stranger = OUTSIDE[self.family()];
        let mut wrong = vec![
            self.answers("outside", outside, single, &["web"], None),
            self.answers("outside", outside, local, &["web"], Some(stranger)),
            self.answers("a pod", &peer.network, single, &["web"], None),
            self.answers("a pod to itself", &web.network, single, &["web"], None),
            self.answers("the host", node.host(), single, &["web"], None),
            self.is_silent("outside to a private pod", outside, self.of_node(node_port("apart"))),
            self.is_silent("a pod to a private one", &peer.network, self.of_node(node_port("apart"))),
            // Published ports are none of kube-proxy's.
            self.answers("outside", outside, self.of_node(PUBLISHED), &["web"], Some(stranger)),
            self.answers("a pod", &peer.network, self.of_node(PUBLISHED), &["web"], Some(self.of("peer"))),
            self.answers("the host", node.host(), self.of_node(PUBLISHED), &["web"], None),
        ];
        if mode == Mode::Iptables && !self.six {
            let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), node_port("single"));
            wrong.push(self.answers("the host", node.host(), loopback, &["web"], None));
        }
        wrong.into_iter().flatten().collect()
    }

    /// Where nobody is behind a Service its clients are told at once.
    fn refused(&self) -> Vec<String> {
        let (at, peer) = (self.service("empty"), self.world.pod("peer"));
        let refused = |who: &str, host: &Host| {
            let answer = ask_within(host, self.protocol, at, Duration::from_secs(5));
            let right = answer.as_ref().is_err_and(|it| it.kind() == ErrorKind::ConnectionRefused);
            (!right).then(|| format!("{who} to {at}: {answer:?}, and it should be refused"))
        };
        [refused("the host", self.world.node.host()), refused("a pod", &peer.network)].into_iter().flatten().collect()
    }
}
