//! Ends that somebody asks for: stops, evictions, deadlines.

use super::*;

const RUNNING: [(&str, &str); 6] = [
    ("Always | a b", "S0 a0=run b0=run"),
    ("OnFailure | a b", "S0 a0=run b0=3"),
    ("Never i | a", "S0 i0=run"),
    ("Always s+ | a", "S0 s0=run a0=run"),
    ("Always s+ | a", "S0 s0=run a0=0"),
    ("Always | a", "S0 a0=3"),
];

#[test]
fn nothing_starts_in_a_pod_that_ends() {
    let ends = |history: &mut History, how: usize| match how {
        0 => Some(Stop { deadline: at(120), grace: Duration::from_secs(20) }),
        1 => {
            let grace = Some(Duration::from_secs(20));
            history.eviction = Some(Eviction { reason: "Evicted".into(), message: "m".into(), grace });
            None
        }
        _ => {
            let failure = Failure { reason: "r".into(), message: "m".into(), at: at(1), count: 1, fatal: true };
            history.failed(Some("x"), &Policy::default(), failure);
            None
        }
    };
    for (pod, seen) in RUNNING {
        for how in 0..3 {
            let mut view = view_of(seen);
            let stop = ends(&mut view.history, how);
            let plan = Asked { stop, ..Asked::default() }.decide(&pod_of(pod), &view, at(100));
            let done = steps(&plan);
            assert!(!done.contains("start") && !done.contains("sandbox 1"), "{pod}: {seen}: {done}");
            let left = if how == 2 { 30 } else { 20 };
            let running = view.containers.iter().any(ContainerView::running);
            assert_eq!(done.contains(&format!("in {left}")), running, "{pod}: {seen}: {done}");
            assert_eq!(done.contains("stop-sandbox s0"), !running, "{pod}: {seen}: {done}");
            assert!(!plan.finished);
        }
    }
}

#[test]
fn an_ended_pod_is_finished_when_its_sandboxes_are_given_back() {
    for (pod, seen, phase) in [
        ("Always | a", "S0!- a0=0", "Succeeded"),
        ("Always | a", "S0!- a0=137", "Failed"),
        ("Always | a", "S0!-", "Failed"),
        ("Always i | a", "S0!- i0=143", "Failed"),
        ("Always s+ | a", "S0!- s0=137 a0=0", "Succeeded"),
        ("Always | a", "", "Failed"),
    ] {
        let plan = Asked::to_stop(130).decide(&pod_of(pod), &view_of(seen), at(100));
        assert_eq!((steps(&plan).as_str(), plan.phase.as_str(), plan.finished), ("", phase, true), "{pod}: {seen}");
    }
}

#[test]
fn an_eviction_is_a_failure_from_its_first_moment() {
    let eviction = |grace| Some(Eviction { reason: "Evicted".into(), message: "m".into(), grace });
    for (grace, left) in [(None, 30), (Some(Duration::ZERO), 0), (Some(Duration::from_secs(5)), 5)] {
        let mut view = view_of("S0 a0=run b0=0");
        view.history.eviction = eviction(grace);
        let plan = decide(&pod_of("Always | a b"), &view, 100);
        assert_eq!((steps(&plan), plan.phase), (format!("stop a0 in {left}"), Phase::Failed));
    }
    let mut view = view_of("S0!- a0=0 b0=0");
    view.history.eviction = eviction(None);
    let plan = decide(&pod_of("Always | a b"), &view, 100);
    assert!(plan.finished && plan.phase == Phase::Failed, "{plan:?}");
}

#[test]
fn a_deadline_is_told_and_kept() {
    let mut pod = pod_of("Always | a");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    for (since, before, done, wake) in [
        (Some(50), 0, "", Some(110)),
        (Some(50), 5, "", Some(105)),
        (Some(50), 10, "evict DeadlineExceeded; stop a0 in 30", Some(131)),
        (Some(40), 0, "evict DeadlineExceeded; stop a0 in 30", Some(131)),
        (Some(100), 60, "evict DeadlineExceeded; stop a0 in 30", Some(131)),
        (None, 0, "", None),
    ] {
        let mut view = view_of("S0 a0=run");
        view.history.active_since = since.map(at);
        view.history.active_before = Duration::from_secs(before);
        let plan = decide(&pod, &view, 100);
        assert_eq!((steps(&plan).as_str(), plan.wake_at), (done, wake.map(at)), "{since:?} {before}");
        assert_eq!(plan.phase, if done.is_empty() { Phase::Running } else { Phase::Failed });
    }
    let mut view = view_of("S0!- a0=0");
    view.history.active_since = Some(at(0));
    let plan = decide(&pod, &view, 100);
    assert_eq!((steps(&plan).as_str(), plan.finished), ("evict DeadlineExceeded", false), "it is noted first");
    let mut pod = pod_of("Never | a");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    for (code, phase) in [(0, Phase::Succeeded), (3, Phase::Failed)] {
        let mut view = view_of(&format!("S0!- a0={code}"));
        view.history.active_since = Some(at(0));
        let plan = decide(&pod, &view, 100);
        assert_eq!((steps(&plan).as_str(), plan.phase, plan.finished), ("", phase, true), "it was over in time");
    }
    let mut pod = pod_of("Never i s+ j | a");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    for (seen, done) in [
        ("S0!- i0=3", ""),
        ("S0 i0=3", "stop-sandbox s0"),
        ("S0 i0=0 s0=run j0=3", "stop s0 in 30"),
        ("S0 i0=0 s0=run j0=run", "evict DeadlineExceeded; stop j0 in 30; stop s0 in 30"),
    ] {
        let mut view = view_of(seen);
        view.history.active_since = Some(at(0));
        let plan = decide(&pod, &view, 100);
        assert_eq!((steps(&plan).as_str(), plan.phase), (done, Phase::Failed), "{seen}");
    }
}

#[test]
fn a_stop_goes_before_a_deadline() {
    let mut pod = pod_of("Always | a");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let mut view = view_of("S0 a0=run");
    view.history.active_since = Some(at(0));
    let plan = Asked::to_stop(110).decide(&pod, &view, at(100));
    assert_eq!((steps(&plan).as_str(), plan.phase), ("stop a0 in 10", Phase::Running));
}

#[test]
fn an_ephemeral_container_waits_for_its_target() {
    let mut pod = pod_of("OnFailure i | a");
    let debug = json!([{"name": "d", "image": "i", "targetContainerName": "a"}]);
    pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(debug).unwrap();
    for (seen, done) in [("S0", "start i 0"), ("S0 i0=0 a0=run", "start d 0"), ("S0 i0=0 a0=run d0=3", "")] {
        assert_eq!(steps(&decide(&pod, &view_of(seen), 100)), done, "{seen}");
    }
    let waiting = decide(&pod, &view_of("S0 i0=run"), 100).waiting;
    assert_eq!(waiting["d"].message, "its target container \"a\" does not run");
}

#[test]
fn ephemeral_containers_run_once_and_keep_nothing_up() {
    let mut pod = pod_of("OnFailure i | a");
    let debug = json!([{"name": "d", "image": "i"}]);
    pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(debug).unwrap();
    for (seen, done, phase) in [
        ("S0", "start d 0; start i 0", "Pending"),
        ("S0 i0=run", "start d 0", "Pending"),
        ("S0 i0=run d0=run", "", "Pending"),
        ("S0 i0=0 a0=run", "start d 0", "Running"),
        ("S0 i0=0 a0=run d0=3", "", "Running"),
        ("S0 i0=0 a0=run d0=new", "rm d0; start d 0", "Running"),
        ("S0 i0=0 a0=0 d0=run", "stop d0 in 30", "Running"),
        ("S0 i0=0 a0=0 d0=3", "stop-sandbox s0", "Succeeded"),
        ("S1 S0!- i0=0 a0=255 d0=255", "start i 1 in s1", "Running"),
    ] {
        let plan = decide(&pod, &view_of(seen), 100);
        assert_eq!((steps(&plan).as_str(), plan.phase.as_str()), (done, phase), "{seen}");
    }
}
