//! What kubectl accepts is accepted, and means the same.

#![allow(clippy::unwrap_used)]

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Secret};
use manifests::{Manifest, Object, Severity, Source, read};

fn manifest(text: &str) -> Manifest {
    read(&[Source { name: "it.yaml".to_owned(), text: text.to_owned() }])
}

/// The objects of a text about which there is nothing to say.
fn objects(text: &str) -> Vec<Object> {
    let manifest = manifest(text);
    let said: String = manifest.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    assert!(said.is_empty(), "{said}");
    manifest.objects.into_iter().map(|located| located.object).collect()
}

fn pod(text: &str) -> Pod {
    match objects(text).remove(0) {
        Object::Pod(pod) => *pod,
        other => panic!("{}", other.kind()),
    }
}

/// A pod with these lines in its spec.
fn spec(lines: &str) -> PodSpec {
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: c, image: i}]\n";
    pod(&format!("{head}{lines}")).spec.unwrap()
}

/// A pod whose one container has these lines.
fn container(lines: &str) -> Container {
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n";
    pod(&format!("{head}{lines}")).spec.unwrap().containers.remove(0)
}

fn secret(text: &str) -> Secret {
    match objects(text).remove(0) {
        Object::Secret(secret) => *secret,
        other => panic!("{}", other.kind()),
    }
}

#[test]
fn scalars_are_those_of_yaml_1_1() {
    for (written, value) in
        [("yes", true), ("On", true), ("TRUE", true), ("y", true), ("no", false), ("off", false), ("N", false)]
    {
        assert_eq!(spec(&format!("  hostNetwork: {written}\n")).host_network, Some(value), "{written}");
    }
    for (written, value) in
        [("0644", 0o644), ("0o400", 0o400), ("0x1ff", 511), ("0b11", 3), ("4_20", 420), ("4.2e2", 420)]
    {
        let volumes = format!("  volumes: [{{name: v, configMap: {{name: m, defaultMode: {written}}}}}]\n");
        let mode = spec(&volumes).volumes.unwrap()[0].config_map.as_ref().unwrap().default_mode;
        assert_eq!(mode, Some(value), "{written}");
    }
}

#[test]
fn null_is_absent_and_an_empty_string_too() {
    let spec = spec("  restartPolicy:\n  volumes: ~\n  dnsPolicy: \"\"\n  tolerations: null\n  hostname: ''\n");
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
    assert_eq!((spec.volumes, spec.hostname, spec.tolerations), (None, None, None));
}

#[test]
fn a_null_in_a_map_of_strings_is_an_empty_string() {
    let pod =
        pod("apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: }}\nspec: {containers: [{name: c, image: i}]}");
    assert_eq!(pod.metadata.labels.unwrap()["a"], "");
}

#[test]
fn json_is_read_with_tabs_and_escapes() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"p\"},\n\t\"spec\": {\"containers\": \
                [{\"name\": \"c\", \"image\": \"a\\/b\", \"args\": [\"\\u00e9\", \"\\ud83d\\ude00\"]}]}\n}";
    let container = pod(text).spec.unwrap().containers.remove(0);
    assert_eq!(container.image.as_deref(), Some("a/b"));
    assert_eq!(container.args.unwrap(), ["é", "😀"]);
}

#[test]
fn a_long_line_of_json_is_read() {
    let long = "x".repeat(5000);
    let text = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"m\"}},\"data\":{{\"a\":\"{long}\",\"b\":\"{long}\"}}}}"
    );
    assert_eq!(objects(&text).len(), 1);
}

#[test]
fn a_list_is_read_as_its_items() {
    let map = |name| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}");
    let text = format!("apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n- {}\n- {}\n", map("a"), map("b"));
    assert_eq!(objects(&text).len(), 2);
    let wrong = text.replace("name: b", "nmae: b");
    let diagnostic = &manifest(&wrong).diagnostics[0];
    assert_eq!((diagnostic.line, diagnostic.path.as_str()), (6, "items[1].metadata.nmae"));
}

#[test]
fn a_list_of_one_kind_need_not_repeat_it() {
    let text = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: a}\n- {kind: ConfigMap, metadata: {name: b}}\n";
    assert_eq!(objects(text).len(), 2);
    assert!(objects("apiVersion: v1\nkind: PodList\nitems: []\n").is_empty());
}

#[test]
fn anchors_and_merges_are_followed() {
    let spec = pod(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - &base\n    name: a\n    image: i:1\n    \
         env: &env [{name: A, value: \"1\"}]\n  - <<: *base\n    name: b\n  - {name: c, image: i:1, env: *env}\n",
    )
    .spec
    .unwrap();
    let names: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(spec.containers.iter().all(|container| container.env.as_ref().unwrap()[0].name == "A"));
}

#[test]
fn documents_after_a_broken_one_are_still_read() {
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    let manifest = manifest(&format!("{}---\na: [1\n---\n{}", map("a"), map("b").replace("name: b", "nmae: b")));
    let places: Vec<(usize, &str)> = manifest.diagnostics.iter().map(|d| (d.line, d.path.as_str())).collect();
    assert_eq!(manifest.objects.len(), 1);
    assert_eq!(places.last(), Some(&(9, "metadata.nmae")), "{places:?}");
    assert_eq!(manifest.count(), (2, 0));
}

#[test]
fn blank_documents_and_comments_are_nothing() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    assert_eq!(objects(&format!("\u{feff}# a\n---\n---\n{map}---\n# b\n...\n")).len(), 1);
    for nothing in ["", "# only a comment\n", "---\n---\n"] {
        let manifest = manifest(nothing);
        assert_eq!(manifest.diagnostics[0].severity, Severity::Warning, "{nothing:?}");
        assert!(!manifest.has_errors(false) && manifest.has_errors(true));
    }
}

#[test]
fn an_object_with_an_error_is_left_out_and_the_others_are_there() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n";
    let manifest = manifest(text);
    assert_eq!(manifest.objects.len(), 1);
    assert_eq!((manifest.objects[0].line, manifest.objects[0].file.as_str()), (5, "it.yaml"));
    assert!(manifest.has_errors(false));
}

#[test]
fn the_same_object_in_two_files_names_both() {
    let source = |name: &str| Source {
        name: name.to_owned(),
        text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n".to_owned(),
    };
    let manifest = read(&[source("one.yaml"), source("two.yaml")]);
    let diagnostic = &manifest.diagnostics[0];
    assert_eq!((diagnostic.file.as_str(), diagnostic.line), ("two.yaml", 3));
    assert_eq!(diagnostic.help.as_deref(), Some("the first is at one.yaml:3"));
    assert_eq!(manifest.objects.len(), 1);
}

#[test]
fn a_pod_gets_the_defaults_of_the_api_server() {
    let pod = pod(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i, ports: [{containerPort: 1}]}]}",
    );
    let expected = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "imagePullPolicy": "Always", "ports": [{"containerPort": 1, "protocol": "TCP"}],
                "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        },
    });
    assert_eq!(serde_json::to_value(pod).unwrap(), expected);
}

#[test]
fn an_image_is_pulled_always_only_if_its_tag_is_latest() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:aa", "IfNotPresent"),
    ] {
        assert_eq!(container(&format!("    image: {image}\n")).image_pull_policy.as_deref(), Some(policy), "{image}");
    }
}

#[test]
fn what_is_limited_is_requested() {
    let resources =
        container("    image: i\n    resources: {limits: {cpu: 0.5, memory: 64Mi}, requests: {memory: 32Mi}}\n")
            .resources
            .unwrap();
    let requests: Vec<(String, String)> = resources.requests.unwrap().into_iter().map(|(k, v)| (k, v.0)).collect();
    assert_eq!(requests, [("cpu".to_owned(), "0.5".to_owned()), ("memory".to_owned(), "32Mi".to_owned())]);
}

#[test]
fn volumes_variables_and_host_ports_get_their_defaults() {
    let spec = pod(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  hostNetwork: true\n  volumes: [{name: e}, {name: s, secret: \
         {secretName: x}}, {name: h, hostPath: {path: /srv}}]\n  containers:\n  - name: c\n    image: i\n    ports: \
         [{containerPort: 80}]\n    env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a/b']\"}}}]\n    \
         securityContext: {capabilities: {add: [net_admin]}}\n",
    )
    .spec
    .unwrap();
    let volumes = spec.volumes.unwrap();
    assert!(volumes[0].empty_dir.is_some());
    assert_eq!(volumes[1].secret.as_ref().unwrap().default_mode, Some(0o644));
    assert_eq!(volumes[2].host_path.as_ref().unwrap().type_.as_deref(), Some(""));
    let container = &spec.containers[0];
    assert_eq!(container.ports.as_ref().unwrap()[0].host_port, Some(80));
    let from = container.env.as_ref().unwrap()[0].value_from.as_ref().unwrap();
    assert_eq!(from.field_ref.as_ref().unwrap().api_version.as_deref(), Some("v1"));
    let security = container.security_context.as_ref().unwrap();
    assert_eq!(security.proc_mount.as_deref(), Some("Default"));
    assert_eq!(security.capabilities.as_ref().unwrap().add.as_ref().unwrap(), &["NET_ADMIN"]);
}

#[test]
fn a_secret_takes_strings_over_data_and_base64_in_lines() {
    let secret = secret(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: new}\ndata:\n  a: b2xk\n  b: |\n    aGVs\n    bG8=\n",
    );
    let data = secret.data.unwrap();
    assert_eq!(data["a"], ByteString(b"new".to_vec()));
    assert_eq!(data["b"], ByteString(b"hello".to_vec()));
    assert_eq!((secret.string_data, secret.type_.as_deref()), (None, Some("Opaque")));
}

#[test]
fn values_that_say_nothing_pass_in_silence() {
    spec(
        "  hostUsers: true\n  setHostnameAsFQDN: false\n  automountServiceAccountToken: false\n  affinity: {}\n  os: {name: linux}\n",
    );
    container("    image: i\n    lifecycle: {}\n    volumeDevices: []\n    securityContext: {}\n");
}

#[test]
fn ports_of_the_host_by_address_and_protocol_are_apart_and_init_containers_may_use_the_same() {
    let ports = "[{containerPort: 80, hostPort: 80}, {containerPort: 80, hostPort: 80, protocol: UDP}, {containerPort: 80, \
                 hostPort: 80, protocol: SCTP}, {containerPort: 81, hostPort: 80, hostIP: 127.0.0.1}, {containerPort: 82, \
                 hostPort: 80, hostIP: \"::1\"}]";
    let init = "[{name: a, image: i, ports: [{containerPort: 80, hostPort: 80}]}, {name: b, image: i, ports: \
                [{containerPort: 80, hostPort: 80}]}]";
    let pod = pod(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{coracle.dev/network: flat}}}}\nspec:\n  subdomain: s\n  \
         initContainers: {init}\n  containers: [{{name: c, image: i, ports: {ports}}}]\n"
    ));
    assert_eq!(pod.spec.unwrap().containers[0].ports.as_ref().unwrap().len(), 5);
}

#[test]
fn probes_and_hooks_are_filled_in() {
    let container = container(
        "    image: i\n    livenessProbe: {httpGet: {port: 80}, periodSeconds: 0}\n    readinessProbe: {grpc: {port: 1}, \
         timeoutSeconds: 3}\n    lifecycle: {postStart: {httpGet: {port: 80, path: /x}}, preStop: {sleep: {seconds: 0}}}\n",
    );
    let live = container.liveness_probe.unwrap();
    let numbers = (live.timeout_seconds, live.period_seconds, live.success_threshold, live.failure_threshold);
    assert_eq!(numbers, (Some(1), Some(10), Some(1), Some(3)));
    let http = live.http_get.unwrap();
    assert_eq!((http.path.as_deref(), http.scheme.as_deref()), (Some("/"), Some("HTTP")));
    let ready = container.readiness_probe.unwrap();
    assert_eq!((ready.timeout_seconds, ready.grpc.unwrap().service.as_deref()), (Some(3), Some("")));
    let start = container.lifecycle.unwrap().post_start.unwrap().http_get.unwrap();
    assert_eq!((start.path.as_deref(), start.scheme.as_deref()), (Some("/x"), Some("HTTP")));
}

#[test]
fn every_volume_that_runs_is_filled_in() {
    let spec = spec(
        "  volumes:\n  - {name: d, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.labels}}]}}\n  - name: \
         p\n    projected: {sources: [{downwardAPI: {items: [{path: b, resourceFieldRef: {resource: limits.cpu, \
         containerName: c}}]}}]}\n  - {name: i, image: {reference: \"x:1\"}}\n  - {name: v, persistentVolumeClaim: \
         {claimName: data}}\n  - {name: e}\n",
    );
    let volumes = spec.volumes.unwrap();
    let downward = volumes[0].downward_api.as_ref().unwrap();
    assert_eq!(downward.default_mode, Some(0o644));
    let field = downward.items.as_ref().unwrap()[0].field_ref.as_ref().unwrap();
    assert_eq!(field.api_version.as_deref(), Some("v1"));
    let projected = volumes[1].projected.as_ref().unwrap();
    let fields = projected.sources.as_ref().unwrap()[0].downward_api.as_ref().unwrap().items.as_ref().unwrap();
    assert_eq!(fields[0].resource_field_ref.as_ref().unwrap().divisor.as_ref().unwrap().0, "0");
    assert_eq!(volumes[2].image.as_ref().unwrap().pull_policy.as_deref(), Some("IfNotPresent"));
    let empty: Vec<bool> = volumes.iter().map(|volume| volume.empty_dir.is_some()).collect();
    assert_eq!(empty, [false, false, false, false, true]);
}

#[test]
fn a_pod_asks_for_what_its_containers_ask_for() {
    let resources = |own: &str| {
        let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n";
        let container = |name| format!("  - {{name: {name}, image: i, resources: {{requests: {{cpu: 250m}}}}}}\n");
        let text = format!("{head}{}{}  resources: {own}\n", container("a"), container("b"));
        pod(&text).spec.unwrap().resources.unwrap().requests.unwrap_or_default()
    };
    let requests = resources("{limits: {cpu: 2, memory: 1Gi}}");
    assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("500m", "1Gi"));
    assert_eq!(resources("{requests: {cpu: 1}}")["cpu"].0, "1");
}

#[test]
fn a_claim_is_an_object_of_its_own() {
    let text = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  accessModes: \
                [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n";
    let Object::PersistentVolumeClaim(claim) = objects(text).remove(0) else { panic!("another kind") };
    assert_eq!(claim.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(claim.spec.unwrap().volume_mode.as_deref(), Some("Filesystem"));
}

#[test]
fn ephemeral_containers_and_sidecars_are_containers() {
    let spec = spec(
        "  initContainers: [{name: s, image: i, restartPolicy: Always, startupProbe: {exec: {command: [x]}}}]\n  \
         ephemeralContainers: [{name: d, image: i, targetContainerName: c}]\n",
    );
    let debugger = &spec.ephemeral_containers.unwrap()[0];
    assert_eq!(debugger.image_pull_policy.as_deref(), Some("Always"));
    assert_eq!(debugger.termination_message_policy.as_deref(), Some("File"));
    assert_eq!(spec.init_containers.unwrap()[0].startup_probe.as_ref().unwrap().period_seconds, Some(10));
}
