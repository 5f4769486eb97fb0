//! Services and NetworkPolicies: what is accepted and filled in, and what is refused, one fault a row.

#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use manifests::{Object, Source, read};
use serde_json::{Value, json};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n";
const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n";

fn said(text: &str) -> Vec<String> {
    let manifest = read(&[Source { name: "it.yaml".to_owned(), text: text.to_owned() }]);
    let describe = |d: &manifests::Diagnostic| {
        let help = d.help.as_deref().map(|help| format!(" [{help}]")).unwrap_or_default();
        format!("{} {}: {}{help}", d.severity.as_str(), d.path, d.message)
    };
    manifest.diagnostics.iter().map(describe).collect()
}

fn object(text: &str) -> Object {
    let manifest = read(&[Source { name: "it.yaml".to_owned(), text: text.to_owned() }]);
    assert_eq!(said(text), Vec::<String>::new());
    manifest.objects.into_iter().next().unwrap().object
}

fn service(spec: &str) -> ServiceSpec {
    match object(&format!("{SERVICE}{spec}")) {
        Object::Service(service) => service.spec.unwrap(),
        other => panic!("{}", other.kind()),
    }
}

fn policy(spec: &str) -> NetworkPolicySpec {
    match object(&format!("{POLICY}{spec}")) {
        Object::NetworkPolicy(policy) => policy.spec.unwrap(),
        other => panic!("{}", other.kind()),
    }
}

/// Each row: what stands in the spec, and all that is said.
fn refused(head: &str, rows: &[(&str, &[&str])]) {
    for (spec, expected) in rows {
        assert_eq!(said(&format!("{head}{spec}\n")), *expected, "{spec}");
    }
}

#[test]
fn a_service_is_filled_in_as_an_api_server_does() {
    let spec = service(
        "  selector: {app: web}\n  ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP, targetPort: dns}]\n",
    );
    let expected = json!({
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "selector": {"app": "web"},
        "ports": [
            {"name": "a", "port": 80, "protocol": "TCP", "targetPort": 80},
            {"name": "b", "port": 53, "protocol": "UDP", "targetPort": "dns"},
        ],
    });
    assert_eq!(serde_json::to_value(&spec).unwrap(), expected);
    let spec =
        service("  selector: {app: web}\n  clusterIP: 10.96.0.1\n  sessionAffinity: ClientIP\n  ports: [{port: 80}]\n");
    let config = spec.session_affinity_config.and_then(|it| it.client_ip).and_then(|it| it.timeout_seconds);
    assert_eq!((config, spec.cluster_ips.unwrap()), (Some(10_800), vec!["10.96.0.1".to_owned()]));
    let spec = service("  selector: {app: web}\n  clusterIP: None\n");
    assert_eq!(spec.cluster_ips.unwrap(), ["None"]);
    for accepted in [
        "  selector: {a: b}\n  ports: [{port: 1, targetPort: 0}]\n  type: ClusterIP\n",
        "  selector: {a: b}\n  ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]\n",
        "  selector: {a: b}\n  ports: [{port: 80}]\n  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, 'fd00::1']\n  ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack\n",
        "  selector: {a: b}\n  ports: [{port: 80}]\n  internalTrafficPolicy: Local\n  publishNotReadyAddresses: true\n",
    ] {
        service(accepted);
    }
}

#[test]
fn what_is_wrong_with_a_service_is_said_where_it_is() {
    let ip = "an address such as `10.96.0.10`; `None` for a Service without one";
    let selector = "error spec.selector: `selector` is missing [say which pods it leads to, by their labels; Endpoints and EndpointSlices do not run here, and an `Ambassador` leads to what is no pod of this node]";
    let outside =
        "a `ClusterIP` is reached within the node; from outside a pod is reached by a `hostPort` of its container";
    let with = |rest: &str| format!("  selector: {{a: b}}\n  ports: [{{port: 80}}]\n  {rest}");
    let rows: Vec<(String, Vec<String>)> = vec![
        ("  ports: [{port: 80}]".into(), vec![selector.into()]),
        ("  ports: [{port: 80}]\n  selector: {}".into(), vec![selector.into()]),
        ("  selector: {a: b}".into(), vec!["error spec.ports: `ports` is missing [add `ports: [{port: 80}]`, or `clusterIP: None`]".into()]),
        (
            with("type: NodePort"),
            vec![format!("error spec.type: a Service of type `NodePort` does not run here [{outside}]")],
        ),
        (
            with("type: LoadBalancer"),
            vec![format!("error spec.type: a Service of type `LoadBalancer` does not run here [{outside}]")],
        ),
        (
            "  type: ExternalName\n  externalName: example.com".into(),
            vec!["error spec.externalName: `externalName` does not run here [a pod of kind `Ambassador` leads to what is elsewhere]".into()],
        ),
        (with("type: clusterIP"), vec!["error spec.type: `clusterIP` is not a type of Service [did you mean `ClusterIP`?]".into()]),
        (
            with("externalIPs: [192.0.2.1]"),
            vec!["error spec.externalIPs: `externalIPs` does not run here [a pod is reached from outside by a `hostPort` of one of its containers]".into()],
        ),
        (
            with("loadBalancerIP: 192.0.2.1"),
            vec!["error spec.loadBalancerIP: `loadBalancerIP` does not run here [there is no load balancer outside of this node: leave it out]".into()],
        ),
        (
            "  selector: {a: b}\n  ports: [{port: 80, nodePort: 30080}]".into(),
            vec!["error spec.ports[0].nodePort: `nodePort` does not run here [a pod is reached from outside by a `hostPort` of one of its containers]".into()],
        ),
        (
            "  selector: {a: b}\n  ports: [{port: 80}, {port: 81, name: b}]".into(),
            vec!["error spec.ports[0].name: `name` is missing [of several ports each has a name]".into()],
        ),
        (
            "  selector: {a: b}\n  ports: [{port: 80, name: x}, {port: 81, name: x}]".into(),
            vec!["error spec.ports[1].name: two ports are called `x` [the first is ports[0]]".into()],
        ),
        (
            "  selector: {a: b}\n  ports: [{port: 80, name: x}, {port: 80, name: b, protocol: TCP}]".into(),
            vec!["error spec.ports[1].port: port 80/TCP is there twice [the first is ports[0]]".into()],
        ),
        ("  selector: {a: b}\n  ports: [{port: 0}]".into(), vec!["error spec.ports[0].port: `0` is not between 1 and 65535".into()]),
        ("  selector: {a: b}\n  ports: [{name: x}]".into(), vec!["error spec.ports[0].port: `0` is not between 1 and 65535".into()]),
        (
            "  selector: {a: b}\n  ports: [{port: 80, targetPort: 70000}]".into(),
            vec!["error spec.ports[0].targetPort: `70000` is not between 1 and 65535".into()],
        ),
        (
            "  selector: {a: b}\n  ports: [{port: 80, targetPort: \"8080\"}]".into(),
            vec!["error spec.ports[0].targetPort: `\"8080\"` is not the name of a port [a number: `8080`]".into()],
        ),
        (
            "  selector: {a: b}\n  ports: [{port: 80, protocol: tcp}]".into(),
            vec!["error spec.ports[0].protocol: `tcp` is not one of `TCP`, `UDP` or `SCTP` [did you mean `TCP`?]".into()],
        ),
        (
            "  selector: {a: -b}\n  ports: [{port: 80}]".into(),
            vec!["error spec.selector[a]: `-b` is not valid: a label has only letters, digits, `-`, `_` and `.`, and a letter or digit at either end [annotations take any text]".into()],
        ),
        (
            with("sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}"),
            vec!["warning spec.sessionAffinityConfig: `sessionAffinityConfig` has no effect without `sessionAffinity: ClientIP` [add that, or remove this]".into()],
        ),
        (
            with("sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}"),
            vec!["error spec.sessionAffinityConfig.clientIP.timeoutSeconds: `86401` is not between 1 and 86400".into()],
        ),
        (with("clusterIP: nowhere"), vec![format!("error spec.clusterIP: `nowhere` is not an address [{ip}]")]),
        (with("clusterIP: 010.0.0.1"), vec![format!("error spec.clusterIP: `010.0.0.1` is not an address [{ip}]")]),
        (with("clusterIP: 127.0.0.1"), vec!["error spec.clusterIP: `127.0.0.1` cannot lead to pods".into()]),
        (
            with("clusterIPs: [10.0.0.1]"),
            vec!["error spec.clusterIP: `clusterIP` is missing, and `clusterIPs` is there [add `clusterIP: 10.0.0.1`]".into()],
        ),
        (
            with("clusterIP: 10.0.0.2\n  clusterIPs: [10.0.0.1]"),
            vec!["error spec.clusterIPs[0]: `10.0.0.1` is not `clusterIP`, which is `10.0.0.2`".into()],
        ),
        (
            with("clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, 10.0.0.2]"),
            vec!["error spec.clusterIPs: a Service has at most one address of each family".into()],
        ),
        (
            with("clusterIP: None\n  clusterIPs: [None, 10.0.0.2]"),
            vec!["error spec.clusterIPs: `None` stands alone, if it is there".into()],
        ),
        (with("ipFamilies: [IPv5]"), vec!["error spec.ipFamilies[0]: `IPv5` is not an address family [IPv4, IPv6]".into()]),
        (with("ipFamilies: [IPv4, IPv4]"), vec!["error spec.ipFamilies[1]: `IPv4` is there twice".into()]),
        (
            with("clusterIP: 10.0.0.1\n  ipFamilies: [IPv6]"),
            vec!["error spec.clusterIP: `10.0.0.1` is not of the family that `ipFamilies` names for it".into()],
        ),
        (
            with("ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: SingleStack"),
            vec!["error spec.ipFamilies: of `ipFamilyPolicy: SingleStack` there is one".into()],
        ),
        (
            with("trafficDistribution: PreferClose"),
            vec!["warning spec.trafficDistribution: `trafficDistribution` has no effect [there is only this node]".into()],
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(said(&format!("{SERVICE}{spec}\n")), expected, "{spec}");
    }
    let name =
        said("apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\nspec: {selector: {a: b}, ports: [{port: 1}]}\n");
    assert!(
        name[0].starts_with("error metadata.name: `a.b` is not valid: only lower-case letters, digits and `-`"),
        "{name:?}"
    );
    assert_eq!(said("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"), ["error spec: `spec` is missing"]);
}

#[test]
fn a_policy_is_filled_in_as_an_api_server_does() {
    let shown = |spec: &str| -> Value { serde_json::to_value(policy(spec)).unwrap() };
    for (spec, expected) in [
        ("  podSelector: {}\n", json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
        ("  ingress: []\n", json!({"podSelector": {}, "ingress": [], "policyTypes": ["Ingress"]})),
        ("  egress: []\n", json!({"podSelector": {}, "egress": [], "policyTypes": ["Ingress"]})),
        ("  egress: [{}]\n", json!({"podSelector": {}, "egress": [{}], "policyTypes": ["Ingress", "Egress"]})),
        ("  policyTypes: [Egress]\n", json!({"podSelector": {}, "policyTypes": ["Egress"]})),
        (
            "  ingress: [{ports: [{port: 80}, {protocol: UDP, port: dns}, {port: 8000, endPort: 9000}]}]\n",
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [
                {"port": 80, "protocol": "TCP"}, {"port": "dns", "protocol": "UDP"},
                {"port": 8000, "endPort": 9000, "protocol": "TCP"},
            ]}]}),
        ),
    ] {
        assert_eq!(shown(spec), expected, "{spec}");
    }
    match object("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\n") {
        Object::NetworkPolicy(policy) => assert_eq!(policy.spec.unwrap().policy_types.unwrap(), ["Ingress"]),
        other => panic!("{}", other.kind()),
    }
    policy(
        "  podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b, c]}, {key: d, operator: Exists}]}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}\n    - ipBlock: {cidr: 'fd00::/8'}\n    - podSelector: {}\n      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}\n",
    );
}

#[test]
fn what_is_wrong_with_a_policy_is_said_where_it_is() {
    let range = "an address and a length such as `10.0.0.0/8` or `fd00::/8`";
    let ports = |port: &str| format!("  ingress: [{{ports: [{port}]}}]");
    let from = |peer: &str| format!("  ingress: [{{from: [{peer}]}}]");
    let rows: Vec<(String, Vec<String>)> = vec![
        (ports("{port: 0}"), vec!["error spec.ingress[0].ports[0].port: `0` is not between 1 and 65535".into()]),
        (ports("{port: \"80\"}"), vec!["error spec.ingress[0].ports[0].port: `\"80\"` is not the name of a port [a number: `80`]".into()]),
        (ports("{endPort: 80}"), vec!["error spec.ingress[0].ports[0].endPort: a range begins with a `port`".into()]),
        (
            ports("{port: web, endPort: 80}"),
            vec!["error spec.ingress[0].ports[0].endPort: a range begins with a number, and `port` is a name".into()],
        ),
        (
            ports("{port: 80, endPort: 79}"),
            vec!["error spec.ingress[0].ports[0].endPort: `79` is less than `port`, which is 80".into()],
        ),
        (ports("{port: 80, endPort: 70000}"), vec!["error spec.ingress[0].ports[0].endPort: `70000` is not between 1 and 65535".into()]),
        (
            ports("{protocol: ICMP}"),
            vec!["error spec.ingress[0].ports[0].protocol: `ICMP` is not one of `TCP`, `UDP` or `SCTP`".into()],
        ),
        (
            from("{}"),
            vec!["error spec.ingress[0].from[0]: a peer that says nothing [`podSelector`, `namespaceSelector` or `ipBlock`; `podSelector: {}` is every pod of the namespace]".into()],
        ),
        (
            from("{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}"),
            vec!["error spec.ingress[0].from[0].ipBlock: a peer is chosen by addresses or by selectors [make two items of it]".into()],
        ),
        (
            from("{ipBlock: {cidr: 10.0.0.1}}"),
            vec!["error spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.1` is not a range of addresses [`10.0.0.1/32`]".into()],
        ),
        (from("{ipBlock: {cidr: all}}"), vec![format!("error spec.ingress[0].from[0].ipBlock.cidr: `all` is not a range of addresses [{range}]")]),
        (
            from("{ipBlock: {cidr: 10.0.0.1/8}}"),
            vec!["error spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.1/8` has bits beyond its length [`10.0.0.0/8`, or `10.0.0.1/32`]".into()],
        ),
        (from("{ipBlock: {}}"), vec!["error spec.ingress[0].from[0].ipBlock.cidr: `cidr` is missing".into()]),
        (
            from("{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16, 10.0.0.0/8, 'fd00::/64']}}"),
            ["11.0.0.0/16", "10.0.0.0/8", "fd00::/64"]
                .iter()
                .enumerate()
                .map(|(index, part)| {
                    format!("error spec.ingress[0].from[0].ipBlock.except[{index}]: `{part}` is not a part of `10.0.0.0/8`")
                })
                .collect(),
        ),
        (
            from("{namespaceSelector: {matchLabels: {team: a}}}"),
            vec!["warning spec.ingress[0].from[0].namespaceSelector.matchLabels[team]: no namespace has the label `team` here [choose namespaces by `kubernetes.io/metadata.name`, their name]".into()],
        ),
        (
            from("{podSelector: {matchExpressions: [{key: a, operator: In}]}}"),
            vec!["error spec.ingress[0].from[0].podSelector.matchExpressions[0].values: `In` needs `values`".into()],
        ),
        (
            from("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}"),
            vec!["error spec.ingress[0].from[0].podSelector.matchExpressions[0].values: `Exists` asks for no values [use `In` or `NotIn`]".into()],
        ),
        (
            from("{podSelector: {matchExpressions: [{key: a, operator: Is}]}}"),
            vec!["error spec.ingress[0].from[0].podSelector.matchExpressions[0].operator: `Is` is not one of `In`, `NotIn`, `Exists` or `DoesNotExist` [did you mean `In`?]".into()],
        ),
        ("  policyTypes: [ingress]".into(), vec!["error spec.policyTypes[0]: `ingress` is not a type of policy [did you mean `Ingress`?]".into()]),
        (
            "  policyTypes: [Ingress, Egress, Ingress]".into(),
            vec!["error spec.policyTypes: there are two types: `Ingress` and `Egress`".into()],
        ),
        (
            "  policyTypes: [Ingress]\n  egress: [{}]".into(),
            vec!["warning spec.egress: `egress` has no effect without `Egress` in `policyTypes` [add `Egress` to `policyTypes`, or remove this]".into()],
        ),
        ("  podSelector: {app: web}".into(), vec!["error spec.podSelector.app: unknown field `app`".into()]),
        ("  pods: {}".into(), vec!["error spec.pods: unknown field `pods`".into()]),
    ];
    for (spec, expected) in rows {
        assert_eq!(said(&format!("{POLICY}{spec}\n")), expected, "{spec}");
    }
    refused(
        POLICY,
        &[("  ingress: {}", &["error spec.ingress: expected a list, found a mapping [begin each item with `- `]"])],
    );
}

const NETWORK: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Network\nmetadata: {name: back}\nspec:\n";

fn network(text: &str) -> Value {
    match object(text) {
        Object::Network(network) => json!(network.spec),
        other => panic!("{}", other.kind()),
    }
}

#[test]
fn a_network_is_filled_in() {
    let short = "apiVersion: coracle.dev/v1alpha1\nkind: Network\nmetadata: {name: back}\n";
    assert_eq!(network(short), json!({"isolated": true, "masquerade": true, "type": "ptp"}));
    let spec =
        "  subnets: [10.5.0.0/24, 'fd05::/64']\n  isolated: false\n  masquerade: false\n  mtu: 1400\n  type: bridge\n";
    assert_eq!(
        network(&format!("{NETWORK}{spec}")),
        json!({"subnets": ["10.5.0.0/24", "fd05::/64"], "isolated": false, "masquerade": false, "mtu": 1400, "type": "bridge"})
    );
}

#[test]
fn a_network_that_cannot_be_is_refused() {
    let kind = "did you mean `bridge`?";
    let rows: &[(&str, &[&str])] = &[
        ("  subnet: 10.5.0.0/24", &["error spec.subnet: unknown field `subnet` [did you mean `subnets`?]"]),
        (
            "  subnets: [10.5.0.1/24]",
            &["error spec.subnets[0]: `10.5.0.1/24` has bits set behind its length [write `10.5.0.0/24`]"],
        ),
        ("  subnets: [all]", &["error spec.subnets[0]: `all` is not a range of addresses [such as `10.5.0.0/24`]"]),
        (
            "  subnets: [10.5.0.0/30]",
            &["error spec.subnets[0]: `10.5.0.0/30` is too large or too small [from /8 to /29 can be]"],
        ),
        (
            "  subnets: [127.0.0.0/8]",
            &[
                "error spec.subnets[0]: `127.0.0.0/8` is of a kind that cannot be routed [take a private one, such as `10.5.0.0/24`]",
            ],
        ),
        (
            "  subnets: [10.5.0.0/24, 10.6.0.0/24]",
            &[
                "error spec.subnets[1]: `10.6.0.0/24` is the second of its family [name one IPv4 and one IPv6 range at most]",
            ],
        ),
        ("  mtu: 1000", &["error spec.mtu: `1000` is not between 1280 and 65535"]),
    ];
    refused(NETWORK, rows);
    let kinds = said(&format!("{NETWORK}  type: bridg\n"));
    assert!(kinds.len() == 1 && kinds[0].contains(kind), "{kinds:?}");
    let named = |name: &str| said(&NETWORK.replace("name: back", name));
    assert_eq!(named("name: flat"), ["error metadata.name: there is a network `flat` already [choose another name]"]);
    let namespace = named("name: back, namespace: other");
    assert!(namespace[0].starts_with("error metadata.namespace: a Network belongs to no namespace"), "{namespace:?}");
}

#[test]
fn a_pod_says_which_network_and_how_much() {
    let pod = |annotation: &str| {
        said(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{annotation}}}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        ))
    };
    for fine in ["flat", "private", "back"] {
        assert_eq!(pod(&format!("coracle.dev/network: {fine}")), Vec::<String>::new());
    }
    for (value, expected) in
        [("Flat", "did you mean `flat`?"), ("a/b", "the name of a Network"), ("''", "the name of a Network")]
    {
        let said = pod(&format!("coracle.dev/network: {value}"));
        assert!(said.len() == 1 && said[0].contains(expected), "{value}: {said:?}");
    }
    assert_eq!(pod("kubernetes.io/ingress-bandwidth: 10M"), Vec::<String>::new());
    for (value, expected) in
        [("fast", "is not a quantity"), ("'1'", "is not between 1k and 1P"), ("2P", "is not between 1k and 1P")]
    {
        let said = pod(&format!("kubernetes.io/egress-bandwidth: {value}"));
        assert!(said.len() == 1 && said[0].contains(expected), "{value}: {said:?}");
    }
}
