//! Probes and hooks: who counts as started, who is restarted, and within which grace.

use super::*;
use crate::engine::probe::ProbeFailure;

fn failed(kind: Kind) -> ProbeResult {
    let failed = Some(ProbeFailure { kind, message: "it said no".into() });
    ProbeResult { started: kind != Kind::Startup, ready: None, failed }
}

fn with_health(results: &[(&str, ProbeResult)]) -> Asked {
    let health = results.iter().map(|(id, result)| ((*id).to_owned(), result.clone())).collect();
    Asked { health, ..Asked::default() }
}

/// A pod whose containers named `a` and `s` have probes, each with this grace of its own.
fn probed(text: &str, grace: Option<i64>) -> Pod {
    let mut pod = pod_of(text);
    let probe = json!({"tcpSocket": {"port": 80}, "terminationGracePeriodSeconds": grace});
    let probe: k8s_openapi::api::core::v1::Probe = serde_json::from_value(probe).unwrap();
    let spec = pod.spec.as_mut().unwrap();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.liveness_probe = Some(probe.clone());
        container.startup_probe = Some(probe.clone());
    }
    pod
}

#[test]
fn what_fails_its_probe_is_stopped_with_the_probes_grace_or_the_pods() {
    for policy in ["Always", "OnFailure", "Never"] {
        for (grace, left) in [(None, 30), (Some(7), 7), (Some(0), 0)] {
            for (kind, word) in [(Kind::Liveness, "liveness"), (Kind::Startup, "startup")] {
                let pod = probed(&format!("{policy} | a b"), grace);
                let asked = with_health(&[("a0", failed(kind))]);
                let plan = asked.decide(&pod, &view_of("S0 a0=run b0=run"), at(100));
                assert_eq!(steps(&plan), format!("stop a0 in {left} {word}"), "{policy} {grace:?}");
                assert_eq!(plan.phase, Phase::Running);
            }
        }
    }
}

#[test]
fn a_sidecar_that_fails_its_probe_is_stopped_at_any_time() {
    let pod = probed("Never s+ i | a", Some(5));
    let asked = with_health(&[("s0", failed(Kind::Liveness))]);
    for seen in ["S0 s0=run i0=run", "S0 s0=run i0=0 a0=run"] {
        let plan = asked.decide(&pod, &view_of(seen), at(100));
        assert_eq!(steps(&plan), "stop s0 in 5 liveness", "{seen}");
    }
}

#[test]
fn nothing_comes_after_a_sidecar_that_has_not_started() {
    let waiting = || ProbeResult { started: false, ready: None, failed: None };
    let pod = probed("Always s+ i | a", None);
    let asked = with_health(&[("s0", waiting()), ("s1", waiting())]);
    for (seen, done, phase) in [
        ("S0 s0=run", "", "Pending"),
        // It had started once: the init container after it has begun, and goes on.
        ("S0 s1=run s0=3 i0=run", "", "Pending"),
        ("S0 s1=run s0=3 i0=0", "start a 0", "Pending"),
        ("S0 s1=run s0=3 i0=0 a0=run", "", "Running"),
        ("S0 s1=run s0=3 i0=0 a0=3", "start a 1", "Running"),
    ] {
        let plan = asked.decide(&pod, &view_of(seen), at(100));
        assert_eq!((steps(&plan).as_str(), plan.phase.as_str()), (done, phase), "{seen}");
    }
    let started = ProbeResult { started: true, ready: Some(false), failed: None };
    let plan = with_health(&[("s0", started)]).decide(&pod, &view_of("S0 s0=run"), at(100));
    assert_eq!(steps(&plan), "start i 0", "readiness holds nothing up");
}

#[test]
fn a_probe_says_nothing_about_a_pod_that_stops() {
    let pod = probed("Always | a", Some(3));
    let asked = Asked { stop: Asked::to_stop(130).stop, ..with_health(&[("a0", failed(Kind::Liveness))]) };
    let plan = asked.decide(&pod, &view_of("S0 a0=run"), at(100));
    assert_eq!(steps(&plan), "stop a0 in 30");
}

#[test]
fn a_post_start_hook_holds_up_what_starts_after_it() {
    let hooks = Asked { hooks: BTreeSet::from(["a0".to_owned(), "s0".to_owned()]), ..Asked::default() };
    for (pod, seen, done) in [
        ("Always | a b", "S0 a0=run", ""),
        ("Always | a b", "S0 a0=run b0=3", ""),
        ("Always s+ | a", "S0 s0=run", ""),
        ("Always s+ i | a", "S0 s0=run", ""),
    ] {
        let plan = hooks.decide(&pod_of(pod), &view_of(seen), at(100));
        assert_eq!(steps(&plan), done, "{pod}: {seen}");
        assert!(!plan.waiting.is_empty());
    }
    let stop = Asked { stop: Asked::to_stop(130).stop, ..hooks };
    let plan = stop.decide(&pod_of("Always | a b"), &view_of("S0 a0=run"), at(100));
    assert_eq!(steps(&plan), "stop a0 in 30", "a stop waits for no hook");
}

#[test]
fn a_post_start_hook_that_failed_stops_its_container() {
    let asked = Asked { unhooked: BTreeSet::from(["a0".to_owned()]), ..Asked::default() };
    for policy in ["Always", "OnFailure", "Never"] {
        let plan = asked.decide(&pod_of(&format!("{policy} | a b")), &view_of("S0 a0=run b0=run"), at(100));
        assert_eq!(steps(&plan), "stop a0 in 30 hook", "{policy}");
    }
}
