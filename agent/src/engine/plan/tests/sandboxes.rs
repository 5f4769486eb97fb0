//! Sandboxes: made, replaced, given back, forgotten.

use super::*;

#[test]
fn one_is_made_when_there_is_none() {
    for policy in ["Always", "OnFailure", "Never"] {
        for pod in ["| a", "i | a", "s+ | a", "i s+ | a b"] {
            table(&format!("{policy} {pod}"), &[("", "sandbox 0", "Pending")]);
        }
    }
}

#[test]
fn a_dead_one_is_replaced_when_something_may_run_again() {
    table(
        "Always | a b",
        &[
            ("S0!", "stop-sandbox s0; sandbox 1", "Pending"),
            ("S0!-", "sandbox 1", "Pending"),
            ("S0! a0=255 b0=255", "stop-sandbox s0; sandbox 1", "Running"),
            ("S0! a0=0 b0=0", "stop-sandbox s0; sandbox 1", "Running"),
            ("S1! S0!- a0=0 b0=0", "stop-sandbox s1; sandbox 2", "Running"),
        ],
    );
    table(
        "OnFailure | a b",
        &[
            ("S0! a0=0 b0=0", "stop-sandbox s0", "Succeeded"),
            ("S0! a0=0 b0=255", "stop-sandbox s0; sandbox 1", "Running"),
            ("S0! a0=0", "stop-sandbox s0; sandbox 1", "Pending"),
            ("S0!", "stop-sandbox s0; sandbox 1", "Pending"),
        ],
    );
    table(
        "Never | a b",
        &[
            ("S0!", "stop-sandbox s0; sandbox 1", "Pending"),
            ("S0! a0=255 b0=255", "stop-sandbox s0", "Failed"),
            ("S0! a0=0 b0=255", "stop-sandbox s0", "Failed"),
            ("S0! a0=0 b0=0", "stop-sandbox s0", "Succeeded"),
            // Half of it has begun, and may not do so twice.
            ("S0! a0=0", "stop-sandbox s0", "Failed"),
        ],
    );
    table(
        "Never | a:Always b",
        &[
            ("S0! a0=255 b0=255", "stop-sandbox s0; sandbox 1", "Running"),
            ("S1 S0!- a0=255 b0=255", "start a 1 in s1", "Running"),
        ],
    );
    table("Always | a:Never b:Never", &[("S0! a0=0 b0=255", "stop-sandbox s0", "Failed")]);
}

#[test]
fn old_ones_are_forgotten_with_what_is_in_them() {
    table(
        "Always | a",
        &[
            ("S1 S0!- a1=run@1 a0=255", "", "Running"),
            ("S1 S0!- a2=run@1 a1=3@1 a0=255", "rm a0; rm-sandbox s0", "Running"),
            ("S1 S0!- a2=run@1 a1=3@1", "rm-sandbox s0", "Running"),
            ("S1 S0! a1=run@1 a0=255", "stop-sandbox s0", "Running"),
            ("S2 S1!- S0!- a1=run@2 a0=255", "rm-sandbox s1", "Running"),
        ],
    );
}

#[test]
fn of_two_that_are_ready_the_newest_counts() {
    table(
        "Always | a",
        &[
            ("S1 S0 a0=run", "stop a0 in 30 replaced", "Running"),
            ("S1 S0 a0=143", "stop-sandbox s0; start a 1 in s1", "Running"),
            ("S1 S0", "stop-sandbox s0; start a 0 in s1", "Pending"),
        ],
    );
}

#[test]
fn a_gate_holds_the_next_one_back() {
    let gate = Gate { reason: "WaitingForDependencies".into(), message: "db".into() };
    let asked = Asked { gate: Some(gate), ..Asked::default() };
    let pod = pod_of("Always | a");
    for (seen, done, waits) in [
        ("", "", true),
        ("S0!", "stop-sandbox s0", true),
        ("S0!-", "", true),
        ("S0", "start a 0", false),
        ("S0 a0=run", "", false),
        ("S0 a0=3", "start a 1", false),
    ] {
        let plan = asked.decide(&pod, &view_of(seen), at(100));
        assert_eq!(steps(&plan), done, "{seen}");
        let waiting = plan.waiting.get("a").is_some_and(|waiting| waiting.reason == "WaitingForDependencies");
        assert_eq!(waiting, waits, "{seen}: {plan:?}");
        assert!(!plan.finished);
    }
}

#[test]
fn what_is_remembered_alone_is_neither_stopped_nor_removed() {
    let remembered = |text: &str| {
        let mut seen = view_of(text);
        seen.sandboxes.iter_mut().for_each(|sandbox| sandbox.gone = true);
        seen.containers.iter_mut().for_each(|container| container.gone = true);
        seen
    };
    for (pod, seen, done, phase) in [
        ("Always | a", "S3! a5=255", "sandbox 4", "Running"),
        ("OnFailure | a", "S3! a5=0", "", "Succeeded"),
        ("OnFailure | a", "S3! a5=255", "sandbox 4", "Running"),
        ("Never | a", "S3! a5=255", "", "Failed"),
        ("Never | a", "S3! a5=0 a4=0 a3=0", "", "Succeeded"),
    ] {
        let plan = decide(&pod_of(pod), &remembered(seen), 100);
        assert_eq!((steps(&plan).as_str(), plan.phase.as_str()), (done, phase), "{pod}: {seen}");
        assert_eq!(plan.finished, done.is_empty(), "{pod}: {seen}");
    }
}

#[test]
fn numbers_that_log_files_have_are_not_given_again() {
    let pod = pod_of("Always | a");
    let mut seen = view_of("S0");
    seen.history.containers.entry("a".into()).or_default().next = 7;
    assert_eq!(steps(&decide(&pod, &seen, 100)), "start a 7");
    let mut seen = view_of("S0 a7=3");
    seen.history.containers.entry("a".into()).or_default().next = 7;
    assert_eq!(steps(&decide(&pod, &seen, 100)), "start a 8");
}
