//! `kill -9` at random instants. Whatever dies, `gc` finds everything that it left, and the next run works.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::manifest::{command, keeper, pod, script, several, shell, with};
use e2e::random::Random;
use e2e::{Node, Run, fixtures, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Ten instants in each of five phases: fifty.
const KILLS: usize = 10;

/// Kills `victim` after a random time below `window`, or finds it ended already.
fn kill_within(mut victim: Run, random: &mut Random, window: Duration) -> Duration {
    let instant = random.below(window);
    std::thread::sleep(instant);
    if victim.is_running() {
        victim.signal(Signal::KILL);
    }
    // Everything that it started has let go of its output: `wait` fails otherwise.
    victim.wait();
    instant
}

/// After the kill: `gc` collects, nothing is left, the images are whole, and the next run works.
fn recovers(node: &Node, images: &[Value], phase: &str, instant: Duration) {
    println!("{phase}: killed after {instant:?}");
    node.coracle(["gc"]).exits(0);
    node.assert_nothing_left();
    node.assert_images(images);
    node.run_to_end(script("echo works")).exits(0).says("test/c | works");
    node.assert_nothing_left();
}

/// How long it takes from the start of a run to its first output, on this machine now.
fn time_to_output(node: &Node) -> Duration {
    let started = Instant::now();
    let mut run = node.run(busy_pod());
    run.wait_for("| up");
    let took = started.elapsed();
    run.signal(Signal::KILL);
    run.wait();
    node.coracle(["gc"]).exits(0);
    took
}

/// A pod with most of what a pod can leave behind.
fn busy_pod() -> String {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let mounts = json!([
        {"name": "e", "mountPath": "/e"}, {"name": "t", "mountPath": "/t"},
        {"name": "m", "mountPath": "/m"}, {"name": "s", "mountPath": "/s"},
    ]);
    let container = |name: &str, script: &str| with(shell(name, script), json!({"volumeMounts": mounts}));
    let spec = json!({
        "shareProcessNamespace": true,
        "initContainers": [container("init", "echo prepared > /e/x")],
        "containers": [container("a", "setsid sleep 1000 & echo up; exec sleep 1000"), container("b", "exec sleep 1000")],
        "volumes": [
            {"name": "e", "emptyDir": {}}, {"name": "t", "emptyDir": {"medium": "Memory"}},
            {"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}},
        ],
    });
    several(&[map, secret, pod("busy", spec)])
}

#[test]
fn killed_while_it_imports() {
    let node = need!(Node::with_busybox());
    let archive = need!(fixtures::big(24, 1500));
    let mut random = Random::announced("import");
    let import = |node: &Node, archive: &Path| node.start(["image".as_ref(), "import".as_ref(), archive.as_os_str()]);
    let started = Instant::now();
    import(&node, &archive).wait().exits(0);
    let window = started.elapsed();
    let reference = fixtures::big_reference(24, 1500);
    node.coracle(["image", "rm", &reference]).exits(0);
    let images = node.images();
    for _ in 0..KILLS {
        let instant = kill_within(import(&node, &archive), &mut random, window);
        node.coracle(["gc"]).exits(0);
        // The import may have been faster than the kill: then the image is whole, and goes.
        if node.images().iter().any(|image| image.to_string().contains(&reference)) {
            node.coracle(["image", "rm", &reference]).exits(0);
        }
        recovers(&node, &images, "import", instant);
    }
    import(&node, &archive).wait().exits(0);
}

#[test]
fn killed_while_it_creates() {
    let node = need!(Node::with_busybox());
    let mut random = Random::announced("create");
    let images = node.images();
    let window = time_to_output(&node);
    for _ in 0..KILLS {
        let instant = kill_within(node.run(busy_pod()), &mut random, window);
        recovers(&node, &images, "create", instant);
    }
}

#[test]
fn killed_while_its_pods_run() {
    let node = need!(Node::with_busybox());
    let mut random = Random::announced("run");
    let images = node.images();
    for round in 0..KILLS {
        let mut run = node.run(busy_pod());
        run.wait_for("| up");
        let instant = kill_within(run, &mut random, Duration::from_millis(200));
        if round == 0 {
            // The shim outlives its agent: that is what there is to collect.
            assert!(!inspect::processes(&node).is_empty(), "the pod died with the process that ran it");
        }
        recovers(&node, &images, "run", instant);
    }
}

#[test]
fn killed_while_commands_run_in_its_pods() {
    let node = need!(Node::with_busybox());
    let mut random = Random::announced("exec");
    let images = node.images();
    for round in 0..KILLS {
        let mut run = node.run(busy_pod());
        run.wait_for("| up");
        let execs: Vec<Run> = (0..3)
            .map(|_| node.start(["exec", "busy", "-c", "a", "--", "sh", "-c", "while :; do sleep 0.01; done"]))
            .collect();
        if round % 2 == 0 {
            let instant = kill_within(run, &mut random, Duration::from_millis(150));
            recovers_with(&node, &images, execs, instant);
        } else {
            // The one who asked dies first, then the one who ran the pod.
            let mut execs = execs;
            let instant = kill_within(execs.remove(0), &mut random, Duration::from_millis(150));
            run.signal(Signal::KILL);
            run.wait();
            recovers_with(&node, &images, execs, instant);
        }
    }
}

/// [`recovers`], where clients still wait for commands: the collection ends them.
fn recovers_with(node: &Node, images: &[Value], clients: Vec<Run>, instant: Duration) {
    node.coracle(["gc"]).exits(0);
    for client in clients {
        let finished = client.wait();
        assert!(!finished.status.success(), "the command cannot have succeeded\n{finished}");
    }
    recovers(node, images, "exec", instant);
}

#[test]
fn killed_while_it_stops() {
    let node = need!(Node::with_busybox());
    let mut random = Random::announced("stop");
    let images = node.images();
    let script = "trap 'sleep 0.1; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let spec = json!({"terminationGracePeriodSeconds": 5, "containers": [shell("a", script), shell("b", script)]});
    for _ in 0..KILLS {
        let mut run = node.run(pod("stopping", spec.clone()));
        run.wait_for("stopping/a | up");
        run.wait_for("stopping/b | up");
        run.signal(Signal::TERM);
        let instant = kill_within(run, &mut random, Duration::from_millis(300));
        recovers(&node, &images, "stop", instant);
    }
}

/// Names a container's processes for [`inspect`].
fn marked(name: &str) -> Value {
    let container = with(
        command("c", &["sh", "-c", "echo up; exec sleep 1000"]),
        json!({"env": [{"name": "MARK", "value": name}]}),
    );
    pod(name, json!({"containers": [container]}))
}

#[test]
fn a_killed_shim_ends_its_own_pod_alone_as_unknown() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(several(&[marked("victim"), marked("witness")]));
    run.wait_for("victim/c | up");
    run.wait_for("witness/c | up");
    let process = inspect::process_with_environment(&node, "MARK=victim").expect("the victim runs");
    inspect::kill(inspect::shim_of(process).expect("it has a shim"));
    let victim = node.wait_for_phase("victim", "Failed");
    let state = &victim["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["exitCode"], 255, "{victim:#}");
    assert!(matches!(state["reason"].as_str(), Some("Unknown" | "ContainerStatusUnknown")), "{victim:#}");
    let gone = inspect::wait_for(|| inspect::status(process, "State").is_none().then_some(()));
    assert!(gone.is_some(), "the victim's process outlives its shim: {:?}", inspect::status(process, "State"));
    assert_eq!(node.pod("witness").expect("it runs")["status"]["phase"], "Running");
    node.exec("witness", "c", &["true"]).exits(0);
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn a_killed_shim_of_a_pod_that_restarts_gives_it_a_new_one() {
    let node = need!(Node::with_busybox());
    let mut victim = marked("victim");
    victim["spec"]["restartPolicy"] = json!("Always");
    let mut run = node.run_with(victim, &["--restart-backoff", "initial=100ms,max=200ms"]);
    run.wait_for("| up");
    let process = inspect::process_with_environment(&node, "MARK=victim").expect("the victim runs");
    inspect::kill(inspect::shim_of(process).expect("it has a shim"));
    let ups = |run: &Run| run.lines().iter().filter(|line| line.text.ends_with("| up")).count();
    assert!(inspect::wait_for(|| (ups(&run) >= 2).then_some(())).is_some(), "the pod does not come back");
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn gc_spares_the_pods_of_a_run_that_lives_and_says_so() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(keeper("alive"));
    run.wait_for("| up");
    node.coracle(["gc"]).exits(0).says("spared");
    node.exec("alive", "c", &["true"]).exits(0);
    assert!(run.is_running());
    node.coracle(["gc", "--all"]).exits(0);
    run.wait();
}

#[test]
fn two_runs_share_one_node_and_end_apart() {
    let node = need!(Node::with_busybox());
    let (mut one, mut two) = (node.run(keeper("one")), node.run(keeper("two")));
    one.wait_for("one/c | up");
    two.wait_for("two/c | up");
    let names: Vec<Value> = node.pods().into_iter().map(|pod| pod["metadata"]["name"].clone()).collect();
    assert!(names.contains(&json!("one")) && names.contains(&json!("two")), "{names:?}");
    one.signal(Signal::KILL);
    one.wait();
    node.coracle(["gc"]).exits(0);
    node.exec("two", "c", &["true"]).exits(0);
    assert!(node.pod("one").is_none(), "gc left the dead run's pod");
    two.signal(Signal::TERM);
    two.wait();
    node.assert_nothing_left();
}
