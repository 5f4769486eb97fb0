//! How bound pods end, and what of them stays to be seen.

use e2e::agent::{Agent, condition, condition_of, restarts, status_of};
use e2e::apiserver::ApiServer;
use e2e::manifest::shell;
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, is, join, running};

const FINALIZER: &str = "example.com/held";

/// What says when it would hear that it is to end.
const HEARS: &str = "trap 'exit 0' TERM; : > /tmp/up; while :; do sleep 0.1; done";

/// A pod that somebody wants to see the end of.
fn held(name: &str, script: &str) -> Value {
    let mut pod = bound(name, script);
    pod["metadata"]["finalizers"] = json!([FINALIZER]);
    pod
}

/// A pod that is ready as soon as it does [`HEARS`].
fn hearing(mut pod: Value) -> Value {
    let container = &mut pod["spec"]["containers"][0];
    container["readinessProbe"] = json!({"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1});
    pod
}

/// The one that held a pod has seen enough.
fn release(server: &ApiServer, pod: &str) {
    server.merge("pods", pod, json!({"metadata": {"finalizers": null}}));
    server.wait_until_gone("pods", pod);
}

#[test]
fn a_deleted_pod_has_failed_or_succeeded_by_how_its_containers_ended_whatever_the_policy() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let policies = ["Always", "OnFailure", "Never"];
    let name = |policy: &str, how: &str| format!("{}-{how}", policy.to_lowercase());
    for policy in policies {
        for (how, script) in [("killed", "trap '' TERM; : > /tmp/up; while :; do sleep 0.1; done"), ("ended", HEARS)] {
            let mut pod = hearing(held(&name(policy, how), script));
            pod["spec"]["restartPolicy"] = json!(policy);
            server.create(&pod);
        }
    }
    for policy in policies {
        for (how, code, phase) in [("killed", 137, "Failed"), ("ended", 0, "Succeeded")] {
            let which = name(policy, how);
            let which = format!("default/{which}");
            let before = server.wait_for("pods", &which, "ready", |pod| condition(pod, "Ready") == Some(true));
            server.delete_within("pods", &which, if how == "killed" { 1 } else { 30 });
            let over = server.wait_for("pods", &which, "over", |pod| {
                matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
            });
            let end = &status_of(&over, "c").unwrap()["state"]["terminated"];
            assert_eq!(
                (end["exitCode"].as_i64(), over["status"]["phase"].as_str()),
                (Some(code), Some(phase)),
                "{which}"
            );
            assert_eq!(end["reason"], if code == 0 { "Completed" } else { "Error" }, "{which}");
            assert_eq!(over["status"]["podIPs"], before["status"]["podIPs"], "{which} keeps its addresses");
            release(&server, &which);
        }
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_is_deleted_before_it_could_begin_has_failed() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let mut image = held("image", KEEPS);
    image["spec"]["containers"][0]["image"] = json!("coracle.test/none:1");
    image["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let mut volume = held("volume", KEEPS);
    volume["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "none"}}]);
    volume["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    for pod in [&image, &volume] {
        server.create(pod);
    }
    let waits = |pod: &Value| {
        pod["status"]["phase"] == "Pending"
            && status_of(pod, "c").is_some_and(|it| it["state"]["waiting"]["reason"].is_string())
    };
    for which in ["default/image", "default/volume"] {
        server.wait_for("pods", which, "waiting", waits);
        server.delete("pods", which);
        let over = server.wait_for("pods", which, "over", is("Failed"));
        assert!(over["metadata"]["deletionTimestamp"].is_string(), "{over:#}");
        release(&server, which);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_has_ended_keeps_its_addresses() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    for (name, code, phase) in [("good", 0, "Succeeded"), ("bad", 1, "Failed")] {
        let mut pod = bound(name, &format!("exit {code}"));
        pod["spec"]["restartPolicy"] = json!("Never");
        server.create(&pod);
        let which = format!("default/{name}");
        let over = server.wait_for("pods", &which, phase, is(phase));
        assert!(over["status"]["podIPs"][0]["ip"].is_string(), "{over:#}");
        assert_eq!(over["status"]["podIPs"][0]["ip"], over["status"]["podIP"]);
        server.delete("pods", &which);
        server.wait_until_gone("pods", &which);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn pods_that_end_with_their_node_have_failed_for_its_sake_and_stay_so() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = Agent::start_with(&node, ["--shutdown-pods", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    let mut job = bound("job", "exit 0");
    job["spec"]["restartPolicy"] = json!("Never");
    server.create(&job);
    let mut web = hearing(bound("web", HEARS));
    web["spec"]["restartPolicy"] = json!("Always");
    server.create(&web);
    server.wait_for("pods", "default/web", "ready", |pod| condition(pod, "Ready") == Some(true));
    server.wait_for("pods", "default/job", "over", is("Succeeded"));
    agent.stop();
    assert_eq!(server.get("pods", "default/job").unwrap()["status"]["phase"], "Succeeded");
    let there = server.get("pods", "default/web").unwrap();
    let status = &there["status"];
    assert_eq!((status["phase"].as_str(), status["reason"].as_str()), (Some("Failed"), Some("Terminated")));
    assert_eq!(status["message"], "Pod was terminated in response to imminent node shutdown.");
    let disrupted = condition_of(&there, "DisruptionTarget").unwrap();
    assert_eq!(
        (disrupted["status"].as_str(), disrupted["reason"].as_str()),
        (Some("True"), Some("TerminationByKubelet"))
    );
    assert_eq!(status_of(&there, "c").unwrap()["state"]["terminated"]["exitCode"], 0);

    agent.restart();
    server.create(&bound("new", KEEPS));
    running(&server, "new");
    let after = server.get("pods", "default/web").unwrap();
    assert_eq!((after["status"]["phase"].as_str(), restarts(&after, "c")), (Some("Failed"), Some(0)));
    for pod in ["web", "job", "new"] {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn what_is_over_asks_for_nothing_of_the_node_any_more() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let name = crate::name();
    let mut agent = join(&node, &server.kubeconfig_of_node(&name));
    let registered =
        server.wait_for("nodes", &name, "registered", |it| it["status"]["allocatable"]["memory"].is_string());
    let most = registered["status"]["allocatable"]["memory"].clone();
    let all = |name: &str, script: &str| {
        let mut pod = bound(name, script);
        pod["spec"]["restartPolicy"] = json!("Never");
        // Asked for, and not used.
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": most}});
        pod
    };
    server.create(&all("first", "exit 0"));
    server.wait_for("pods", "default/first", "over", is("Succeeded"));
    agent.kill();
    agent.restart();
    server.create(&all("second", KEEPS));
    running(&server, "second");
    server.create(&all("third", KEEPS));
    let refused = server.wait_for("pods", "default/third", "refused", is("Failed"));
    assert_eq!(refused["status"]["reason"], "OutOfmemory");
    for pod in ["first", "second", "third"] {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_came_and_went_while_no_agent_ran_leaves_the_server() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    server.create(&bound("forced", KEEPS));
    running(&server, "forced");
    agent.kill();
    let mut never = bound("never", KEEPS);
    never["spec"]["nodeSelector"] = json!({"there": "none"});
    server.create(&never);
    server.delete("pods", "default/never");
    // Nobody waits for a node that is away.
    server.delete_within("pods", "default/forced", 0);
    agent.restart();
    server.wait_until_gone("pods", "default/never");
    agent.wait_until_gone("forced");
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_waits_again_while_it_initializes_in_another_sandbox() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let go = node.make_dir("go");
    let mut pod = bound("web", KEEPS);
    pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": go}}]);
    pod["spec"]["initContainers"] = json!([shell("i", "until rm /v/go; do sleep 0.1; done")]);
    pod["spec"]["initContainers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "MARK", "value": "web"}]);
    std::fs::write(go.join("go"), "").unwrap();
    server.create(&pod);
    running(&server, "web");
    let process = inspect::process_with_environment(&node, "MARK=web").unwrap();
    inspect::kill(inspect::shim_of(process).unwrap());
    let again = server.wait_for("pods", "default/web", "initializing again", |pod| {
        restarts(pod, "i") == Some(1) && status_of(pod, "i").unwrap()["state"]["running"].is_object()
    });
    assert_eq!(again["status"]["phase"], "Pending", "{again:#}");
    std::fs::write(go.join("go"), "").unwrap();
    let begun = |pod: &Value| is("Running")(pod) && restarts(pod, "c") == Some(1);
    server.wait_for("pods", "default/web", "running again", begun);
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_shorter_grace_ends_a_hook_that_sleeps() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server.kubeconfig_of_node(&crate::name()));
    let mut pod = hearing(bound("web", HEARS));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(100_000);
    pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 50_000}}});
    server.create(&pod);
    server.wait_for("pods", "default/web", "ready", |pod| condition(pod, "Ready") == Some(true));
    server.delete("pods", "default/web");
    agent.wait_for("web", "ending", |pod| pod["metadata"]["deletionTimestamp"].is_string());
    server.delete_within("pods", "default/web", 1);
    server.wait_until_gone("pods", "default/web");

    // What has ended has no hook to wait for.
    let mut over = bound("over", "exit 0");
    over["spec"]["restartPolicy"] = json!("Never");
    over["spec"]["terminationGracePeriodSeconds"] = json!(100_000);
    over["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 50_000}}});
    let mut beside = hearing(bound("", HEARS))["spec"]["containers"][0].clone();
    beside["name"] = json!("d");
    over["spec"]["containers"].as_array_mut().unwrap().push(beside);
    server.create(&over);
    let ended = |pod: &Value| status_of(pod, "c").is_some_and(|it| it["state"]["terminated"].is_object());
    let up = |pod: &Value| status_of(pod, "d").is_some_and(|it| it["ready"] == true);
    server.wait_for("pods", "default/over", "half over", |pod| ended(pod) && up(pod));
    server.delete("pods", "default/over");
    server.wait_until_gone("pods", "default/over");
    agent.stop_with_nothing_left();
}
