//! Volumes whose files come from objects, from the pod itself, from images, and in memory of other kinds.

use e2e::archive::Layer;
use e2e::manifest::{pod, several, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

/// A pod `vol` with one container that mounts `volume` at /v.
fn mounting(script: &str, volume: Value, mount: Value) -> Value {
    let mount = with(json!({"name": "v", "mountPath": "/v"}), mount);
    let container = with(shell("c", script), json!({"volumeMounts": [mount]}));
    pod("vol", json!({"containers": [container], "volumes": [with(json!({"name": "v"}), volume)]}))
}

fn objects() -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"pw": "hush"}}),
    ]
}

#[test]
fn sources_of_every_kind_are_projected_into_one_directory() {
    let node = need!(Node::with_busybox());
    let sources = json!([
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "conf/a", "mode": 0o400, "user": 12}]}},
        {"secret": {"name": "s"}},
        {"configMap": {"name": "nowhere", "optional": true}},
        {"downwardAPI": {"items": [
            {"path": "pod/labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "pod/memory", "resourceFieldRef":
                {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
        ]}},
    ]);
    let script = "for f in conf/a pw pod/labels pod/memory; do echo $f $(stat -L -c '%a %u' /v/$f) $(cat /v/$f); done; \
                  echo kind $(stat -f -c %T /v); touch /v/x 2>&1 | sed 's/^/write /'";
    let volume = json!({"projected": {"sources": sources, "defaultMode": 0o440}});
    let mut pod = mounting(script, volume, json!({}));
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
    let finished = node.run_to_end(several(&[&objects()[..], &[pod]].concat())).exits(0);
    for (file, expected) in [
        ("conf/a", "400 12 1"),
        ("pw", "440 0 hush"),
        ("pod/labels", "440 0 app=\"web\""),
        ("pod/memory", "440 0 32"),
        ("kind", "tmpfs"),
    ] {
        assert_eq!(finished.value("vol/c", file), expected, "{finished}");
    }
    assert!(finished.value("vol/c", "write").contains("Read-only"), "{finished}");
}

#[test]
fn fields_of_the_pod_are_files() {
    let node = need!(Node::with_busybox());
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let items = json!([
        field("name", "metadata.name"),
        field("note", "metadata.annotations['note']"),
        field("annotations", "metadata.annotations"),
    ]);
    let script = "echo name $(cat /v/name); echo note $(cat /v/note); sed 's/^/all /' /v/annotations";
    let mut pod = mounting(script, json!({"downwardAPI": {"items": items}}), json!({}));
    pod["metadata"]["annotations"] = json!({"note": "one\ntwo"});
    let finished = node.run_to_end(pod).exits(0);
    let values = ["name", "note", "all"].map(|key| finished.value("vol/c", key));
    assert_eq!(values, ["vol", "one two", "note=\"one\\ntwo\""], "{finished}");
}

#[test]
fn a_source_that_is_not_there_is_told_before_anything_is_made() {
    let node = need!(Node::with_busybox());
    let volume = json!({"projected": {"sources": [{"secret": {"name": "nowhere"}}]}});
    node.run_to_end(mounting("echo ran", volume, json!({})))
        .exits(2)
        .says("spec.volumes[0] (v): Secret \"nowhere\" is not there in namespace \"default\"")
        .never_says("| ran");
    let claim = json!({"persistentVolumeClaim": {"claimName": "nowhere"}});
    node.run_to_end(mounting("echo ran", claim, json!({})))
        .exits(2)
        .says("PersistentVolumeClaim \"nowhere\" is not there");
}

#[test]
fn a_volume_of_a_server_is_refused_with_what_to_do_instead() {
    let node = need!(Node::with_busybox());
    let volume = json!({"nfs": {"server": "files.example.com", "path": "/"}});
    node.run_to_end(mounting("echo ran", volume, json!({})))
        .exits(2)
        .says("spec.volumes[0].nfs: `nfs` does not run here")
        .says("mount it on the host, and mount that as a `hostPath`");
}

#[test]
fn an_image_is_a_volume_that_nobody_writes_to() {
    let node = need!(Node::with_busybox());
    let layer = Layer::new().dir("files", 0o755).file("files/greeting", 0o644, b"from the image\n").finish();
    need!(node.import_variant("coracle.test/files:1", json!({}), &[layer]));
    let volume = json!({"image": {"reference": "coracle.test/files:1"}});
    let script = "echo whole $(cat /v/files/greeting); ls /v | grep -c . | sed 's/^/entries /'; \
                  touch /v/x 2>&1 | sed 's/^/write /'";
    let finished = node.run_to_end(mounting(script, volume.clone(), json!({}))).exits(0);
    assert_eq!(finished.value("vol/c", "whole"), "from the image", "{finished}");
    assert!(finished.value("vol/c", "write").contains("Read-only"), "{finished}");
    let part = node.run_to_end(mounting("echo part $(cat /v/greeting)", volume, json!({"subPath": "files"}))).exits(0);
    assert_eq!(part.value("vol/c", "part"), "from the image", "{part}");
    node.assert_nothing_left();
}

#[test]
fn an_image_volume_is_pulled_by_its_own_policy() {
    let node = need!(Node::with_busybox());
    let volume = json!({"image": {"reference": "coracle.test/absent:1", "pullPolicy": "Never"}});
    node.run_to_end(mounting("echo ran", volume, json!({})))
        .exits(125)
        .says("image \"coracle.test/absent:1\" is not present and its pull policy is Never")
        .never_says("| ran");
}

#[test]
fn a_sub_path_is_made_of_variables() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("data");
    let volume = json!({"hostPath": {"path": dir}});
    let mut pod = mounting("echo x > /v/file", volume, json!({"subPathExpr": "$(NAMESPACE)/$(NAME)"}));
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    pod["spec"]["containers"][0]["env"] =
        json!([field("NAME", "metadata.name"), field("NAMESPACE", "metadata.namespace")]);
    node.run_to_end(&pod).exits(0);
    assert_eq!(std::fs::read_to_string(dir.join("default/vol/file")).expect("the container wrote it"), "x\n");
    pod["spec"]["containers"][0]["volumeMounts"][0]["subPathExpr"] = json!("$(NOWHERE)");
    node.run_to_end(pod).exits(125).says("subPathExpr has the value \"$(NOWHERE)\"");
}

#[test]
fn variables_come_from_a_file_that_an_init_container_wrote() {
    let node = need!(Node::with_busybox());
    let mount = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let init = with(shell("i", "echo \"TOKEN='made at $((40 + 2))'\" > /shared/vars"), mount);
    let variable = |name: &str, key: &str, optional: bool| {
        let file = json!({"volumeName": "shared", "path": "vars", "key": key, "optional": optional});
        json!({"name": name, "valueFrom": {"fileKeyRef": file}})
    };
    let with_env = |env: Value| {
        let main = with(shell("c", "echo token $TOKEN; echo other ${OTHER-unset}"), json!({"env": env}));
        let volumes = json!([{"name": "shared", "emptyDir": {}}]);
        pod("vol", json!({"initContainers": [init], "containers": [main], "volumes": volumes}))
    };
    let env = json!([variable("TOKEN", "TOKEN", false), variable("OTHER", "OTHER", true)]);
    let finished = node.run_to_end(with_env(env)).exits(0);
    assert_eq!(finished.value("vol/c", "token"), "made at 42", "{finished}");
    assert_eq!(finished.value("vol/c", "other"), "unset", "{finished}");
    let env = json!([variable("OTHER", "OTHER", false)]);
    node.run_to_end(with_env(env)).exits(125).says("file \"vars\" of volume \"shared\": it has no key \"OTHER\"");
}

#[test]
fn an_empty_dir_in_memory_is_bounded_by_the_pods_own_limit() {
    let node = need!(Node::with_busybox());
    let script = "echo kib $(df -k /v | tail -1 | awk '{print $2}'); echo mode $(stat -c %a /v)";
    let volume = json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi", "mode": 0o1770}});
    let mut pod = mounting(script, volume, json!({}));
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "16Mi"}});
    let finished = node.run_to_end(pod).exits(0);
    assert_eq!(finished.value("vol/c", "kib"), "16384", "{finished}");
    assert_eq!(finished.value("vol/c", "mode"), "1770", "{finished}");
}

/// Whether this kernel keeps huge pages of 2 MiB at all.
fn huge_pages() -> Result<(), String> {
    let path = std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default().contains("hugetlbfs");
    if known && path.exists() { Ok(()) } else { Err("this kernel has no huge pages of 2 MiB".to_owned()) }
}

#[test]
fn an_empty_dir_of_huge_pages_is_a_hugetlbfs() {
    let node = need!(Node::with_busybox());
    need!(huge_pages());
    let script = "grep ' /v ' /proc/mounts | sed 's/^/mounted /'; echo mode $(stat -c %a /v)";
    for medium in ["HugePages", "HugePages-2Mi"] {
        let mut pod = mounting(script, json!({"emptyDir": {"medium": medium}}), json!({}));
        let resources = json!({"limits": {"hugepages-2Mi": "2Mi", "memory": "32Mi"}});
        pod["spec"]["containers"][0]["resources"] = resources;
        let finished = node.run_to_end(pod).exits(0);
        let mounted = finished.value("vol/c", "mounted");
        assert!(mounted.contains("hugetlbfs") && mounted.contains("pagesize=2M"), "{finished}");
        assert_eq!(finished.value("vol/c", "mode"), "777", "{finished}");
    }
    node.run_to_end(mounting("echo ran", json!({"emptyDir": {"medium": "HugePages"}}), json!({})))
        .exits(125)
        .says("some container has to ask for huge pages");
    node.assert_nothing_left();
}

#[test]
fn files_of_objects_have_the_mode_that_is_asked_for_and_are_read_by_users_of_their_group() {
    let node = need!(Node::with_busybox());
    let item = json!([{"key": "b", "path": "dir/b", "mode": 0o400}]);
    let volumes = json!([
        {"name": "whole", "configMap": {"name": "m", "defaultMode": 0o640}},
        {"name": "again", "configMap": {"name": "m"}},
        {"name": "item", "configMap": {"name": "m", "items": item}},
        {"name": "hidden", "secret": {"secretName": "s", "defaultMode": 0o400}},
    ]);
    let names = ["whole", "again", "item", "hidden"];
    let mounts = names.map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    let script = "for f in /whole/a /again/a /again/b /item/dir/b /hidden/pw; do \
        echo $f $(stat -L -c '%a %g' $f) $(cat $f 2>/dev/null || echo closed); done; ls /item | sed 's/^/have /'";
    for (security, expected) in [
        (json!({}), ["640 0 1", "644 0 1", "644 0 2", "400 0 2", "400 0 hush"]),
        (json!({"runAsUser": 1000}), ["640 0 closed", "644 0 1", "644 0 2", "400 0 closed", "400 0 closed"]),
        // The group reads whatever it is.
        (
            json!({"runAsUser": 1000, "fsGroup": 123}),
            ["640 123 1", "644 123 1", "644 123 2", "440 123 2", "440 123 hush"],
        ),
    ] {
        let container = with(shell("c", script), json!({"volumeMounts": mounts}));
        let spec = json!({"securityContext": security, "containers": [container], "volumes": volumes});
        let finished = node.run_to_end(several(&[&objects()[..], &[pod("vol", spec)]].concat())).exits(0);
        let files = ["/whole/a", "/again/a", "/again/b", "/item/dir/b", "/hidden/pw"];
        assert_eq!(files.map(|file| finished.value("vol/c", file)), expected, "{security}\n{finished}");
        assert_eq!(finished.value("vol/c", "have"), "dir", "only what was asked for\n{finished}");
    }
}

#[test]
fn images_are_volumes_of_several_pods_and_parts_that_they_lack_are_told() {
    let node = need!(Node::with_busybox());
    for name in ["one", "two"] {
        let layer = Layer::new().dir("files", 0o755).file("files/name", 0o644, name.as_bytes()).finish();
        need!(node.import_variant(&format!("coracle.test/{name}:1"), json!({}), &[layer]));
    }
    let image = |name: &str| json!({"name": name, "image": {"reference": format!("coracle.test/{name}:1"), "pullPolicy": "Never"}});
    let of = |pod: &str, mounts: Value, volumes: Value| {
        let container = with(shell("c", "cat /one/files/name /two/name; echo"), json!({"volumeMounts": mounts}));
        self::pod(pod, json!({"containers": [container], "volumes": volumes}))
    };
    let both = json!([{"name": "one", "mountPath": "/one"}, {"name": "two", "mountPath": "/two", "subPath": "files"}]);
    // What no container mounts is not even looked for.
    let volumes = json!([image("one"), image("two"), image("nowhere")]);
    let pods = ["a", "b"].map(|pod| of(pod, both.clone(), volumes.clone()));
    let finished = node.run_to_end(several(&pods)).exits(0);
    for container in ["a/c", "b/c"] {
        assert_eq!(finished.of(container), ["onetwo"], "{finished}");
    }
    let part = json!([{"name": "one", "mountPath": "/one", "subPath": "nowhere"}]);
    node.run_to_end(of("c", part, json!([image("one")]))).exits(125).says("nowhere").never_says("c/c | ");
    node.assert_nothing_left();
}
