#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use cri_proto::cri;
use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use super::*;
use crate::engine::config::env::Environment;

struct Bench {
    root: tempfile::TempDir,
    objects: Objects,
    settings: Settings,
}

/// A volume of this host.
#[derive(Clone, Debug)]
struct Made {
    path: PathBuf,
    read_only: bool,
}

impl From<Ready> for Made {
    fn from(ready: Ready) -> Made {
        match ready {
            Ready::Host { path, read_only } => Made { path, read_only },
            Ready::Image { reference } => panic!("an image: {reference}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = crate::host::teardown::remove_pod_dirs(self.root.path(), "u");
    }
}

fn bench() -> Option<Bench> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: volumes take root");
        return None;
    }
    let mut objects = Objects::default();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"pw": "x"}});
    objects
        .config_maps
        .insert(("default".into(), "m".into()), std::sync::Arc::new(serde_json::from_value(map).unwrap()));
    objects
        .secrets
        .insert(("default".into(), "s".into()), std::sync::Arc::new(serde_json::from_value(secret).unwrap()));
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { root_dir: root.path().to_owned(), ..Settings::default() };
    Some(Bench { root, objects, settings })
}

impl Bench {
    fn dir(&self) -> PodDir {
        PodDir::new(self.root.path(), "u").unwrap()
    }

    fn prepare(&self, volume: Value, group: Option<i64>) -> Result<Made, HostError> {
        let pod = pod(volume, json!({"fsGroup": group}));
        self.of(&pod, prepare).map(|mut ready| ready.remove("v").unwrap().into())
    }

    /// Does something with the pod's volumes.
    fn of<T>(&self, pod: &Pod, work: fn(&Sources<'_>) -> T) -> T {
        work(&Sources { pod, objects: &self.objects, settings: &self.settings, dir: &self.dir() })
    }

    fn config_map(&mut self, name: &str, data: Value) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        self.objects
            .config_maps
            .insert(("default".into(), name.into()), std::sync::Arc::new(serde_json::from_value(map).unwrap()));
    }

    fn claim(&mut self, storage: &str) {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}});
        let claim =
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec});
        self.objects
            .claims
            .insert(("default".into(), "data".into()), std::sync::Arc::new(serde_json::from_value(claim).unwrap()));
    }
}

/// A pod with one volume, `v`.
fn pod(mut volume: Value, security: Value) -> Pod {
    volume["name"] = json!("v");
    let labels = json!({"app": "web", "tier": "a\"b"});
    let metadata = json!({"name": "p", "uid": "u", "labels": labels, "annotations": {"note": "x\ny"}});
    let resources = json!({"limits": {"cpu": "1500m", "memory": "64Mi"}});
    let containers = json!([{"name": "c", "resources": resources}]);
    let spec = json!({"securityContext": security, "volumes": [volume], "containers": containers});
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_empty_dir_is_open_to_all_and_kept() {
    let Some(bench) = bench() else { return };
    let ready = bench.prepare(json!({"emptyDir": {}}), None).unwrap();
    assert_eq!((mode(&ready.path), ready.read_only), (0o777, false));
    fs::write(ready.path.join("file"), "x").unwrap();
    bench.prepare(json!({"emptyDir": {}}), Some(99)).unwrap();
    assert_eq!(fs::metadata(ready.path.join("file")).unwrap().gid(), 99);
}

#[test]
fn an_empty_dir_in_memory_has_its_limit() {
    let Some(bench) = bench() else { return };
    let volume = json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    let ready = bench.prepare(volume.clone(), None).unwrap();
    assert_eq!(mode(&ready.path), 0o777);
    let space = rustix::fs::statvfs(&ready.path).unwrap();
    assert_eq!(space.f_blocks * space.f_frsize, 1 << 20);
    bench.prepare(volume, None).unwrap();
    assert_eq!(mount::below(&ready.path.canonicalize().unwrap()).unwrap().len(), 1, "mounted once");
}

#[test]
fn config_map_files_have_their_modes() {
    let Some(bench) = bench() else { return };
    let ready = bench.prepare(json!({"configMap": {"name": "m", "defaultMode": 0o600}}), None).unwrap();
    assert!(ready.read_only);
    assert_eq!(fs::read_to_string(ready.path.join("a")).unwrap(), "1");
    assert_eq!(mode(&ready.path.join("b")), 0o600);
    let items = json!([{"key": "a", "path": "x/y", "mode": 0o400}]);
    let ready = bench.prepare(json!({"configMap": {"name": "m", "items": items}}), None).unwrap();
    assert_eq!(mode(&ready.path.join("x/y")), 0o400);
    assert!(!ready.path.join("b").exists());
}

#[test]
fn secrets_live_in_memory_and_are_the_groups_to_read() {
    let Some(bench) = bench() else { return };
    let ready = bench.prepare(json!({"secret": {"secretName": "s", "defaultMode": 0o400}}), Some(77)).unwrap();
    let metadata = fs::metadata(ready.path.join("pw")).unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o777), (77, 0o440));
    let real = ready.path.canonicalize().unwrap();
    assert_eq!(mount::below(&real).unwrap(), [real]);
}

#[test]
fn what_is_missing_or_leads_out_is_an_error_unless_optional() {
    let Some(bench) = bench() else { return };
    for (volume, expected) in [
        (json!({"configMap": {"name": "x"}}), "ConfigMap \"x\" is not there"),
        (json!({"secret": {"secretName": "x"}}), "Secret \"x\" is not there"),
        (json!({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}), "no key \"z\""),
        (json!({"configMap": {"name": "m", "items": [{"key": "a", "path": "../z"}]}}), "relative path"),
        (json!({"nfs": {"server": "s", "path": "/"}}), "not supported"),
        (json!({"emptyDir": {"medium": "Flash"}}), "not supported"),
        (json!({"emptyDir": {"medium": "HugePages"}}), "some container has to ask for huge pages"),
        (json!({"emptyDir": {"medium": "HugePages-2Mi"}}), "some container has to ask for huge pages of that size"),
        (json!({"persistentVolumeClaim": {"claimName": "x"}}), "PersistentVolumeClaim \"x\" is not there"),
        (json!({"projected": {"sources": [{"secret": {"name": "x"}}]}}), "Secret \"x\" is not there"),
        (json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}), "not supported"),
    ] {
        let error = bench.prepare(volume.clone(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{volume}: {error}");
    }
    let absent = json!({"configMap": {"name": "x", "optional": true}});
    assert_eq!(fs::read_dir(bench.prepare(absent, None).unwrap().path.join("..data")).unwrap().count(), 0);
    let key = json!({"configMap": {"name": "m", "optional": true, "items": [{"key": "z", "path": "z"}]}});
    assert!(!bench.prepare(key, None).unwrap().path.join("z").exists());
}

#[test]
fn host_paths_are_checked_and_made_by_type() {
    let Some(bench) = bench() else { return };
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name);
    fs::write(path("file"), "").unwrap();
    fs::create_dir(path("dir")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let rows = [
        ("dir", "", true),
        ("file", "", true),
        ("new0", "", true),
        ("dir", "Directory", true),
        ("file", "Directory", false),
        ("absent", "Directory", false),
        ("new1", "DirectoryOrCreate", true),
        ("file", "DirectoryOrCreate", false),
        ("file", "File", true),
        ("dir", "File", false),
        ("new2", "FileOrCreate", true),
        ("dir", "FileOrCreate", false),
        ("socket", "Socket", true),
        ("file", "Socket", false),
        ("file", "BlockDevice", false),
        ("file", "CharDevice", false),
    ];
    for (name, kind, fine) in rows {
        let result = bench.prepare(json!({"hostPath": {"path": path(name), "type": kind}}), None);
        assert_eq!(result.is_ok(), fine, "{name} {kind}: {result:?}");
    }
    assert!(bench.prepare(json!({"hostPath": {"path": "/dev/null", "type": "CharDevice"}}), None).is_ok());
    assert!(path("new1").is_dir() && path("new2").is_file() && mode(&path("new2")) == 0o644);
    drop(socket);
}

#[test]
fn mounts_carry_what_the_container_asks_for() {
    let Some(bench) = bench() else { return };
    let ready = bench.prepare(json!({"emptyDir": {}}), None).unwrap();
    let of_host = Ready::Host { path: ready.path.clone(), read_only: false };
    let volumes = BTreeMap::from([("v".to_owned(), of_host)]);
    let environment = Environment { variables: vec![("NAME".into(), b"n1".to_vec())], warnings: vec![] };
    let container = |mount: Value| -> Container {
        let mut mount = mount;
        mount["name"] = json!("v");
        serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap()
    };
    let make = |mount: Value| mounts(&container(mount), &volumes, &environment, &bench.dir());
    let plain = make(json!({"mountPath": "/data", "readOnly": true, "recursiveReadOnly": "Enabled",
        "mountPropagation": "HostToContainer"}))
    .unwrap();
    assert_eq!(plain[0].host_path, ready.path.to_string_lossy());
    assert!(plain[0].readonly && plain[0].recursive_read_only);
    assert_eq!(plain[0].propagation(), cri::MountPropagation::PropagationHostToContainer);
    let sub = make(json!({"mountPath": "data", "subPathExpr": "$(NAME)/logs"})).unwrap();
    assert_eq!(sub[0].container_path, "/data");
    fs::write(ready.path.join("n1/logs/x"), "").unwrap();
    assert!(Path::new(&sub[0].host_path).join("x").exists());
    let error = make(json!({"mountPath": "/d", "subPathExpr": "$(NOPE)"})).unwrap_err().to_string();
    assert!(error.contains("subPathExpr"), "{error}");
    let error = make(json!({"mountPath": "/d", "subPath": "../up"})).unwrap_err().to_string();
    assert!(error.contains("relative path"), "{error}");
}

#[test]
fn an_empty_dir_in_memory_is_no_larger_than_the_pod_may_be() {
    let Some(bench) = bench() else { return };
    let size = |path: &Path| rustix::fs::statvfs(path).map(|space| space.f_blocks * space.f_frsize).unwrap();
    let made =
        bench.prepare(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi", "mode": 0o700}}), None).unwrap();
    assert_eq!((size(&made.path), mode(&made.path)), (64 << 20, 0o700));
    // Nor than all pods together.
    mount::unmount(&made.path).unwrap();
    bench.settings.node.allocatable.set([("memory".to_owned(), (32 << 20) * 1000)].into());
    let made = bench.prepare(json!({"emptyDir": {"medium": "Memory"}}), None).unwrap();
    assert_eq!(size(&made.path), 32 << 20);
}

#[test]
fn fields_of_the_pod_become_files() {
    let Some(bench) = bench() else { return };
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let resource = |path: &str, resource: &str, divisor: &str| json!({"path": path, "resourceFieldRef": {"containerName": "c", "resource": resource, "divisor": divisor}});
    let items = json!([
        field("labels", "metadata.labels"),
        field("sub/annotations", "metadata.annotations"),
        field("name", "metadata.name"),
        field("app", "metadata.labels['app']"),
        resource("cpu", "limits.cpu", "1m"),
        resource("memory", "limits.memory", "1Mi"),
    ]);
    let made = bench.prepare(json!({"downwardAPI": {"items": items, "defaultMode": 0o600}}), None).unwrap();
    assert_eq!(read(&made.path.join("labels")), "app=\"web\"\ntier=\"a\\\"b\"");
    assert_eq!(read(&made.path.join("sub/annotations")), "note=\"x\\ny\"");
    let values = ["name", "app", "cpu", "memory"].map(|name| read(&made.path.join(name)));
    assert_eq!(values, ["p", "web", "1500", "64"]);
    assert_eq!((mode(&made.path.join("app")), made.read_only), (0o600, true));
}

#[test]
fn sources_are_projected_into_one_directory_in_memory() {
    let Some(bench) = bench() else { return };
    let sources = json!([
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "conf/a", "mode": 0o400, "user": 12}]}},
        {"secret": {"name": "s"}},
        {"secret": {"name": "nowhere", "optional": true}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]);
    let made = bench.prepare(json!({"projected": {"sources": sources, "defaultUser": 34}}), None).unwrap();
    let files = ["conf/a", "pw", "name"].map(|name| {
        let metadata = fs::metadata(made.path.join(name)).unwrap();
        (read(&made.path.join(name)), metadata.mode() & 0o777, metadata.uid())
    });
    assert_eq!(files, [("1".into(), 0o400, 12), ("x".into(), 0o644, 34), ("p".into(), 0o644, 34)]);
    let real = made.path.canonicalize().unwrap();
    assert_eq!(mount::below(&real).unwrap(), [real]);
    let open = json!({"projected": {"sources": [{"configMap": {"name": "m"}}]}});
    let other =
        Bench { root: tempfile::tempdir().unwrap(), objects: bench.objects.clone(), settings: Settings::default() };
    let real = other.prepare(open, None).unwrap().path.canonicalize().unwrap();
    assert!(mount::below(&real).unwrap().is_empty(), "nothing of it is secret");
}

#[test]
fn volumes_are_brought_up_to_date_and_stay_where_they_cannot() {
    let Some(mut bench) = bench() else { return };
    let sources = json!([
        {"configMap": {"name": "m"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]);
    let mut pod = pod(json!({"projected": {"sources": sources}}), json!({"fsGroup": 55}));
    assert!(!bench.of(&pod, refresh).unwrap(), "nothing is made yet");
    let made = Made::from(bench.of(&pod, prepare).unwrap().remove("v").unwrap());
    assert!(!bench.of(&pod, refresh).unwrap(), "nothing has changed");
    let data = fs::read_link(made.path.join("..data")).unwrap();
    bench.config_map("m", json!({"b": "3", "c": "4"}));
    assert!(bench.of(&pod, refresh).unwrap());
    assert_ne!(fs::read_link(made.path.join("..data")).unwrap(), data, "all at once, by one link");
    assert_eq!((read(&made.path.join("b")), read(&made.path.join("c"))), ("3".into(), "4".into()));
    assert!(!made.path.join("a").exists());
    assert_eq!(fs::metadata(made.path.join("c")).unwrap().gid(), 55);
    pod.metadata.labels.as_mut().unwrap().insert("app".into(), "other".into());
    assert!(bench.of(&pod, refresh).unwrap());
    assert!(read(&made.path.join("labels")).starts_with("app=\"other\"\n"));
    bench.objects.config_maps.clear();
    let error = bench.of(&pod, refresh).unwrap_err().to_string();
    assert!(error.contains("ConfigMap \"m\" is not there"), "{error}");
    assert_eq!(read(&made.path.join("b")), "3", "what was there stays");
}

#[test]
fn a_claim_is_a_directory_that_outlives_its_pods() {
    let Some(mut bench) = bench() else { return };
    bench.claim("1Mi");
    let volume = json!({"persistentVolumeClaim": {"claimName": "data"}});
    let made = bench.prepare(volume.clone(), None).unwrap();
    assert_eq!(made.path, bench.root.path().join("claims/default/data"));
    assert_eq!((mode(&made.path), made.read_only), (0o777, false));
    fs::write(made.path.join("file"), "kept").unwrap();
    crate::host::teardown::remove_pod_dirs(bench.root.path(), "u").unwrap();
    let again = bench.prepare(json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": true}}), None).unwrap();
    assert!(again.read_only && read(&again.path.join("file")) == "kept");
    assert_eq!(claims(bench.root.path()).unwrap(), [("default".to_owned(), "data".to_owned())]);
    remove_claim(bench.root.path(), "default", "data").unwrap();
    remove_claim(bench.root.path(), "default", "data").unwrap();
    assert!(claims(bench.root.path()).unwrap().is_empty() && !bench.root.path().join("claims").exists());
}

#[test]
fn a_claim_that_asks_for_more_than_there_is_is_not_made() {
    let Some(mut bench) = bench() else { return };
    bench.claim("7Ei");
    let error = bench.prepare(json!({"persistentVolumeClaim": {"claimName": "data"}}), None).unwrap_err().to_string();
    assert!(error.starts_with("PersistentVolumeClaim default/data asks for 8070450532247928832 bytes"), "{error}");
    assert!(!bench.root.path().join("claims/default/data").exists());
}

#[test]
fn a_claim_is_handed_over_once_a_pod_or_when_its_root_is_not() {
    let Some(mut bench) = bench() else { return };
    bench.claim("1Mi");
    let volume = json!({"persistentVolumeClaim": {"claimName": "data"}});
    let gid = |path: &Path| fs::metadata(path).unwrap().gid();
    let path = bench.prepare(volume.clone(), Some(10)).unwrap().path;
    fs::write(path.join("later"), "").unwrap();
    std::os::unix::fs::chown(path.join("later"), None, Some(0)).unwrap();
    bench.prepare(volume.clone(), Some(10)).unwrap();
    assert_eq!((gid(&path), gid(&path.join("later"))), (10, 0), "the pod has gone through it");
    crate::host::teardown::remove_pod_dirs(bench.root.path(), "u").unwrap();
    let lazy = pod(volume.clone(), json!({"fsGroup": 10, "fsGroupChangePolicy": "OnRootMismatch"}));
    bench.of(&lazy, prepare).unwrap();
    assert_eq!(gid(&path.join("later")), 0, "the root is right already");
    bench.prepare(volume, Some(10)).unwrap();
    assert_eq!(gid(&path.join("later")), 10, "the next pod goes through it");
    let other = pod(
        json!({"persistentVolumeClaim": {"claimName": "data"}}),
        json!({"fsGroup": 11, "fsGroupChangePolicy": "OnRootMismatch"}),
    );
    bench.of(&other, prepare).unwrap();
    assert_eq!((gid(&path), gid(&path.join("later"))), (11, 11));
}

#[test]
fn an_image_is_mounted_by_the_runtime() {
    let Some(bench) = bench() else { return };
    let pod = pod(json!({"image": {"reference": "files:1"}}), json!({}));
    let volumes = bench.of(&pod, prepare).unwrap();
    let make = |mount: Value| {
        let container = serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
        mounts(&container, &volumes, &Environment::default(), &bench.dir())
    };
    let made = make(json!({"name": "v", "mountPath": "/v", "subPath": "etc"})).unwrap().remove(0);
    assert_eq!(made.image.unwrap().image, "files:1");
    assert_eq!((made.host_path.as_str(), made.image_sub_path.as_str(), made.readonly), ("", "etc", true));
    assert!(make(json!({"name": "v", "mountPath": "/v", "subPath": "../etc"})).is_err());
    let spec = spec_of(&pod);
    let mounting = |name: &str| {
        let container =
            serde_json::from_value(json!({"name": "c", "volumeMounts": [{"name": name, "mountPath": "/"}]}));
        images(spec, &container.unwrap()).into_iter().map(|image| image.image.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(mounting("v"), ["files:1"]);
    assert!(mounting("other").is_empty());
}

mod cluster;
