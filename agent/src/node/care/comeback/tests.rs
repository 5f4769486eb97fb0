#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::{Value, json};

fn pod(uid: &str, change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {"namespace": "default", "name": "p", "uid": uid},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": "Failed", "reason": "Evicted"}
    });
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn comes(comeback: &mut Comeback, pod: &Pod, conditions: &[Condition], second: u64) -> bool {
    !comeback.due(&[pod], &conditions.iter().copied().collect(), at(second)).is_empty()
}

#[test]
fn a_pod_comes_back_after_a_growing_wait() {
    let mut comeback = Comeback::default();
    let mut second = 0;
    for (life, wait) in [10, 20, 40, 80, 160, 300, 300].into_iter().enumerate() {
        let pod = pod(&format!("u{life}"), |_| {});
        assert!(!comes(&mut comeback, &pod, &[], second));
        assert!(!comes(&mut comeback, &pod, &[], second + wait - 1), "life {life}");
        assert!(comes(&mut comeback, &pod, &[], second + wait), "life {life}");
        assert!(!comes(&mut comeback, &pod, &[], second + wait + 50), "it is asked for once");
        second += wait + 100;
    }
    let pod = pod("late", |_| {});
    second += 300;
    assert!(!comes(&mut comeback, &pod, &[], second));
    assert!(comes(&mut comeback, &pod, &[], second + 10), "it had lived long enough");
}

#[test]
fn not_while_the_node_is_short() {
    use Condition::*;
    let class = |class: &'static str| move |pod: &mut Value| pod["spec"]["priorityClassName"] = json!(class);
    let asks = |pod: &mut Value| pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    for (conditions, best_effort, burstable, critical) in [
        (&[][..], true, true, true),
        (&[Memory][..], false, true, true),
        (&[Disk][..], false, false, true),
        (&[Memory, Pid][..], false, false, true),
    ] {
        let kinds = [pod("a", |_| {}), pod("a", asks), pod("a", class("system-cluster-critical"))];
        let admitted = kinds.map(|pod| {
            let mut comeback = Comeback::default();
            comes(&mut comeback, &pod, conditions, 0);
            comes(&mut comeback, &pod, conditions, 1000)
        });
        assert_eq!(admitted, [best_effort, burstable, critical], "{conditions:?}");
    }
}

#[test]
fn only_what_was_evicted_and_runs_for_ever_comes_back() {
    for (why, change, expected) in [
        ("evicted", (|_| {}) as fn(&mut Value), true),
        ("failed by itself", |pod| pod["status"]["reason"] = json!("DeadlineExceeded"), false),
        ("succeeded", |pod| pod["status"] = json!({"phase": "Succeeded"}), false),
        ("to run once", |pod| pod["spec"]["restartPolicy"] = json!("Never"), false),
        ("to run until it succeeds", |pod| pod["spec"]["restartPolicy"] = json!("OnFailure"), true),
    ] {
        let (mut comeback, pod) = (Comeback::default(), pod("u", change));
        comes(&mut comeback, &pod, &[], 0);
        assert_eq!(comes(&mut comeback, &pod, &[], 1000), expected, "{why}");
    }
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut comeback = Comeback::default();
    comes(&mut comeback, &pod("a", |_| {}), &[], 0);
    comeback.keep(|_, name| name == "other");
    assert!(comeback.waits.is_empty());
}
