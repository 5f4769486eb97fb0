#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use cri_proto::node;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> Name {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    (namespace.into(), name.into())
}

/// A pod of `app: web` with a port `http`, that is how `state` says.
fn pod(text: &str, address: &str, state: &str, spec: Value) -> (Name, Arc<Pod>) {
    let (namespace, pod) = name(text);
    let mut whole = json!({"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut object = json!({
        "metadata": {"namespace": namespace, "name": pod, "uid": format!("uid-{pod}"), "labels": {"app": "web"}},
        "spec": whole,
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    if !address.is_empty() {
        let ips: Vec<Value> = address.split(',').map(|it| json!({"ip": it})).collect();
        object["status"]["podIP"] = ips[0]["ip"].clone();
        object["status"]["podIPs"] = json!(ips);
    }
    match state {
        "unready" => object["status"]["conditions"][0]["status"] = json!("False"),
        "ending" => object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        "ending, unready" => {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            object["status"]["conditions"][0]["status"] = json!("False");
        }
        "over" => object["status"]["phase"] = json!("Succeeded"),
        _ => {}
    }
    (name(text), Arc::new(serde_json::from_value(object).unwrap()))
}

fn inputs(services: &[(&str, Value)], pods: Vec<(Name, Arc<Pod>)>) -> Inputs {
    let mut inputs = Inputs::default();
    for (index, (text, spec)) in services.iter().enumerate() {
        let mut spec = spec.clone();
        if spec.get("selector").is_none() {
            spec["selector"] = json!({"app": "web"});
        }
        if spec.get("ports").is_none() {
            spec["ports"] = json!([{"port": 80, "protocol": "TCP", "targetPort": "http"}]);
        }
        if spec.get("clusterIP").is_none() {
            inputs.service_addresses.insert(name(text), vec![format!("10.96.0.{}", index + 1)]);
        }
        let service = json!({"metadata": {"namespace": name(text).0, "name": name(text).1}, "spec": spec});
        inputs.declared.services.insert(name(text), serde_json::from_value(service).unwrap());
    }
    inputs.pods = pods.iter().cloned().collect();
    inputs.seen = pods.into_iter().collect();
    inputs
}

/// `pod:port`, of the first port of the first Service.
fn endpoints(inputs: &Inputs) -> Vec<String> {
    let services = wanted(inputs).services;
    let shown = |it: &node::ServiceEndpoint| format!("{}:{}", it.pod.as_ref().unwrap().name, it.port);
    services[0].ports[0].endpoints.iter().map(shown).collect()
}

#[test]
fn a_service_leads_to_the_pods_of_its_namespace_that_are_ready() {
    let pods = || {
        vec![
            pod("a", "10.0.0.1", "ready", json!({})),
            pod("b", "10.0.0.2", "unready", json!({})),
            pod("c", "10.0.0.3", "ending", json!({})),
            pod("d", "10.0.0.4", "over", json!({})),
            pod("e", "", "ready", json!({})),
            pod("f", "10.0.0.6", "ready", json!({"hostNetwork": true})),
            pod("other/g", "10.0.0.7", "ready", json!({})),
            pod("h", "10.0.0.8", "ready", json!({"containers": [{"name": "c"}]})),
        ]
    };
    for (service, expected) in [
        (json!({}), vec!["a:8080"]),
        (json!({"publishNotReadyAddresses": true}), vec!["a:8080", "b:8080", "c:8080"]),
        (json!({"ports": [{"port": 80}]}), vec!["a:80", "h:80"]),
        (json!({"ports": [{"port": 80, "targetPort": 0}]}), vec!["a:80", "h:80"]),
        (json!({"ports": [{"port": 80, "targetPort": 9090}]}), vec!["a:9090", "h:9090"]),
        (json!({"ports": [{"port": 80, "targetPort": "http", "protocol": "UDP"}]}), vec![]),
        (json!({"ports": [{"port": 80, "targetPort": "https"}]}), vec![]),
        (json!({"selector": {"app": "web", "x": "y"}}), vec![]),
        (json!({"selector": {}}), vec![]),
    ] {
        assert_eq!(endpoints(&inputs(&[("web", service.clone())], pods())), expected, "{service}");
    }
}

#[test]
fn pods_that_end_serve_as_long_as_nobody_else_does() {
    let of = |pods| endpoints(&inputs(&[("web", json!({}))], pods));
    let ending = || pod("a", "10.0.0.1", "ending", json!({}));
    assert_eq!(of(vec![ending()]), ["a:8080"]);
    assert_eq!(of(vec![ending(), pod("b", "10.0.0.2", "unready", json!({}))]), ["a:8080"]);
    assert_eq!(of(vec![ending(), pod("b", "10.0.0.2", "ready", json!({}))]), ["b:8080"]);
    assert_eq!(of(vec![pod("a", "10.0.0.1", "ending, unready", json!({}))]), Vec::<String>::new());
}

#[test]
fn labels_are_those_of_the_owners_newest_definition() {
    let mut inputs = inputs(&[("web", json!({}))], vec![pod("a", "10.0.0.1", "ready", json!({}))]);
    let mut changed = Pod::clone(&inputs.pods[&name("a")]);
    changed.metadata.labels = Some([("app".to_owned(), "api".to_owned())].into());
    inputs.pods.insert(name("a"), Arc::new(changed));
    assert_eq!(endpoints(&inputs), Vec::<String>::new());
    // One of another owner is another's.
    inputs.pods.remove(&name("a"));
    assert_eq!(endpoints(&inputs), Vec::<String>::new());
}

#[test]
fn ports_are_found_by_name_in_containers_that_last() {
    let containers = json!({
        "containers": [
            {"name": "a", "ports": [{"name": "x", "containerPort": 1, "protocol": "UDP"}]},
            {"name": "b", "ports": [{"name": "x", "containerPort": 2}, {"name": "x", "containerPort": 3}]},
        ],
        "initContainers": [
            {"name": "i", "ports": [{"name": "i", "containerPort": 4}]},
            {"name": "s", "restartPolicy": "Always", "ports": [{"name": "s", "containerPort": 5}]},
        ],
    });
    let (_, pod) = pod("a", "", "", containers);
    for (port, protocol, expected) in [
        ("x", Some("TCP"), Some(2)),
        ("x", None, Some(2)),
        ("x", Some("UDP"), Some(1)),
        ("x", Some("SCTP"), None),
        ("i", None, None),
        ("s", None, Some(5)),
        ("y", None, None),
    ] {
        assert_eq!(named_port(&pod, port, protocol), expected, "{port} {protocol:?}");
    }
}

#[test]
fn a_service_is_what_the_runtime_is_asked_for() {
    let spec = json!({
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP", "targetPort": 5353}],
    });
    let pods = vec![pod("a", "10.0.0.1", "ready", json!({}))];
    let all = wanted(&inputs(&[("web", spec), ("none", json!({"clusterIP": "None"}))], pods));
    let web = all.find(&name("web")).unwrap();
    assert_eq!((web.namespace.as_str(), web.affinity_seconds), ("default", 60));
    assert_eq!(web.addresses, ["10.96.0.1"]);
    let ports: Vec<_> = web.ports.iter().map(|it| (it.protocol(), it.port, it.endpoints[0].port)).collect();
    assert_eq!(ports, [(node::Protocol::Tcp, 80, 80), (node::Protocol::Udp, 53, 5353)]);
    let none = all.find(&name("none")).unwrap();
    assert_eq!((none.addresses.len(), none.affinity_seconds, none.ports.len()), (0, 0, 1));
    assert_eq!(all.find(&name("other/web")), None);
}

/// Each name with what it leads to.
fn names_of(inputs: &Inputs) -> Vec<(String, Vec<String>)> {
    let names = wanted(inputs).names;
    let leads = |it: &node::Name| -> Vec<String> {
        assert_eq!(it.asker, None);
        let pods = it.pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        let srv = it.srv.iter().map(|it| format!("{}:{}", it.target, it.port));
        pods.chain(it.addresses.clone()).chain(srv).collect()
    };
    names.iter().map(|it| (it.name.clone(), leads(it))).collect()
}

#[test]
fn services_have_the_names_of_cluster_dns() {
    let pods = || {
        vec![
            pod("a", "10.0.0.1,fd00::1", "ready", json!({"hostname": "first", "subdomain": "web"})),
            pod("b", "10.0.0.2", "ready", json!({"hostname": "second", "subdomain": "other"})),
            pod("c", "10.0.0.3", "unready", json!({})),
        ]
    };
    let text = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let ports =
        json!([{"name": "http", "port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let named = inputs(&[("web", json!({"ports": ports}))], pods());
    assert_eq!(
        names_of(&named),
        [
            ("web.default.svc".to_owned(), text(&["10.96.0.1"])),
            ("_http._tcp.web.default.svc".to_owned(), text(&["web.default.svc:80"])),
            ("_dns._udp.web.default.svc".to_owned(), text(&["web.default.svc:53"])),
        ]
    );
    let headless = inputs(&[("web", json!({"ports": ports, "clusterIP": "None"}))], pods());
    assert_eq!(
        names_of(&headless),
        [
            ("web.default.svc".to_owned(), text(&["default/a", "default/b"])),
            ("first.web.default.svc".to_owned(), text(&["default/a"])),
            ("10-0-0-2.web.default.svc".to_owned(), text(&["default/b"])),
            (
                "_http._tcp.web.default.svc".to_owned(),
                text(&["first.web.default.svc:8080", "10-0-0-2.web.default.svc:8080"])
            ),
            (
                "_dns._udp.web.default.svc".to_owned(),
                text(&["first.web.default.svc:53", "10-0-0-2.web.default.svc:53"])
            ),
        ]
    );
    // Ports without a name have none; a Service that got no address has no name that leads nowhere.
    let mut plain = inputs(&[("web", json!({}))], pods());
    assert_eq!(names_of(&plain), [("web.default.svc".to_owned(), text(&["10.96.0.1"]))]);
    plain.service_addresses.clear();
    assert_eq!(names_of(&plain), []);
    assert_eq!(wanted(&plain).services[0].addresses, Vec::<String>::new());
}

#[test]
fn pods_are_told_of_the_services_of_their_namespace_as_kubelet_does() {
    let services = [
        (
            "redis-main",
            json!({"ports": [{"name": "x", "port": 6379, "protocol": "TCP"}, {"name": "a-b", "port": 53, "protocol": "UDP"}]}),
        ),
        ("other/far", json!({})),
        ("none", json!({"clusterIP": "None"})),
    ];
    let pods = vec![
        pod("a", "10.0.0.1", "ready", json!({})),
        pod("b", "10.0.0.2", "ready", json!({"enableServiceLinks": false})),
        pod("other/c", "10.0.0.3", "ready", json!({"enableServiceLinks": true})),
    ];
    let mut all = inputs(&services, pods);
    let text = |variables: Vec<(String, String)>| -> Vec<String> {
        variables.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    };
    assert_eq!(
        text(variables(&all, &name("a"))),
        [
            "REDIS_MAIN_SERVICE_HOST=10.96.0.1",
            "REDIS_MAIN_SERVICE_PORT=6379",
            "REDIS_MAIN_SERVICE_PORT_X=6379",
            "REDIS_MAIN_SERVICE_PORT_A_B=53",
            "REDIS_MAIN_PORT=tcp://10.96.0.1:6379",
            "REDIS_MAIN_PORT_6379_TCP=tcp://10.96.0.1:6379",
            "REDIS_MAIN_PORT_6379_TCP_PROTO=tcp",
            "REDIS_MAIN_PORT_6379_TCP_PORT=6379",
            "REDIS_MAIN_PORT_6379_TCP_ADDR=10.96.0.1",
            "REDIS_MAIN_PORT_53_UDP=udp://10.96.0.1:53",
            "REDIS_MAIN_PORT_53_UDP_PROTO=udp",
            "REDIS_MAIN_PORT_53_UDP_PORT=53",
            "REDIS_MAIN_PORT_53_UDP_ADDR=10.96.0.1",
        ]
    );
    assert_eq!(variables(&all, &name("b")), []);
    assert!(text(variables(&all, &name("other/c"))).iter().all(|it| it.starts_with("FAR_")));
    all.service_addresses.insert(name("redis-main"), vec!["fd00::1".into(), "10.96.0.1".into()]);
    let first = text(variables(&all, &name("a")));
    assert!(first.contains(&"REDIS_MAIN_PORT=tcp://[fd00::1]:6379".to_owned()), "{first:?}");
    assert!(first.contains(&"REDIS_MAIN_SERVICE_HOST=fd00::1".to_owned()), "{first:?}");
    // The API server's Service is told to everybody, whatever they say.
    let api = inputs(
        &[("kubernetes", json!({}))],
        vec![
            pod("b", "10.0.0.2", "ready", json!({"enableServiceLinks": false})),
            pod("other/c", "10.0.0.3", "ready", json!({})),
        ],
    );
    for pod in ["b", "other/c"] {
        assert_eq!(variables(&api, &name(pod))[0].0, "KUBERNETES_SERVICE_HOST", "{pod}");
    }
}

#[test]
fn services_are_shown_with_what_they_got() {
    let pods = vec![
        pod("a", "10.0.0.1,fd00::1", "ready", json!({"hostname": "first", "subdomain": "web"})),
        pod("b", "10.0.0.2", "unready", json!({})),
        pod(
            "c",
            "10.0.0.3",
            "ready",
            json!({"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 1}]}]}),
        ),
    ];
    let inputs = inputs(&[("web", json!({}))], pods);
    let service = &inputs.declared.services[&name("web")];
    let since = "2026-01-01T00:00:00Z".parse().unwrap();
    let both = ["10.96.0.1".to_owned(), "fd00:5::1".to_owned()];
    let shown = shown::service(service, &both, None, since);
    let spec = shown.spec.unwrap();
    assert_eq!((spec.cluster_ip.as_deref(), spec.cluster_ips.unwrap().len()), (Some("10.96.0.1"), 2));
    assert_eq!(spec.ip_families.unwrap(), ["IPv4", "IPv6"]);
    assert_eq!(shown.status.unwrap().conditions, None);
    let lost = shown::service(service, &[], Some("every address is taken"), since);
    let condition = lost.status.unwrap().conditions.unwrap().remove(0);
    assert_eq!((condition.status.as_str(), condition.message.as_str()), ("False", "every address is taken"));
    assert_eq!(lost.spec.unwrap().cluster_ip, None);

    let slices = shown::slices(&inputs);
    let named: Vec<_> = slices.iter().map(|it| it.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(named, ["web-ipv4", "web-ipv4-2", "web-ipv6"]);
    let addresses = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| -> Vec<(String, Option<bool>)> {
        let endpoints = slice.endpoints.as_deref().unwrap();
        endpoints.iter().map(|it| (it.addresses[0].clone(), it.conditions.as_ref().unwrap().ready)).collect()
    };
    assert_eq!(addresses(&slices[0]), [("10.0.0.3".to_owned(), Some(true))]);
    assert_eq!(addresses(&slices[1]), [("10.0.0.1".to_owned(), Some(true)), ("10.0.0.2".to_owned(), Some(false))]);
    assert_eq!(slices[1].ports.as_ref().unwrap()[0].port, Some(8080));
    assert_eq!(slices[2].endpoints.as_ref().unwrap()[0].hostname.as_deref(), Some("first"));
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
}
