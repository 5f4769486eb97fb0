#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

fn wait(namespace: Option<&str>, pod: &str, condition: Condition) -> After {
    After { namespace: namespace.map(str::to_owned), pod: pod.to_owned(), condition }
}

#[test]
fn what_a_pod_waits_for_is_read_in_order() {
    assert_eq!(
        after("db(ready), ops/migrate ( completed ),cache,a.b(started)").unwrap(),
        [
            wait(None, "db", Condition::Ready),
            wait(Some("ops"), "migrate", Condition::Completed),
            wait(None, "cache", Condition::Ready),
            wait(None, "a.b", Condition::Started),
        ]
    );
}

#[test]
fn what_cannot_be_waited_for_is_told() {
    for (text, message, help) in [
        ("", "a pod's name is missing", "such as `db(ready), migrate(completed)`"),
        ("a,", "a pod's name is missing", "such as `db(ready), migrate(completed)`"),
        ("a(ready", "`a(ready` has no `)`", "such as `db(ready), migrate(completed)`"),
        ("a(redy)", "`redy` is not one of `started`, `ready` or `completed`", "did you mean `ready`?"),
        ("a(ready) b", "`a(ready) b` has no `)`", "such as `db(ready), migrate(completed)`"),
        ("a, a(started)", "`a` is there twice", ""),
    ] {
        let broken = after(text).unwrap_err();
        assert_eq!((broken.message.as_str(), broken.help.as_deref().unwrap_or_default()), (message, help), "{text}");
    }
    for text in ["A", "a/b/c", "/a", "n/", "(ready)", "a b"] {
        assert!(after(text).is_err(), "{text}");
    }
}

#[test]
fn a_backoff_is_read_as_far_as_it_is_given() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let all = Backoff { initial: seconds(1), max: seconds(60), reset: seconds(600) };
    assert_eq!("initial=1s, max=1m,reset = 10m".parse(), Ok(all));
    assert_eq!("max=1m".parse(), Ok(Backoff { max: seconds(60), ..Backoff::default() }));
    for (text, message) in [
        ("", "`` is not one of `initial`, `max` or `reset`"),
        ("initial=1s,", "`` is not one of `initial`, `max` or `reset`"),
        ("min=1s", "`min` is not one of `initial`, `max` or `reset`"),
        ("max=1", "`1` is no duration for `max`"),
        ("max", "`` is no duration for `max`"),
        ("max=1s,max=2s", "`max` is there twice"),
        ("initial=2s,max=1s", "`initial` (2s) is longer than `max` (1s)"),
    ] {
        assert_eq!(text.parse::<Backoff>().unwrap_err().message, message, "{text}");
    }
}

#[test]
fn the_annotations_of_a_pod_are_read_at_once() {
    let pod = |annotations: serde_json::Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "annotations": annotations}})).unwrap()
    };
    assert_eq!(Annotations::of(&pod(json!({}))).unwrap(), Annotations::default());
    let read =
        Annotations::of(&pod(json!({AFTER: "db", LINKS: "db", RESTART_BACKOFF: "max=1s", RESTART_ON_CHANGE: "true"})));
    let backoff = Backoff { max: Some(Duration::from_secs(1)), ..Backoff::default() };
    let after = vec![wait(None, "db", Condition::Ready)];
    let links = links("db").unwrap();
    assert_eq!(read.unwrap(), Annotations { after, links, restart_backoff: backoff, restart_on_change: true });
    let error = Annotations::of(&pod(json!({RESTART_ON_CHANGE: "yes"}))).unwrap_err();
    assert_eq!(error.to_string(), "annotation coracle.dev/restart-on-change: `yes` is not one of `true` or `false`");
}
