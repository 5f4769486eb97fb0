#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

struct Bench {
    root: tempfile::TempDir,
    objects: Objects,
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
    objects.config_maps.insert(("default".into(), "m".into()), serde_json::from_value(map).unwrap());
    objects.secrets.insert(("default".into(), "s".into()), serde_json::from_value(secret).unwrap());
    Some(Bench { root: tempfile::tempdir().unwrap(), objects })
}

impl Bench {
    fn dir(&self) -> PodDir {
        PodDir::new(self.root.path(), "u").unwrap()
    }

    fn prepare(&self, volume: Value, group: Option<i64>) -> Result<Ready, HostError> {
        let mut volume = volume;
        volume["name"] = json!("v");
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"},
            "spec": {"securityContext": {"fsGroup": group}, "volumes": [volume], "containers": []}
        }))
        .unwrap();
        prepare(&pod, &self.objects, &self.dir()).map(|mut ready| ready.remove("v").unwrap())
    }
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
        (json!({"emptyDir": {"medium": "HugePages"}}), "not supported"),
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
    let volumes = BTreeMap::from([("v".to_owned(), ready.clone())]);
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
