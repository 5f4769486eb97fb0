//! What is answered.

use e2e::agent::container_id;
use e2e::manifest::{pod, shell};
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use super::client::{Cluster, NODE};

/// A pod with a probe, a volume and two lines of log.
fn web() -> Value {
    let mut web = pod("web", json!({"containers": [shell("c", "echo one; echo two; exec sleep 1000")]}));
    web["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    web["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    web["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    web
}

#[test]
fn a_pod_from_a_file_is_found_by_its_own_name_and_by_its_mirror_s() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    cluster.agent.write("web.yaml", web());
    let web = cluster.agent.wait_for_running("web");
    let uid = web["metadata"]["uid"].as_str().unwrap();
    let client = cluster.admin();
    let mirror = format!("web-{NODE}");
    for name in ["web", &mirror] {
        let path = |rest: &str| format!("/containerLogs/default/{name}/c{rest}");
        inspect::wait_until("both lines", || client.get(&path("")).body == "one\ntwo\n");
        assert_eq!(client.get(&path("?tailLines=1")).body, "two\n");
        assert_eq!(client.get(&path("?tail=1")).body, "two\n");
        assert_eq!(client.get(&path("?tail=all")).body, "one\ntwo\n");
        assert_eq!(client.get(&path("?limitBytes=2")).body, "on");
        assert_eq!(client.get(&path("?sinceTime=2100-01-01T00:00:00Z")).body, "");
        let stamped = client.get(&path("?timestamps=true&tailLines=1")).body;
        assert!(stamped.starts_with("20") && stamped.ends_with("Z two\n"), "{stamped}");
        assert_eq!(client.ask("POST", &format!("/run/default/{name}/c?cmd=echo%20hi"), "").body, "hi\n");
        assert_eq!(client.ask("POST", &format!("/run/default/{name}/{uid}/c"), "cmd=echo+ho").body, "ho\n");
    }
    let listed = client.get("/pods").json();
    assert_eq!(listed["kind"], "PodList");
    assert_eq!(listed["items"][0]["metadata"]["name"], mirror.as_str());
    assert_eq!(listed["items"][0]["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(listed["items"][0]["status"]["phase"], "Running");
    let running = client.get("/runningpods/").json();
    assert_eq!(running["items"][0]["metadata"]["name"], mirror.as_str());
    assert_eq!(running["items"][0]["spec"]["containers"][0]["name"], "c");
}

#[test]
fn statistics_have_kubelet_s_names() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    cluster.agent.write("web.yaml", web());
    let web = cluster.agent.wait_for("web", "ready", |pod| e2e::agent::condition(pod, "Ready") == Some(true));
    let (client, id) = (cluster.admin(), container_id(&web, "c").unwrap());
    let id = id.rsplit('/').next().unwrap_or_default();
    let summary = client.get("/stats/summary").json();
    assert_eq!(summary["node"]["nodeName"], NODE);
    for path in [
        "cpu/usageCoreNanoSeconds",
        "memory/workingSetBytes",
        "fs/usedBytes",
        "runtime/imageFs/capacityBytes",
        "rlimit/maxpid",
    ] {
        let value = summary["node"].pointer(&format!("/{path}")).and_then(Value::as_u64);
        assert!(value.is_some_and(|it| it > 0), "{path}: {}", summary["node"]);
    }
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"]["name"], format!("web-{NODE}"));
    assert_eq!(pod["podRef"]["uid"], web["metadata"]["uid"]);
    assert_eq!((&pod["containers"][0]["name"], &pod["volume"][0]["name"]), (&json!("c"), &json!("scratch")));
    for path in [
        "containers/0/cpu/usageCoreNanoSeconds",
        "containers/0/memory/workingSetBytes",
        "memory/usageBytes",
        "process_stats/process_count",
        "network/rxBytes",
    ] {
        assert!(pod.pointer(&format!("/{path}")).is_some_and(Value::is_u64), "{path}: {pod}");
    }
    let few = client.get("/stats/summary?only_cpu_and_memory=true").json();
    assert_eq!((&few["pods"][0]["network"], &few["node"]["fs"]), (&Value::Null, &Value::Null));
    assert!(few["pods"][0]["containers"][0]["memory"]["workingSetBytes"].is_u64(), "{few}");
    let labels = format!("{{container=\"c\",namespace=\"default\",pod=\"web-{NODE}\"}}");
    let resource = client.get("/metrics/resource");
    assert!(resource.head.contains("text/plain; version=0.0.4"), "{resource:?}");
    for line in [
        format!("container_memory_working_set_bytes{labels} "),
        format!("container_cpu_usage_seconds_total{labels} "),
        format!("container_start_time_seconds{labels} "),
        format!("pod_memory_working_set_bytes{{namespace=\"default\",pod=\"web-{NODE}\"}} "),
        "node_cpu_usage_seconds_total ".into(),
        "node_memory_working_set_bytes ".into(),
        "resource_scrape_error 0".into(),
    ] {
        assert!(resource.body.lines().any(|it| it.starts_with(&line)), "{line}\n{}", resource.body);
    }
    let cadvisor = client.get("/metrics/cadvisor").body;
    let of = |family: &str, part: &str| {
        cadvisor.lines().any(|it| it.starts_with(&format!("{family}{{")) && it.contains(part))
    };
    assert!(of("container_cpu_usage_seconds_total", "container=\"c\",cpu=\"total\",id=\"/"), "{cadvisor}");
    assert!(of("container_memory_working_set_bytes", &format!("name=\"{id}\"")), "{cadvisor}");
    assert!(of("container_network_receive_bytes_total", "interface=\"eth0\""), "{cadvisor}");
    assert!(of("machine_cpu_cores", "boot_id="), "{cadvisor}");
    assert!(cadvisor.contains("\ncontainer_scrape_error 0\n"), "{cadvisor}");
    let probe = format!("container=\"c\",namespace=\"default\",pod=\"web-{NODE}\"");
    let probes = client.get("/metrics/probes").body;
    assert!(
        probes.contains(&format!("prober_probe_total{{{probe}")) && probes.contains("\nprocess_start_time_seconds "),
        "{probes}"
    );
    let own = client.get("/metrics").body;
    assert!(own.contains("kubelet_running_pods 1\n"), "{own}");
    assert!(own.contains("\nkubelet_certificate_manager_server_ttl_seconds "), "{own}");
    let asked = |it: &str| it.starts_with("rest_client_requests_total{code=\"200\",") && it.contains("method=\"GET\"");
    assert!(own.lines().any(asked), "{own}");
    assert!(own.contains("kubelet_http_requests_total{long_running=\"false\",method=\"GET\",path=\"metrics/resource\",server_type=\"readwrite\"} 1\n"), "{own}");
}

#[test]
fn what_there_is_in_a_claim_is_told() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    let is_there = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]);
    cluster.server.bind_claim("data", &node.make_dir("data"), is_there);
    let keeps = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let mut container = e2e::manifest::shell("c", keeps);
    container["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    let mut pod = e2e::manifest::pod("db", json!({"containers": [container], "volumes": volumes}));
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(NODE);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    cluster.server.create(&pod);
    cluster.server.wait_for("pods", "default/db", "running", |pod| pod["status"]["phase"] == "Running");
    let client = cluster.admin();
    let summary = client.get("/stats/summary").json();
    let volume = &summary["pods"][0]["volume"][0];
    assert_eq!((&volume["name"], &volume["pvcRef"]), (&json!("d"), &json!({"name": "data", "namespace": "default"})));
    assert!(volume["capacityBytes"].as_u64() > volume["usedBytes"].as_u64(), "{volume}");
    let metrics = client.get("/metrics").body;
    let labels = "{namespace=\"default\",persistentvolumeclaim=\"data\"}";
    for name in ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"] {
        assert!(metrics.contains(&format!("\nkubelet_volume_stats_{name}{labels} ")), "{name}\n{metrics}");
    }
    cluster.server.delete("pods", "default/db");
    cluster.server.wait_until_gone("pods", "default/db");
}

#[test]
fn the_node_s_logs_are_shown_and_nothing_beside_them() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    let client = cluster.admin();
    let listed = client.get("/logs/");
    assert!(listed.code == 200 && listed.body.starts_with("<!doctype html>\n<pre>\n"), "{listed:?}");
    for (path, code) in [
        ("/logs/../../etc/passwd", 400),
        ("/logs/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/logs/..%2f..%2fetc%2fpasswd", 400),
        ("/logs//etc/passwd", 404),
        ("/logs/no-such-file", 404),
    ] {
        assert_eq!(client.get(path).code, code, "{path}");
    }
}
