#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::net::sender::Trouble;
use crate::net::{Picture, wanted};

fn name(text: &str) -> Name {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    (namespace.into(), name.into())
}

fn pod(text: &str, links: &str, ports: Value) -> (Name, Arc<Pod>) {
    let (namespace, pod) = name(text);
    let annotations = if links.is_empty() { json!({}) } else { json!({"coracle.dev/links": links}) };
    let object = json!({
        "metadata": {"namespace": namespace, "name": pod, "annotations": annotations},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
    });
    ((namespace, pod), Arc::new(serde_json::from_value(object).unwrap()))
}

/// The pod as it is seen, somewhere.
fn seen((name, pod): &(Name, Arc<Pod>), phase: &str, ready: bool, ips: &[&str]) -> (Name, Arc<Pod>) {
    let mut pod = Pod::clone(pod);
    let ready = if ready { "True" } else { "False" };
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}], "podIPs": ips});
    pod.status = serde_json::from_value(status).unwrap();
    (name.clone(), Arc::new(pod))
}

fn inputs(pods: &[(Name, Arc<Pod>)], seen: impl IntoIterator<Item = (Name, Arc<Pod>)>) -> Inputs {
    Inputs { pods: pods.iter().cloned().collect(), seen: seen.into_iter().collect(), ..Inputs::default() }
}

fn db() -> (Name, Arc<Pod>) {
    pod("db", "", json!([{"containerPort": 6380}, {"containerPort": 6379}, {"containerPort": 6379, "protocol": "UDP"}]))
}

fn range(protocol: node::Protocol, first: u32, last: u32) -> node::PortRange {
    node::PortRange { protocol: protocol.into(), first, last }
}

#[test]
fn a_link_allows_the_declared_ports_and_names_the_source_for_its_pod() {
    let pods = [pod("web", "db:redis", json!([])), db()];
    let request = wanted(&inputs(&pods, []));
    let link = node::Link {
        from: Some(pod_ref(&name("web"))),
        alias: "redis".into(),
        target: "pod/default/db".into(),
        endpoints: vec![node::LinkEndpoint {
            pod: Some(pod_ref(&name("db"))),
            ports: vec![range(node::Protocol::Tcp, 6379, 6380), range(node::Protocol::Udp, 6379, 6379)],
        }],
    };
    let alias = node::Name {
        name: "redis".into(),
        asker: Some(pod_ref(&name("web"))),
        pods: vec![pod_ref(&name("db"))],
        ..node::Name::default()
    };
    let expected = node::SetNetworkRequest { links: vec![link], names: vec![alias], ..Default::default() };
    assert_eq!(request, expected, "before either runs");
    let up = seen(&pods[1], "Running", true, &["10.1.0.2"]);
    assert_eq!(wanted(&inputs(&pods, [up])), expected, "the runtime finds addresses by name");
}

#[test]
fn ports_of_sidecars_count_and_those_of_init_containers_do_not() {
    let object = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81}]}],
        "initContainers": [
            {"name": "b", "ports": [{"containerPort": 90}]},
            {"name": "c", "restartPolicy": "Always", "ports": [{"containerPort": 82, "protocol": "SCTP"}]},
        ],
    }});
    let ports = declared(&serde_json::from_value(object).unwrap());
    let shown: Vec<String> = ports.iter().map(Port::to_string).collect();
    assert_eq!(shown, ["80/tcp", "81/tcp", "82/sctp"]);
}

#[test]
fn a_pod_waits_for_what_it_is_linked_to_and_says_how_that_is() {
    let web = pod("web", "db, cache.other:redis, late(ungated), service/front", json!([]));
    let cache = pod("other/cache", "", json!([]));
    let late = pod("late", "", json!([]));
    let pods = [web, db(), late];
    let gate = |seen: Vec<(Name, Arc<Pod>)>| {
        let gate = Picture::of(inputs(&pods, seen)).gate(&name("web"), None).unwrap();
        assert_eq!(gate.reason, "WaitingForLinks");
        gate.message
    };
    let front = "link front: there is no Service default/front";
    assert_eq!(
        gate(vec![]),
        format!(
            "link db: pod default/db is not ready (it is Pending), link redis: there is no pod other/cache, {front}"
        )
    );
    let unready = seen(&pods[1], "Running", false, &["10.1.0.2"]);
    let up = seen(&cache, "Running", true, &["10.1.0.3"]);
    assert_eq!(
        gate(vec![unready, up.clone()]),
        format!("link db: pod default/db is not ready (it is Running), {front}")
    );
    assert_eq!(gate(vec![seen(&pods[1], "Running", true, &["10.1.0.2"]), up]), front);
    assert_eq!(Picture::of(inputs(&pods, [])).gate(&name("db"), None), None);
}

#[test]
fn a_name_with_a_dot_is_told_apart_from_a_namespace() {
    let pods = [pod("web", "a.b", json!([])), pod("a.b", "", json!([]))];
    let message = Picture::of(inputs(&pods, [])).gate(&name("web"), None).unwrap().message;
    assert_eq!(message, "link a: there is no pod b/a; pod a.b of this namespace is written a.b.default:ALIAS");
}

#[test]
fn a_pod_of_the_hosts_network_cannot_be_linked_to() {
    let mut host = Pod::clone(&db().1);
    host.spec.as_mut().unwrap().host_network = Some(true);
    let pods = [pod("web", "db", json!([])), (name("db"), Arc::new(host))];
    let picture = Picture::of(inputs(&pods, [seen(&pods[1], "Running", true, &["192.168.0.1"])]));
    let message = picture.gate(&name("web"), None).unwrap().message;
    assert_eq!(message, "link db: pod default/db is in the host's network, where no link leads");
    assert_eq!(picture.request(), node::SetNetworkRequest::default());
    assert_eq!(picture.surroundings(&name("web")).hosts(), []);
}

#[test]
fn more_ports_than_a_link_takes_are_none() {
    let ports: Vec<Value> = (1..=1025).map(|port| json!({"containerPort": port})).collect();
    let pods = [pod("web", "db", json!([])), pod("db", "", json!(ports))];
    let picture = Picture::of(inputs(&pods, []));
    let message = picture.gate(&name("web"), None).unwrap().message;
    assert_eq!(message, "link db: pod default/db declares 1025 ports: a link leads to 1024 at most");
    assert!(picture.request().links.is_empty());
}

#[test]
fn on_another_runtime_a_pod_with_links_does_not_begin() {
    let pods = [pod("web", "db(ungated)", json!([])), db()];
    let picture = Picture::of(inputs(&pods, []));
    assert_eq!(picture.gate(&name("db"), Some(&Trouble::Foreign)), None);
    let gate = picture.gate(&name("web"), Some(&Trouble::Foreign)).unwrap();
    assert_eq!(gate.reason, "LinksUnsupported");
    assert!(gate.message.ends_with("take coracle.dev/links away"), "{}", gate.message);
}

#[test]
fn what_is_looked_at_is_what_links_lead_to() {
    let pods = [pod("web", "db", json!([])), db(), pod("other", "", json!([]))];
    let picture = Picture::of(inputs(&pods, []));
    assert_eq!(picture.watched(), [name("db")].into());
    assert!(!picture.looks_abroad());
    let pods = [pod("web", "db.other", json!([])), db()];
    assert!(Picture::of(inputs(&pods, [])).looks_abroad());
    assert!(!Picture::of(inputs(&[pod("web", "service/db.other", json!([]))], [])).looks_abroad());
}

#[test]
fn a_pod_knows_where_its_links_lead_and_what_it_asked_for() {
    let pods = [pod("web", "db:a, db:b(env), late(ungated)", json!([])), db(), pod("late", "", json!([]))];
    let up = seen(&pods[1], "Running", true, &["10.1.0.2", "fd00::2"]);
    let around = Picture::of(inputs(&pods, [up])).surroundings(&name("web"));
    let line = |ip: &str, name: &str| (ip.to_owned(), name.to_owned());
    assert_eq!(
        around.hosts(),
        [line("10.1.0.2", "a"), line("fd00::2", "a"), line("10.1.0.2", "b"), line("fd00::2", "b")]
    );
    let given: Vec<bool> = around.links.iter().map(|link| link.source.is_some()).collect();
    assert_eq!(given, [false, true, false]);
    assert_eq!(around.links[2].lease, Some((name("late"), String::new())), "its address is known before it is");
    assert_eq!(around.links[0].ports.len(), 3);
}

#[test]
fn a_service_is_reached_by_its_address_and_its_pods_by_their_ports() {
    let service = node::Service {
        namespace: "default".into(),
        name: "front".into(),
        addresses: vec!["10.2.0.1".into()],
        ports: vec![node::ServicePort {
            protocol: node::Protocol::Tcp.into(),
            port: 80,
            endpoints: ["a", "b"].map(|it| node::ServiceEndpoint { pod: Some(pod_ref(&name(it))), port: 8080 }).into(),
        }],
        affinity_seconds: 0,
    };
    let pods = [pod("web", "service/front:f, svc/none, svc/bare", json!([]))];
    let bare = node::Service { name: "bare".into(), addresses: vec![], ..service.clone() };
    let none = node::Service { name: "none".into(), ports: vec![], ..service.clone() };
    let services = Services { services: vec![service, bare, none], names: vec![] };
    let links = resolve(&inputs(&pods, []), &services);
    let [front, none, bare] = &links[..] else { panic!("{links:?}") };
    assert_eq!((front.state.clone(), front.target()), (State::Ready, "service/default/front".into()));
    let ports: Vec<_> = front.wire().endpoints.into_iter().map(|it| (it.pod.unwrap().name, it.ports)).collect();
    let eighty = vec![range(node::Protocol::Tcp, 8080, 8080)];
    assert_eq!(ports, [("a".into(), eighty.clone()), ("b".into(), eighty)]);
    assert_eq!((front.name().addresses, front.name().pods), (vec!["10.2.0.1".to_owned()], vec![]));
    assert_eq!(front.ports, [Port { protocol: Protocol::Tcp, number: 80 }].into(), "variables tell the Service's port");
    assert_eq!(none.waits().unwrap(), "link none: Service default/none has no ready pod");
    assert_eq!(bare.name().pods.len(), 2, "one without an address leads to its pods");
    assert_eq!((bare.addresses.clone(), bare.state.clone()), (vec![], State::Ready));
}
