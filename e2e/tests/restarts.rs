//! What becomes of a pod for each way its container ends under each restart policy.

use e2e::manifest::{keeper, pod, several, shell, with};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

struct Ending {
    name: &'static str,
    script: &'static str,
    code: i64,
    reason: &'static str,
}

const ENDINGS: [Ending; 4] = [
    Ending { name: "zero", script: "exit 0", code: 0, reason: "Completed" },
    Ending { name: "three", script: "exit 3", code: 3, reason: "Error" },
    // A process cannot kill process 1 of its own pid namespace: these pods share theirs, where the app is not 1.
    Ending { name: "killed", script: "kill -9 $$", code: 137, reason: "Error" },
    Ending { name: "oom", script: "exec dd if=/dev/zero of=/dev/null bs=200M count=1", code: 137, reason: "OOMKilled" },
];

const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

fn row_pod(policy: &str, ending: &Ending) -> Value {
    let container = with(
        shell("c", &format!("echo started; {}", ending.script)),
        json!({"resources": {"limits": {"memory": "24Mi"}}}),
    );
    let name = format!("{}-{}", policy.to_lowercase(), ending.name);
    let spec = json!({
        "restartPolicy": policy, "shareProcessNamespace": ending.name == "killed", "containers": [container],
    });
    pod(&name, spec)
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[test]
fn each_policy_restarts_each_ending_as_kubernetes_says() {
    let node = need!(Node::with_busybox());
    let mut pods = vec![keeper("keeper")];
    for policy in POLICIES {
        pods.extend(ENDINGS.iter().map(|ending| row_pod(policy, ending)));
    }
    let mut run = node.run_with(several(&pods), &BACKOFF);
    for policy in POLICIES {
        for ending in &ENDINGS {
            let name = format!("{}-{}", policy.to_lowercase(), ending.name);
            let restarts = policy == "Always" || policy == "OnFailure" && ending.code != 0;
            if restarts {
                let many = |pod: &Value| container(pod)["restartCount"].as_u64() >= Some(3);
                let pod = node.wait_for_pod(&name, "restarted three times", many);
                assert_eq!(pod["status"]["phase"], "Running", "{name}: {pod:#}");
                let last = &container(&pod)["lastState"]["terminated"];
                assert_eq!(last["exitCode"], ending.code, "{name}: {pod:#}");
                assert_eq!(last["reason"], ending.reason, "{name}: {pod:#}");
            } else {
                let phase = if ending.code == 0 { "Succeeded" } else { "Failed" };
                let pod = node.wait_for_phase(&name, phase);
                assert_eq!(container(&pod)["restartCount"], 0, "{name}: {pod:#}");
                let state = &container(&pod)["state"]["terminated"];
                assert_eq!(state["exitCode"], ending.code, "{name}: {pod:#}");
                assert_eq!(state["reason"], ending.reason, "{name}: {pod:#}");
            }
        }
    }
    run.signal(Signal::TERM);
    let finished = run.wait();
    for policy in POLICIES {
        for ending in &ENDINGS {
            let name = format!("{}-{}", policy.to_lowercase(), ending.name);
            let starts = finished.of(&format!("{name}/c")).iter().filter(|line| *line == "started").count();
            let restarts = policy == "Always" || policy == "OnFailure" && ending.code != 0;
            assert!(if restarts { starts >= 4 } else { starts == 1 }, "{name} started {starts} times");
        }
    }
    node.assert_nothing_left();
}

#[test]
fn a_container_killed_from_outside_is_restarted() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "restartPolicy": "OnFailure",
        "containers": [with(shell("c", "echo up; exec sleep 1000"), json!({"env": [{"name": "VICTIM", "value": "1"}]}))],
    });
    let mut run = node.run_with(pod("victim", spec), &BACKOFF);
    run.wait_for("victim/c | up");
    inspect::kill(inspect::process_with_environment(&node, "VICTIM=1").expect("the container runs"));
    let again = node.wait_for_pod("victim", "restarted", |pod| container(pod)["restartCount"] == 1);
    assert_eq!(container(&again)["lastState"]["terminated"]["exitCode"], 137, "{again:#}");
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn the_backoff_doubles_from_its_start_to_its_limit() {
    let node = need!(Node::with_busybox());
    let spec = json!({"restartPolicy": "Always", "containers": [shell("c", "exit 1")]});
    let mut run = node.run_with(pod("crash", spec), &["--restart-backoff", "initial=400ms,max=800ms"]);
    let started = std::time::Instant::now();
    let pod =
        node.wait_for_pod("crash", "restarted four times", |pod| container(pod)["restartCount"].as_u64() >= Some(4));
    // As kubelet counts: the first restart is immediate, then 400, 800 and again 800 ms.
    assert!(started.elapsed().as_millis() >= 2000, "four restarts after {:?}: {pod:#}", started.elapsed());
    let waits = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    node.wait_for_pod("crash", "in back-off", waits);
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_failing_init_container_ends_a_pod_that_never_restarts() {
    let node = need!(Node::with_busybox());
    let spec =
        json!({"initContainers": [shell("init", "echo trying; exit 4")], "containers": [shell("c", "echo never")]});
    node.run_to_end(pod("init", spec)).exits(4).says("init/init | trying").never_says("never");
}

#[test]
fn a_failing_init_container_is_tried_again_until_it_succeeds() {
    let node = need!(Node::with_busybox());
    let mut init = shell("init", "echo x >> /v/tries; [ $(wc -l < /v/tries) -ge 3 ]");
    init["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let spec = json!({
        "restartPolicy": "OnFailure", "initContainers": [init], "containers": [shell("c", "echo after")],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    node.run_with(pod("init", spec), &BACKOFF).wait().exits(0).says("init/c | after");
}

#[test]
fn init_containers_run_one_after_another_in_their_order() {
    let node = need!(Node::with_busybox());
    let notes = node.make_dir("notes");
    let mount = json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]});
    let noting = |name: &str, script: &str| with(shell(name, &format!("{script} >> /notes/all")), mount.clone());
    let spec = json!({
        "initContainers": [noting("one", "sleep 0.3; echo 1"), noting("two", "echo 2")],
        "containers": [noting("c", "echo 3")],
        "volumes": [{"name": "notes", "hostPath": {"path": notes}}],
    });
    let finished = node.run_to_end(pod("order", spec)).exits(0);
    assert_eq!(std::fs::read_to_string(notes.join("all")).ok().as_deref(), Some("1\n2\n3\n"), "{finished}");
}

#[test]
fn the_exit_code_is_the_first_failing_containers() {
    let node = need!(Node::with_busybox());
    let go = node.make_dir("go");
    let late = with(
        shell("late", "until [ -e /go/now ]; do sleep 0.05; done; exit 7"),
        json!({"volumeMounts": [{"name": "go", "mountPath": "/go"}]}),
    );
    let spec = json!({
        "containers": [late, shell("early", "exit 5"), shell("good", "exit 0")],
        "volumes": [{"name": "go", "hostPath": {"path": go}}],
    });
    let run = node.run(pod("codes", spec));
    node.wait_for_pod("codes", "failed in part", |pod| {
        pod.pointer("/status/containerStatuses/1/state/terminated").is_some()
    });
    std::fs::write(go.join("now"), "").expect("the directory is writable");
    run.wait().exits(5);
}
