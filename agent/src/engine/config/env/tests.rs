#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::{Value, json};

fn pod(container: Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app": "web", "a/b": "c"}},
        "spec": {"containers": [container, {"name": "other", "resources": {"limits": {"memory": "1Mi"}}}]}
    }))
    .unwrap()
}

fn objects() -> Objects {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
        "data": {"k": "v", "with.dot": "d"}, "binaryData": {"raw": "/wA="}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "data": {"pw": "c2VjcmV0", "both": "b2xk"}, "stringData": {"both": "new"}});
    let mut objects = Objects::default();
    objects.config_maps.insert(("ns".into(), "m".into()), std::sync::Arc::new(serde_json::from_value(map).unwrap()));
    objects.secrets.insert(("ns".into(), "s".into()), std::sync::Arc::new(serde_json::from_value(secret).unwrap()));
    objects
}

fn environment(container: Value) -> Result<Environment, ConfigError> {
    with_files(container, None)
}

fn with_files(container: Value, dir: Option<&PodDir>) -> Result<Environment, ConfigError> {
    let pod = pod(container);
    let node = Node {
        name: "n".into(),
        ips: vec!["10.0.0.1".into(), "fd01::1".into()],
        cpu_milli: 2000,
        memory_bytes: 1 << 30,
        ..Node::default()
    };
    let ips = ["10.1.0.2".into(), "fd00::2".into()];
    let sources = Sources { pod: &pod, objects: &objects(), node: &node, ips: &ips, dir };
    of_container(&sources, &pod.spec.as_ref().unwrap().containers[0])
}

fn values(container: Value) -> Vec<(String, String)> {
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    environment(container).unwrap().variables.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn variables_see_those_before_them_and_those_of_env_from() {
    let container = json!({"name": "c",
        "envFrom": [{"configMapRef": {"name": "m"}}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(k)-$(LATER)-$$(A)"},
            {"name": "LATER", "value": "x"}, {"name": "A", "value": "2"}]});
    let expected = [("k", "v"), ("with.dot", "d"), ("A", "2"), ("B", "1-v-$(LATER)-$(A)"), ("LATER", "x")];
    assert_eq!(values(container), pairs(&expected));
}

#[test]
fn env_from_takes_prefixes_and_later_ones_win_and_binary_data_is_left_out() {
    let container = json!({"name": "c", "envFrom": [
        {"prefix": "P_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}},
        {"configMapRef": {"name": "absent", "optional": true}}]});
    let environment = environment(container).unwrap();
    let names: Vec<_> = environment.variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["P_both", "P_pw", "k", "with.dot"]);
    assert_eq!(environment.get(b"P_both"), Some(&b"new"[..]));
    assert_eq!(environment.warnings, ["key \"raw\" of ConfigMap \"m\" is left out: it cannot be a variable"]);
}

#[test]
fn an_invalid_name_is_left_out_with_a_warning() {
    let container = json!({"name": "c", "envFrom": [{"prefix": "a=", "configMapRef": {"name": "m"}}]});
    let environment = environment(container).unwrap();
    assert_eq!((environment.variables.len(), environment.warnings.len()), (0, 3));
}

#[test]
fn references_are_resolved() {
    let key = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
    let rows = [
        (key("configMapKeyRef", "m", "k"), "v"),
        (key("secretKeyRef", "s", "pw"), "secret"),
        (json!({"fieldRef": {"fieldPath": "metadata.name"}}), "p"),
        (json!({"fieldRef": {"fieldPath": "metadata.namespace"}}), "ns"),
        (json!({"fieldRef": {"fieldPath": "metadata.uid"}}), "u-1"),
        (json!({"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}), "c"),
        (json!({"fieldRef": {"fieldPath": "metadata.annotations['none']"}}), ""),
        (json!({"fieldRef": {"fieldPath": "spec.nodeName"}}), "n"),
        (json!({"fieldRef": {"fieldPath": "status.podIP"}}), "10.1.0.2"),
        (json!({"fieldRef": {"fieldPath": "status.podIPs"}}), "10.1.0.2,fd00::2"),
        (json!({"fieldRef": {"fieldPath": "status.hostIP"}}), "10.0.0.1"),
        (json!({"fieldRef": {"fieldPath": "status.hostIPs"}}), "10.0.0.1,fd01::1"),
        (json!({"resourceFieldRef": {"resource": "limits.cpu"}}), "1"),
        (json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}), "250"),
        (json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}), "1024"),
        (json!({"resourceFieldRef": {"resource": "requests.memory"}}), "0"),
        (json!({"resourceFieldRef": {"containerName": "other", "resource": "limits.memory"}}), "1048576"),
    ];
    for (from, expected) in rows {
        let container = json!({"name": "c", "resources": {"limits": {"cpu": "250m"}},
            "env": [{"name": "X", "valueFrom": from.clone()}]});
        assert_eq!(values(container), pairs(&[("X", expected)]), "{from}");
    }
}

#[test]
fn where_a_container_has_no_limit_its_pods_counts_and_then_what_the_node_has() {
    let node = Node { cpu_milli: 2000, memory_bytes: 1 << 30, ..Node::default() };
    for (own, whole, expected) in [
        (json!({}), json!({}), ["2", "1024", "0"]),
        (json!({}), json!({"limits": {"cpu": "1250m"}, "requests": {"memory": "32Mi"}}), ["2", "1024", "0"]),
        (json!({}), json!({"limits": {"cpu": "3", "memory": "64Mi"}}), ["3", "64", "0"]),
        (json!({"limits": {"cpu": "1", "memory": "16Mi"}}), json!({"limits": {"memory": "64Mi"}}), ["1", "16", "0"]),
        (json!({"limits": {"hugepages-2Mi": "4Mi"}}), json!({"limits": {"hugepages-2Mi": "8Mi"}}), ["2", "1024", "4"]),
    ] {
        let mut pod = pod(json!({"name": "c", "resources": own}));
        let spec = pod.spec.as_mut().unwrap();
        spec.resources = serde_json::from_value(whole.clone()).unwrap();
        let mega = k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Mi".into());
        let container = spec.containers[0].clone();
        let of = |path: &str, divisor| resource_value(&node, &pod, &container, path, divisor).unwrap();
        let found = [of("limits.cpu", None), of("limits.memory", Some(&mega)), of("limits.hugepages-2Mi", Some(&mega))];
        assert_eq!(found, expected, "{own} {whole}");
    }
    let pod = pod(json!({"name": "c"}));
    let of = |path: &str| resource_value(&node, &pod, &pod.spec.as_ref().unwrap().containers[0], path, None).unwrap();
    assert_eq!([of("limits.cpu"), of("limits.memory")], ["2".to_owned(), (1 << 30).to_string()]);
}

#[test]
fn what_is_missing_is_an_error_unless_optional() {
    let rows = [
        (json!({"configMapKeyRef": {"name": "x", "key": "k"}}), "ConfigMap \"x\" is not there in namespace \"ns\""),
        (json!({"secretKeyRef": {"name": "s", "key": "x"}}), "Secret \"s\" has no key \"x\""),
        (json!({"fieldRef": {"fieldPath": "spec.containers"}}), "field path \"spec.containers\" is not"),
        (json!({"resourceFieldRef": {"resource": "limits.gpu"}}), "resource reference \"limits.gpu\" cannot"),
    ];
    for (from, expected) in rows {
        let container = |from: &Value| json!({"name": "c", "env": [{"name": "X", "valueFrom": from}]});
        let error = environment(container(&from)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let from = json!({kind: {"name": "x", "key": "k", "optional": true}});
        assert!(values(json!({"name": "c", "env": [{"name": "X", "valueFrom": from}]})).is_empty());
    }
    let absent = json!({"name": "c", "envFrom": [{"secretRef": {"name": "x"}}]});
    assert!(matches!(environment(absent), Err(ConfigError::MissingObject { kind: "Secret", .. })));
}

#[test]
fn a_pod_in_the_hosts_network_has_the_hosts_addresses() {
    let mut pod = pod(json!({"name": "c"}));
    pod.spec.as_mut().unwrap().host_network = Some(true);
    let node = Node { ips: vec!["10.0.0.1".into(), "fd01::1".into()], ..Node::default() };
    let sources = Sources { pod: &pod, objects: &objects(), node: &node, ips: &[], dir: None };
    assert_eq!(field_value(&sources, "status.podIP").unwrap(), "10.0.0.1");
    assert_eq!(field_value(&sources, "status.podIPs").unwrap(), "10.0.0.1,fd01::1");
}

#[test]
fn variables_come_from_a_file_that_another_container_wrote() {
    let root = tempfile::tempdir().unwrap();
    let dir = PodDir::new(root.path(), "u-1").unwrap();
    let volume = dir.volume("empty-dir", "shared");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("env"), "A='from the file'\n").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", volume.join("out")).unwrap();
    let of = |path: &str, key: &str, optional: bool| {
        let file = json!({"volumeName": "shared", "path": path, "key": key, "optional": optional});
        let container = json!({"name": "c", "env": [{"name": "V", "valueFrom": {"fileKeyRef": file}}]});
        with_files(container, Some(&dir)).map(|environment| environment.get(b"V").map(<[u8]>::to_vec))
    };
    assert_eq!(of("env", "A", false), Ok(Some(b"from the file".to_vec())));
    for (path, key, expected) in [
        ("env", "B", "file \"env\" of volume \"shared\": it has no key \"B\""),
        ("gone", "A", "file \"gone\" of volume \"shared\": No such file or directory (os error 2)"),
    ] {
        assert_eq!(of(path, key, false).unwrap_err().to_string(), expected);
        assert_eq!(of(path, key, true), Ok(None), "{path} {key}");
    }
    assert!(of("out", "A", false).unwrap_err().to_string().contains("No such file"), "a link leads nowhere outside");
    assert!(of("../env", "A", true).unwrap_err().to_string().contains("relative path"));
    assert!(of(".", "A", true).unwrap_err().to_string().contains("it is not a file"));
    let container = json!({"name": "c", "env": [{"name": "V", "valueFrom": {"fileKeyRef": {"volumeName": "shared", "path": "env", "key": "A"}}}]});
    assert_eq!(environment(container).unwrap().variables, [], "before the pod is made nobody has written anything");
}

#[test]
fn who_has_no_limit_is_told_what_the_node_has_for_pods() {
    let pod = pod(json!({"name": "c"}));
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let node = Node { cpu_milli: 2000, memory_bytes: 1 << 30, ..Node::default() };
    let read = |node: &Node, path: &str| resource_value(node, &pod, container, path, None).unwrap();
    assert_eq!(["limits.cpu", "limits.memory"].map(|path| read(&node, path)), ["2", "1073741824"]);
    let same = node.clone();
    let amounts = [("cpu", 1500), ("memory", 800_000), ("ephemeral-storage", 7000)];
    node.allocatable.set(amounts.map(|(name, amount)| (name.to_owned(), amount)).into());
    let paths = ["limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "limits.hugepages-2Mi"];
    assert_eq!(paths.map(|path| read(&same, path)), ["2", "800", "7", "0", "0"], "whoever knows the node");
}
