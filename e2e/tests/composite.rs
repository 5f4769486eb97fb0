//! A pod that uses most of what a pod can use, seen from inside.

use e2e::{Node, inspect, need};
use rustix::process::Signal;

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data:
  greeting: hello from the map
  app.conf: |
    colour=blue
    depth=3
binaryData:
  raw: AAEC/w==
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
type: Opaque
stringData: {token: s3cret}
data: {password: aHVudGVyMg==}
---
apiVersion: v1
kind: Pod
metadata:
  name: composite
  namespace: shop
  labels: {app: composite}
  annotations: {note: from the manifest}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: prepare
    image: coracle.test/busybox:1
    command: [sh, -c, "echo prepared > /shared/init; echo init done"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: writer
    image: coracle.test/busybox:1
    command: [sh, -c]
    args:
    - |
      echo init $(cat /shared/init)
      echo written by $(WHO) > /shared/writer
      echo env-greeting "$GREETING"
      echo env-token "$TOKEN"
      echo env-prefixed "$CFG_greeting"
      echo env-expanded "$EXPANDED"
      echo env-escaped "$ESCAPED"
      echo env-name "$POD_NAME"
      echo env-namespace "$POD_NAMESPACE"
      echo env-limit "$MEMORY_LIMIT"
      echo hostname "$(hostname)"
      sed 's/^/status /' /proc/self/status
      echo ready
      exec sleep 1000
    env:
    - {name: WHO, value: the writer}
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: EXPANDED, value: "<$(GREETING)>"}
    - {name: ESCAPED, value: "$$(GREETING)"}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: MEMORY_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    envFrom: [{configMapRef: {name: settings}, prefix: CFG_}]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 250m, memory: 64Mi}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: reader
    image: coracle.test/busybox:1
    command:
    - sh
    - -c
    - |
      until [ -e /shared/writer ]; do sleep 0.05; done
      echo shared "$(cat /shared/writer)"
      echo conf "$(cat /config/app.conf | tr '\n' ,)"
      echo mapped "$(cat /mapped/renamed)"
      echo raw "$(od -An -tx1 /config/raw)"
      echo password "$(cat /secret/password)"
      echo mode-config "$(stat -L -c %a /config/app.conf)"
      echo mode-secret "$(stat -L -c %a /secret/password)"
      echo mode-item "$(stat -L -c %a /mapped/renamed)"
      echo no-other "$(ls /mapped)"
      echo refused "$(touch /config/new 2>&1)"
      echo secret-fs "$(stat -f -c %T /secret)"
      sed 's/^/mount /' /proc/self/mountinfo
      echo ready
      exec sleep 1000
    volumeMounts:
    - {name: shared, mountPath: /shared, readOnly: true}
    - {name: config, mountPath: /config}
    - {name: mapped, mountPath: /mapped}
    - {name: secret, mountPath: /secret, readOnly: true}
  - name: locked
    image: coracle.test/busybox:1
    command: [sh, -c, "sed 's/^/status /' /proc/self/status; echo write $(touch /x 2>&1); echo ready; exec sleep 1000"]
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      runAsUser: 1000
      capabilities: {drop: [ALL]}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: config, configMap: {name: settings}}
  - {name: mapped, configMap: {name: settings, items: [{key: greeting, path: renamed, mode: 0440}]}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0400}}
"#;

/// What root holds by default: the 14 capabilities that every runtime gives.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

#[test]
fn a_pod_of_three_containers_and_an_init_container_sees_what_its_manifest_says() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(MANIFEST);
    run.wait_for("composite/writer | ready");
    run.wait_for("composite/reader | ready");
    run.wait_for("composite/locked | ready");
    let (cpu, memory) = limits(&node);
    run.signal(Signal::TERM);
    let finished = run.wait();

    assert_eq!(finished.of("composite/prepare"), ["init done"]);
    for (key, expected) in [
        ("init", "prepared"),
        ("env-greeting", "hello from the map"),
        ("env-token", "s3cret"),
        ("env-prefixed", "hello from the map"),
        ("env-expanded", "<hello from the map>"),
        ("env-escaped", "$(GREETING)"),
        ("env-name", "composite"),
        ("env-namespace", "shop"),
        ("env-limit", "67108864"),
        ("hostname", "composite"),
        ("status CapEff:", DEFAULT_CAPABILITIES),
        ("status CapBnd:", DEFAULT_CAPABILITIES),
        ("status Seccomp:", "2"),
        ("status NoNewPrivs:", "0"),
    ] {
        assert_eq!(value(&finished, "composite/writer", key), expected, "{key}");
    }
    for (key, expected) in [
        ("shared", "written by the writer"),
        ("conf", "colour=blue,depth=3,"),
        ("mapped", "hello from the map"),
        ("raw", "00 01 02 ff"),
        ("password", "hunter2"),
        ("mode-config", "644"),
        ("mode-secret", "400"),
        ("mode-item", "440"),
        ("no-other", "renamed"),
        ("secret-fs", "tmpfs"),
    ] {
        assert_eq!(value(&finished, "composite/reader", key), expected, "{key}");
    }
    let refused = finished.value("composite/reader", "refused");
    assert!(refused.contains("Read-only file system"), "a ConfigMap's volume is writable: {refused}");
    let mounts: Vec<String> = finished.of("composite/reader");
    for (point, option) in [("/", "rw"), ("/shared", "ro"), ("/config", "ro"), ("/secret", "ro"), ("/sys", "ro")] {
        let of_point = |line: &&String| line.split(' ').nth(5) == Some(point);
        let line = mounts.iter().filter(|line| line.starts_with("mount ")).rfind(of_point);
        let line = line.unwrap_or_else(|| panic!("{point} is no mount\n{finished}"));
        assert!(line.split(' ').nth(6).is_some_and(|options| options.split(',').any(|o| o == option)), "{line}");
    }
    for (key, expected) in [
        ("status CapEff:", "0000000000000000"),
        ("status CapBnd:", "0000000000000000"),
        ("status NoNewPrivs:", "1"),
        ("status Seccomp:", "2"),
        ("status Uid:", "1000 1000 1000 1000"),
    ] {
        assert_eq!(value(&finished, "composite/locked", key), expected, "{key}");
    }
    assert!(finished.value("composite/locked", "write").contains("Read-only file system"));
    assert_eq!(memory, "67108864");
    assert_eq!(cpu, "25000 100000");
    node.assert_nothing_left();
}

/// The rest of the line after `key`, with blanks and tabs made one blank.
fn value(finished: &e2e::Finished, container: &str, key: &str) -> String {
    let lines = finished.of(container);
    let found = lines.iter().find_map(|line| line.strip_prefix(key));
    let found = found.unwrap_or_else(|| panic!("{container} printed no {key:?}\n{finished}"));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The writer's cpu quota with its period and its memory limit, from the host's cgroup files.
fn limits(node: &Node) -> (String, String) {
    let pid = inspect::process_with_environment(node, "WHO=the writer").expect("the writer runs");
    let file = |controller: &str, names: [&str; 2]| {
        let dir = inspect::cgroup_of(pid, controller).expect("the writer has a cgroup");
        let mut values = names.iter().filter_map(|name| std::fs::read_to_string(dir.join(name)).ok());
        values.next().unwrap_or_else(|| panic!("{} has none of {names:?}", dir.display())).trim().to_owned()
    };
    let quota = file("cpu", ["cpu.cfs_quota_us", "cpu.max"]);
    let cpu = if quota.contains(' ') { quota } else { format!("{quota} {}", file("cpu", ["cpu.cfs_period_us", "-"])) };
    (cpu, file("memory", ["memory.limit_in_bytes", "memory.max"]))
}

#[test]
fn a_container_over_its_memory_limit_is_oom_killed_with_137() {
    let node = need!(Node::with_busybox());
    let manifest = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: eats
    image: coracle.test/busybox:1
    command: [sh, -c, "echo eating; exec dd if=/dev/zero of=/dev/null bs=200M count=1"]
    resources: {limits: {memory: 24Mi}}
  - name: keeper
    image: coracle.test/busybox:1
    command: [sh, -c, "trap exit TERM; while :; do sleep 0.1; done"]
"#;
    let mut run = node.run(manifest);
    let pod = node.wait_for_pod("greedy", "OOMKilled", |pod| terminated(pod, "eats").is_some());
    let state = terminated(&pod, "eats").expect("just seen");
    assert_eq!(state["reason"], "OOMKilled", "{state:#}");
    assert_eq!(state["exitCode"], 137, "{state:#}");
    run.signal(Signal::TERM);
    let finished = run.wait().exits(137);
    assert!(finished.text().contains("OOMKilled"), "the user is not told why\n{finished}");
    node.assert_nothing_left();
}

fn terminated(pod: &serde_json::Value, container: &str) -> Option<serde_json::Value> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = statuses.iter().find(|status| status["name"] == container)?;
    status["state"].get("terminated").filter(|state| !state.is_null()).cloned()
}
