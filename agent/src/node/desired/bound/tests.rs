#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::node::desired::Desired;
use crate::node::desired::disk::Disk;

fn pod(uid: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}});
    let metadata = json!({"namespace": "ns", "name": format!("pod-{uid}"), "uid": uid, "generation": 1});
    let mut pod = json!({"metadata": metadata, "spec": {"containers": [container]}});
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn plain(uid: &str) -> Arc<Pod> {
    pod(uid, |_| ())
}

fn deleted(uid: &str) -> Arc<Pod> {
    pod(uid, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))
}

fn resized(uid: &str, cpu: &str) -> Arc<Pod> {
    pod(uid, |pod| {
        pod["metadata"]["generation"] = json!(2);
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
    })
}

fn server(pods: &[&Arc<Pod>]) -> BTreeMap<String, Arc<Pod>> {
    pods.iter().map(|pod| (PodKey::of(pod).uid, Arc::clone(pod))).collect()
}

#[test]
fn who_makes_room_is_known_to_the_next_agent_until_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path()).unwrap();
    let mut desired = Desired::default();
    desired.merge_bound(&server(&[&plain("a"), &plain("b")]));
    desired.bound_mut().make_room("a", "critical");
    for uid in ["a", "b"] {
        disk.write_bound(uid, &desired).unwrap();
    }
    let mut next = disk.load().unwrap().0;
    let who = |desired: &Desired| ["a", "b"].map(|uid| desired.bound().room_for(uid).map(str::to_owned));
    assert_eq!(who(&next), [Some("critical".to_owned()), None]);
    next.merge_bound(&server(&[&deleted("a"), &plain("b")]));
    assert_eq!(who(&next), [Some("critical".to_owned()), None], "it goes all the same");
    let over = pod("a", |pod| pod["status"] = json!({"phase": "Failed"}));
    let mut next = disk.load().unwrap().0;
    next.merge_bound(&server(&[&over, &plain("b")]));
    assert_eq!(who(&next), [None, None]);
}

/// One pod that runs, or has another role.
fn known(role: Role) -> BoundPods {
    BoundPods::recorded([BoundPod::new(plain("a"), role)])
}

fn cpu(pod: &Pod) -> String {
    let resources = pod.spec.as_ref().unwrap().containers[0].resources.clone().unwrap();
    resources.requests.unwrap()["cpu"].0.clone()
}

#[test]
fn what_a_look_comes_to_follows_from_what_a_pod_is_to_do() {
    let other = pod("a", |pod| pod["spec"]["containers"][0]["image"] = json!("j"));
    let with_status = pod("a", |pod| pod["status"] = json!({"phase": "Running"}));
    let said = |changes: BoundChanges| {
        let removed = changes.removed.iter().map(|pod| PodKey::of(pod).uid).collect();
        let lists =
            [changes.new, changes.changed.into_iter().collect(), changes.leaving.into_iter().collect(), removed];
        let names = ["new", "changed", "leaving", "removed"];
        let named = names.iter().zip(lists).filter(|(_, uids): &(_, Vec<String>)| !uids.is_empty());
        named.map(|(name, uids)| format!("{name} {}", uids.join(","))).collect::<Vec<_>>().join("; ")
    };
    let rows = [
        (Role::Runs, Some(plain("a")), "", Some(Role::Runs)),
        (Role::Runs, Some(other.clone()), "changed a", Some(Role::Runs)),
        (Role::Runs, Some(deleted("a")), "changed a; leaving a", Some(Role::Leaves)),
        (Role::Runs, None, "removed a", None),
        (Role::Refused, Some(with_status.clone()), "", Some(Role::Refused)),
        (Role::Refused, Some(other), "changed a", Some(Role::Refused)),
        (Role::Refused, Some(deleted("a")), "changed a; leaving a", Some(Role::Leaves)),
        (Role::Over, Some(with_status), "", Some(Role::Over)),
        (Role::Over, None, "removed a", None),
        (Role::Leaves, Some(deleted("a")), "changed a; leaving a", Some(Role::Leaves)),
        (Role::Leaves, None, "removed a", None),
        (Role::Gone, Some(deleted("a")), "changed a", Some(Role::Gone)),
        (Role::Gone, None, "removed a", None),
    ];
    for (role, pod, expected, becomes) in rows {
        let mut pods = known(role);
        let changes = pods.merge(&server(&pod.iter().collect::<Vec<_>>()));
        assert_eq!(said(changes), expected, "{role:?} {pod:?}");
        assert_eq!(pods.get("a").map(|bound| bound.role), becomes, "{role:?} {pod:?}");
    }
}

#[test]
fn new_pods_come_in_the_order_of_their_creation_and_run() {
    let at = |uid: &str, time: &str| pod(uid, |pod| pod["metadata"]["creationTimestamp"] = json!(time));
    let (late, early) = (at("a", "2026-01-02T00:00:00Z"), at("b", "2026-01-01T00:00:00Z"));
    let mut pods = BoundPods::default();
    assert_eq!(pods.merge(&server(&[&late, &early])).new, ["b", "a"]);
    assert_eq!(pods.running().count(), 2);
    assert!(pods.runs(&("ns".into(), "pod-a".into())) && !pods.runs(&("ns".into(), "pod-c".into())));
    assert_eq!(pods.merge(&server(&[&late, &early])), BoundChanges::default());
}

#[test]
fn what_does_not_run_keeps_the_status_that_it_was_given() {
    let mut pods = BoundPods::default();
    pods.merge(&server(&[&plain("a")]));
    let failed = PodStatus { phase: Some("Failed".into()), ..PodStatus::default() };
    pods.assign("a", Role::Refused, Some(failed));
    assert_eq!(pods.running().count(), 0);
    pods.merge(&server(&[&deleted("a")]));
    let bound = pods.get("a").unwrap();
    assert!(bound.pod.metadata.deletion_timestamp.is_some());
    assert_eq!(bound.pod.status.as_ref().unwrap().phase.as_deref(), Some("Failed"));
    assert!(pods.gone().is_empty());
    pods.assign("a", Role::Gone, None);
    assert_eq!(pods.gone().len(), 1);
}

#[test]
fn other_resources_are_wanted_until_they_are_given() {
    let mut pods = BoundPods::default();
    pods.merge(&server(&[&plain("a")]));
    assert!(pods.wanting().is_empty());
    let changes = pods.merge(&server(&[&resized("a", "2")]));
    assert!(changes.changed.contains("a"), "its generation is another one");
    assert_eq!(cpu(&pods.get("a").unwrap().pod), "1", "it has what it was given");
    let wanting = pods.wanting();
    assert_eq!((wanting.len(), cpu(&wanting[0].1).as_str()), (1, "2"));

    let pending = Pending { reason: "Deferred", message: "no room".into() };
    assert!(pods.defer("a", &pending, Timestamp::UNIX_EPOCH));
    assert!(!pods.defer("a", &pending, Timestamp::UNIX_EPOCH), "it is said once");
    let reason = |pods: &BoundPods| {
        let status = pods.get("a").unwrap().pod.status.clone();
        status.and_then(|status| status.conditions?.first()?.reason.clone())
    };
    assert_eq!(reason(&pods).as_deref(), Some("Deferred"));
    assert_eq!(pods.merge(&server(&[&resized("a", "2")])), BoundChanges::default(), "nothing has changed");

    pods.give("a");
    assert_eq!((cpu(&pods.get("a").unwrap().pod).as_str(), reason(&pods)), ("2", None));
    assert!(pods.wanting().is_empty());
    assert_eq!(pods.merge(&server(&[&resized("a", "2")])), BoundChanges::default());
}

#[test]
fn what_a_pod_was_given_holds_for_the_next_agent_and_a_wish_may_be_taken_back() {
    let mut pods = known(Role::Runs);
    pods.merge(&server(&[&resized("a", "2")]));
    pods.defer("a", &Pending { reason: "Deferred", message: "no room".into() }, Timestamp::UNIX_EPOCH);
    let record = pods.get("a").unwrap().pod.clone();
    let mut next = BoundPods::recorded([BoundPod::new(record, Role::Runs)]);
    assert_eq!(next.merge(&server(&[&resized("a", "2")])), BoundChanges::default());
    assert_eq!((cpu(&next.get("a").unwrap().pod).as_str(), next.wanting().len()), ("1", 1));
    let back = pod("a", |pod| pod["metadata"]["generation"] = json!(3));
    assert!(next.merge(&server(&[&back])).changed.contains("a"));
    assert!(next.wanting().is_empty() && next.get("a").unwrap().pod.status.is_none());
}
