//! Definitions that change: what is replaced, in which order, and what stays.

use super::*;

#[test]
fn a_changed_container_is_replaced_alone() {
    for policy in ["Always", "OnFailure", "Never"] {
        table(
            &format!("{policy} | a b"),
            &[
                ("S0 a0=run* b0=run", "stop a0 in 30 changed", "Running"),
                ("S0 a0=143* b0=run", "start a 1", "Running"),
                ("S0 a0=0* b0=run", "start a 1", "Running"),
                ("S0 a0=143*^ b0=run", "start a 1", "Running"),
                ("S0 a0=143^ b0=run", "start a 1", "Running"),
                ("S0 a1=run a0=143* b0=run", "", "Running"),
                ("S0 a0=run* b0=run*", "stop a0 in 30 changed; stop b0 in 30 changed", "Running"),
                ("S0 a0=new* b0=run", "rm a0; start a 0", "Pending"),
                ("S0 a0=?* b0=run", "start a 1", "Running"),
            ],
        );
    }
}

#[test]
fn a_pod_that_is_over_begins_again_with_what_changed() {
    for policy in ["OnFailure", "Never"] {
        table(
            &format!("{policy} | a b"),
            &[
                ("S0!- a0=0 b0=0", "", "Succeeded"),
                ("S0!- a0=0* b0=0", "sandbox 1", "Running"),
                ("S0!- a0=0* b0=0*", "sandbox 1", "Running"),
                ("S1 S0!- a0=0* b0=0", "start a 1 in s1", "Running"),
                ("S1 S0!- a1=0@1 a0=0* b0=0", "stop-sandbox s1", "Succeeded"),
                ("S1!- S0!- a1=0@1 a0=0* b0=0", "", "Succeeded"),
            ],
        );
    }
}

#[test]
fn of_an_api_servers_pod_what_runs_is_replaced_and_what_has_ended_stays() {
    let asked = Asked { follows: Follows::Running, ..Asked::default() };
    for policy in ["Always", "OnFailure", "Never"] {
        table_of(
            &asked,
            &format!("{policy} i s+ | a b"),
            &[
                ("S0 i0=0 s0=run a0=run* b0=run", "stop a0 in 30 changed", "Running"),
                ("S0 i0=0 s0=run a0=143*^ b0=run", "start a 1", "Running"),
                ("S0 i0=0 s0=run* a0=run b0=run", "stop s0 in 30 changed", "Running"),
                ("S0 i0=0* s0=run a0=run b0=run", "", "Running"),
                ("S0 i0=run*", "", "Pending"),
                ("S0 i0=0*", "start s 0", "Pending"),
                ("S0* i0=0 s0=run a0=run b0=run", "", "Running"),
            ],
        );
    }
    table_of(&asked, "Never | a", &[("S0!- a0=0*", "", "Succeeded"), ("S0 a0=3*", "stop-sandbox s0", "Failed")]);
    table_of(&asked, "OnFailure | a", &[("S0!- a0=0*", "", "Succeeded"), ("S0 a0=3*", "start a 1", "Running")]);
}

#[test]
fn what_an_api_server_says_is_over_ends() {
    let mut pod = pod_of("Always i s+ | a");
    let asked = Asked { follows: Follows::Running, ..Asked::default() };
    for phase in ["Failed", "Succeeded"] {
        pod.status = serde_json::from_value(json!({"phase": phase})).unwrap();
        for (seen, done) in [
            ("", ""),
            ("S0 i0=0 s0=run a0=run", "stop a0 in 30; hold s0 in 30"),
            ("S0 i0=0 s0=143 a0=143", "stop-sandbox s0"),
            ("S0!- i0=0 s0=143 a0=143", ""),
        ] {
            assert_eq!(steps(&asked.decide(&pod, &view_of(seen), at(100))), done, "{phase}: {seen}");
        }
    }
    let mut pod = pod_of("Always | a");
    pod.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    assert_eq!(steps(&decide(&pod, &view_of("S0 a0=3"), 100)), "start a 1", "a manifest has no status");
}

#[test]
fn a_changed_sandbox_takes_everything_with_it() {
    for policy in ["Always", "OnFailure", "Never"] {
        table(
            &format!("{policy} i s+ | a"),
            &[
                ("S0* i0=0 s0=run a0=run", "stop a0 in 30 replaced; hold s0 in 30 replaced", "Running"),
                ("S0* i0=0 s0=run a0=143", "stop s0 in 30 replaced", "Running"),
                ("S0* i0=0 s0=143 a0=143", "stop-sandbox s0; sandbox 1", "Running"),
                ("S0!-* i0=0 s0=143 a0=0", "sandbox 1", "Running"),
                ("S1 S0!-* i0=0 s0=143 a0=0", "start i 1 in s1", "Running"),
                ("S1 S0!-* i1=0@1 i0=0 s0=143 a0=0", "start s 1 in s1", "Running"),
                ("S1 S0!-* i1=0@1 i0=0 s1=run@1 s0=143 a0=0", "start a 1 in s1", "Running"),
            ],
        );
    }
}

#[test]
fn a_changed_init_container_runs_again_before_what_comes_after_it() {
    for policy in ["Always", "OnFailure", "Never"] {
        table(
            &format!("{policy} i s+ j | a"),
            &[
                ("S0 i0=0 s0=run j0=0* a0=run", "void a for j", "Running"),
                ("S0 i0=0 s0=run j0=0* a0=run^", "stop a0 in 30 void", "Running"),
                ("S0 i0=0 s0=run j0=0* a0=143^", "start j 1", "Running"),
                ("S0 i0=0 s0=run j1=run j0=0* a0=143^", "", "Pending"),
                ("S0 i0=0 s0=run j1=0 j0=0* a0=143^", "start a 1", "Running"),
                ("S0 i0=0* s0=run j0=0 a0=run", "void s,j,a for i", "Running"),
                ("S0 i0=0* s0=run^ j0=0^ a0=run^", "stop a0 in 30 void; hold s0 in 30 void", "Running"),
                ("S0 i0=0* s0=run^ j0=0^ a0=0^", "stop s0 in 30 void", "Running"),
                ("S0 i0=0* s0=0^ j0=0^ a0=0^", "start i 1", "Running"),
                ("S0 i1=0 i0=0* s0=0^ j0=0^ a0=0^", "start s 1", "Running"),
                ("S0 i1=0 i0=0* s1=run s0=0^ j0=0^ a0=0^", "start j 1", "Running"),
                ("S0 i1=0 i0=0* s1=run s0=0^ j1=0 j0=0^ a0=0^", "start a 1", "Running"),
                // While it runs for the first time nothing comes after it.
                ("S0 i0=run*", "stop i0 in 30 changed", "Pending"),
                ("S0 i0=3*", "start i 1", "Pending"),
                ("S0 i0=0 s0=run j0=run*", "stop j0 in 30 changed", "Pending"),
                ("S0 i0=0 s0=run j0=3*", "start j 1", "Pending"),
            ],
        );
    }
}

#[test]
fn a_changed_sidecar_is_replaced_alone() {
    table(
        "Always s+ | a",
        &[
            ("S0 s0=run* a0=run", "stop s0 in 30 changed", "Running"),
            ("S0 s0=143* a0=run", "start s 1", "Running"),
            ("S0 s1=run s0=143* a0=run", "", "Running"),
        ],
    );
}

#[test]
fn containers_that_are_not_in_the_pod_any_more_stop_and_go() {
    table(
        "Always | a",
        &[
            ("S0 a0=run b0=run", "stop b0 in 30 unwanted", "Running"),
            ("S0 a0=run b0=143", "rm b0", "Running"),
            ("S0 a0=run b1=run b0=3", "rm b0; stop b1 in 30 unwanted", "Running"),
            ("S0 a0=3 b0=run", "stop b0 in 30 unwanted; start a 1", "Running"),
        ],
    );
}

#[test]
fn what_says_nothing_or_speaks_another_version_is_unchanged() {
    let pod = pod_of("Always | a");
    for (annotation, done) in [
        (None, ""),
        (Some("2:0123456789abcdef"), ""),
        (Some("nonsense"), ""),
        (Some("1:0123456789abcdef"), "stop a0 in 30 changed"),
    ] {
        let mut seen = view_of("S0 a0=run");
        seen.containers[0].definition = annotation.map(str::to_owned);
        assert_eq!(steps(&decide(&pod, &seen, 100)), done, "{annotation:?}");
    }
    let mut seen = view_of("S0 a0=run");
    seen.containers[0].definition = Some(Definition::of(&pod).containers["a"].hash.clone());
    seen.sandboxes[0].definition = Some(Definition::of(&pod).sandbox);
    assert_eq!(steps(&decide(&pod, &seen, 100)), "");
}

#[test]
fn followed_objects_replace_a_container() {
    let pod = pod_of("Always | a b");
    let asked = Asked { objects: BTreeMap::from([("a".to_owned(), "1:new".to_owned())]), ..Asked::default() };
    for (found, done) in [(None, ""), (Some("1:new"), ""), (Some("1:old"), "stop a0 in 30 changed")] {
        let mut seen = view_of("S0 a0=run b0=run");
        for container in &mut seen.containers {
            container.objects = found.map(str::to_owned);
        }
        assert_eq!(steps(&asked.decide(&pod, &seen, at(100))), done, "{found:?}");
    }
}

#[test]
fn resources_change_in_place_or_by_a_restart() {
    let with = |resources: serde_json::Value, policy: serde_json::Value| {
        let mut pod = pod_of("Always | a");
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        container.resources = serde_json::from_value(resources).unwrap();
        container.resize_policy = serde_json::from_value(policy).unwrap();
        pod
    };
    let restart = |resource: &str| json!([{"resourceName": resource, "restartPolicy": "RestartContainer"}]);
    let (none, in_place, again) = ("", "resize a0", "stop a0 in 30 changed");
    for (has, wanted, policy, done) in [
        (json!({}), json!({}), json!(null), none),
        (json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "1000m"}}), json!(null), none),
        (json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1024Mi"}}), restart("memory"), none),
        (json!({}), json!({"requests": {"cpu": "1"}}), json!(null), in_place),
        (json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}}), json!(null), in_place),
        (json!({"requests": {"cpu": "1"}}), json!({}), json!(null), in_place),
        (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), json!(null), in_place),
        (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), restart("memory"), in_place),
        (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), restart("cpu"), again),
        (json!({"limits": {"cpu": "1"}}), json!({}), json!(null), again),
        (json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "2Gi"}}), json!(null), in_place),
        (json!({"limits": {"memory": "2Gi"}}), json!({"limits": {"memory": "1Gi"}}), json!(null), in_place),
        (json!({"limits": {"memory": "2Gi"}}), json!({"limits": {"memory": "1Gi"}}), restart("memory"), again),
        (json!({"limits": {"memory": "2Gi"}}), json!({}), json!(null), again),
        (json!({}), json!({"limits": {"memory": "2Gi"}}), json!(null), in_place),
        (json!({}), json!({"limits": {"hugepages-2Mi": "2Mi"}}), json!(null), again),
    ] {
        let mut seen = view_of("S0 a0=run");
        seen.containers[0].resources = serde_json::from_value(has.clone()).unwrap();
        let plan = decide(&with(wanted.clone(), policy.clone()), &seen, 100);
        assert_eq!(steps(&plan), done, "{has} {wanted} {policy}");
        seen.containers[0].state = exited(3);
        let plan = decide(&with(wanted.clone(), policy), &seen, 100);
        assert_eq!(steps(&plan), "start a 1", "what starts again has them anyway: {has} {wanted}");
    }
}

#[test]
fn resources_that_could_not_be_given_are_tried_again_later() {
    let mut pod = pod_of("Always | a");
    let resources = json!({"limits": {"memory": "2Gi"}});
    pod.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(resources.clone()).unwrap();
    let mut seen = view_of("S0 a0=run");
    seen.containers[0].resources = serde_json::from_value(json!({})).unwrap();
    let resized = seen.history.resized.entry("a0".into()).or_default();
    resized.failure = Some(("busy".into(), at(130)));
    let plan = decide(&pod, &seen, 100);
    assert_eq!((steps(&plan).as_str(), plan.wake_at), ("", Some(at(130))));
    assert_eq!(steps(&decide(&pod, &seen, 130)), "resize a0");
    seen.history.resized.get_mut("a0").unwrap().has = serde_json::from_value(resources).unwrap();
    assert_eq!(steps(&decide(&pod, &seen, 130)), "");
}
