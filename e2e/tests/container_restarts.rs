//! Restart policies and rules of single containers, and ephemeral containers.

use e2e::agent::status_of;
use e2e::manifest::{keeper, pod, several, shell, with};
use e2e::{Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    status_of(pod, container).expect("the container is known")
}

/// A container that counts its starts in a volume, and ends as the script says of `$n`.
fn counting(name: &str, script: &str, more: Value) -> Value {
    let script = format!("echo x >> /v/{name}; n=$(wc -l < /v/{name}); echo start $n; {script}");
    let container = with(shell(name, &script), json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    with(container, more)
}

fn counted(name: &str, spec: Value) -> Value {
    pod(name, with(spec, json!({"volumes": [{"name": "v", "emptyDir": {}}]})))
}

#[test]
fn each_container_of_a_pod_has_the_policy_that_it_says() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [
            counting("stubborn", "[ $n -ge 3 ]", json!({"restartPolicy": "OnFailure"})),
            counting("once", "exit 5", json!({})),
        ],
    });
    let finished = node.run_with(counted("own", spec), &BACKOFF).wait().exits(5);
    assert_eq!(finished.of("own/stubborn"), ["start 1", "start 2", "start 3"], "{finished}");
    assert_eq!(finished.of("own/once"), ["start 1"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_rule_restarts_for_its_exit_codes_alone() {
    let node = need!(Node::with_busybox());
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let own = json!({"restartPolicy": "Never", "restartPolicyRules": rules});
    let spec = json!({"containers": [counting("c", "[ $n -lt 3 ] && exit 42; exit 7", own)]});
    let finished = node.run_with(counted("rules", spec), &BACKOFF).wait().exits(7);
    assert_eq!(finished.of("rules/c"), ["start 1", "start 2", "start 3"], "{finished}");
}

#[test]
fn a_rule_restarts_all_containers_with_the_init_containers_first() {
    let node = need!(Node::with_busybox());
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]);
    let own = json!({"restartPolicy": "Never", "restartPolicyRules": rules});
    let spec = json!({
        "initContainers": [counting("init", "exit 0", json!({}))],
        "containers": [
            counting("other", "exec sleep 1000", json!({})),
            counting("watcher", "[ $n -ge 2 ] && exec sleep 1000; sleep 0.3; exit 88", own),
        ],
    });
    let mut run = node.run_with(counted("all", spec), &BACKOFF);
    let again = |pod: &Value| {
        let running = |name| status(pod, name)["state"]["running"].is_object();
        running("watcher") && running("other") && status(pod, "other")["restartCount"] == 1
    };
    let pod = node.wait_for_pod("all", "restarted as a whole", again);
    assert_eq!(status(&pod, "watcher")["restartCount"], 1, "{pod:#}");
    assert_eq!(status(&pod, "watcher")["lastState"]["terminated"]["exitCode"], 88, "{pod:#}");
    assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 1, "{pod:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(finished.of("all/init"), ["start 1", "start 2"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn an_ephemeral_container_runs_beside_the_others_sees_its_target_and_is_not_restarted() {
    let node = need!(Node::with_busybox());
    // Process 1 of the target's namespace is the target's.
    let debug = with(
        shell("debug", "until grep -q 1234 /proc/1/cmdline; do sleep 0.05; done; echo found; exit 9"),
        json!({"targetContainerName": "c"}),
    );
    let spec = json!({
        "restartPolicy": "Always", "containers": [shell("c", "exec sleep 1234")], "ephemeralContainers": [debug],
    });
    let mut run = node.run_with(several(&[pod("probed", spec), keeper("keeper")]), &BACKOFF);
    let ended = |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 9;
    let pod = node.wait_for_pod("probed", "debugged", ended);
    assert_eq!(pod["status"]["phase"], "Running", "{pod:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(finished.of("probed/debug"), ["found"], "{finished}");
    node.assert_nothing_left();
}
