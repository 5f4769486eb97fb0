//! Disks run full, and pods take more of them than they may.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::agent::{Agent, container_id, restarts};
use e2e::cri::{Containerd, Endpoint as _};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::{BUSYBOX, Node, fixtures, inspect, need};
use serde_json::{Value, json};

use crate::{agent, agent_with, evicted};

/// A pod whose container writes to its volume `v`, an emptyDir, and stays.
fn writer(name: &str, script: &str, volume: Value) -> Value {
    let mut container = shell("c", &format!("{script}; echo up; exec sleep 1000"));
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    pod(name, json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": volume}]}))
}

fn free(node: &Node) -> u64 {
    let space = rustix::fs::statvfs(node.disk().expect("a small disk")).expect("it is mounted");
    space.f_bavail * space.f_frsize
}

/// An agent with these settings that finds a pod running.
fn with_pod<'n>(node: &'n Node, pod: &str, settings: Value) -> Agent<'n> {
    let mut first = Agent::start(node);
    first.write(&format!("{pod}.yaml"), keeper(pod));
    first.wait_for_running(pod);
    first.stop();
    agent(node, settings)
}

#[test]
fn who_fills_the_disk_goes() {
    let node = need!(Node::on_small_disk(96, 8000));
    let agent = agent(&node, json!({"evictionHard": {"nodefs.available": "24Mi"}}));
    agent.write("modest.yaml", keeper("modest"));
    let before = container_id(&agent.wait_for_running("modest"), "c");
    let room = free(&node) >> 20;
    let fill = format!("dd if=/dev/zero of=/v/file bs=1M count={}", room - 12);
    agent.write("greedy.yaml", writer("greedy", &fill, json!({})));
    let why = evicted(&agent, "greedy");
    let expected = "The node was low on resource: ephemeral-storage. Threshold quantity: 24Mi, available: ";
    assert!(why.starts_with(expected), "{why}");
    let back = inspect::wait_for(|| (free(&node) >> 20 > room - 4).then_some(()));
    assert!(back.is_some(), "{} of {room} MiB are free again\n{}", free(&node) >> 20, agent.said());
    assert_eq!(container_id(&agent.wait_for_running("modest"), "c"), before, "{}", agent.said());
    assert_eq!(node.pod("greedy").expect("it is told of")["status"]["reason"], "Evicted", "Never is never");
}

#[test]
fn who_uses_up_the_files_goes() {
    let node = need!(Node::on_small_disk(64, 4000));
    let agent = agent(&node, json!({"evictionHard": {"nodefs.inodesFree": "20%"}}));
    agent.write("modest.yaml", keeper("modest"));
    agent.wait_for_running("modest");
    let fill = "i=0; while [ $i -lt 3500 ]; do : > /v/$i || break; i=$((i+1)); done";
    agent.write("greedy.yaml", writer("greedy", fill, json!({})));
    let why = evicted(&agent, "greedy");
    assert!(why.starts_with("The node was low on resource: inodes. "), "{why}");
    agent.wait_for_running("modest");
}

#[test]
fn images_that_nothing_uses_go_before_pods() {
    let node = need!(Node::on_small_disk(128, 8000));
    node.import(&need!(fixtures::big(32, 200)));
    let used: Vec<Value> = node.images().into_iter().filter(|it| !it.to_string().contains("big")).collect();
    assert_eq!(used.len(), node.images().len() - 1);
    // Between what is free now and what is free without that image.
    let threshold = format!("{}Mi", (free(&node) >> 20) + 8);
    let hard = json!({"imagefs.available": threshold});
    let agent = with_pod(&node, "modest", json!({"evictionHard": hard, "imageMinimumGCAge": "1ms"}));
    let gone = inspect::wait_for(|| (node.images().len() == used.len()).then_some(()));
    assert!(gone.is_some(), "{:#?}\n{}", node.images(), agent.said());
    node.assert_images(&used);
    agent.wait_for_running("modest");
    assert!(!agent.said().contains("Evicted"), "{}", agent.said());
}

#[test]
fn images_go_when_their_disk_is_nearly_full() {
    let node = need!(Node::on_small_disk(128, 8000));
    let used = node.images();
    node.import(&need!(fixtures::big(32, 200)));
    let percent = |free: u64| 100 - u8::try_from((free >> 20) * 100 / 128).expect("a percentage");
    let high = percent(free(&node)) - 10;
    let settings = json!({
        "imageGCHighThresholdPercent": high,
        "imageGCLowThresholdPercent": high - 5,
        "imageMinimumGCAge": "1ms",
    });
    let agent = with_pod(&node, "modest", settings);
    let gone = inspect::wait_for(|| (node.images().len() == used.len()).then_some(()));
    assert!(gone.is_some(), "{:#?}\n{}", node.images(), agent.said());
    node.assert_images(&used);
    agent.wait_for_running("modest");
}

#[test]
fn images_that_were_unused_for_long_go_though_there_is_room() {
    let node = need!(Node::with_busybox());
    let used = node.images();
    node.import(&need!(fixtures::big(8, 400)));
    let agent = with_pod(&node, "modest", json!({"imageMinimumGCAge": "1s", "imageMaximumGCAge": "3s"}));
    let gone = inspect::wait_for(|| (node.images().len() == used.len()).then_some(()));
    assert!(gone.is_some(), "{:#?}\n{}", node.images(), agent.said());
    node.assert_images(&used);
    agent.wait_for_running("modest");
}

#[test]
fn of_containers_that_have_ended_one_is_kept_for_its_log() {
    let node = need!(Node::with_busybox());
    let agent = agent_with(&node, json!({}), &BACKOFF);
    agent.write("crash.yaml", crashing());
    of_each_one_is_kept(&agent, || ids(&node.root_dir.join("containers")));
    node.coracle(["logs", "crash", "-c", "c", "--previous"]).exits(0).says("life ");
}

#[test]
fn of_containers_on_containerd_one_is_kept_and_those_of_others_are_spared() {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    let other = containerd.pod("other");
    let sandbox = containerd.run_pod(&other);
    let mut theirs = BTreeSet::new();
    for attempt in 0..4 {
        let mut container = containerd.container("c", BUSYBOX, &["true"]);
        container.metadata.as_mut().expect("it is set").attempt = attempt;
        theirs.insert(containerd.run_to_end(&sandbox, &other, &container).id);
    }
    let endpoint = format!("unix://{}", containerd.socket().display());
    let args = [&BACKOFF[..], &["--container-runtime-endpoint", &endpoint]].concat();
    let agent = agent_with(&node, json!({}), &args);
    agent.write("crash.yaml", crashing());
    let listed = || {
        let all = containerd.client().list_containers(Default::default()).expect("they are listed").containers;
        all.into_iter().map(|it| it.id).collect::<BTreeSet<_>>()
    };
    of_each_one_is_kept(&agent, || listed().difference(&theirs).cloned().collect());
    assert!(theirs.is_subset(&listed()), "others' containers are none of the agent's");
    agent.remove("crash.yaml");
    agent.wait_until_gone("crash");
}

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=10ms,max=10ms"];

/// A pod whose container ends six times, and then stays.
fn crashing() -> Value {
    let script = "echo x >> /v/lives; n=$(wc -l < /v/lives); echo life $n; [ $n -gt 6 ] && exec sleep 100000; exit 1";
    let mut crash = writer("crash", "", json!({}));
    crash["spec"]["restartPolicy"] = json!("Always");
    crash["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
    crash
}

fn ids(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until there are the one that runs and the one before it, and no others.
#[track_caller]
fn of_each_one_is_kept(agent: &Agent<'_>, containers: impl Fn() -> BTreeSet<String>) {
    let pod = agent.wait_for("crash", "restarted six times", |pod| {
        restarts(pod, "c") == Some(6) && pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
    });
    let status = &pod["status"]["containerStatuses"][0];
    let id = |id: &Value| id.as_str().and_then(|it| it.rsplit('/').next()).map(str::to_owned);
    let kept: BTreeSet<_> = [&status["containerID"], &status["lastState"]["terminated"]["containerID"]]
        .into_iter()
        .filter_map(id)
        .collect();
    assert_eq!(kept.len(), 2, "{pod:#}");
    let done = inspect::wait_for(|| (containers() == kept).then_some(()));
    assert!(done.is_some(), "{kept:?} and not {:?}\n{}", containers(), agent.said());
}

#[test]
fn a_volume_over_its_limit_ends_its_pod_which_comes_back_without_it() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    // Only in its first life: the file that tells so is not the pod's.
    let once = node.make_dir("once");
    let script = "[ -e /once/done ] || { touch /once/done; dd if=/dev/zero of=/v/file bs=1M count=12; }; ls /v";
    let mut greedy = writer("greedy", script, json!({"sizeLimit": "8Mi"}));
    greedy["spec"]["restartPolicy"] = json!("Always");
    let spec = &mut greedy["spec"];
    let once_volume = json!({"name": "once", "hostPath": {"path": once}});
    spec["volumes"].as_array_mut().expect("a list").push(once_volume);
    let mount = json!({"name": "once", "mountPath": "/once"});
    spec["containers"][0]["volumeMounts"].as_array_mut().expect("a list").push(mount);
    agent.write("greedy.yaml", &greedy);
    let why = evicted(&agent, "greedy");
    assert_eq!(why, "Usage of EmptyDir volume \"v\" exceeds the limit \"8Mi\". ");
    let first = node.pod("greedy").expect("it is told of")["metadata"]["uid"].clone();
    let again = agent.wait_for("greedy", "another pod that runs", |pod| {
        pod["metadata"]["uid"] != first && pod["status"]["phase"] == "Running"
    });
    let uid = again["metadata"]["uid"].as_str().expect("it has a uid");
    let volume = node.scope().root_dir.join("pods").join(uid).join("volumes/kubernetes.io~empty-dir/v");
    assert_eq!(std::fs::read_dir(volume).expect("the volume is there").count(), 0);
}

#[test]
fn a_container_over_its_limit_ends_its_pod() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    let limit = |limit: &str| json!({"resources": {"limits": {"ephemeral-storage": limit}}});
    let greedy = with(shell("c", "dd if=/dev/zero of=/file bs=1M count=8; exec sleep 1000"), limit("4Mi"));
    let modest = with(shell("d", "exec sleep 1000"), limit("100Mi"));
    agent.write("p.yaml", pod("p", json!({"containers": [greedy, modest]})));
    agent.write("other.yaml", keeper("other"));
    let why = evicted(&agent, "p");
    assert_eq!(why, "Container c exceeded its local ephemeral storage limit \"4Mi\". ");
    agent.wait_for_running("other");
}
