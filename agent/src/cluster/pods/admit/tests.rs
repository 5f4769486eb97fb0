#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{House, admit};

fn node(change: impl FnOnce(&mut Value)) -> Node {
    let mut node = json!({
        "metadata": {"name": "n-1", "labels": {"zone": "a", "size": "5"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
    });
    change(&mut node);
    serde_json::from_value(node).unwrap()
}

fn pod(change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "100Mi"}}});
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn said(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> String {
    let house = House { unsafe_sysctls: &["kernel.msg*".into()], apparmor: false };
    house
        .refuses(pod)
        .or_else(|| admit(pod, others, node))
        .map_or_else(String::new, |it| format!("{}: {}", it.reason, it.message))
}

#[test]
fn a_pod_fits_or_is_told_what_there_is_too_little_of() {
    let (plain, node) = (pod(|_| ()), node(|_| ()));
    let small = pod(|pod| pod["spec"]["containers"][0]["resources"] = json!({}));
    let out = |what: &str, requested: i64, used: i64, capacity: i64| {
        format!(
            "OutOf{what}: Node didn't have enough resource: {what}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    };
    let cpu = |amount: &'static str| {
        pod(move |pod| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(amount))
    };
    let overhead = pod(|pod| pod["spec"]["overhead"] = json!({"memory": "1Gi"}));
    let rows = [
        (&plain, vec![], String::new()),
        (&plain, vec![plain.clone()], String::new()),
        (&cpu("1001m"), vec![plain.clone()], out("cpu", 1001, 1000, 2000)),
        (&small, vec![cpu("3")], String::new()),
        (&small, vec![small.clone(), small.clone(), small.clone()], out("pods", 1, 3, 3)),
        (&overhead, vec![], out("memory", (1 << 30) + (100 << 20), 0, 1 << 30)),
    ];
    for (pod, others, expected) in rows {
        assert_eq!(said(pod, &others, &node), expected);
    }
}

#[test]
fn a_pod_goes_where_it_selects() {
    let rows = [
        (json!({"nodeSelector": {"zone": "a"}}), true),
        (json!({"nodeSelector": {"zone": "b"}}), false),
        (expressions("In", "zone", &["b", "a"]), true),
        (expressions("In", "zone", &["b"]), false),
        (expressions("NotIn", "none", &["b"]), true),
        (expressions("Exists", "none", &[]), false),
        (expressions("DoesNotExist", "zone", &[]), false),
        (expressions("Gt", "size", &["4"]), true),
        (expressions("Lt", "size", &["4"]), false),
        (required(&json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n-1"]}]}])), true),
        (required(&json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n-2"]}]}])), false),
        (required(&json!([{}])), false),
    ];
    for (spec, fits) in rows {
        let pod = pod(|pod| spec.as_object().unwrap().iter().for_each(|(key, value)| pod["spec"][key] = value.clone()));
        let expected = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        assert_eq!(said(&pod, &[], &node(|_| ())), if fits { "" } else { expected }, "{spec}");
    }
}

fn required(terms: &Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

fn expressions(operator: &str, key: &str, values: &[&str]) -> Value {
    required(&json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
}

#[test]
fn ports_taints_and_shortages_refuse() {
    let ports = pod(|pod| pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]));
    assert_eq!(said(&ports, &[], &node(|_| ())), "");
    let clash = said(&ports, std::slice::from_ref(&ports), &node(|_| ()));
    assert!(clash.starts_with("NodePorts: Predicate NodePorts failed"), "{clash}");

    let tainted = |effect: &'static str| {
        node(move |node| node["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": effect}]))
    };
    let tolerating = |toleration: Value| pod(move |pod| pod["spec"]["tolerations"] = json!([toleration]));
    let rows = [
        (pod(|_| ()), "NoSchedule", true),
        (pod(|_| ()), "NoExecute", false),
        (tolerating(json!({"operator": "Exists"})), "NoExecute", true),
        (tolerating(json!({"key": "k", "value": "v"})), "NoExecute", true),
        (tolerating(json!({"key": "k", "value": "w"})), "NoExecute", false),
        (tolerating(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})), "NoExecute", false),
    ];
    for (pod, effect, admitted) in rows {
        let said = said(&pod, &[], &tainted(effect));
        assert_eq!(said.is_empty(), admitted, "{said}");
        assert!(admitted || said.starts_with("TaintToleration: "), "{said}");
    }

    let short = node(|node| node["status"]["conditions"] = json!([{"type": "DiskPressure", "status": "True"}]));
    assert_eq!(said(&pod(|_| ()), &[], &short), "Evicted: The node had condition: [DiskPressure]. ");
    let critical = pod(|pod| pod["spec"]["priority"] = json!(2_000_000_000));
    assert_eq!(said(&critical, &[], &short), "");
    let windows = pod(|pod| pod["spec"]["os"] = json!({"name": "windows"}));
    assert!(said(&windows, &[], &node(|_| ())).starts_with("PodOSNotSupported"));
}

#[test]
fn kernel_parameters_are_safe_or_allowed_and_never_the_host_s() {
    let setting = |name: &'static str, host: &'static str| {
        pod(move |pod| {
            pod["spec"]["securityContext"] = json!({"sysctls": [{"name": name, "value": "1"}]});
            pod["spec"][host] = json!(true);
        })
    };
    let rows = [
        ("kernel.shm_rmid_forced", "", ""),
        ("net/ipv4/ip_unprivileged_port_start", "", ""),
        ("kernel.msgmax", "", ""),
        ("kernel.shmmax", "", "\"kernel.shmmax\" not allowlisted"),
        ("net.core.somaxconn", "", "\"net.core.somaxconn\" not allowlisted"),
        ("kernel.panic", "", "\"kernel.panic\" not allowlisted"),
        ("net/ipv4/tcp_syncookies", "hostNetwork", "\"net.ipv4.tcp_syncookies\" not allowed with host Net enabled"),
        ("kernel.msgmax", "hostIPC", "\"kernel.msgmax\" not allowed with host IPC enabled"),
        ("kernel.msgmax", "hostNetwork", ""),
    ];
    for (name, host, why) in rows {
        let expected = if why.is_empty() { String::new() } else { format!("SysctlForbidden: forbidden sysctl: {why}") };
        assert_eq!(said(&setting(name, host), &[], &node(|_| ())), expected, "{name} {host}");
    }
}

#[test]
fn a_profile_needs_a_kernel_that_knows_of_profiles() {
    let confined = |of_pod: &'static str, of_container: &'static str| {
        pod(move |pod| {
            pod["spec"]["securityContext"] = json!({"appArmorProfile": {"type": of_pod}});
            pod["spec"]["containers"][0]["securityContext"] = json!({"appArmorProfile": {"type": of_container}});
        })
    };
    let refused = "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host";
    for (of_pod, of_container, expected) in [
        ("RuntimeDefault", "Unconfined", ""),
        ("Unconfined", "RuntimeDefault", refused),
        ("Unconfined", "Localhost", refused),
    ] {
        let pod = confined(of_pod, of_container);
        assert_eq!(said(&pod, &[], &node(|_| ())), expected, "{of_pod} {of_container}");
        let house = House { unsafe_sysctls: &[], apparmor: true };
        assert!(house.refuses(&pod).is_none());
    }
}
