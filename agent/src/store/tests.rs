use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{CHANGES, Gone, Kind, Store, Stored, What};

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() }
}

fn pod(namespace: &str, name: &str, phase: &str) -> Pod {
    let mut pod = Pod { metadata: meta(namespace, name), ..Pod::default() };
    pod.status.get_or_insert_default().phase = Some(phase.into());
    pod
}

fn version(object: &impl Stored) -> u64 {
    object.metadata().resource_version.as_ref().unwrap().parse().unwrap()
}

#[test]
fn an_equal_object_keeps_its_version_and_another_gets_a_higher_one() {
    let store = Store::new(100);
    let first = store.put(pod("default", "p", "Pending"));
    assert!(version(&*first) > 100);
    assert_eq!(store.put(pod("default", "p", "Pending")), first);
    assert_eq!(store.put(Pod::clone(&first)), first);
    let second = store.put(pod("default", "p", "Running"));
    assert_eq!((version(&*second), store.version()), (version(&*first) + 1, version(&*second)));
    assert_eq!(store.get::<Pod>("default", "p").unwrap(), second);
    assert_eq!(store.get::<Pod>("default", "q"), None);
}

#[test]
fn lists_are_of_one_kind_and_in_order() {
    let store = Store::new(0);
    for (namespace, name) in [("b", "x"), ("a", "y"), ("a", "x"), ("ab", "z")] {
        store.put(pod(namespace, name, "Running"));
    }
    store.put(ConfigMap { metadata: meta("a", "c"), ..ConfigMap::default() });
    let names = |namespace: Option<&str>| -> Vec<String> {
        let pods = store.list::<Pod>(namespace).into_iter().map(|it| it.metadata.clone());
        pods.map(|it| format!("{}/{}", it.namespace.unwrap(), it.name.unwrap())).collect()
    };
    assert_eq!(names(None), ["a/x", "a/y", "ab/z", "b/x"]);
    assert_eq!(names(Some("a")), ["a/x", "a/y"]);
    assert_eq!(names(Some("c")), [""; 0]);
    assert_eq!(store.objects(Kind::Pod, None).version, store.version());
}

#[test]
fn an_object_without_a_namespace_is_in_the_default_one() {
    let store = Store::new(0);
    store.put(Pod { metadata: ObjectMeta { namespace: None, ..meta("", "p") }, ..Pod::default() });
    assert_eq!(store.get::<Pod>("default", "p").unwrap().metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn namespaces_come_and_go_with_what_is_in_them() {
    let store = Store::new(0);
    let names = || store.list::<Namespace>(None).into_iter().map(|it| it.metadata.name.clone().unwrap()).collect();
    let all: Vec<String> = names();
    assert_eq!(all, ["default"]);
    store.put(pod("web", "p", "Running"));
    store.put(pod("web", "q", "Running"));
    store.remove::<Pod>("web", "p");
    let all: Vec<String> = names();
    assert_eq!(all, ["default", "web"]);
    store.remove::<Pod>("web", "q");
    store.put(pod("default", "p", "Running"));
    store.remove::<Pod>("default", "p");
    let all: Vec<String> = names();
    assert_eq!(all, ["default"]);
}

#[tokio::test]
async fn a_watcher_sees_every_change_after_its_version_once_and_in_order() {
    let store = Store::new(0);
    store.put(pod("default", "old", "Running"));
    let mut watch = store.watch(Kind::Pod, store.version()).unwrap();
    let following = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 4 {
            let change = watch.next().await.unwrap();
            let name = change.object.metadata().name.clone().unwrap();
            assert_eq!(change.object.metadata().resource_version, Some(change.version.to_string()));
            seen.push((change.what, name, change.before.is_some()));
        }
        seen
    });
    tokio::task::yield_now().await;
    store.put(pod("default", "p", "Pending"));
    store.put(ConfigMap { metadata: meta("default", "c"), ..ConfigMap::default() });
    tokio::task::yield_now().await;
    store.put(pod("default", "p", "Running"));
    store.put(pod("default", "p", "Running"));
    store.remove::<Pod>("default", "p");
    store.remove::<Pod>("default", "old");
    let seen = following.await.unwrap();
    let seen: Vec<_> = seen.iter().map(|(what, name, before)| (*what, name.as_str(), *before)).collect();
    assert_eq!(
        seen,
        [
            (What::Added, "p", false),
            (What::Modified, "p", true),
            (What::Deleted, "p", true),
            (What::Deleted, "old", true)
        ]
    );
}

#[test]
fn a_watcher_that_has_fallen_behind_or_comes_from_elsewhere_is_told() {
    let store = Store::new(1000);
    store.put(pod("default", "p", "0"));
    let first = store.version();
    let mut slow = store.watch(Kind::Pod, first).unwrap();
    let mut idle = store.watch(Kind::Node, first).unwrap();
    assert_eq!(store.watch(Kind::Pod, 999).unwrap_err(), Gone { since: 999, latest: first });
    assert_eq!(store.watch(Kind::Pod, first + 1).unwrap_err().since, first + 1);
    for number in 1..=CHANGES {
        store.put(pod("default", "p", &number.to_string()));
        assert!(idle.poll().unwrap().is_none());
    }
    assert_eq!(slow.poll().unwrap().unwrap().version, first + 1);
    for number in 1..=3 {
        store.put(pod("default", "p", &format!("again {number}")));
    }
    let gone = slow.poll().unwrap_err();
    assert_eq!(gone.to_string(), format!("too old resource version: {} ({})", first + 1, store.version()));
    assert!(idle.poll().is_ok());
}

#[test]
fn old_changes_are_forgotten_and_the_objects_stay() {
    let store = Store::new(0);
    store.put(pod("default", "p", "Running"));
    store.forget_old_changes(Instant::now());
    assert!(store.watch(Kind::Pod, 0).is_ok());
    store.forget_old_changes(Instant::now() + Duration::from_secs(3600));
    assert!(store.watch(Kind::Pod, 0).is_err());
    assert!(store.watch(Kind::Pod, store.version()).is_ok());
    assert!(store.get::<Pod>("default", "p").is_some());
}
