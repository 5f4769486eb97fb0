use super::*;

/// `POD/NAME/ATTEMPT`, with `+` behind it while it runs; made in this order.
fn instances(list: &str) -> Vec<Instance> {
    let one = |(index, text): (usize, &str)| {
        let (text, dead) = text.strip_suffix('+').map_or((text, true), |text| (text, false));
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (pod, name, attempt) = (next(), next(), next().parse().unwrap_or(0));
        let created_at = i64::try_from(index).unwrap_or(0) * 1_000_000_000;
        Instance { id: text.to_owned(), pod, name, attempt, created_at, dead }
    };
    list.split_whitespace().enumerate().map(one).collect()
}

fn standing(uid: &str) -> Standing {
    match uid {
        "over" => Standing::Over,
        "theirs" => Standing::Unknown,
        _ => Standing::Live,
    }
}

fn removed(list: &str, policy: &Policy, pressed: bool) -> String {
    let now = 100_000_000_000;
    let mut ids: Vec<String> =
        surplus(&instances(list), standing, policy, pressed, now).into_iter().map(|it| it.id).collect();
    ids.sort();
    ids.join(" ")
}

#[test]
fn so_many_of_each_are_kept() {
    let usual = Policy::default();
    let none = Policy { per_container: 0, ..usual };
    for (why, list, policy, pressed, expected) in [
        ("one beside the running one", "p/a/0 p/a/1 p/a/2+", usual, false, "p/a/0"),
        ("one beside the newest", "p/a/0 p/a/1 p/a/2", usual, false, "p/a/0"),
        ("each container by itself", "p/a/0 p/b/0 q/a/0 p/a/1+ p/b/1+ q/a/1+", usual, false, ""),
        ("none beside the newest", "p/a/0 p/a/1 p/a/2", none, false, "p/a/0 p/a/1"),
        ("the newest is the pod's state", "p/a/0", none, true, ""),
        ("what runs is never removed", "over/a/0+ p/a/0+", none, true, ""),
        ("a pod that is over keeps its containers", "over/a/0 over/b/0", usual, false, ""),
        ("until the disk is needed", "over/a/0 over/b/0 p/a/0 p/a/1", usual, true, "over/a/0 over/b/0 p/a/0"),
        ("what is not ours stays", "theirs/a/0 theirs/a/1 theirs/a/2", none, true, ""),
    ] {
        assert_eq!(removed(list, &policy, pressed), expected, "{why}");
    }
}

#[test]
fn so_many_in_all_are_kept() {
    let total = |total| Policy { per_container: 9, total: Some(total), ..Policy::default() };
    let list = "p/a/0 p/a/1 p/a/2 p/a/3 p/a/4+ q/a/0 q/a/1+ r/a/0 r/a/1+";
    for (most, expected) in [
        (6, ""),
        (5, "p/a/0 p/a/1 p/a/2"),
        (3, "p/a/0 p/a/1 p/a/2"),
        (2, "p/a/0 p/a/1 p/a/2 p/a/3"),
        (0, "p/a/0 p/a/1 p/a/2 p/a/3 q/a/0 r/a/0"),
    ] {
        assert_eq!(removed(list, &total(most), false), expected, "{most} in all");
    }
}

#[test]
fn young_ones_are_kept() {
    let young = Policy { per_container: 0, minimum_age: Duration::from_secs(99), ..Policy::default() };
    assert_eq!(removed("p/a/0 p/a/1 p/a/2 p/a/3+", &young, false), "p/a/0 p/a/1");
}
