//! Startup, readiness and liveness probes of every kind, and what follows from their answers.

use std::path::{Path, PathBuf};

use e2e::agent::condition_of;
use e2e::manifest::{pod, several, shell, with};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

/// A container of the built-in image.
fn tool(name: &str, args: &[&str]) -> Value {
    with(e2e::manifest::tool(name, args), mount())
}

/// A busybox container with the test's directory at `/v`.
fn script(name: &str, script: &str) -> Value {
    with(shell(name, script), mount())
}

fn mount() -> Value {
    json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})
}

/// A pod whose containers share a directory with the test, at `/v`.
fn shared(name: &str, dir: &Path, spec: Value) -> Value {
    pod(name, with(json!({"volumes": [{"name": "v", "hostPath": {"path": dir, "type": "Directory"}}]}), spec))
}

/// A probe that is asked every second and believed at once, however long the answer takes.
fn quick(action: Value) -> Value {
    with(json!({"periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1}), action)
}

/// One that goes on for as long as it takes.
fn patient() -> Value {
    quick(json!({"failureThreshold": 1000}))
}

fn exists(file: &str) -> Value {
    json!({"exec": {"command": ["test", "-e", format!("/v/{file}")]}})
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    condition_of(pod, kind).unwrap_or(&Value::Null)
}

/// Whether a pod of one container is ready, which its status says in several places at once.
#[track_caller]
fn readiness(pod: &Value) -> bool {
    let ready = condition(pod, "Ready")["status"] == "True";
    assert_eq!(condition(pod, "ContainersReady")["status"] == "True", ready, "{pod:#}");
    if !ready && pod["status"]["phase"] == "Running" {
        assert_eq!(condition(pod, "Ready")["reason"], "ContainersNotReady", "{pod:#}");
        let all = pod["status"]["containerStatuses"].as_array().expect("there are statuses");
        assert!(all.iter().any(|container| container["ready"] == false), "{pod:#}");
    }
    ready
}

struct Kinds {
    dir: PathBuf,
    /// Pods by name, each with what its server is told by: a file and its contents for a healthy and a sick one.
    pods: Vec<(&'static str, [&'static str; 2])>,
}

impl Kinds {
    fn tell(&self, sick: bool) {
        for (name, words) in &self.pods {
            let word = words[usize::from(sick)];
            // At once: what is half written is something else.
            let (new, file) = (self.dir.join(format!("{name}.new")), self.dir.join(name));
            std::fs::write(&new, word).expect("the directory is writable");
            std::fs::rename(new, file).expect("the directory is writable");
        }
    }

    fn wait(&self, node: &Node, ready: bool) {
        for (name, _) in &self.pods {
            let what = if ready { "ready" } else { "not ready" };
            let seen = node.wait_for_pod(name, what, |pod| {
                pod["status"]["phase"] == "Running" && readiness(pod) == ready && container(pod)["started"] == true
            });
            assert_eq!(container(&seen)["restartCount"], 0, "{seen:#}");
        }
    }
}

#[test]
fn readiness_follows_the_answers_of_every_kind_of_probe() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let kinds = Kinds {
        dir: dir.clone(),
        pods: vec![
            ("exec", ["healthy", "sick"]),
            ("http", ["200", "503"]),
            ("https", ["204", "404"]),
            ("grpc", ["SERVING", "NOT_SERVING"]),
            ("grpc-service", ["SERVING", "NOT_SERVING"]),
            ("host-network", ["200", "500"]),
        ],
    };
    kinds.tell(true);
    let serve = |name: &str, port: &str, more: &[&str]| {
        let file = format!("--status-file=/v/{name}");
        let args = [&["serve", "--port", port, &file][..], more].concat();
        with(tool("c", &args), json!({"ports": [{"name": "web", "containerPort": port.parse::<u16>().ok()}]}))
    };
    let health =
        |name: &str| tool("c", &["health", "--port", "9000", "--service", "db", &format!("--status-file=/v/{name}")]);
    let ready = |base: Value, action: Value| with(base, json!({"readinessProbe": quick(action)}));
    let of = |name: &str, container: Value| shared(name, &dir, json!({"containers": [container]}));
    let grep = json!({"exec": {"command": ["grep", "-q", "$(WANTED)", "/v/exec"]}});
    let exec = with(script("c", "exec sleep 1000"), json!({"env": [{"name": "WANTED", "value": "healthy"}]}));
    let host_network = ready(serve("host-network", "8123", &[]), json!({"httpGet": {"port": 8123, "path": "/"}}));
    let https = json!({"httpGet": {"port": 443, "scheme": "HTTPS", "path": "/healthz"}});
    let pods = [
        of("exec", ready(exec, grep)),
        of(
            "http",
            ready(serve("http", "80", &["--log"]), json!({"httpGet": {"port": "web", "path": "/ready?deep=1"}})),
        ),
        of("https", ready(serve("https", "443", &["--tls"]), https)),
        of("grpc", ready(health("grpc"), json!({"grpc": {"port": 9000}}))),
        of("grpc-service", ready(health("grpc-service"), json!({"grpc": {"port": 9000, "service": "db"}}))),
        shared("host-network", &dir, json!({"hostNetwork": true, "containers": [host_network]})),
    ];
    let mut run = node.run(several(&pods));
    kinds.wait(&node, false);
    kinds.tell(false);
    kinds.wait(&node, true);
    kinds.tell(true);
    kinds.wait(&node, false);
    // By now each server was there to be asked.
    for why in [
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
        "Readiness probe failed: HTTP probe failed with statuscode: 500",
        "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
    ] {
        run.wait_for(why);
    }
    run.wait_for("http/c | GET /ready?deep=1 HTTP/1.1");
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn a_tcp_probe_asks_for_a_connection_and_a_pod_is_ready_when_all_its_containers_are() {
    need!(e2e::skip::root());
    let node = Node::new();
    let dir = node.make_dir("shared");
    let probe = |port: u16| json!({"readinessProbe": quick(json!({"tcpSocket": {"port": port}}))});
    let containers = [
        with(tool("early", &["serve", "--port", "7001"]), probe(7001)),
        with(tool("late", &["sleep", "inf"]), probe(7000)),
    ];
    let mut run = node.run(shared("tcp", &dir, json!({"containers": containers})));
    run.wait_for("Readiness probe failed: dial tcp ");
    let seen = node.wait_for_pod("tcp", "half ready", |pod| container(pod)["ready"] == true);
    assert!(!readiness(&seen), "{seen:#}");
    assert_eq!(condition(&seen, "Ready")["message"], "containers with unready status: [late]", "{seen:#}");
    let listens = node.start(["exec", "tcp", "-c", "late", "--", "/bin/coracle", "tool", "serve", "--port", "7000"]);
    node.wait_for_pod("tcp", "ready", readiness);
    run.signal(Signal::TERM);
    run.wait();
    listens.wait();
    node.assert_nothing_left();
}

#[test]
fn nothing_else_is_asked_before_the_startup_probe_has_passed() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let asked = |file: &str| json!({"exec": {"command": ["sh", "-c", format!("echo x >> /v/{file}")]}});
    let probes = json!({
        "startupProbe": with(patient(), json!({"exec": {"command": ["sh", "-c", "echo x >> /v/startup; test -e /v/go"]}})),
        "readinessProbe": quick(asked("readiness")),
        "livenessProbe": quick(asked("liveness")),
    });
    let slow = with(script("c", "echo up; exec sleep 1000"), probes);
    let mut run = node.run(shared("slow", &dir, json!({"containers": [slow]})));
    run.wait_for("slow/c | up");
    let lines = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default().lines().count();
    let seen = node.wait_for_pod("slow", "asked three times", |_| lines("startup") >= 3);
    assert_eq!((&container(&seen)["started"], &container(&seen)["ready"]), (&json!(false), &json!(false)), "{seen:#}");
    assert_eq!((lines("readiness"), lines("liveness")), (0, 0));
    std::fs::write(dir.join("go"), "").expect("the directory is writable");
    let seen = node.wait_for_pod("slow", "ready", readiness);
    assert_eq!(container(&seen)["started"], true, "{seen:#}");
    let asked = lines("startup");
    node.wait_for_pod("slow", "asked by the others", |_| lines("readiness") >= 3 && lines("liveness") >= 3);
    assert_eq!(lines("startup"), asked);
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_sidecar_holds_up_the_others_until_its_startup_probe_passes() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let probe = json!({"restartPolicy": "Always", "startupProbe": with(patient(), exists("go"))});
    let sidecar = with(script("beside", "echo sidecar up; exec sleep 1000"), probe);
    let spec = json!({"initContainers": [sidecar], "containers": [script("c", "echo main up; exec sleep 1000")]});
    let mut run = node.run(shared("held", &dir, spec));
    run.wait_for("Startup probe failed");
    let seen = node.pod("held").expect("it is there");
    assert_eq!(container(&seen)["state"]["waiting"]["reason"], "PodInitializing", "{seen:#}");
    assert_eq!(seen["status"]["initContainerStatuses"][0]["started"], false, "{seen:#}");
    std::fs::write(dir.join("go"), "").expect("the directory is writable");
    run.wait_for("held/c | main up");
    let seen = node.wait_for_pod("held", "ready", readiness);
    assert_eq!(seen["status"]["initContainerStatuses"][0]["started"], true, "{seen:#}");
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_container_that_does_not_start_in_time_is_restarted() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let probe = json!({"startupProbe": with(quick(exists("go")), json!({"failureThreshold": 2}))});
    let spec = json!({"restartPolicy": "Always", "containers": [with(script("c", "exec sleep 1000"), probe)]});
    let mut run = node.run_with(shared("never", &dir, spec), &BACKOFF);
    let twice = |pod: &Value| container(pod)["restartCount"].as_u64() >= Some(2);
    let seen = node.wait_for_pod("never", "restarted twice", twice);
    assert!(!readiness(&seen), "{seen:#}");
    run.wait_for("Startup probe failed 2 times in a row");
    std::fs::write(dir.join("go"), "").expect("the directory is writable");
    node.wait_for_pod("never", "started", |pod| container(pod)["started"] == true && readiness(pod));
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_restarted_alone_and_within_the_probes_grace() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    std::fs::write(dir.join("alive"), "").expect("the directory is writable");
    let probe = json!({"livenessProbe": with(quick(exists("alive")), json!({"terminationGracePeriodSeconds": 1}))});
    let deaf = with(script("deaf", "trap '' TERM; echo deaf up; sleep 100000 & wait"), probe);
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 100_000,
        "containers": [deaf, script("other", "trap 'exit 0' TERM; echo other up; sleep 100000 & wait")],
    });
    let mut run = node.run_with(shared("live", &dir, spec), &BACKOFF);
    run.wait_for("live/deaf | deaf up");
    run.wait_for("live/other | other up");
    let before = node.wait_for_pod("live", "ready", readiness);
    std::fs::remove_file(dir.join("alive")).expect("it is there");
    run.wait_for("Liveness probe failed");
    std::fs::write(dir.join("alive"), "").expect("the directory is writable");
    let seen = node.wait_for_pod("live", "restarted", |pod| {
        container(pod)["restartCount"].as_u64() >= Some(1) && container(pod)["state"]["running"].is_object()
    });
    assert_eq!(container(&seen)["lastState"]["terminated"]["exitCode"], 137, "{seen:#}");
    let other = |pod: &Value| pod["status"]["containerStatuses"][1]["containerID"].clone();
    assert_eq!(other(&seen), other(&before), "{seen:#}");
    // The pod's own grace is a day and more; a second signal says that nobody waits for it.
    run.signal(Signal::TERM);
    run.wait_for("once more");
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn a_pod_that_never_restarts_ends_with_its_liveness() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let probe = json!({"livenessProbe": quick(exists("alive"))});
    let spec = json!({"containers": [with(script("c", "exec sleep 1000"), probe)]});
    let finished = node.run_to_end(shared("once", &dir, spec)).exits(137).says("Liveness probe failed");
    assert_eq!(finished.lines.iter().filter(|line| line.text.contains("probe failed")).count(), 1, "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_counts_as_a_failure() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let hang = json!({"exec": {"command": ["sh", "-c", "echo x >> /v/runs; PROBE_MARK=1 exec sleep 1000"]}});
    let probe = json!({"readinessProbe": with(quick(hang), json!({"timeoutSeconds": 1}))});
    let spec = json!({"containers": [with(script("c", "echo up; exec sleep 2000"), probe)]});
    let mut run = node.run(shared("hang", &dir, spec));
    run.wait_for("Readiness probe failed: command ");
    let runs = || std::fs::read_to_string(dir.join("runs")).unwrap_or_default().lines().count();
    let seen = node.wait_for_pod("hang", "asked four times", |_| runs() >= 4);
    assert!(!readiness(&seen), "{seen:#}");
    let alive = inspect::processes(&node).into_iter().filter(|pid| inspect::command_line(*pid) == "sleep 1000").count();
    assert!(alive <= 1, "{alive} of the commands are still there");
    run.signal(Signal::TERM);
    let finished = run.wait();
    // Four failures and more, and one thing to say.
    let told = finished.lines.iter().filter(|line| line.text.contains("Readiness probe failed")).count();
    assert_eq!(told, 1, "{finished}");
    node.assert_nothing_left();
}

#[test]
fn no_probe_restarts_what_is_being_stopped() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    std::fs::write(dir.join("alive"), "").expect("the directory is writable");
    let probe = json!({"livenessProbe": quick(exists("alive"))});
    let slow = "trap 'rm /v/alive; echo stopping; sleep 3; echo stopped; exit 0' TERM; echo up; sleep 100000 & wait";
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 3600, "containers": [with(script("c", slow), probe)],
    });
    let mut run = node.run(shared("stops", &dir, spec));
    run.wait_for("stops/c | up");
    node.wait_for_pod("stops", "ready", readiness);
    run.signal(Signal::TERM);
    run.wait().says("stops/c | stopped").never_says("probe failed");
    node.assert_nothing_left();
}

#[test]
fn a_pod_that_is_being_stopped_is_asked_for_its_readiness_and_nothing_else() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("shared");
    let agent = e2e::agent::Agent::start(&node);
    for file in ["alive", "ready"] {
        std::fs::write(dir.join(file), "").expect("the directory is writable");
    }
    let hook = "rm /v/alive; : > /v/stopping; until [ -e /v/go ]; do sleep 0.1; done";
    let more = json!({
        "readinessProbe": quick(exists("ready")), "livenessProbe": quick(exists("alive")),
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}},
    });
    let container_ = with(script("c", "trap 'exit 0' TERM; sleep 100000 & wait"), more);
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 3600, "containers": [container_],
    });
    agent.write("stops.yaml", shared("stops", &dir, spec));
    let before = agent.wait_for_running("stops");
    agent.remove("stops.yaml");
    inspect::wait_until("its hook", || dir.join("stopping").exists());
    std::fs::remove_file(dir.join("ready")).expect("it is there");
    let unready = agent.wait_for("stops", "not ready", |pod| !readiness(pod));
    std::fs::write(dir.join("ready"), "").expect("the directory is writable");
    let ready = agent.wait_for("stops", "ready", readiness);
    for pod in [&unready, &ready] {
        assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod:#}");
        assert_eq!(container(pod)["containerID"], container(&before)["containerID"], "{pod:#}");
    }
    std::fs::write(dir.join("go"), "").expect("the directory is writable");
    agent.wait_until_gone("stops");
    let failed = agent.lines().into_iter().filter(|line| line.text.contains("Liveness probe failed")).count();
    assert_eq!(failed, 0, "{}", agent.said());
}
