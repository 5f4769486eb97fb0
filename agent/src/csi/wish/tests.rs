#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::engine::config::objects::{Absent, Origin};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(volume: Value) -> Pod {
    let mut named = json!({"name": "v"});
    named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    object(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"},
        "spec": {"serviceAccountName": "sa", "containers": [], "volumes": [named]}}))
}

fn claimed() -> Pod {
    pod(json!({"persistentVolumeClaim": {"claimName": "c"}}))
}

/// A claim of a volume of the driver `d`, which is attached.
fn objects(driver: Option<Value>) -> Objects {
    let claim = json!({"metadata": {"uid": "cu"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    let reference = json!({"namespace": "other", "name": "s"});
    let csi =
        json!({"driver": "d", "volumeHandle": "h", "volumeAttributes": {"a": "b"}, "nodeStageSecretRef": reference});
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "cu"}, "csi": csi,
        "mountOptions": ["noatime"], "accessModes": ["ReadWriteMany"]}});
    let attachment = json!({"metadata": {}, "spec": {"attacher": "d", "nodeName": "n", "source": {}},
        "status": {"attached": true, "attachmentMetadata": {"device": "1"}}});
    let mut objects = Objects {
        origin: Origin::Cluster,
        claims: [(("ns".into(), "c".into()), Arc::new(object(claim)))].into(),
        volumes: [("pv".into(), Arc::new(object(volume)))].into(),
        attachments: [(attachment_of("h", "d", "n"), Arc::new(object(attachment)))].into(),
        secrets: [(("other".into(), "s".into()), Arc::new(object(json!({"data": {"k": "dg=="}}))))].into(),
        ..Objects::default()
    };
    match driver {
        Some(spec) => {
            objects.csi_drivers.insert("d".into(), Arc::new(object(json!({"metadata": {}, "spec": spec}))));
        }
        None => drop(objects.absent.insert(("CSIDriver", (String::new(), "d".into())), Absent::Missing)),
    }
    objects
}

fn wished(pod: &Pod, objects: &Objects) -> Result<Wish, String> {
    let volume = &spec_of(pod).volumes.as_ref().unwrap()[0];
    of(pod, volume, objects, "n", Some(7)).map(Option::unwrap).map_err(|error| error.to_string())
}

#[test]
fn a_claim_asks_for_what_its_volume_says() {
    let wish = wished(&claimed(), &objects(None)).unwrap();
    assert_eq!((wish.driver.as_str(), wish.handle.as_str(), wish.name.as_str()), ("d", "h", "pv"));
    assert!(wish.attachable && !wish.ephemeral && !wish.read_only && !wish.hands_over);
    assert_eq!(wish.publish_context["device"], "1");
    assert_eq!(wish.attributes["a"], "b");
    assert_eq!(wish.stage_secrets["k"], "v");
    assert_eq!(wish.mount_flags, ["noatime"]);
    assert!(wish.pod_info.is_empty(), "nobody has asked for it");
    assert_eq!(wish.access(true), Mode::MultiNodeMultiWriter);
}

#[test]
fn what_is_not_attached_is_waited_for_unless_nobody_attaches_it() {
    let with = |change: Value| {
        let mut objects = objects(None);
        let attachment = objects.attachments.values_mut().next().unwrap();
        let mut value = serde_json::to_value(&**attachment).unwrap();
        json_merge(&mut value, change);
        *attachment = Arc::new(object(value));
        wished(&claimed(), &objects).err().unwrap_or_default()
    };
    let prefix = "MountVolume.WaitForAttach failed for volume \"pv\" : ";
    assert_eq!(with(json!({})), "");
    assert_eq!(with(json!({"status": {"attached": false}})), format!("{prefix}the volume is not attached yet"));
    let refused = json!({"status": {"attached": false, "attachError": {"message": "too many"}}});
    assert_eq!(with(refused), format!("{prefix}too many"));
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(with(going), format!("{prefix}volume attachment is being deleted"));
    let mut free = objects(Some(json!({"attachRequired": false})));
    free.attachments.clear();
    assert!(!wished(&claimed(), &free).unwrap().attachable);
}

fn json_merge(value: &mut Value, change: Value) {
    for (key, new) in change.as_object().unwrap() {
        for (inner, new) in new.as_object().unwrap() {
            value[key][inner] = new.clone();
        }
    }
}

#[test]
fn an_inline_volume_needs_a_driver_that_says_that_it_knows_such() {
    let inline = pod(json!({"csi": {"driver": "d", "readOnly": true, "fsType": "ext4"}}));
    for (driver, expected) in [
        (None, Some("(no CSIDriver object)")),
        (Some(json!({})), Some("(only supports [\"Persistent\"])")),
        (
            Some(json!({"volumeLifecycleModes": ["Ephemeral"], "tokenRequests": [{"audience": ""}]})),
            Some("tokenRequests"),
        ),
        (Some(json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"], "podInfoOnMount": true})), None),
    ] {
        match (wished(&inline, &objects(driver.clone())), expected) {
            (Ok(wish), None) => {
                assert!(wish.ephemeral && wish.read_only && !wish.attachable);
                assert!(wish.handle.starts_with("csi-") && wish.handle.len() == 68);
                assert_eq!(wish.pod_info["csi.storage.k8s.io/ephemeral"], "true");
                assert_eq!(wish.pod_info["csi.storage.k8s.io/serviceAccount.name"], "sa");
            }
            (Err(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
            (found, _) => panic!("{driver:?}: {:?}", found.map(|_| ())),
        }
    }
    let only = objects(Some(json!({"volumeLifecycleModes": ["Ephemeral"], "attachRequired": false})));
    assert!(wished(&claimed(), &only).err().unwrap().contains("\"Persistent\" not supported"));
}

#[test]
fn a_volumes_files_are_handed_over_as_the_driver_wants_it() {
    let once = ["ReadWriteOnce".to_owned()];
    let many = ["ReadWriteMany".to_owned()];
    let driver = |policy: &str| object::<CSIDriver>(json!({"metadata": {}, "spec": {"fsGroupPolicy": policy}}));
    for (policy, fs_type, modes, read_only, expected) in [
        (None, "ext4", &once, false, true),
        (None, "", &once, false, false),
        (None, "ext4", &many, false, false),
        (None, "ext4", &once, true, false),
        (Some("File"), "", &many, false, true),
        (Some("File"), "", &many, true, false),
        (Some("None"), "ext4", &once, false, false),
        (Some("ReadWriteOnceWithFSType"), "ext4", &once, false, true),
    ] {
        let driver = policy.map(driver);
        let found = hands_over(driver.as_ref(), fs_type, Some(modes), read_only);
        assert_eq!(found, expected, "{policy:?} {fs_type} {modes:?} {read_only}");
    }
}

#[test]
fn access_is_told_in_the_drivers_words() {
    let mut wish = wished(&claimed(), &objects(None)).unwrap();
    for (mode, knows, expected) in [
        ("ReadWriteOnce", false, Mode::SingleNodeWriter),
        ("ReadWriteOnce", true, Mode::SingleNodeMultiWriter),
        ("ReadWriteOncePod", false, Mode::SingleNodeWriter),
        ("ReadWriteOncePod", true, Mode::SingleNodeSingleWriter),
        ("ReadOnlyMany", true, Mode::MultiNodeReaderOnly),
        ("ReadWriteMany", false, Mode::MultiNodeMultiWriter),
    ] {
        wish.mode = mode.to_owned();
        assert_eq!(wish.access(knows), expected, "{mode} {knows}");
    }
}
