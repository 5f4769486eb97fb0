//! Volumes of a cluster's pods: tokens, and claims that are bound.

use std::sync::Arc;

use super::*;
use crate::engine::config::objects::{Absent, Token, TokenWish};
use crate::host::teardown;

/// Objects of a cluster.
fn of_cluster(bench: &mut Bench) {
    bench.objects.origin = Origin::Cluster;
}

fn token_volume(mode: Option<i32>) -> Value {
    let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}});
    json!({"projected": {"sources": [source], "defaultMode": mode}})
}

fn give_token(bench: &mut Bench, text: &str) {
    let time = |text: &str| text.parse().unwrap();
    let token = Token { text: text.into(), given: time("2026-01-01T00:00:00Z"), expires: time("2026-01-01T01:00:00Z") };
    bench.objects.tokens.insert(TokenWish { audience: None, seconds: 3607 }, Ok(token));
}

#[test]
fn a_token_is_for_the_pods_only_user_or_group_and_else_as_the_volume_says() {
    let Some(mut bench) = bench() else { return };
    of_cluster(&mut bench);
    give_token(&mut bench, "t");
    let (root, all) = (json!({}), json!([{"name": "c"}]));
    let one = json!({"runAsUser": 7});
    let own = |user: Option<i64>| json!({"name": "c", "securityContext": {"runAsUser": user}});
    for (security, containers, expected) in [
        (root.clone(), all.clone(), (0o644, 0, 0)),
        (one.clone(), all.clone(), (0o600, 7, 0)),
        (json!({"fsGroup": 9}), all.clone(), (0o640, 0, 9)),
        (json!({"runAsUser": 7, "fsGroup": 9}), all, (0o640, 7, 9)),
        (one.clone(), json!([own(None), own(Some(7))]), (0o600, 7, 0)),
        (one, json!([own(None), own(Some(8))]), (0o644, 0, 0)),
        (root.clone(), json!([own(Some(8)), own(Some(8))]), (0o600, 8, 0)),
        (root, json!([own(Some(8)), own(None)]), (0o644, 0, 0)),
    ] {
        let mut pod = pod(token_volume(Some(0o644)), security.clone());
        pod.spec.get_or_insert_default().containers = serde_json::from_value(containers.clone()).unwrap();
        let made: Made = bench.of(&pod, prepare).unwrap().remove("v").unwrap().into();
        let file = fs::metadata(made.path.join("token")).unwrap();
        let seen = (file.permissions().mode() & 0o7777, file.uid(), file.gid());
        assert_eq!(seen, expected, "{security} {containers}");
        assert!(is_mount(&made.path).unwrap(), "a token never reaches a disk");
        teardown::remove_pod_dirs(bench.root.path(), "u").unwrap();
    }
}

#[test]
fn a_renewed_token_is_seen_and_one_that_is_lost_leaves_the_last() {
    let Some(mut bench) = bench() else { return };
    of_cluster(&mut bench);
    give_token(&mut bench, "first");
    let pod = pod(token_volume(None), json!({}));
    let made: Made = bench.of(&pod, prepare).unwrap().remove("v").unwrap().into();
    let read = || fs::read_to_string(made.path.join("token")).unwrap();
    assert_eq!(read(), "first");
    give_token(&mut bench, "second");
    assert!(bench.of(&pod, refresh).unwrap());
    assert_eq!(read(), "second");
    bench.objects.tokens.clear();
    let error = bench.of(&pod, refresh).unwrap_err().to_string();
    assert_eq!(error, "failed to fetch token: the API server has not given it yet");
    assert_eq!(read(), "second");
}

/// A claim of a cluster, bound to a volume.
fn bind(bench: &mut Bench, claim: Value, volume: Value) {
    of_cluster(bench);
    let mut whole = json!({"metadata": {"namespace": "default", "name": "c", "uid": "cu"}, "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"}});
    let mut spec = json!({"claimRef": {"namespace": "default", "name": "c", "uid": "cu"}});
    for (part, extra) in [(&mut whole, claim), (&mut spec, volume)] {
        part.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    }
    let volume = json!({"metadata": {"name": "pv"}, "spec": spec});
    let claim = Arc::new(serde_json::from_value(whole).unwrap());
    bench.objects.claims = [(("default".to_owned(), "c".to_owned()), claim)].into();
    bench.objects.volumes = [("pv".to_owned(), Arc::new(serde_json::from_value(volume).unwrap()))].into();
}

#[test]
fn a_bound_claim_is_its_volumes_directory() {
    let Some(mut bench) = bench() else { return };
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("kept"), "").unwrap();
    let volume = |read_only: bool| json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": read_only}});
    for kind in ["hostPath", "local"] {
        bind(&mut bench, json!({}), json!({kind: {"path": path}}));
        for read_only in [false, true] {
            let made = bench.prepare(volume(read_only), None).unwrap();
            assert_eq!((made.path, made.read_only), (path.clone(), read_only), "{kind}");
        }
    }
    bench.prepare(volume(false), Some(4321)).unwrap();
    assert_eq!(fs::metadata(path.join("kept")).unwrap().gid(), 4321, "a local volume is its pod's group's");
}

#[test]
fn a_claim_without_a_volume_of_this_node_says_why_as_kubelet_does() {
    let Some(mut bench) = bench() else { return };
    let volume = json!({"persistentVolumeClaim": {"claimName": "c"}});
    let path = json!({"hostPath": {"path": "/"}});
    for (claim, bound, expected) in [
        (json!({"status": {"phase": "Pending"}}), path.clone(), "error processing PVC default/c: PVC is not bound"),
        (json!({"spec": {}}), path.clone(), "error processing PVC default/c: PVC has empty pvc.Spec.VolumeName"),
        (
            json!({"metadata": {"name": "c", "uid": "cu", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            path.clone(),
            "error processing PVC default/c: PVC is being deleted",
        ),
        (
            json!({"metadata": {"name": "c", "uid": "another"}}),
            path.clone(),
            "error processing PVC default/c: found PV object pv that is bound to another claim of that name",
        ),
        (json!({}), json!({"csi": {"driver": "disk.example.com", "volumeHandle": "h"}}), "volume v is not mounted"),
        (
            json!({}),
            json!({"nfs": {"server": "s", "path": "/"}}),
            "PersistentVolume pv: no volume plugin matched; this node has those of hostPath, local and CSI",
        ),
        (
            json!({}),
            json!({"volumeMode": "Block", "local": {"path": "/dev/null"}}),
            "volume v has volumeMode Block, but is specified in volumeMounts",
        ),
        (json!({}), json!({"local": {"path": "/a/../b"}}), "invalid path: /a/../b of a local volume"),
    ] {
        bind(&mut bench, claim, bound);
        assert_eq!(bench.prepare(volume.clone(), None).unwrap_err().to_string(), expected);
    }
    bench.objects.claims.clear();
    let missing = (("PersistentVolumeClaim", ("default".to_owned(), "c".to_owned())), Absent::Missing);
    bench.objects.absent = [missing].into();
    let said = bench.prepare(volume, None).unwrap_err().to_string();
    let expected = "error processing PVC default/c: failed to fetch PVC from API server: persistentvolumeclaim \"c\" \
                    not found";
    assert_eq!(said, expected);
}

#[test]
fn a_volume_of_other_nodes_is_refused_where_the_labels_of_this_one_are_known() {
    let Some(mut bench) = bench() else { return };
    let disk = tempfile::tempdir().unwrap();
    let labels = |zone: &str| Some(Arc::new([("zone".to_owned(), zone.to_owned())].into()));
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
    let field = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
    for (terms, known, mounted) in [
        (json!([term]), labels("a"), true),
        (json!([term]), labels("b"), false),
        (
            json!([{"matchFields": field["matchFields"], "matchExpressions": term["matchExpressions"]}]),
            labels("b"),
            false,
        ),
        (json!([field]), labels("a"), true),
        (json!([term]), None, true),
    ] {
        let affinity = json!({"required": {"nodeSelectorTerms": terms}});
        bind(&mut bench, json!({}), json!({"local": {"path": disk.path()}, "nodeAffinity": affinity}));
        bench.objects.node_labels = known;
        let made = bench.prepare(json!({"persistentVolumeClaim": {"claimName": "c"}}), None);
        let said = made.err().map(|error| error.to_string()).unwrap_or_default();
        let words = "MountVolume.NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms";
        assert_eq!(said, if mounted { "" } else { words }, "{terms}");
    }
}

#[test]
fn only_what_a_local_claim_holds_is_counted() {
    let Some(mut bench) = bench() else { return };
    let pod = pod(json!({"persistentVolumeClaim": {"claimName": "c"}}), json!({}));
    let counted = |bench: &Bench| super::super::claim_directories(&pod, &bench.objects);
    bind(&mut bench, json!({}), json!({"local": {"path": "/data"}}));
    assert_eq!(counted(&bench), [("v".to_owned(), "c".to_owned(), "/data".into())]);
    bind(&mut bench, json!({}), json!({"hostPath": {"path": "/data"}}));
    assert!(counted(&bench).is_empty(), "as in kubelet");
    bench.objects.origin = Origin::Manifests;
    assert!(counted(&bench).is_empty(), "it shares its file system with all else");
}

#[test]
fn a_claim_that_was_made_for_another_pod_is_not_this_pods() {
    let Some(mut bench) = bench() else { return };
    let disk = tempfile::tempdir().unwrap();
    let volume = json!({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
    let owner = |uid: &str| {
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
        json!({"metadata": {"name": "p-v", "uid": "cu", "ownerReferences": owner}})
    };
    for (uid, right) in [("u", true), ("another", false)] {
        bind(&mut bench, owner(uid), json!({"hostPath": {"path": disk.path()}}));
        let claim = bench.objects.claims.values().next().unwrap().clone();
        bench.objects.claims = [(("default".to_owned(), "p-v".to_owned()), claim)].into();
        let made = bench.prepare(volume.clone(), None).map_err(|error| error.to_string());
        assert_eq!(made.is_ok(), right, "{made:?}");
    }
}
