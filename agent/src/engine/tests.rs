//! Workers against the scripted runtime, on paused time.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

mod adoption;
mod changes;
mod hooks;
mod images;
mod links;
mod orders;

use super::fake::{Fake, Script, key};
use super::notice::Event;
use super::phase::Phase;
use super::record::PodRecord;
use super::*;
use serde_json::{Value, json};

struct Bench {
    fake: Fake,
    engine: Engine,
    notices: mpsc::Receiver<Notice>,
    dir: tempfile::TempDir,
}

async fn bench() -> Bench {
    bench_with(|_| ()).await
}

async fn bench_with(change: impl FnOnce(&mut Options)) -> Bench {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let settings = Settings {
        root_dir: dir.path().join("root"),
        state_dir: dir.path().join("state"),
        log_dir: dir.path().join("logs"),
        cgroup_root: "test".into(),
        ..Settings::default()
    };
    let mut options = Options {
        settings,
        objects: Objects::default(),
        backoff: Policy::default(),
        pod_cgroups: None,
        owner: "run:test".into(),
        fail_fast: false,
        keep: false,
        store: None,
        network: None,
        csi: None,
        devices: None,
    };
    change(&mut options);
    let (sender, notices) = mpsc::channel(1024);
    let engine = Engine::new(Cri::new(fake.channel()), options, sender).await.unwrap();
    Bench { fake, engine, notices, dir }
}

/// One whose pods outlive it.
async fn agent() -> Bench {
    bench_with(|options| options.keep = true).await
}

fn pod(name: &str, spec: Value) -> Arc<Pod> {
    let uid = key(name).uid;
    let mut spec = spec;
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = container.get("image").cloned().unwrap_or_else(|| json!("i"));
            let policy = container.get("imagePullPolicy").cloned().unwrap_or_else(|| json!("IfNotPresent"));
            container["imagePullPolicy"] = policy;
        }
    }
    let metadata = json!({"name": name, "namespace": "default", "uid": uid});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn one(policy: &str) -> Arc<Pod> {
    pod("p", json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 30, "containers": [{"name": "a"}]}))
}

fn exits(seconds: u64, code: i32) -> Script {
    let reason = if code == 0 { "Completed" } else { "Error" };
    Script::Exits { after: Duration::from_secs(seconds), code, reason }
}

fn creations(fake: &Fake) -> Vec<String> {
    fake.calls().into_iter().filter(|call| call.contains(" create ")).collect()
}

impl Bench {
    /// Another agent on the same node, in this boot or the next.
    async fn next_agent(self, boot: &str) -> Bench {
        let mut options = self.engine.inner.options.clone();
        options.settings.boot_id = boot.to_owned();
        let (sender, notices) = mpsc::channel(1024);
        // Paused time goes on where it was; the kernel's does not know of it.
        let clock = self.engine.clock();
        let engine = Engine::at(clock, Cri::new(self.fake.channel()), options, sender).await.unwrap();
        Bench { engine, notices, ..self }
    }

    /// What was asked of the runtime since this was asked last, without its second.
    fn new_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.world().calls).into_iter().map(|(_, call)| call).collect()
    }

    fn container(&self, index: usize) -> Value {
        self.record()["status"]["containerStatuses"][index].clone()
    }

    fn record(&self) -> Value {
        let path = record::directory(&self.engine.settings().state_dir).join("uid-p.json");
        serde_json::to_value(PodRecord::read(&path).unwrap().pod).unwrap()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).map(|notice| notice.event).collect()
    }
}

async fn at(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_restart_table_holds() {
    for policy in ["Always", "OnFailure", "Never"] {
        for code in [0, 3, 137] {
            let bench = bench().await;
            bench.fake.script("a", [exits(1, code), exits(1000, 0)]);
            let handle = bench.engine.start(one(policy)).unwrap();
            if policy == "Always" || (policy == "OnFailure" && code != 0) {
                at(5).await;
                assert_eq!(creations(&bench.fake), ["0 create a 0", "1 create a 1"], "{policy} {code}");
                assert_eq!(bench.record()["status"]["phase"], "Running");
                assert_eq!(bench.record()["status"]["containerStatuses"][0]["restartCount"], 1);
                handle.stop(Duration::ZERO);
                assert_eq!(handle.outcome().await.failure, None, "it was run again, and the stop does not count");
            } else {
                let outcome = handle.outcome().await;
                assert_eq!(outcome.phase, if code == 0 { Phase::Succeeded } else { Phase::Failed });
                assert_eq!(outcome.failure.map(|failure| failure.code), (code != 0).then_some(code));
                assert_eq!(creations(&bench.fake), ["0 create a 0"], "{policy} {code}");
                assert_eq!(bench.record()["status"]["phase"], if code == 0 { "Succeeded" } else { "Failed" });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn restarts_come_after_0_10_20_40_seconds_and_are_told() {
    let mut bench = bench().await;
    bench.fake.script("a", [exits(1, 3)]);
    let handle = bench.engine.start(one("Always")).unwrap();
    at(78).await;
    let starts = ["0 create a 0", "1 create a 1", "12 create a 2", "33 create a 3", "74 create a 4"];
    assert_eq!(creations(&bench.fake), starts);
    let state = bench.record()["status"]["containerStatuses"][0].clone();
    assert_eq!(state["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(state["lastState"]["terminated"]["exitCode"], 3);
    let delays: Vec<u64> = bench
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Waiting { delay, .. } => Some(delay.as_secs()),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [10, 20, 40, 80]);
    assert_eq!(bench.fake.world().containers.len(), 2, "the newest and the one before it are kept");
    handle.stop(Duration::ZERO);
    let outcome = handle.outcome().await;
    assert_eq!(outcome.failure.map(|failure| failure.code), Some(3), "it had failed before the stop");
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_in_order_and_containers_after_them() {
    let bench = bench().await;
    for name in ["i", "j"] {
        bench.fake.script(name, [exits(2, 0)]);
    }
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}, {"name": "b"}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(1).await;
    let status = bench.record()["status"].clone();
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    at(10).await;
    assert_eq!(creations(&bench.fake), ["0 create i 0", "2 create j 0", "4 create a 0", "4 create b 0"]);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_init_container_fails_a_never_pod_with_its_code() {
    let bench = bench().await;
    bench.fake.script("i", [exits(1, 7)]);
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let outcome = bench.engine.start(pod("p", spec)).unwrap().outcome().await;
    assert_eq!((outcome.phase, outcome.failure.map(|failure| failure.code)), (Phase::Failed, Some(7)));
    assert_eq!(creations(&bench.fake), ["0 create i 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_made_up_for_by_the_relist() {
    let bench = bench().await;
    bench.fake.world().lossy = true;
    bench.fake.script("a", [exits(3, 0)]);
    let handle = bench.engine.start(one("Never")).unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(40), handle.outcome()).await.unwrap();
    assert_eq!(outcome.phase, Phase::Succeeded);
    let ended = bench.fake.calls().last().unwrap().clone();
    assert_eq!(ended, "30 stop-sandbox p-s0");
}

#[tokio::test(start_paused = true)]
async fn stopping_gives_the_grace_and_then_the_sandbox_back() {
    let bench = bench().await;
    bench.fake.script("a", [Script::Runs { stops_after: Some(Duration::from_secs(4)) }]);
    let handle = bench.engine.start(one("Always")).unwrap();
    at(1).await;
    handle.stop(Duration::from_secs(30));
    at(1).await;
    assert!(bench.record()["metadata"]["deletionTimestamp"].is_string());
    let outcome = handle.outcome().await;
    assert_eq!(outcome.failure, None);
    assert_eq!(bench.fake.calls()[2..], ["1 stop p-s0-a0 30", "5 stop-sandbox p-s0"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_shortens_the_first() {
    let bench = bench().await;
    bench.fake.script("a", [Script::Runs { stops_after: None }]);
    let handle = bench.engine.start(one("Always")).unwrap();
    at(1).await;
    handle.stop(Duration::from_secs(30));
    at(2).await;
    handle.stop(Duration::ZERO);
    handle.outcome().await;
    assert_eq!(bench.fake.calls()[2..], ["1 stop p-s0-a0 30", "3 stop p-s0-a0 0", "3 stop-sandbox p-s0"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_shim_gets_a_new_sandbox_unless_nothing_may_run_again() {
    let mut bench = bench().await;
    let handle = bench.engine.start(one("Always")).unwrap();
    at(1).await;
    bench.fake.kill_shims();
    at(1).await;
    let calls = bench.fake.calls();
    assert_eq!(calls[2..], ["1 stop-sandbox p-s0", "1 sandbox p 1", "1 create a 1"]);
    assert!(bench.events().contains(&Event::SandboxLost));
    handle.stop(Duration::ZERO);
    handle.outcome().await;

    let never = bench_with(|_| ()).await;
    let handle = never.engine.start(one("Never")).unwrap();
    at(1).await;
    never.fake.kill_shims();
    let outcome = handle.outcome().await;
    assert_eq!((outcome.phase, outcome.failure.map(|failure| failure.code)), (Phase::Failed, Some(255)));
}

#[tokio::test(start_paused = true)]
async fn an_absent_image_is_waited_for_or_ends_the_run() {
    let spec = json!({"containers": [{"name": "a", "image": "gone"}]});
    let mut patient = bench().await;
    let handle = patient.engine.start(pod("p", spec.clone())).unwrap();
    at(1).await;
    let waiting = patient.record()["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(
        (&waiting["reason"], &waiting["message"]),
        (&json!("ErrImagePull"), &json!("no image \"gone\"; there are: i"))
    );
    patient.fake.world().images.insert("gone".into());
    at(10).await;
    assert_eq!(creations(&patient.fake), ["10 create a 0"]);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
    assert!(patient.events().iter().any(|event| matches!(event, Event::Failed { fatal: false, .. })));

    let hasty = bench_with(|options| options.fail_fast = true).await;
    let outcome = hasty.engine.start(pod("p", spec)).unwrap().outcome().await;
    assert_eq!(outcome.fatal.map(|failure| failure.reason).as_deref(), Some("ErrImagePull"));
    assert_eq!(hasty.record()["status"]["phase"], "Failed");
}

#[tokio::test(start_paused = true)]
async fn failed_creations_are_tried_again_with_back_off() {
    let bench = bench().await;
    let broken = || Script::FailsToCreate(Status::internal("no space"));
    bench.fake.script("a", [broken(), broken(), exits(1000, 0)]);
    bench.fake.world().sandbox_failures.push_back(Status::internal("no address"));
    let handle = bench.engine.start(one("Always")).unwrap();
    at(50).await;
    let expected = ["0 sandbox p 0", "10 sandbox p 0", "10 create a 0", "20 create a 0", "40 create a 0"];
    assert_eq!(bench.fake.calls(), expected);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_start_is_an_end_with_its_code() {
    let bench = bench_with(|options| options.fail_fast = true).await;
    bench.fake.script("a", [Script::FailsToStart { code: 127 }]);
    let outcome = bench.engine.start(one("Never")).unwrap().outcome().await;
    assert_eq!((outcome.failure.map(|failure| failure.code), outcome.fatal), (Some(127), None));
    assert_eq!(bench.record()["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "StartError");
}

#[tokio::test(start_paused = true)]
async fn run_as_non_root_is_refused_before_the_container_is_made() {
    let bench = bench_with(|options| options.fail_fast = true).await;
    bench.fake.world().image_user = (None, "nginx".into());
    let spec = json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]});
    let fatal = bench.engine.start(pod("p", spec)).unwrap().outcome().await.fatal.unwrap();
    assert_eq!(fatal.reason, "CreateContainerConfigError");
    assert!(fatal.message.contains("non-numeric user (nginx)"), "{}", fatal.message);
    assert!(creations(&bench.fake).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_few_creations_happen_at_a_time() {
    let bench = bench().await;
    let names: Vec<String> = (0..40).map(|number| format!("p{number}")).collect();
    let spec = json!({"containers": [{"name": "a"}]});
    let handles: Vec<_> = names.iter().map(|name| bench.engine.start(pod(name, spec.clone())).unwrap()).collect();
    at(5).await;
    assert_eq!(creations(&bench.fake).len(), names.len());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert_eq!(bench.fake.world().most_creations, names.len().min(2 * processors));
    for handle in handles {
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_pod_leaves_nothing() {
    let bench = bench().await;
    bench.fake.script("a", [exits(1, 0)]);
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}], "hostAliases": [{"ip": "1.1.1.1"}]});
    let pod = pod("p", spec);
    bench.engine.start(pod.clone()).unwrap().outcome().await;
    let hosts = bench.dir.path().join("root/pods/uid-p/etc-hosts");
    assert!(std::fs::read_to_string(&hosts).unwrap().contains("1.1.1.1"));
    assert_eq!(bench.engine.remove(&pod).await, Vec::<String>::new());
    assert!(bench.fake.world().sandboxes.is_empty() && bench.fake.world().containers.is_empty());
    for directory in ["root/pods", "logs", "state/pods"] {
        assert_eq!(std::fs::read_dir(bench.dir.path().join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_container_gets_its_mounts_names_and_log() {
    let mut bench = bench().await;
    let handle = bench.engine.start(one("Always")).unwrap();
    at(1).await;
    let mounts: BTreeMap<String, String> = {
        let world = bench.fake.world();
        let config = &world.containers[0].config;
        assert_eq!(config.log_path, "a/0.log");
        assert_eq!(config.image.as_ref().unwrap().image, "sha256:i");
        config.mounts.iter().map(|mount| (mount.container_path.clone(), mount.host_path.clone())).collect()
    };
    assert!(mounts["/etc/hosts"].ends_with("root/pods/uid-p/etc-hosts"));
    let message = mounts["/dev/termination-log"].clone();
    std::fs::write(&message, "last words").unwrap();
    let log = bench.dir.path().join("logs/default_p_uid-p/a/0.log");
    let started = Event::Started { container: "a".into(), attempt: 0, log };
    assert!(bench.events().contains(&started));
    handle.stop(Duration::from_secs(5));
    handle.outcome().await;
    let terminated = bench.record()["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!((&terminated["message"], &terminated["exitCode"]), (&json!("last words"), &json!(143)));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_listens_says_where_before_it_starts_and_its_containers_know() {
    let mut bench = bench().await;
    let env = json!([{"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}]);
    let ports = json!([{"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]);
    let spec = json!({"restartPolicy": "Always", "containers": [{"name": "a", "env": env, "ports": ports}]});
    bench.fake.script("a", [exits(1, 0)]);
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(30).await;
    let (ips, host_ports) = (vec!["10.9.0.2".to_owned(), "fd09::2".to_owned()], vec!["5353/udp".to_owned()]);
    let events = bench.events();
    assert_eq!(events[0], Event::Reachable { ips, host_ports });
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Reachable { .. })).count(), 1);
    assert!(events.iter().filter(|event| matches!(event, Event::Started { .. })).count() > 1);
    {
        let world = bench.fake.world();
        let config = &world.containers[0].config;
        assert_eq!(config.envs.iter().map(|env| env.value.as_slice()).collect::<Vec<_>>(), [b"10.9.0.2,fd09::2"]);
        let hosts = config.mounts.iter().find(|mount| mount.container_path == "/etc/hosts").unwrap();
        let hosts = std::fs::read_to_string(&hosts.host_path).unwrap();
        assert!(hosts.contains("\n10.9.0.2\tp\nfd09::2\tp\n"), "{hosts}");
    }
    handle.stop(Duration::from_secs(5));
    handle.outcome().await;
    assert_eq!(bench.record()["status"]["podIPs"][1]["ip"], "fd09::2");
}
