//! An Ambassador is a pod of the built-in image, and a ConfigMap that tells it what to relay.
//!
//! The pod is the same whatever the targets are: only ports of the node change its sandbox. Everything else is in the
//! ConfigMap, whose file is refreshed in place, and which the relay reads again.

pub mod object;

use manifests::ambassador::{Ambassador, AmbassadorPort, STATUS_PORT};
use manifests::{Located, Manifest, Object, Source};
use serde_json::{Value, json};

/// Label of the pods that are made of an Ambassador: its name.
pub const LABEL: &str = "coracle.dev/ambassador";

/// The directory of the relay's configuration, within its container, and the file in it.
const DIRECTORY: &str = "/etc/ambassador";
const FILE: &str = "config.json";

/// Time beyond the drain for the container to end by itself.
const SPARE_SECONDS: i64 = 5;

/// Nobody's user: a relay needs no right of any other.
const NOBODY: i64 = 65534;

/// Reads manifests, with what each Ambassador means in its place.
pub fn read(sources: &[Source]) -> Manifest {
    let mut manifest = manifests::read(sources);
    expand(&mut manifest);
    manifest
}

/// Puts the pod and the ConfigMap that each Ambassador means in its place.
pub fn expand(manifest: &mut Manifest) {
    let mut objects = Vec::with_capacity(manifest.objects.len());
    for located in std::mem::take(&mut manifest.objects) {
        let Object::Ambassador(ambassador) = &located.object else {
            objects.push(located);
            continue;
        };
        let text = json!({"apiVersion": "v1", "kind": "List", "items": [config_map(ambassador), pod(ambassador)]});
        // As if somebody had written it: with every default, and checked.
        let read = manifests::read(&[Source { name: located.file.clone(), text: text.to_string() }]);
        // What annotations say is checked on the pod; its text is nobody's to look at.
        manifest.diagnostics.extend(read.diagnostics.into_iter().map(|mut found| {
            (found.line, found.column, found.source_line) = (located.line, 1, String::new());
            found.path = found.path.replacen("items[1].", "", 1);
            found
        }));
        objects.extend(read.objects.into_iter().map(|made| Located {
            object: labelled(made.object, ambassador),
            file: located.file.clone(),
            line: located.line,
        }));
    }
    manifest.objects = objects;
}

/// The label is not one that manifests may set.
fn labelled(mut object: Object, ambassador: &Ambassador) -> Object {
    let name = ambassador.metadata.name.clone().unwrap_or_default();
    let meta = match &mut object {
        Object::Pod(pod) => &mut pod.metadata,
        Object::ConfigMap(map) => &mut map.metadata,
        _ => return object,
    };
    meta.labels.get_or_insert_default().insert(LABEL.to_owned(), name);
    object
}

fn config_map(ambassador: &Ambassador) -> Value {
    let meta = &ambassador.metadata;
    let name = manifests::ambassador::config_map_name(meta.name.as_deref().unwrap_or_default());
    let config = serde_json::to_string_pretty(&ambassador.spec).unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": meta.namespace},
        "data": {FILE: config},
    })
}

fn pod(ambassador: &Ambassador) -> Value {
    let (meta, spec) = (&ambassador.metadata, &ambassador.spec);
    let drain = i64::from(spec.drain_seconds.unwrap_or_default());
    let config_map = manifests::ambassador::config_map_name(meta.name.as_deref().unwrap_or_default());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "labels": meta.labels,
            "annotations": meta.annotations,
        },
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": drain + SPARE_SECONDS,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsUser": NOBODY,
                "runAsGroup": NOBODY,
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
            },
            "containers": [{
                "name": "ambassador",
                "image": "coracle.local/tools",
                "imagePullPolicy": "IfNotPresent",
                "args": ["ambassador", "--config", format!("{DIRECTORY}/{FILE}")],
                "ports": spec.ports.iter().map(container_port).collect::<Vec<_>>(),
                "readinessProbe": {
                    "httpGet": {"path": "/ready", "port": spec.status_port.unwrap_or(STATUS_PORT)},
                    "periodSeconds": 2,
                    "timeoutSeconds": 2,
                    "failureThreshold": 2,
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "config", "mountPath": DIRECTORY, "readOnly": true}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": config_map}}],
        },
    })
}

fn container_port(port: &AmbassadorPort) -> Value {
    json!({
        "name": port.name,
        "containerPort": port.port,
        "protocol": port.protocol,
        "hostPort": port.host_port,
        "hostIP": port.host_ip,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::change::Definition;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};

    fn expanded(spec: &str) -> (Pod, ConfigMap) {
        let text = format!(
            "apiVersion: coracle.dev/v1alpha1\nkind: Ambassador\nmetadata:\n  name: redis\n  labels: {{app: shop}}\n  \
             annotations: {{coracle.dev/after: db}}\nspec: {spec}\n"
        );
        let mut manifest = manifests::read(&[Source { name: "f.yaml".into(), text }]);
        expand(&mut manifest);
        assert!(manifest.diagnostics.is_empty(), "{:?}", manifest.diagnostics);
        let [map, pod] = manifest.objects.try_into().unwrap();
        assert_eq!((map.file.as_str(), pod.line), ("f.yaml", 1));
        match (map.object, pod.object) {
            (Object::ConfigMap(map), Object::Pod(pod)) => (*pod, *map),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ambassador_becomes_a_pod_and_its_configuration() {
        let spec = "{ports: [{name: redis, port: 6379, hostPort: 16379}], targets: ['10.0.0.7'], drainSeconds: 3}";
        let (pod, map) = expanded(spec);
        assert_eq!((pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref()), (Some("redis"), Some("default")));
        let labels = pod.metadata.labels.unwrap();
        assert_eq!((labels["app"].as_str(), labels[LABEL].as_str()), ("shop", "redis"));
        assert_eq!(pod.metadata.annotations.unwrap()["coracle.dev/after"], "db");
        let spec = pod.spec.unwrap();
        assert_eq!(spec.termination_grace_period_seconds, Some(8));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        let container = &spec.containers[0];
        assert_eq!(container.args.as_ref().unwrap(), &["ambassador", "--config", "/etc/ambassador/config.json"]);
        let port = &container.ports.as_ref().unwrap()[0];
        assert_eq!((port.container_port, port.host_port, port.name.as_deref()), (6379, Some(16379), Some("redis")));
        assert_eq!(map.metadata.name.as_deref(), Some("redis-ambassador"));
        let config: manifests::ambassador::AmbassadorSpec =
            serde_json::from_str(&map.data.unwrap()["config.json"]).unwrap();
        assert_eq!((config.targets, config.status_port), (vec!["10.0.0.7".to_owned()], Some(STATUS_PORT)));
    }

    #[test]
    fn only_ports_of_the_node_need_another_pod() {
        let of = |spec: &str| Definition::of(&expanded(spec).0);
        let first = of("{ports: [{port: 80}], targets: [a]}");
        assert_eq!(of("{ports: [{port: 80}, {port: 81, targets: [c]}], targets: [b], balance: RoundRobin}"), first);
        assert_ne!(of("{ports: [{port: 80, hostPort: 80}], targets: [a]}"), first);
    }
}
