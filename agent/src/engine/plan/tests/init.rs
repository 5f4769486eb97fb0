//! Init containers: one after the other, again when they fail, and not again once they are through.

use super::*;

#[test]
fn they_run_in_their_order() {
    let rows = [
        ("S0", "start i 0", "Pending"),
        ("S0 i0=new", "rm i0; start i 0", "Pending"),
        ("S0 i0=run", "", "Pending"),
        ("S0 i0=0", "start j 0", "Pending"),
        ("S0 i0=0 j0=run", "", "Pending"),
        ("S0 i0=0 j0=0", "start a 0; start b 0", "Pending"),
        ("S0 i0=0 j0=0 a0=run", "start b 0", "Pending"),
        ("S0 i0=0 j0=0 a0=run b0=run", "", "Running"),
    ];
    for policy in ["Always", "OnFailure", "Never"] {
        table(&format!("{policy} i j | a b"), &rows);
    }
}

#[test]
fn they_are_tried_again_by_the_policy() {
    for policy in ["Always", "OnFailure"] {
        table(
            &format!("{policy} i j | a"),
            &[
                ("S0 i0=3", "start i 1", "Pending"),
                ("S0 i1=137 i0=3", "start i 2", "Pending"),
                ("S0 i0=?", "start i 1", "Pending"),
                ("S0 i0=0 j0=3", "start j 1", "Pending"),
                ("S0 i1=0 i0=3 j0=0", "start a 0", "Pending"),
            ],
        );
    }
    table(
        "Never i j | a",
        &[
            ("S0 i0=3", "stop-sandbox s0", "Failed"),
            ("S0 i0=?", "stop-sandbox s0", "Failed"),
            ("S0 i0=0 j0=137", "stop-sandbox s0", "Failed"),
            ("S0!- i0=3", "", "Failed"),
        ],
    );
}

#[test]
fn what_is_through_does_not_run_again_when_its_record_is_gone() {
    table(
        "Always i j | a b",
        &[
            ("S0 a0=run b0=run", "", "Running"),
            ("S0 a0=run b0=3", "start b 1", "Running"),
            ("S0 a0=3 b0=3", "start a 1; start b 1", "Running"),
            ("S0 j0=0", "start a 0; start b 0", "Pending"),
            ("S0 j0=run", "", "Pending"),
            ("S0 j0=3", "start j 1", "Pending"),
            ("S0 a0=new", "start i 0", "Pending"),
        ],
    );
}

#[test]
fn one_that_ended_in_another_sandbox_runs_again() {
    table(
        "Always i | a",
        &[
            ("S1 S0!- i0=0 a0=255", "start i 1 in s1", "Running"),
            ("S1 S0!- i1=0@1 i0=0 a0=255", "start a 1 in s1", "Running"),
            ("S1 S0!- i1=3@1 i0=0 a0=255", "start i 2 in s1", "Running"),
            ("S1 S0!- i1=0@1 i0=0 a1=run@1 a0=255", "", "Running"),
        ],
    );
}

#[test]
fn containers_wait_for_them_by_name() {
    let pod = pod_of("Always i j | a");
    for (seen, waiting) in [
        ("S0", vec!["a", "i", "j"]),
        ("S0 i0=run", vec!["a", "j"]),
        ("S0 i0=0", vec!["a", "j"]),
        ("S0 i0=0 j0=run", vec!["a"]),
        ("S0 i0=0 j0=0 a0=run", vec![]),
    ] {
        let plan = decide(&pod, &view_of(seen), 100);
        assert_eq!(plan.waiting.keys().map(String::as_str).collect::<Vec<_>>(), waiting, "{seen}");
        assert!(plan.waiting.values().all(|waiting| waiting.reason == "PodInitializing"), "{seen}: {plan:?}");
    }
}
