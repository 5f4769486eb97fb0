//! What Kubernetes' documentation and its own tests of NetworkPolicies describe, judged as a packet is.

#![allow(clippy::unwrap_used)]
use cri_proto::node::Protocol;
use cri_proto::node::policy_peer::Peer;
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> Name {
    let (namespace, name) = text.split_once('/').unwrap();
    (namespace.into(), name.into())
}

/// Three namespaces of three pods each, as Kubernetes' own tests have them; each pod serves 80 and 81 by TCP and by UDP.
fn world() -> Inputs {
    let mut inputs = Inputs::default();
    for namespace in ["x", "y", "z"] {
        for pod in ["a", "b", "c"] {
            add(&mut inputs, &format!("{namespace}/{pod}"), json!({"pod": pod}), false);
        }
    }
    inputs
}

fn add(inputs: &mut Inputs, text: &str, labels: Value, host: bool) {
    let (namespace, pod) = name(text);
    let ports: Vec<Value> = ["TCP", "UDP"]
        .iter()
        .flat_map(|protocol| {
            [80, 81].map(|port| {
                let called = format!("serve-{port}-{}", protocol.to_lowercase());
                json!({"name": called, "containerPort": port, "protocol": protocol})
            })
        })
        .collect();
    let object = json!({
        "metadata": {"namespace": namespace, "name": pod, "labels": labels},
        "spec": {"hostNetwork": host, "containers": [{"name": "c", "ports": ports}]},
    });
    inputs.pods.insert(name(text), Arc::new(serde_json::from_value(object).unwrap()));
}

/// A policy of a namespace, as its manifest says it.
fn policy(inputs: &mut Inputs, text: &str, spec: Value) {
    let (namespace, policy) = name(text);
    let whole = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": policy}, "spec": spec,
    });
    let source = manifests::Source { name: "it.json".into(), text: whole.to_string() };
    let manifest = manifests::read(&[source]);
    assert!(!manifest.has_errors(false), "{:?}", manifest.diagnostics);
    match manifest.objects.into_iter().next().unwrap().object {
        manifests::Object::NetworkPolicy(policy) => drop(inputs.declared.policies.insert(name(text), *policy)),
        other => panic!("{}", other.kind()),
    }
}

fn with(text: &str, spec: Value) -> Inputs {
    let mut inputs = world();
    policy(&mut inputs, text, spec);
    inputs
}

/// One end of a connection.
#[derive(Clone, Copy)]
enum End<'a> {
    Pod(&'a str),
    Address(&'a str),
}

/// Whether a connection is let through: what the sender may send to, and what the receiver may get.
fn lets(inputs: &Inputs, from: End<'_>, to: End<'_>, protocol: Protocol, port: u32) -> bool {
    let wanted = wanted(inputs);
    let of = |end: End<'_>| match end {
        End::Pod(pod) => wanted.iter().find(|it| it.pod == Some(pod_ref(&name(pod)))).cloned(),
        End::Address(_) => None,
    };
    let (sender, receiver) = (of(from), of(to));
    let out =
        sender.is_none_or(|it| !it.isolate_egress || it.egress.iter().any(|rule| allows(rule, to, protocol, port)));
    let into = receiver
        .is_none_or(|it| !it.isolate_ingress || it.ingress.iter().any(|rule| allows(rule, from, protocol, port)));
    out && into
}

fn allows(rule: &PolicyRule, end: End<'_>, protocol: Protocol, port: u32) -> bool {
    let is = |peer: &PolicyPeer| match (&peer.peer, end) {
        (Some(Peer::Pod(pod)), End::Pod(other)) => *pod == pod_ref(&name(other)),
        (Some(Peer::Block(block)), End::Address(address)) => {
            let within = |range: &String| {
                range.parse::<ipnet::IpNet>().unwrap().contains(&address.parse::<std::net::IpAddr>().unwrap())
            };
            within(&block.cidr) && !block.except.iter().any(within)
        }
        _ => false,
    };
    let on = |range: &PortRange| range.protocol() == protocol && (range.first..=range.last).contains(&port);
    (rule.peers.is_empty() || rule.peers.iter().any(is)) && (rule.ports.is_empty() || rule.ports.iter().any(on))
}

const PODS: [&str; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];

/// Who reaches a pod by TCP on a port, of all the others.
fn reach(inputs: &Inputs, to: &str, port: u32) -> Vec<&'static str> {
    let others = PODS.into_iter().filter(|from| *from != to);
    others.filter(|from| lets(inputs, End::Pod(from), End::Pod(to), Protocol::Tcp, port)).collect()
}

fn all_but(without: &[&str]) -> Vec<&'static str> {
    PODS.into_iter().filter(|it| !without.contains(it)).collect()
}

#[test]
fn without_a_policy_everybody_is_open() {
    assert_eq!(wanted(&world()), []);
    assert_eq!(reach(&world(), "x/a", 80), all_but(&["x/a"]));
}

#[test]
fn a_policy_for_what_comes_in_lets_in_whom_it_names() {
    let namespace = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let is = |pod: &str| json!({"matchLabels": {"pod": pod}});
    let rows: Vec<(&str, Value, Vec<&str>)> = vec![
        ("default deny", json!({}), vec![]),
        ("default deny, said", json!({"policyTypes": ["Ingress"], "ingress": []}), vec![]),
        ("allow all", json!({"ingress": [{}]}), all_but(&["x/a"])),
        ("allow all, no peers", json!({"ingress": [{"from": []}]}), all_but(&["x/a"])),
        ("pods of the namespace", json!({"ingress": [{"from": [{"podSelector": {}}]}]}), vec!["x/b", "x/c"]),
        ("one pod", json!({"ingress": [{"from": [{"podSelector": is("b")}]}]}), vec!["x/b"]),
        ("pods that are not there", json!({"ingress": [{"from": [{"podSelector": is("q")}]}]}), vec![]),
        ("every namespace", json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}), all_but(&["x/a"])),
        (
            "another namespace",
            json!({"ingress": [{"from": [{"namespaceSelector": namespace("y")}]}]}),
            vec!["y/a", "y/b", "y/c"],
        ),
        (
            "match expressions on pods",
            json!({"ingress": [{"from": [{"podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": ["c"]}]}}]}]}),
            vec!["x/c"],
        ),
        (
            "match expressions on namespaces",
            json!({"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]}]}}]}]}),
            vec!["y/a", "y/b", "y/c", "z/a", "z/b", "z/c"],
        ),
        (
            "pods or namespaces",
            json!({"ingress": [{"from": [{"podSelector": is("b")}, {"namespaceSelector": namespace("y")}]}]}),
            vec!["x/b", "y/a", "y/b", "y/c"],
        ),
        (
            "pods and namespaces",
            json!({"ingress": [{"from": [{"podSelector": is("b"), "namespaceSelector": namespace("y")}]}]}),
            vec!["y/b"],
        ),
        (
            "several of both",
            json!({"ingress": [{"from": [{
                "podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": ["b", "c"]}]},
                "namespaceSelector": {"matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]}]},
            }]}]}),
            vec!["y/b", "y/c", "z/b", "z/c"],
        ),
        (
            "pods of any namespace",
            json!({"ingress": [{"from": [{"podSelector": is("b"), "namespaceSelector": {}}]}]}),
            vec!["x/b", "y/b", "z/b"],
        ),
        (
            "a namespace by a label that none has",
            json!({"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "q"}}}]}]}),
            vec![],
        ),
        (
            "two rules",
            json!({"ingress": [{"from": [{"podSelector": is("b")}]}, {"from": [{"namespaceSelector": namespace("z")}]}]}),
            vec!["x/b", "z/a", "z/b", "z/c"],
        ),
        ("only what goes out", json!({"policyTypes": ["Egress"]}), all_but(&["x/a"])),
    ];
    for (title, mut spec, expected) in rows {
        spec["podSelector"] = is("a");
        let inputs = with("x/p", spec);
        assert_eq!(reach(&inputs, "x/a", 80), expected, "{title}");
        assert_eq!(
            reach(&inputs, "x/b", 80).len(),
            if title == "only what goes out" { 7 } else { 8 },
            "{title}: others"
        );
        assert!(
            lets(&inputs, End::Pod("x/a"), End::Address("192.0.2.1"), Protocol::Tcp, 80)
                == (title != "only what goes out")
        );
    }
}

#[test]
fn a_policy_for_what_goes_out_lets_out_to_whom_it_names() {
    let rows: Vec<(&str, Value, Vec<&str>)> = vec![
        ("default deny", json!({"policyTypes": ["Egress"]}), vec![]),
        ("default deny of both", json!({"policyTypes": ["Ingress", "Egress"]}), vec![]),
        ("allow all", json!({"policyTypes": ["Egress"], "egress": [{}]}), all_but(&["x/a"])),
        ("egress alone says its type", json!({"egress": [{"to": [{"podSelector": {}}]}]}), vec!["x/b", "x/c"]),
        (
            "a pod of another namespace",
            json!({"egress": [{"to": [{
                "podSelector": {"matchLabels": {"pod": "b"}},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}},
            }]}]}),
            vec!["y/b"],
        ),
    ];
    for (title, mut spec, expected) in rows {
        spec["podSelector"] = json!({"matchLabels": {"pod": "a"}});
        let inputs = with("x/p", spec);
        let reached = PODS.into_iter().filter(|to| *to != "x/a");
        let reached: Vec<_> =
            reached.filter(|to| lets(&inputs, End::Pod("x/a"), End::Pod(to), Protocol::Tcp, 80)).collect();
        assert_eq!(reached, expected, "{title}");
    }
    // A whole namespace.
    let inputs = with("x/p", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    assert_eq!(reach(&inputs, "x/a", 80), ["y/a", "y/b", "y/c", "z/a", "z/b", "z/c"]);
    assert_eq!(reach(&inputs, "y/a", 80), all_but(&["x/a", "x/b", "x/c", "y/a"]));
}

#[test]
fn ports_are_told_apart_by_number_range_name_and_protocol() {
    let on = |ports: Value| {
        with("x/p", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"ports": ports}]}))
    };
    let open = |inputs: &Inputs| -> Vec<String> {
        let mut open = Vec::new();
        for (protocol, word) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp"), (Protocol::Sctp, "sctp")] {
            for port in [80, 81, 82] {
                if lets(inputs, End::Pod("y/b"), End::Pod("x/a"), protocol, port) {
                    open.push(format!("{word} {port}"));
                }
            }
        }
        open
    };
    let every = ["tcp 80", "tcp 81", "tcp 82", "udp 80", "udp 81", "udp 82", "sctp 80", "sctp 81", "sctp 82"];
    for (ports, expected) in [
        (json!([]), every.to_vec()),
        (json!([{"port": 80}]), vec!["tcp 80"]),
        (json!([{"port": 81, "protocol": "UDP"}]), vec!["udp 81"]),
        (json!([{"port": 80, "protocol": "SCTP"}]), vec!["sctp 80"]),
        (json!([{"protocol": "UDP"}]), vec!["udp 80", "udp 81", "udp 82"]),
        (json!([{"port": 80, "endPort": 81}]), vec!["tcp 80", "tcp 81"]),
        (json!([{"port": 80}, {"port": 82, "protocol": "UDP"}]), vec!["tcp 80", "udp 82"]),
        (json!([{"port": "serve-81-tcp"}]), vec!["tcp 81"]),
        (json!([{"port": "serve-81-udp", "protocol": "UDP"}]), vec!["udp 81"]),
        (json!([{"port": "serve-81-udp"}]), vec![]),
        (json!([{"port": "unheard-of"}]), vec![]),
        (json!([{"port": "unheard-of"}, {"port": 80}]), vec!["tcp 80"]),
    ] {
        assert_eq!(open(&on(ports.clone())), expected, "{ports}");
    }
}

#[test]
fn names_of_ports_on_the_way_out_are_those_of_each_target() {
    let mut inputs = world();
    // One whose port of that name has another number.
    let mut other = Pod::clone(&inputs.pods[&name("y/a")]);
    other.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 8080;
    inputs.pods.insert(name("y/a"), Arc::new(other));
    let egress = |to: Value| json!({"podSelector": {"matchLabels": {"pod": "a"}}, "egress": [{"to": to, "ports": [{"port": "serve-80-tcp"}]}]});
    let sends = |inputs: &Inputs, to: End<'_>, port: u32| lets(inputs, End::Pod("x/a"), to, Protocol::Tcp, port);
    policy(&mut inputs, "x/p", egress(json!([])));
    assert!(sends(&inputs, End::Pod("y/a"), 8080) && !sends(&inputs, End::Pod("y/a"), 80));
    assert!(sends(&inputs, End::Pod("y/b"), 80) && !sends(&inputs, End::Pod("y/b"), 8080));
    assert!(!sends(&inputs, End::Address("192.0.2.1"), 80), "an address has no names");
    policy(&mut inputs, "x/p", egress(json!([{"podSelector": {}}])));
    assert!(sends(&inputs, End::Pod("x/b"), 80) && !sends(&inputs, End::Pod("y/b"), 80));
    policy(&mut inputs, "x/p", egress(json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}])));
    assert!(!sends(&inputs, End::Address("192.0.2.1"), 80) && !sends(&inputs, End::Pod("x/b"), 80));
}

#[test]
fn ranges_of_addresses_are_addresses_and_no_pods() {
    let egress =
        |blocks: Value| with("x/p", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "egress": [{"to": blocks}]}));
    let sends = |inputs: &Inputs, to: &str| lets(inputs, End::Pod("x/a"), End::Address(to), Protocol::Tcp, 80);
    let one = egress(json!([{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}]));
    assert!(sends(&one, "192.0.2.1") && !sends(&one, "192.0.2.200") && !sends(&one, "198.51.100.1"));
    assert!(!sends(&one, "2001:db8::1"));
    let both = egress(json!([
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}, {"ipBlock": {"cidr": "192.0.2.200/32"}},
    ]));
    assert!(sends(&both, "192.0.2.200") && !sends(&both, "192.0.2.201"), "one item's exception is not another's");
    let ingress = with(
        "x/p",
        json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}]}),
    );
    let gets = |from: &str| lets(&ingress, End::Address(from), End::Pod("x/a"), Protocol::Tcp, 80);
    assert!(gets("2001:db8::1") && !gets("2001:db9::1"));
}

#[test]
fn policies_add_up_and_both_ends_have_to_agree() {
    let a = json!({"matchLabels": {"pod": "a"}});
    let mut inputs = with("x/deny", json!({"podSelector": {}}));
    policy(
        &mut inputs,
        "x/b",
        json!({"podSelector": a, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}], "ports": [{"port": 80}]}]}),
    );
    policy(
        &mut inputs,
        "x/c",
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "c"}}}], "ports": [{"port": 81}]}]}),
    );
    assert_eq!(reach(&inputs, "x/a", 80), ["x/b"]);
    assert_eq!(reach(&inputs, "x/a", 81), ["x/c"]);
    assert_eq!(reach(&inputs, "x/b", 81), ["x/c"]);
    policy(&mut inputs, "x/open", json!({"podSelector": a, "ingress": [{}]}));
    assert_eq!(reach(&inputs, "x/a", 82), all_but(&["x/a"]), "one that allows all wins");
    // A client that may not send does not reach a server that would let it in.
    policy(&mut inputs, "y/quiet", json!({"podSelector": a, "policyTypes": ["Egress"]}));
    assert_eq!(reach(&inputs, "x/a", 80), all_but(&["x/a", "y/a"]));
    policy(&mut inputs, "y/loud", json!({"podSelector": a, "policyTypes": ["Egress"], "egress": [{}]}));
    assert_eq!(reach(&inputs, "x/a", 80), all_but(&["x/a"]));
    // Both directions of one pod, in one policy.
    let mut both = with(
        "x/p",
        json!({
            "podSelector": a, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": 80}]}], "egress": [{"ports": [{"port": 81}]}],
        }),
    );
    assert!(lets(&both, End::Pod("y/b"), End::Pod("x/a"), Protocol::Tcp, 80));
    assert!(!lets(&both, End::Pod("y/b"), End::Pod("x/a"), Protocol::Tcp, 81));
    assert!(lets(&both, End::Pod("x/a"), End::Pod("y/b"), Protocol::Tcp, 81));
    assert!(!lets(&both, End::Pod("x/a"), End::Pod("y/b"), Protocol::Tcp, 80));
    both.declared.policies.clear();
    assert_eq!(wanted(&both), [], "what is gone is in force no more");
}

#[test]
fn a_pod_with_other_labels_is_another_pod_to_policies() {
    let mut inputs = with(
        "x/p",
        json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]}),
    );
    assert_eq!(reach(&inputs, "x/a", 80), ["x/b"]);
    add(&mut inputs, "x/c", json!({"pod": "b"}), false);
    assert_eq!(reach(&inputs, "x/a", 80), ["x/b", "x/c"]);
    add(&mut inputs, "x/a", json!({"pod": "q"}), false);
    assert_eq!(reach(&inputs, "x/a", 80), all_but(&["x/a"]));
}

#[test]
fn pods_in_the_hosts_network_are_neither_chosen_nor_peers() {
    let mut inputs = world();
    add(&mut inputs, "x/b", json!({"pod": "b"}), true);
    policy(&mut inputs, "x/p", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}));
    let all = wanted(&inputs);
    let chosen: Vec<&str> = all.iter().map(|it| it.pod.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(chosen, ["a", "c"]);
    assert_eq!(reach(&inputs, "x/a", 80), ["x/c"]);
}

#[test]
fn pods_of_other_owners_are_peers_and_are_not_chosen() {
    let mut inputs = with("x/p", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}));
    for pod in ["x/b", "x/c"] {
        let taken = inputs.pods.remove(&name(pod)).unwrap();
        inputs.seen.insert(name(pod), taken);
    }
    assert_eq!(reach(&inputs, "x/a", 80), ["x/b", "x/c"]);
    assert_eq!(reach(&inputs, "x/b", 80), all_but(&["x/b"]));
    assert!(concerns(&inputs, &name("x/a")) && !concerns(&inputs, &name("x/b")) && !concerns(&inputs, &name("y/a")));
}
