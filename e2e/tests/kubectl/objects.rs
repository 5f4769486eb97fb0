//! get and describe.

use e2e::kubectl::Cluster;
use e2e::manifest::{keeper, pod, shell, with};
use serde_json::{Value, json};

crate::by_both! {
    pods_are_shown_in_every_form
    objects_are_selected_by_labels_and_fields
    a_pod_is_described_with_its_events
    other_kinds_are_shown
    services_and_policies_are_shown_with_what_they_come_to
}

fn labelled(name: &str, labels: Value) -> Value {
    with(keeper(name), json!({"metadata": {"name": name, "labels": labels}}))
}

/// The columns of a table's line.
fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn pods_are_shown_in_every_form(cluster: &Cluster) {
    let two = json!({"containers": [shell("a", "exec sleep 1000"), shell("b", "exec sleep 1000")]});
    let shown = cluster.run(&pod("web", two));
    assert_eq!(shown["status"]["phase"], "Running");
    let lines = cluster.text(["get", "pods"]);
    let lines: Vec<_> = lines.lines().map(columns).collect();
    assert_eq!(lines[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(lines[1][..4], ["web", "2/2", "Running", "0"]);
    let wide = cluster.text(["get", "pods", "-o", "wide"]);
    let ip = shown["status"]["podIP"].as_str().unwrap();
    let node = shown["spec"]["nodeName"].as_str().unwrap();
    assert_eq!(columns(wide.lines().nth(1).unwrap())[5..], [ip, node, "<none>", "<none>"]);
    let yaml = cluster.text(["get", "pod/web", "-o", "yaml"]);
    assert!(yaml.contains("\nkind: Pod\n") && yaml.contains("  phase: Running\n"), "{yaml}");
    assert_eq!(cluster.json(&["get", "pods"])["items"][0]["metadata"]["uid"], shown["metadata"]["uid"]);
    assert_eq!(cluster.text(["get", "po", "-o", "name"]), "pod/web");
    let phase = cluster.text(["get", "pod", "web", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(phase.trim(), "Running");
    // What is sorted must not be empty, says kubectl; and of all kinds there are pods only.
    for asked in [&["get", "pods", "-A", "--sort-by=.metadata.name"][..], &["get", "all", "-A"]] {
        let all = cluster.text(asked);
        let row = columns(all.lines().nth(1).unwrap());
        assert_eq!((row[0], row[1].trim_start_matches("pod/"), row[2]), ("default", "web", "2/2"));
    }
    let missing = cluster.kubectl(["get", "pod", "other"]).exits(1).stderr();
    assert!(missing.contains(r#"Error from server (NotFound): pods "other" not found"#), "{missing}");
}

fn objects_are_selected_by_labels_and_fields(cluster: &Cluster) {
    for (name, tier) in [("one", "front"), ("two", "back"), ("three", "back")] {
        cluster.write(&format!("{name}.yaml"), labelled(name, json!({"tier": tier, name: "yes"})));
    }
    cluster.write("done.yaml", pod("done", json!({"containers": [shell("c", "exit 0")]})));
    for name in ["one", "two", "three"] {
        cluster.wait_for_ready(name);
    }
    cluster.wait_for("done", "Succeeded", |pod| pod["status"]["phase"] == "Succeeded");
    let names = |args: &[&str]| {
        let got = cluster.text(["get", "pods", "-o", "name"].iter().chain(args));
        let mut names: Vec<String> = got.lines().map(|it| it.trim_start_matches("pod/").to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&["-l", "tier=back"]), "three two");
    assert_eq!(names(&["-l", "tier in (front,back),!two"]), "one three");
    assert_eq!(names(&["-l", "tier"]), "one three two");
    assert_eq!(names(&["--field-selector", "status.phase!=Running"]), "done");
    assert_eq!(names(&["--field-selector", "metadata.name=two,status.phase=Running"]), "two");
    // Page by page.
    assert_eq!(names(&["--chunk-size", "1"]), "done one three two");
    let wrong = cluster.kubectl(["get", "pods", "--field-selector", "spec.nodename=x"]).exits(1).stderr();
    assert!(wrong.contains("field label not supported: spec.nodename"), "{wrong}");
}

fn a_pod_is_described_with_its_events(cluster: &Cluster) {
    cluster.run(&labelled("web", json!({"app": "web"})));
    let describe = || cluster.text(["describe", "pod", "web"]);
    e2e::inspect::wait_until("the start among the events", || describe().contains("Started"));
    let said = describe();
    for expected in ["Labels:       app=web", "Status:       Running", "State:          Running", "Events:"] {
        let (expected, said) = (columns(expected), said.lines().map(columns).collect::<Vec<_>>());
        assert!(said.iter().any(|line| line.starts_with(&expected)), "{expected:?} in {said:#?}");
    }
    for reason in ["Created", "Started"] {
        let line = said.lines().find(|line| columns(line).get(1) == Some(&reason));
        assert!(line.is_some_and(|line| line.contains("coracle")), "{reason}: {said}");
    }
}

fn other_kinds_are_shown(cluster: &Cluster) {
    let mut pod = keeper("far");
    pod["metadata"]["namespace"] = json!("far");
    cluster.write("far.yaml", pod);
    let far = || cluster.text(["get", "ns", "-o", "name"]);
    let end = std::time::Instant::now() + e2e::deadline();
    while far() != "namespace/default\nnamespace/far" {
        assert!(std::time::Instant::now() < end, "{}", far());
    }
    let pods = cluster.text(["get", "pods", "-n", "far", "--no-headers"]);
    assert_eq!(columns(&pods)[0], "far");
    assert!(cluster.kubectl(["get", "pods"]).exits(0).stderr().contains("No resources found in default namespace."));
    let kinds = cluster.text(["api-resources", "--no-headers"]);
    let kinds: Vec<_> = kinds.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = ["configmaps", "events", "namespaces", "nodes", "persistentvolumeclaims", "pods", "services"];
    assert_eq!(kinds[..expected.len()], expected);
    for other in ["endpointslices", "networkpolicies"] {
        assert!(kinds.contains(&other), "{kinds:?}");
    }
    let version = cluster.kubectl(["version"]).stdout();
    assert!(version.contains("+coracle."), "{version}");
}

fn services_and_policies_are_shown_with_what_they_come_to(cluster: &Cluster) {
    let meta = |name: &str| json!({"name": name, "labels": {"tier": "front"}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("web"),
        "spec": {"selector": {"tier": "front"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta("closed"),
        "spec": {"podSelector": {"matchLabels": {"tier": "back"}}}});
    cluster.write("service.yaml", &service);
    cluster.write("policy.yaml", &policy);
    cluster.write("web.yaml", labelled("web", json!({"tier": "front"})));
    let pod = cluster.wait_for_ready("web");
    let ip = pod["status"]["podIP"].as_str().unwrap();
    let end = std::time::Instant::now() + e2e::deadline();
    let slices = || cluster.text(["get", "endpointslices", "-l", "kubernetes.io/service-name=web"]);
    while !slices().lines().any(|line| columns(line)[..4] == ["web-ipv4", "IPv4", "8080", ip]) {
        assert!(std::time::Instant::now() < end, "{}", slices());
    }
    let shown = cluster.json(&["get", "service", "web"]);
    let address = shown["spec"]["clusterIP"].as_str().unwrap();
    let row = cluster.text(["get", "svc", "-o", "wide", "--no-headers"]);
    let expected = ["web", "ClusterIP", address, "<none>", "80/TCP"];
    assert_eq!(columns(&row)[..5], expected);
    assert!(row.trim_end().ends_with("tier=front"), "{row}");
    let row = cluster.text(["get", "netpol", "--no-headers"]);
    assert_eq!(columns(&row)[..2], ["closed", "tier=back"]);
    assert_eq!(cluster.json(&["get", "netpol", "closed"])["spec"]["policyTypes"], json!(["Ingress"]));
    let described = cluster.text(["describe", "networkpolicy", "closed"]);
    assert!(described.contains("tier=back"), "{described}");
    let described = cluster.text(["describe", "service", "web"]);
    assert!(described.contains(address), "{described}");
    let missing = cluster.kubectl(["get", "netpol", "other"]).exits(1).stderr();
    assert!(missing.contains(r#"networkpolicies.networking.k8s.io "other" not found"#), "{missing}");
    cluster.remove("service.yaml");
    cluster.remove("policy.yaml");
    let left = || cluster.text(["get", "svc,netpol,endpointslices", "-A", "--no-headers", "--ignore-not-found"]);
    while !left().is_empty() {
        assert!(std::time::Instant::now() < end, "{}", left());
    }
}
