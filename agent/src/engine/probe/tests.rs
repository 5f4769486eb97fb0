#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::channel::Cri;
use crate::engine::fake::{Exec, Fake};
use crate::engine::view::{ContainerView, Exit, State};

/// One pod with one container `a`, whose probes run commands of a runtime that is none.
struct World {
    fake: Fake,
    pod: Pod,
    probes: Probes,
    bell: Arc<Notify>,
}

impl World {
    /// `probes` are the container's fields.
    fn new(probes: Value) -> Self {
        let fake = Fake::new();
        let bell = Arc::new(Notify::new());
        let actions = Actions::new(Cri::new(fake.channel()));
        let probes_of_pod = Probes::new(actions, bell.clone(), Clock::start(), PodCounts::default());
        let mut world = World { fake, pod: Pod::default(), probes: probes_of_pod, bell };
        world.set(probes);
        world
    }

    fn set(&mut self, probes: Value) {
        let mut container = json!({"name": "a", "image": "i"});
        container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
        self.pod = serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap();
    }

    /// A look at which the instances `running` run, and `ended` has ended.
    fn look_at(&mut self, running: &[&str], ending: bool) {
        let seen = |id: &&str| ContainerView {
            id: (*id).to_owned(),
            name: "a".into(),
            state: State::Running,
            ..ContainerView::default()
        };
        let mut containers: Vec<_> = running.iter().map(seen).collect();
        containers.push(ContainerView { state: State::Exited(Exit::default()), ..seen(&"before") });
        let view = PodStatusView::new(vec![], containers, Default::default());
        let ips = ["10.9.0.2".to_owned()];
        self.probes.update(&Observed { pod: &self.pod, view: &view, ips: &ips, ending });
    }

    /// A look at which `a0` runs, as every look of its worker finds it.
    fn look(&mut self) {
        self.look_at(&["a0"], false);
    }

    /// The worker of a new pod looks before it starts anything.
    fn begin(&mut self) {
        self.look_at(&[], false);
        self.look();
    }

    fn result(&self) -> ProbeResult {
        self.probes.results().remove("a0").unwrap()
    }

    /// What is told of, in a few words.
    fn told(&self) -> Vec<String> {
        let events = self.probes.take_events().into_iter();
        events
            .map(|event| match event {
                Event::Unhealthy { message, .. } => message,
                Event::ProbeWarning { message, .. } => format!("warning: {message}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// The seconds at which a command was run.
    fn seconds_of(&self, command: &str) -> Vec<u64> {
        let world = self.fake.world();
        let of = world.calls.iter().filter(|(_, call)| call.split(' ').nth(2) == Some(command));
        of.map(|(second, _)| *second).collect()
    }

    /// Whether the bell has been rung since this was asked last.
    async fn rung(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.bell.notified()).await.is_ok()
    }
}

fn exec(command: &str) -> Value {
    json!({"exec": {"command": [command]}})
}

/// A probe that runs `command`, with more fields.
fn probe(command: &str, more: Value) -> Value {
    let mut probe = exec(command);
    probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    probe
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
    // The timers of this very second come first.
    sleep(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_without_probes_has_started_and_is_asked_nothing() {
    let mut world = World::new(json!({}));
    world.begin();
    assert_eq!(world.result(), ProbeResult { started: true, ready: None, failed: None });
    seconds(100).await;
    assert!(world.fake.calls().is_empty() && !world.rung().await);
    world.look_at(&[], false);
    assert_eq!(world.probes.results(), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_comes_after_the_initial_delay_and_the_others_every_period() {
    let more = json!({"initialDelaySeconds": 7, "periodSeconds": 5});
    let mut world = World::new(json!({"readinessProbe": probe("ok", more)}));
    world.begin();
    seconds(6).await;
    assert_eq!((world.seconds_of("ok"), world.result().ready), (vec![], Some(false)));
    seconds(20).await;
    assert_eq!((world.seconds_of("ok"), world.result().ready), (vec![7, 12, 17, 22], Some(true)));
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_kubernetes() {
    let mut world = World::new(json!({"livenessProbe": exec("slow")}));
    world.fake.execs("slow", [Exec::Ends { after: Duration::from_secs(60), code: 0, output: "" }]);
    world.begin();
    seconds(22).await;
    assert_eq!(world.seconds_of("slow"), [0, 10, 20]);
    assert_eq!(
        world.result().failed,
        Some(ProbeFailure { kind: Kind::Liveness, message: "command \"slow\" timed out".into() })
    );
}

#[tokio::test(start_paused = true)]
async fn the_bell_rings_for_what_changes_and_not_for_each_answer() {
    let more = json!({"periodSeconds": 1, "failureThreshold": 2});
    let mut world = World::new(json!({"readinessProbe": probe("p", more)}));
    let bad = Exec::Ends { after: Duration::ZERO, code: 1, output: "nobody home" };
    let (good, bad) = (|| Exec::code(0), || bad.clone());
    world.fake.execs("p", [bad(), bad(), bad(), good(), good(), bad(), good(), bad(), bad(), bad(), good()]);
    world.begin();
    let mut rung = Vec::new();
    let mut told = Vec::new();
    let mut ready = Vec::new();
    for second in 0..11 {
        seconds(u64::from(second > 0)).await;
        rung.push(world.rung().await);
        ready.push(world.result().ready.unwrap());
        told.push(world.told());
    }
    let (yes, no) = (true, false);
    assert_eq!(ready, [no, no, no, yes, yes, yes, yes, yes, no, no, yes]);
    assert_eq!(rung, [yes, no, no, yes, no, yes, no, yes, yes, no, yes]);
    let first = vec!["Readiness probe failed: nobody home".to_owned()];
    let again = vec!["Readiness probe failed 2 times in a row: nobody home".to_owned()];
    let expected = [first.clone(), vec![], vec![], vec![], vec![], first.clone(), vec![], first, again, vec![], vec![]];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn the_other_probes_wait_for_the_startup_probe_and_it_is_not_asked_again() {
    let mut world = World::new(json!({
        "startupProbe": probe("start", json!({"periodSeconds": 3, "failureThreshold": 10})),
        "readinessProbe": probe("ready", json!({"periodSeconds": 2})),
        "livenessProbe": probe("live", json!({"periodSeconds": 4, "initialDelaySeconds": 11})),
    }));
    world.fake.execs("start", [Exec::code(1), Exec::code(1), Exec::code(0)]);
    world.begin();
    seconds(5).await;
    assert_eq!(world.result(), ProbeResult { started: false, ready: Some(false), failed: None });
    assert!(world.seconds_of("ready").is_empty() && world.seconds_of("live").is_empty());
    seconds(1).await;
    assert_eq!(world.result(), ProbeResult { started: true, ready: Some(true), failed: None });
    world.look();
    seconds(10).await;
    assert_eq!(world.seconds_of("start"), [0, 3, 6]);
    assert_eq!(world.seconds_of("ready"), [6, 8, 10, 12, 14, 16]);
    assert_eq!(world.seconds_of("live"), [11, 15]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_never_starts_is_given_up_and_asked_no_more() {
    let more = json!({"periodSeconds": 1, "failureThreshold": 3});
    let mut world = World::new(json!({"startupProbe": probe("start", more), "livenessProbe": exec("live")}));
    world.fake.execs("start", [Exec::Ends { after: Duration::ZERO, code: 1, output: "not yet" }]);
    world.begin();
    seconds(30).await;
    assert_eq!(world.seconds_of("start"), [0, 1, 2]);
    let failed = ProbeFailure { kind: Kind::Startup, message: "not yet".into() };
    assert_eq!(world.result(), ProbeResult { started: false, ready: None, failed: Some(failed) });
    let told = world.told();
    assert_eq!(told, ["Startup probe failed: not yet", "Startup probe failed 3 times in a row: not yet"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_failed_is_asked_no_more_and_the_next_one_begins_anew() {
    let more = json!({"periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 5});
    let mut world = World::new(json!({"livenessProbe": probe("live", more)}));
    world.fake.execs("live", [Exec::code(1), Exec::code(0)]);
    world.begin();
    seconds(9).await;
    assert_eq!(world.seconds_of("live"), [5]);
    assert!(world.result().failed.is_some());
    world.look_at(&["a1"], false);
    assert_eq!(world.probes.results().keys().collect::<Vec<_>>(), ["a1"]);
    seconds(7).await;
    assert_eq!(world.seconds_of("live"), [5, 14, 15, 16]);
    assert_eq!(world.probes.results()["a1"].failed, None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_is_asked_for_its_readiness_alone() {
    let every_second = json!({"periodSeconds": 1, "failureThreshold": 1});
    let mut world = World::new(json!({
        "readinessProbe": probe("ready", every_second.clone()), "livenessProbe": probe("live", every_second)
    }));
    world.begin();
    seconds(2).await;
    assert_eq!(world.seconds_of("live"), [0, 1, 2]);
    world.fake.execs("live", [Exec::code(1)]);
    world.fake.execs("ready", [Exec::code(1)]);
    world.look_at(&["a0"], true);
    seconds(2).await;
    assert_eq!(world.seconds_of("live"), [0, 1, 2]);
    assert_eq!(world.result(), ProbeResult { started: true, ready: Some(false), failed: None });
    assert_eq!(world.seconds_of("ready"), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_cannot_be_judged_change_nothing_and_are_told_once() {
    let more = json!({"periodSeconds": 1, "failureThreshold": 1});
    let mut world = World::new(json!({"livenessProbe": probe("live", more)}));
    world.fake.execs("live", [Exec::Broken("no shim")]);
    world.begin();
    seconds(3).await;
    // Each is tried three times.
    assert_eq!(world.seconds_of("live"), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    assert_eq!(world.result().failed, None);
    let why = "cannot run the command in container a: no shim";
    assert_eq!(world.told(), [format!("Liveness probe errored and resulted in unknown state: {why}")]);
    world.fake.execs("live", [Exec::code(1)]);
    seconds(1).await;
    assert!(world.result().failed.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_changes_keeps_what_it_has_proved() {
    let every = |period: u64| json!({"periodSeconds": period, "failureThreshold": 2});
    let mut world = World::new(json!({"readinessProbe": probe("old", every(2))}));
    world.begin();
    seconds(3).await;
    assert_eq!(world.result().ready, Some(true));
    world.set(json!({"readinessProbe": probe("new", every(1)), "livenessProbe": probe("live", every(3))}));
    world.look();
    assert_eq!(world.result().ready, Some(true));
    world.fake.execs("new", [Exec::code(1)]);
    seconds(0).await;
    assert_eq!(world.result().ready, Some(true));
    seconds(1).await;
    assert_eq!(world.result().ready, Some(false));
    assert_eq!((world.seconds_of("old"), world.seconds_of("live")), (vec![0, 2], vec![3]));
    world.set(json!({}));
    world.look();
    seconds(10).await;
    assert_eq!(world.result(), ProbeResult { started: true, ready: None, failed: None });
    assert_eq!(world.seconds_of("live"), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_that_is_taken_out_holds_up_nothing() {
    let mut world = World::new(json!({"startupProbe": exec("start"), "readinessProbe": exec("ready")}));
    world.fake.execs("start", [Exec::code(1)]);
    world.begin();
    seconds(1).await;
    world.set(json!({"readinessProbe": exec("ready")}));
    world.look();
    seconds(0).await;
    assert_eq!(world.result(), ProbeResult { started: true, ready: Some(true), failed: None });
}

/// What a record says of a container that another process started.
fn record(started: bool, ready: bool) -> PodStatus {
    serde_json::from_value(json!({"containerStatuses": [
        {"name": "a", "containerID": "fake://a0", "started": started, "ready": ready, "image": "", "imageID": "", "restartCount": 0}
    ]}))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_new_process_takes_over_what_was_known_and_asks_each_at_its_own_time() {
    let mut world = World::new(json!({
        "startupProbe": exec("start"), "readinessProbe": exec("ready"), "livenessProbe": exec("live"),
    }));
    world.probes.recall(&record(true, true));
    world.look();
    assert_eq!(world.result(), ProbeResult { started: true, ready: Some(true), failed: None });
    world.fake.execs("ready", [Exec::code(1)]);
    seconds(40).await;
    assert!(world.seconds_of("start").is_empty());
    let (ready, live) = (world.seconds_of("ready"), world.seconds_of("live"));
    assert!(ready[0] < 10 && live[0] < 10 && ready[1] == ready[0] + 10, "{ready:?} {live:?}");
    assert_eq!(world.result().ready, Some(false));
}

#[tokio::test(start_paused = true)]
async fn the_first_asked_of_many_adopted_containers_are_spread_over_a_period() {
    let mut world = World::new(json!({"livenessProbe": exec("live")}));
    let ids: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
    world.look_at(&ids.iter().map(String::as_str).collect::<Vec<_>>(), false);
    sleep(Duration::from_millis(9_990)).await;
    let mut first = world.seconds_of("live");
    assert!(first.len() > 40, "{first:?}");
    first.dedup();
    assert_eq!(first, (0..10).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_had_not_started_waits_for_its_startup_probe_with_a_new_process_too() {
    let mut world = World::new(json!({"startupProbe": exec("start"), "readinessProbe": exec("ready")}));
    world.probes.recall(&record(false, false));
    world.look();
    assert_eq!(world.result(), ProbeResult { started: false, ready: Some(false), failed: None });
    seconds(20).await;
    assert_eq!(world.result(), ProbeResult { started: true, ready: Some(true), failed: None });
}

#[tokio::test(start_paused = true)]
async fn no_more_commands_run_at_a_time_than_the_bound_and_waiting_counts_against_none() {
    let fake = Fake::new();
    let slow = Exec::Ends { after: Duration::from_secs(3), code: 0, output: "" };
    fake.execs("slow", [slow]);
    let actions = Actions::new(Cri::new(fake.channel()));
    let exec: k8s_openapi::api::core::v1::ExecAction = serde_json::from_value(json!({"command": ["slow"]})).unwrap();
    let runs = (0..80).map(|_| {
        let (actions, exec) = (actions.clone(), exec.clone());
        tokio::spawn(async move {
            let subject = crate::engine::action::Subject::default();
            actions.probe_exec(&subject, &exec, Duration::from_secs(4)).await.unwrap()
        })
    });
    let answers = futures_util::future::join_all(runs).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == crate::engine::action::Answer::Passed));
    let at = |second: u64| fake.world().calls.iter().filter(|(seen, _)| *seen == second).count();
    assert_eq!((at(0), at(3), at(6)), (32, 32, 16));
}

#[tokio::test(start_paused = true)]
async fn timers_end_with_their_pod() {
    let mut world = World::new(json!({"livenessProbe": exec("live")}));
    world.begin();
    seconds(1).await;
    let World { fake, probes, .. } = world;
    drop(probes);
    seconds(100).await;
    assert_eq!(fake.calls().len(), 1);
}
