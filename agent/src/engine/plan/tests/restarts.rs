//! Which ends are followed by another start: every policy of pods and containers, rules, and exit codes.

use super::*;

const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// Whether the policy restarts, said once more and otherwise than the planner does.
fn again(policy: &str, code: &str) -> bool {
    matches!((policy, code), ("Always", _) | ("OnFailure", "1" | "137" | "255" | "?"))
}

#[test]
fn a_containers_own_policy_goes_before_the_pods() {
    for pod in POLICIES {
        for own in ["", ":Always", ":OnFailure", ":Never"] {
            for code in ["0", "1", "137", "255", "?"] {
                let policy = own.strip_prefix(':').unwrap_or(pod);
                let (done, phase) = match (again(policy, code), code) {
                    (true, _) => ("start a 1", "Running"),
                    (false, "0") => ("stop-sandbox s0", "Succeeded"),
                    (false, _) => ("stop-sandbox s0", "Failed"),
                };
                table(&format!("{pod} | a{own}"), &[(&format!("S0 a0={code}"), done, phase)]);
            }
        }
    }
}

#[test]
fn init_containers_have_policies_of_their_own_too() {
    for pod in POLICIES {
        for own in ["", ":OnFailure", ":Never"] {
            for code in ["1", "137", "255", "?"] {
                let policy = own.strip_prefix(':').unwrap_or(pod);
                let row = match again(policy, code) {
                    true => ("start i 1", "Pending"),
                    false => ("stop-sandbox s0", "Failed"),
                };
                table(&format!("{pod} i{own} | a"), &[(&format!("S0 i0={code}"), row.0, row.1)]);
            }
        }
    }
}

#[test]
fn what_was_stopped_for_its_health_runs_again_unless_the_policy_is_never() {
    for pod in POLICIES {
        for own in ["", ":Always", ":OnFailure", ":Never"] {
            for code in ["0", "143", "137"] {
                let never = own == ":Never" || own.is_empty() && pod == "Never";
                let row = match (never, code) {
                    (false, _) => ("start a 1", "Running"),
                    (true, "0") => ("stop-sandbox s0", "Succeeded"),
                    (true, _) => ("stop-sandbox s0", "Failed"),
                };
                table(&format!("{pod} | a{own}"), &[(&format!("S0 a0={code}~"), row.0, row.1)]);
            }
        }
    }
}

fn ruled(policy: Option<&str>, rules: serde_json::Value) -> Pod {
    let mut pod = pod_of("Never | a");
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.restart_policy = policy.map(str::to_owned);
    container.restart_policy_rules = serde_json::from_value(rules).unwrap();
    pod
}

fn rule(action: &str, operator: &str, values: &[i32]) -> serde_json::Value {
    json!({"action": action, "exitCodes": {"operator": operator, "values": values}})
}

#[test]
fn rules_go_before_the_containers_policy() {
    for (operator, values) in [("In", &[3, 42][..]), ("NotIn", &[3, 42]), ("In", &[0]), ("NotIn", &[0])] {
        for policy in POLICIES {
            for code in [0, 1, 3, 42, 137] {
                let pod = ruled(Some(policy), json!([rule("Restart", operator, values)]));
                let fits = values.contains(&code) == (operator == "In");
                let restarts = fits || policy == "Always" || policy == "OnFailure" && code != 0;
                let plan = Asked::default().decide(&pod, &view_of(&format!("S0 a0={code}")), at(100));
                let expected = if restarts { "start a 1" } else { "stop-sandbox s0" };
                assert_eq!(steps(&plan), expected, "{operator} {values:?} {policy} {code}");
            }
        }
    }
}

#[test]
fn rules_without_a_policy_of_the_containers_own_mean_nothing() {
    let pod = ruled(None, json!([rule("Restart", "In", &[3])]));
    let plan = Asked::default().decide(&pod, &view_of("S0 a0=3"), at(100));
    assert_eq!(steps(&plan), "stop-sandbox s0");
}

#[test]
fn no_rule_fits_an_end_that_nobody_saw() {
    for operator in ["In", "NotIn"] {
        let pod = ruled(Some("Never"), json!([rule("Restart", operator, &[255])]));
        let plan = Asked::default().decide(&pod, &view_of("S0 a0=?"), at(100));
        assert_eq!(steps(&plan), "stop-sandbox s0", "{operator}");
    }
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = json!([rule("Restart", "In", &[3]), rule("RestartAllContainers", "NotIn", &[9])]);
    for (code, expected) in [(3, "start a 1"), (4, "void a for a"), (9, "stop-sandbox s0")] {
        let pod = ruled(Some("Never"), rules.clone());
        let plan = Asked::default().decide(&pod, &view_of(&format!("S0 a0={code}")), at(100));
        assert_eq!(steps(&plan), expected, "{code}");
    }
}

#[test]
fn restarting_all_containers_stops_them_in_order_and_begins_with_the_first() {
    let mut pod = pod_of("Never i s+ | a w:Never");
    let rules = json!([rule("RestartAllContainers", "In", &[88])]);
    pod.spec.as_mut().unwrap().containers[1].restart_policy_rules = serde_json::from_value(rules).unwrap();
    for (seen, done) in [
        ("S0 i0=0 s0=run a0=run w0=88", "void i,s,a,w for w"),
        ("S0 i0=0^ s0=run^ a0=run^ w0=88^", "stop a0 in 30 void; hold s0 in 30 void"),
        ("S0 i0=0^ s0=run^ a0=143^ w0=88^", "stop s0 in 30 void"),
        ("S0 i0=0^ s0=0^ a0=143^ w0=88^", "start i 1"),
        ("S0 i1=run i0=0^ s0=0^ a0=143^ w0=88^", ""),
        ("S0 i1=0 i0=0^ s0=0^ a0=143^ w0=88^", "start s 1"),
        ("S0 i1=0 i0=0^ s1=run s0=0^ a0=143^ w0=88^", "start a 1; start w 1"),
        ("S0 i1=0 i0=0^ s1=run s0=0^ a1=run a0=143^ w1=run w0=88^", ""),
        ("S0 i1=0 i0=0^ s1=run s0=0^ a1=run a0=143^ w1=88 w0=88^", "void i,s,a,w for w"),
        ("S0 i1=0 i0=0^ s1=run s0=0^ a1=run a0=143^ w1=7 w0=88^", ""),
    ] {
        let plan = Asked::default().decide(&pod, &view_of(seen), at(100));
        assert_eq!(steps(&plan), done, "{seen}");
    }
}

#[test]
fn two_containers_go_their_own_ways() {
    for pod in POLICIES {
        for (a, b) in [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1"), ("0", "run"), ("1", "run"), ("run", "run")] {
            let starts = [("a", a), ("b", b)]
                .map(|(name, state)| (state != "run" && again(pod, state)).then(|| format!("start {name} 1")));
            let starts: Vec<String> = starts.into_iter().flatten().collect();
            let (done, phase) = if starts.is_empty() && a != "run" && b != "run" {
                let phase = if (a, b) == ("0", "0") { "Succeeded" } else { "Failed" };
                ("stop-sandbox s0".to_owned(), phase)
            } else {
                (starts.join("; "), "Running")
            };
            table(&format!("{pod} | a b"), &[(&format!("S0 a0={a} b0={b}"), &done, phase)]);
        }
    }
}
