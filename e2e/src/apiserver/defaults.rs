//! What a pod says that does not say it: the defaults of its types, and what admission adds.

use serde_json::{Value, json};

/// Fills a new pod.
pub fn pod(pod: &mut Value) {
    let host_network = pod["spec"]["hostNetwork"] == true;
    let spec = &mut pod["spec"];
    let plain = json!({
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
        "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true, "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    });
    missing(spec, &plain);
    if let Some(account) = spec["serviceAccountName"].as_str().map(str::to_owned) {
        spec["serviceAccount"] = account.into();
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        items(&mut spec[list]).for_each(|it| container(it, host_network));
    }
    items(&mut spec["volumes"]).for_each(volume);
    tolerate(spec);
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

/// Fills an object of another kind; `number` tells it from all others.
pub fn other(kind: &str, object: &mut Value, number: u64) {
    match kind {
        "PersistentVolumeClaim" => missing(&mut object["spec"], &json!({"volumeMode": "Filesystem"})),
        "PersistentVolume" => {
            let plain = json!({"volumeMode": "Filesystem", "persistentVolumeReclaimPolicy": "Retain"});
            missing(&mut object["spec"], &plain);
            if let Some(path) = object["spec"].get_mut("hostPath") {
                missing(path, &json!({"type": ""}));
            }
        }
        "Service" => service(&mut object["spec"], number),
        _ => {}
    }
}

fn service(spec: &mut Value, number: u64) {
    let plain = json!({
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
    });
    if spec["type"] == "ExternalName" {
        missing(spec, &json!({"sessionAffinity": "None"}));
        return;
    }
    missing(spec, &plain);
    let address = format!("10.254.{}.{}", number / 250 % 250, number % 250 + 2);
    missing(spec, &json!({"clusterIP": address}));
    let addresses = json!([spec["clusterIP"]]);
    missing(spec, &json!({"clusterIPs": addresses}));
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["port"].clone();
        missing(port, &json!({"protocol": "TCP", "targetPort": number}));
    }
}

/// Fills a container.
pub fn container(it: &mut Value, host_network: bool) {
    let image = it["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let is_latest = !name.contains(':') && !name.contains('@') || name.ends_with(":latest");
    let pull = if is_latest { "Always" } else { "IfNotPresent" };
    let plain = json!({
        "imagePullPolicy": pull, "resources": {}, "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    });
    missing(it, &plain);
    items(&mut it["ports"]).for_each(|port| {
        missing(port, &json!({"protocol": "TCP"}));
        if host_network {
            let number = port["containerPort"].clone();
            missing(port, &json!({"hostPort": number}));
        }
    });
    for env in items(&mut it["env"]) {
        if env["valueFrom"]["fieldRef"].is_object() {
            missing(&mut env["valueFrom"]["fieldRef"], &json!({"apiVersion": "v1"}));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if it[probe].is_object() {
            let plain = json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
            missing(&mut it[probe], &plain);
            if it[probe]["httpGet"].is_object() {
                missing(&mut it[probe]["httpGet"], &json!({"path": "/", "scheme": "HTTP"}));
            }
        }
    }
    // What is limited is requested.
    let limits = it["resources"]["limits"].clone();
    if limits.is_object() {
        if it["resources"]["requests"].is_null() {
            it["resources"]["requests"] = json!({});
        }
        missing(&mut it["resources"]["requests"], &limits);
    }
    if let Some(fields) = it.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

fn volume(volume: &mut Value) {
    let sources = [
        ("secret", json!({"defaultMode": 420})),
        ("configMap", json!({"defaultMode": 420})),
        ("projected", json!({"defaultMode": 420})),
        ("downwardAPI", json!({"defaultMode": 420})),
        ("hostPath", json!({"type": ""})),
    ];
    for (kind, plain) in sources {
        if let Some(source) = volume.get_mut(kind) {
            missing(source, &plain);
        }
    }
    let projected = volume.get_mut("projected").and_then(|it| it.get_mut("sources")).and_then(Value::as_array_mut);
    for source in projected.into_iter().flatten() {
        if source["serviceAccountToken"].is_object() {
            missing(&mut source["serviceAccountToken"], &json!({"expirationSeconds": 3600}));
        }
    }
    if let Some(fields) = volume.as_object_mut() {
        if fields.len() == 1 {
            fields.insert("emptyDir".to_owned(), json!({}));
        }
        fields.retain(|_, value| !value.is_null());
    }
}

/// A pod stays five minutes on a node that is not well, unless it says otherwise.
fn tolerate(spec: &mut Value) {
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = |it: &Value| {
            let of_key = it["key"] == key || it["key"].as_str().unwrap_or_default().is_empty();
            of_key && (it["effect"] == "NoExecute" || it["effect"].as_str().unwrap_or_default().is_empty())
        };
        if !all.iter().any(tolerates) {
            all.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    spec["tolerations"] = all.into();
}

/// Sets what is not there.
fn missing(object: &mut Value, plain: &Value) {
    let (Some(object), Some(plain)) = (object.as_object_mut(), plain.as_object()) else { return };
    for (key, value) in plain {
        if object.get(key).is_none_or(Value::is_null) {
            object.insert(key.clone(), value.clone());
        }
    }
}

/// The items of a list that may not be there.
fn items(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}
