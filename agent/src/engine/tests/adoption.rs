//! Agents that take over what the one before them left: in the same boot, after a reboot, and with their memory gone.

use super::*;
use crate::engine::memory;
use crate::host::PodDir;

fn memory_file(bench: &Bench) -> std::path::PathBuf {
    PodDir::new(&bench.engine.settings().root_dir, "uid-p").unwrap().path().join(memory::FILE)
}

#[tokio::test(start_paused = true)]
async fn another_agent_takes_a_running_pod_over_and_touches_nothing() {
    let bench = agent().await;
    bench.fake.script("i", [exits(1, 0)]);
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]});
    let handle = bench.engine.start(pod("p", spec.clone())).unwrap();
    at(10).await;
    handle.kill().await;
    let (before, calls) = (bench.record(), bench.fake.calls());
    let mut bench = bench.next_agent("").await;
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(100).await;
    assert_eq!(bench.fake.calls(), calls);
    assert_eq!(bench.record(), before, "transition times and all");
    let told = bench.events();
    assert!(told.is_empty(), "{told:?}");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_back_off_goes_on_where_it_was() {
    for without in [false, true] {
        let bench = agent().await;
        bench.fake.script("a", [exits(1, 3)]);
        let handle = bench.engine.start(one("Always")).unwrap();
        // As ever: 0, 1, 12, 33; the next is due at 74.
        at(40).await;
        handle.kill().await;
        if without {
            std::fs::remove_file(memory_file(&bench)).unwrap();
        }
        let bench = bench.next_agent("").await;
        let handle = bench.engine.start(one("Always")).unwrap();
        at(40).await;
        let next = creations(&bench.fake).pop().unwrap();
        let expected = if without { "72 create a 6" } else { "74 create a 4" };
        assert_eq!(next, expected, "without its memory it counts from nothing");
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_no_agent_was_there_is_found_ended() {
    let mut bench = agent().await;
    let handle = bench.engine.start(one("OnFailure")).unwrap();
    at(5).await;
    handle.kill().await;
    bench.fake.exit("p-s0-a0", 0);
    bench.events();
    let mut bench = bench.next_agent("").await;
    let outcome = bench.engine.start(one("OnFailure")).unwrap().outcome().await;
    assert_eq!(outcome.phase, Phase::Succeeded);
    assert_eq!(creations(&bench.fake).len(), 1);
    assert!(bench.events().iter().any(|event| matches!(event, Event::Exited { .. })), "its end is told once");
}

#[tokio::test(start_paused = true)]
async fn an_ended_pod_stays_ended_for_every_agent_and_boot() {
    let bench = agent().await;
    bench.fake.script("a", [exits(1, 3)]);
    let handle = bench.engine.start(one("Never")).unwrap();
    at(5).await;
    handle.kill().await;
    let bench = bench.next_agent("").await;
    let handle = bench.engine.start(one("Never")).unwrap();
    at(5).await;
    handle.kill().await;
    bench.fake.reboot();
    let bench = bench.next_agent("boot-2").await;
    let handle = bench.engine.start(one("Never")).unwrap();
    at(5).await;
    assert_eq!(bench.fake.calls(), Vec::<String>::new());
    assert_eq!(bench.record()["status"]["phase"], "Failed");
    assert_eq!(bench.container(0)["state"]["terminated"]["exitCode"], 3);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_pods_run_again_by_their_policy_and_keep_their_counts() {
    for (policy, expected) in [("Always", true), ("OnFailure", true), ("Never", false)] {
        let bench = agent().await;
        bench.fake.script("i", [exits(0, 0)]);
        bench.fake.script("a", [exits(1, 3), Script::Runs { stops_after: None }]);
        bench.fake.script("done", [exits(1, 0)]);
        let names = json!([{"name": "a"}, {"name": "done"}]);
        let spec = json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": names});
        let handle = bench.engine.start(pod("p", spec.clone())).unwrap();
        at(5).await;
        handle.kill().await;
        bench.fake.reboot();
        std::fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
        let bench = bench.next_agent("boot-2").await;
        let handle = bench.engine.start(pod("p", spec)).unwrap();
        at(5).await;
        let calls = bench.new_calls();
        match policy {
            "Always" => {
                assert_eq!(calls[..4], ["sandbox p 1", "create i 1", "create a 2", "create done 2"], "{policy}")
            }
            "OnFailure" => assert_eq!(calls, ["sandbox p 1", "create i 1", "create a 2"], "{policy}"),
            _ => assert!(calls.is_empty(), "{calls:?}"),
        }
        if expected {
            assert_eq!(bench.container(0)["restartCount"], 2, "{policy}");
            let last = bench.container(0)["lastState"]["terminated"].clone();
            assert_eq!((&last["exitCode"], &last["reason"]), (&json!(255), &json!("ContainerStatusUnknown")));
        }
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_memory_that_cannot_be_read_is_told_and_the_logs_count_instead() {
    for broken in ["{", "{\"version\": 99, \"boot_id\": \"\"}", ""] {
        let bench = agent().await;
        bench.fake.script("a", [exits(1, 3), exits(1, 3), Script::Runs { stops_after: None }]);
        let handle = bench.engine.start(one("Always")).unwrap();
        at(30).await;
        handle.kill().await;
        std::fs::write(memory_file(&bench), broken).unwrap();
        // Logs are the runtime's to write.
        let logs = bench.dir.path().join("logs/default_p_uid-p/a");
        for name in ["0.log", "2.log.20260101-101500.gz", "1.log", "note"] {
            std::fs::write(logs.join(name), "").unwrap();
        }
        bench.fake.reboot();
        let mut bench = bench.next_agent("boot-2").await;
        let handle = bench.engine.start(one("Always")).unwrap();
        at(5).await;
        assert_eq!(bench.new_calls(), ["sandbox p 0", "create a 3"], "{broken}");
        let warned = |event: &Event| matches!(event, Event::Warning(text) if text.contains("memory.json"));
        assert!(bench.events().iter().any(warned), "{broken}");
        handle.stop(Duration::ZERO);
        handle.outcome().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_removes_is_remembered_as_ended() {
    let bench = agent().await;
    bench.fake.script("a", [exits(1, 0)]);
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}, {"name": "b"}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(5).await;
    bench.fake.world().containers.retain(|container| container.status.id != "p-s0-a0");
    at(60).await;
    assert_eq!(creations(&bench.fake).len(), 2, "a succeeded and stays so");
    assert_eq!(bench.container(0)["state"]["terminated"]["exitCode"], 0);
    bench.fake.world().containers.retain(|container| container.status.id != "p-s0-b0");
    at(60).await;
    assert_eq!(creations(&bench.fake).len(), 3);
    assert_eq!(bench.container(1)["restartCount"], 1);
    assert_eq!(bench.container(1)["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_over_agents_and_boots() {
    let bench = agent().await;
    let spec = json!({"activeDeadlineSeconds": 100, "containers": [{"name": "a"}]});
    let handle = bench.engine.start(pod("p", spec.clone())).unwrap();
    at(40).await;
    handle.kill().await;
    let bench = bench.next_agent("").await;
    let handle = bench.engine.start(pod("p", spec.clone())).unwrap();
    // Something has to happen for the time to be written down.
    bench.fake.exit("p-s0-a0", 1);
    at(20).await;
    bench.fake.exit("p-s0-a1", 1);
    at(1).await;
    handle.kill().await;
    bench.fake.reboot();
    let bench = bench.next_agent("boot-2").await;
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(35).await;
    assert_eq!(bench.record()["status"]["phase"], "Running");
    at(10).await;
    assert_eq!(bench.record()["status"]["reason"], "DeadlineExceeded");
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_half_made_by_a_killed_agent_is_finished_by_the_next() {
    let bench = agent().await;
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let handle = bench.engine.start(pod("p", spec.clone())).unwrap();
    // A creation takes 5 ms: one of them is under way.
    tokio::time::sleep(Duration::from_millis(12)).await;
    handle.kill().await;
    let made = bench.fake.world().containers.len();
    assert!(made < 2, "{made}");
    let bench = bench.next_agent("").await;
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(2).await;
    assert_eq!(bench.record()["status"]["phase"], "Running");
    assert_eq!(bench.fake.world().sandboxes.len(), 1);
    let running = |container: &&super::super::fake::Instance| container.status.started_at > 0;
    assert_eq!(bench.fake.world().containers.iter().filter(running).count(), 2);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}
