//! What each field's change does, and that what says the same is the same.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn base() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
        "initContainers": [{"name": "i", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Always"}],
        "containers": [
            {"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
             "resources": {"limits": {"memory": "64Mi"}}},
            {"name": "b", "image": "i"}]}})
}

/// The base with one pointer set.
fn changed(pointer: &str, value: Value) -> Pod {
    let mut pod = base();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match pod.pointer_mut(parent).unwrap() {
        Value::Array(items) => items.push(value),
        parent => parent[key] = value,
    }
    serde_json::from_value(pod).unwrap()
}

#[test]
fn each_field_restarts_what_it_must_and_nothing_else() {
    let old: Pod = serde_json::from_value(base()).unwrap();
    let probe = json!({"tcpSocket": {"port": 80}});
    let hook = json!({"preStop": {"sleep": {"seconds": 1}}});
    let port = |host: i32| json!([{"containerPort": 80, "hostPort": host}]);
    for (pointer, value, expected) in [
        ("/metadata/labels", json!({"app": "db"}), "nothing restarts (metadata.labels)"),
        ("/metadata/annotations", json!({"note": "x"}), "nothing restarts (metadata.annotations)"),
        ("/spec/terminationGracePeriodSeconds", json!(5), "nothing restarts (spec.terminationGracePeriodSeconds)"),
        ("/spec/activeDeadlineSeconds", json!(5), "nothing restarts (spec.activeDeadlineSeconds)"),
        ("/spec/restartPolicy", json!("OnFailure"), "nothing restarts (spec.restartPolicy)"),
        ("/spec/containers/0/livenessProbe", probe.clone(), "nothing restarts (a.livenessProbe)"),
        ("/spec/containers/0/readinessProbe", probe.clone(), "nothing restarts (a.readinessProbe)"),
        ("/spec/containers/0/startupProbe", probe, "nothing restarts (a.startupProbe)"),
        ("/spec/containers/0/lifecycle", hook, "nothing restarts (a.lifecycle)"),
        ("/spec/containers/0/imagePullPolicy", json!("Always"), "nothing restarts (a.imagePullPolicy)"),
        ("/spec/containers/0/ports", json!([{"containerPort": 80}]), "nothing restarts (a.ports)"),
        ("/spec/containers/0/tty", json!(false), ""),
        ("/spec/containers/0/env", json!([]), ""),
        ("/spec/hostNetwork", json!(false), ""),
        ("/spec/containers/0/image", json!("j"), "container a restarts (image)"),
        ("/spec/containers/0/command", json!(["x"]), "container a restarts (command)"),
        ("/spec/containers/0/args", json!(["x"]), "container a restarts (args)"),
        ("/spec/containers/0/env", json!([{"name": "A", "value": ""}]), "container a restarts (env)"),
        ("/spec/containers/0/workingDir", json!("/x"), "container a restarts (workingDir)"),
        ("/spec/containers/0/tty", json!(true), "container a restarts (tty)"),
        ("/spec/containers/0/securityContext", json!({"runAsUser": 1}), "container a restarts (securityContext)"),
        (
            "/spec/containers/0/lifecycle",
            json!({"stopSignal": "SIGINT"}),
            "container a restarts (stopSignal); nothing restarts (a.lifecycle)",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "w", "mountPath": "/w"}]),
            "container a restarts (volumeMounts, volumes)",
        ),
        ("/spec/volumes/0/emptyDir", json!({"medium": "Memory"}), "container a restarts (volumes)"),
        ("/spec/volumes/1/emptyDir", json!({"medium": "Memory"}), ""),
        ("/spec/containers/0/resources", json!({"limits": {"memory": "65536Ki"}}), ""),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"memory": "1Gi"}}),
            "container a gets other resources while it runs (resources)",
        ),
        ("/spec/containers/1/resources", json!({"limits": {"memory": "1Gi"}}), "the pod restarts"),
        ("/spec/containers/0/resources", json!({}), "the pod restarts"),
        (
            "/spec/initContainers/0/image",
            json!("j"),
            "init container i runs again, then all that comes after it (image)",
        ),
        ("/spec/initContainers/1/image", json!("j"), "container s restarts (image)"),
        ("/spec/containers/2", json!({"name": "c", "image": "i"}), "container c starts"),
        ("/spec/containers", json!([base()["spec"]["containers"][0]]), "container b stops"),
        ("/spec/hostNetwork", json!(true), "the pod restarts in a new sandbox (hostNetwork)"),
        ("/spec/hostAliases", json!([{"ip": "1.1.1.1", "hostnames": ["x"]}]), "nothing restarts (spec.hostAliases)"),
        ("/spec/hostname", json!("x"), "the pod restarts in a new sandbox (hostname)"),
        ("/spec/hostUsers", json!(false), "the pod restarts in a new sandbox (hostUsers)"),
        ("/spec/dnsPolicy", json!("None"), "the pod restarts in a new sandbox (dnsPolicy)"),
        ("/spec/securityContext", json!({"fsGroup": 1}), "the pod restarts in a new sandbox (securityContext)"),
        (
            "/metadata/annotations",
            json!({"coracle.dev/network": "private"}),
            "the pod restarts in a new sandbox (network)",
        ),
        ("/spec/containers/0/ports", port(80), "the pod restarts in a new sandbox (hostPorts)"),
    ] {
        let new = changed(pointer, value.clone());
        let words = preview(&old, &new).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let same = match expected {
            // Its class changes with it.
            "the pod restarts" => words.starts_with("container") || words.starts_with(expected),
            "the pod restarts in a new sandbox (hostPorts)" | "the pod restarts in a new sandbox (network)" => {
                words.starts_with(expected)
            }
            _ => words == expected,
        };
        assert!(same, "{pointer} {value}: {words:?}, not {expected:?}");
    }
}

#[test]
fn the_preview_and_the_hashes_agree() {
    let old: Pod = serde_json::from_value(base()).unwrap();
    let before = Definition::of(&old);
    for (pointer, value) in [
        ("/metadata/labels", json!({"app": "db"})),
        ("/spec/containers/0/image", json!("j")),
        ("/spec/containers/0/ports", json!([{"containerPort": 80}])),
        ("/spec/initContainers/0/command", json!(["x"])),
        ("/spec/hostPID", json!(true)),
        ("/spec/volumes/0/emptyDir", json!({"sizeLimit": "1Mi"})),
    ] {
        let new = changed(pointer, value);
        let after = Definition::of(&new);
        let changes = preview(&old, &new);
        let has = |effects: &[Effect], container: Option<&str>| {
            changes.iter().any(|it| effects.contains(&it.effect) && it.container.as_deref() == container)
        };
        assert_eq!(has(&[Effect::Replaced], None), before.sandbox != after.sandbox, "{pointer}");
        for (name, hash) in &after.containers {
            let restarted = has(&[Effect::Restarted, Effect::Initialized], Some(name));
            assert_eq!(restarted, before.containers[name] != *hash, "{pointer} {name}");
        }
    }
}

#[test]
fn hashes_are_the_same_for_ever() {
    // An agent that counted otherwise would restart every pod of the one before it.
    let definition = Definition::of(&serde_json::from_value(base()).unwrap());
    assert!(definition.sandbox.starts_with("1:") && definition.sandbox.len() == 18);
    assert_eq!(hash_bytes(&[b"a", b"bc"]), "1:ba1e1f0e0704d8ea");
    assert_ne!(hash_bytes(&[b"a", b"bc"]), hash_bytes(&[b"ab", b"c"]));
}
