//! The lives of sandboxes and containers as a kubelet sees them.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use e2e::cri::proto::{Signal as StopSignal, *};
use e2e::cri::{Cri, Endpoint, map};
use e2e::{BUSYBOX, Node, deadline, need};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

/// A script that says when it is asked to end, and does not.
const DEAF: &str = "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done";

fn stop_in_background(cri: &Cri, id: &str, timeout: i64) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
    let mut client = cri.client().runtime();
    let request = StopContainerRequest { container_id: id.into(), timeout };
    cri.client().spawn(async move { client.stop_container(request).await.map(drop) })
}

#[test]
fn a_name_is_given_once() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let mut client = cri.client().runtime();
            let request = RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
            cri.client().spawn(async move { client.run_pod_sandbox(request).await })
        })
        .collect();
    let answers = calls.into_iter().map(|call| cri.client().block_on(call).expect("it does not panic"));
    let (won, lost): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    let sandbox = won.into_iter().next().expect("one").expect("it is one").into_inner().pod_sandbox_id;
    for error in lost {
        let error = error.expect_err("it has lost");
        assert!(error.code() == Code::FailedPrecondition && error.message().contains(&sandbox), "{error}");
    }
    // Another attempt is another name; so is the same one after it was removed.
    let mut next = pod.clone();
    next.metadata.as_mut().expect("set").attempt = 1;
    cri.run_pod(&next);
    cri.remove_pod(&sandbox);
    let sandbox = cri.run_pod(&pod);
    let container = cri.container("c", BUSYBOX, &["sleep", "1000"]);
    let id = cri.create_container(&sandbox, &pod, &container);
    let error = cri.try_create_container(&sandbox, &pod, &container).expect_err("it exists");
    assert!(error.code() == Code::FailedPrecondition && error.message().contains(&id), "{error}");
    let mut next = container.clone();
    next.metadata.as_mut().expect("set").attempt = 1;
    cri.create_container(&sandbox, &pod, &next);
    cri.remove_container(&id);
    cri.create_container(&sandbox, &pod, &container);
}

#[test]
fn stopping_and_removing_are_done_again_without_harm() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let id = cri.run_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["sleep", "1000"]));
    for unknown in ["0".repeat(64), "nothing".into()] {
        cri.stop_container(&unknown, 0);
        cri.remove_container(&unknown);
        cri.remove_pod(&unknown);
        let status = ContainerStatusRequest { container_id: unknown.clone(), verbose: false };
        assert_eq!(cri.client().container_status(status).expect_err("it is unknown").code(), Code::NotFound);
        let status = PodSandboxStatusRequest { pod_sandbox_id: unknown, verbose: false };
        assert_eq!(cri.client().pod_sandbox_status(status).expect_err("it is unknown").code(), Code::NotFound);
    }
    for timeout in [-1, 0, i64::MAX, i64::MIN] {
        cri.stop_container(&id, timeout);
    }
    assert_eq!(cri.status_of(&id).exit_code, 137);
    let error = cri.try_start_container(&id).expect_err("it has ended");
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    // A sandbox that was stopped has no address, and takes no container.
    assert!(!cri.pod_status(&sandbox).network.expect("it has one").ip.is_empty());
    cri.stop_pod(&sandbox);
    cri.stop_pod(&sandbox);
    let status = cri.pod_status(&sandbox);
    assert_eq!(status.state, PodSandboxState::SandboxNotready as i32);
    assert_eq!(status.network.expect("it is told").ip, "");
    let late = cri.container("late", BUSYBOX, &["true"]);
    let error = cri.try_create_container(&sandbox, &pod, &late).expect_err("it is stopped");
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    cri.remove_container(&id);
    cri.remove_container(&id);
    // One that runs is stopped first, with what is in it.
    let other = cri.pod("other");
    let running = cri.run_pod(&other);
    let id = cri.run_container(&running, &other, &cri.container("c", BUSYBOX, &["sleep", "1000"]));
    let remove = || cri.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: running.clone() });
    remove().expect("it is removed");
    remove().expect("it is gone");
    let status = ContainerStatusRequest { container_id: id, verbose: false };
    assert_eq!(cri.client().container_status(status).expect_err("it is gone").code(), Code::NotFound);
}

#[test]
fn a_program_that_is_not_there_is_a_start_error() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let id = cri.create_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["/no/such/program"]));
    let error = cri.try_start_container(&id).expect_err("it is not there");
    assert!(error.message().contains("/no/such/program"), "{error}");
    let status = cri.status_of(&id);
    assert_eq!(status.state, ContainerState::ContainerExited as i32);
    assert_eq!((status.reason.as_str(), status.exit_code), ("StartError", 127));
    assert!(status.message.contains("/no/such/program"), "{status:#?}");
    assert!(status.created_at > 0 && status.finished_at >= status.created_at, "{status:#?}");
    assert_eq!(cri.try_start_container(&id).expect_err("it has ended").code(), Code::FailedPrecondition);
}

#[test]
fn the_shortest_of_several_stops_counts_and_the_program_is_asked_once() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let container = cri.container("c", BUSYBOX, &["sh", "-c", DEAF]);
    let id = cri.run_container(&sandbox, &pod, &container);
    cri.wait_for_log(&pod, &container, "up");
    let began = Instant::now();
    let long = stop_in_background(&cri, &id, 10_000);
    cri.wait_for_log(&pod, &container, "asked");
    let short = stop_in_background(&cri, &id, 1);
    for stop in [long, short] {
        cri.client().block_on(stop).expect("it does not panic").expect("it is stopped");
    }
    assert!(began.elapsed() < Duration::from_secs(5000), "the longer grace was waited for");
    let status = cri.status_of(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    let asked = cri.logs(&pod, &container).iter().filter(|entry| entry.text == "asked").count();
    assert_eq!(asked, 1);
}

#[test]
fn a_stop_whose_caller_has_gone_is_not_undone() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let container = cri.container("c", BUSYBOX, &["sh", "-c", DEAF]);
    let id = cri.run_container(&sandbox, &pod, &container);
    cri.wait_for_log(&pod, &container, "up");
    let stop = stop_in_background(&cri, &id, 2);
    cri.wait_for_log(&pod, &container, "asked");
    stop.abort();
    assert_eq!(cri.wait_for_state(&id, ContainerState::ContainerExited).exit_code, 137);
}

#[test]
fn a_log_goes_on_in_a_new_file() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let mut pod = cri.pod("p");
    // It is made where it is missing.
    pod.log_directory = format!("{}/deep/down", pod.log_directory);
    let sandbox = cri.run_pod(&pod);
    let script = "i=0; while :; do i=$((i+1)); echo line $i; done";
    let container = cri.container("c", BUSYBOX, &["sh", "-c", script]);
    let id = cri.run_container(&sandbox, &pod, &container);
    cri.wait_for_log(&pod, &container, "line 100");
    let (path, old) = (cri.log_file(&pod, &container), cri.log_file(&pod, &container).with_extension("1"));
    let reopen = || cri.client().reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() });
    std::fs::rename(&path, &old).expect("it is there");
    reopen().expect("it runs");
    // From the answer on nothing comes to the old one, and its last line is whole.
    let first = std::fs::read(&old).expect("it is there");
    assert!(first.ends_with(b"\n"));
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
    let number = |text: &str| text.strip_prefix("line ").expect("a line").parse::<u64>().expect("a number");
    let deadline = Instant::now() + deadline();
    while cri.logs(&pod, &container).is_empty() {
        assert!(Instant::now() < deadline, "the new log stays empty");
        std::thread::sleep(Duration::from_millis(10));
    }
    cri.stop_container(&id, 0);
    assert_eq!(std::fs::read(&old).expect("it is there"), first);
    let last = number(&e2e::cri::Entry::read(&old).last().expect("some").text);
    assert_eq!(number(&cri.logs(&pod, &container)[0].text), last + 1, "no line is lost");
    let error = reopen().expect_err("it has ended");
    assert!(error.code() == Code::FailedPrecondition && error.message().contains("not running"), "{error}");
    for (name, log) in [("up", "../../escaped.log"), ("root", "/escaped.log")] {
        let container = ContainerConfig { log_path: log.into(), ..cri.container(name, BUSYBOX, &["true"]) };
        let error = cri.try_create_container(&sandbox, &pod, &container).expect_err("it leads elsewhere");
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
}

#[test]
fn a_dead_shim_leaves_a_sandbox_that_is_not_ready() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let id = cri.run_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["sleep", "1000"]));
    let mut events = cri.client().events().expect("events");
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: true };
    let answer = cri.client().pod_sandbox_status(request).expect("it is there");
    assert!(answer.timestamp > 0);
    assert_eq!(answer.containers_statuses.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).expect("it is JSON");
    let shim = info["shimPid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).expect("a process");
    kill_process(shim, Signal::KILL).expect("it is ours");
    let event = events.next_within(Duration::from_secs(20)).expect("an event");
    assert_eq!(event.container_event_type, ContainerEventType::ContainerStoppedEvent as i32);
    let status = cri.wait_for_state(&id, ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "ContainerStatusUnknown"));
    assert!(status.finished_at >= status.started_at && status.started_at >= status.created_at, "{status:#?}");
    assert_eq!(cri.pod_status(&sandbox).state, PodSandboxState::SandboxNotready as i32);
    cri.remove_pod(&sandbox);
}

#[test]
fn lists_are_filtered() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let mut ids = Vec::new();
    for (name, tier) in [("a", "web"), ("b", "db")] {
        let mut pod = cri.pod(name);
        pod.labels = map(&[("tier", tier), ("all", "yes")]);
        let sandbox = cri.run_pod(&pod);
        let mut container = cri.container("c", BUSYBOX, &["sleep", "1000"]);
        container.labels = pod.labels.clone();
        ids.push((sandbox.clone(), cri.run_container(&sandbox, &pod, &container)));
    }
    cri.stop_container(&ids[1].1, 0);
    cri.stop_pod(&ids[1].0);
    let pods = |filter: PodSandboxFilter| {
        let answer = cri.client().list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) });
        let mut ids: Vec<String> = answer.expect("it serves").items.into_iter().map(|it| it.id).collect();
        ids.reverse();
        ids
    };
    let containers = |filter: ContainerFilter| {
        let answer = cri.client().list_containers(ListContainersRequest { filter: Some(filter) });
        let mut ids: Vec<String> = answer.expect("it serves").containers.into_iter().map(|it| it.id).collect();
        ids.reverse();
        ids
    };
    let pod_ids: Vec<_> = ids.iter().map(|it| it.0.clone()).collect();
    let container_ids: Vec<_> = ids.iter().map(|it| it.1.clone()).collect();
    assert_eq!((pods(Default::default()), containers(Default::default())), (pod_ids.clone(), container_ids.clone()));
    for (index, tier) in ["web", "db"].iter().enumerate() {
        let (pod, container) = (&pod_ids[index..=index], &container_ids[index..=index]);
        let short = |id: &str| id[..12].to_owned();
        let labels = map(&[("tier", tier), ("all", "yes")]);
        let state = if index == 0 { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready };
        let state = Some(PodSandboxStateValue { state: state as i32 });
        assert_eq!(pods(PodSandboxFilter { id: pod[0].clone(), ..Default::default() }), pod);
        assert_eq!(pods(PodSandboxFilter { id: short(&pod[0]), ..Default::default() }), pod);
        assert_eq!(pods(PodSandboxFilter { state, ..Default::default() }), pod);
        assert_eq!(pods(PodSandboxFilter { label_selector: labels.clone(), ..Default::default() }), pod);
        let state_of = if index == 0 { ContainerState::ContainerRunning } else { ContainerState::ContainerExited };
        let state_of = Some(ContainerStateValue { state: state_of as i32 });
        assert_eq!(containers(ContainerFilter { id: short(&container[0]), ..Default::default() }), container);
        assert_eq!(containers(ContainerFilter { pod_sandbox_id: pod[0].clone(), ..Default::default() }), container);
        assert_eq!(containers(ContainerFilter { state: state_of, ..Default::default() }), container);
        let all = ContainerFilter {
            id: container[0].clone(),
            state: state_of,
            pod_sandbox_id: pod[0].clone(),
            label_selector: labels,
        };
        assert_eq!(containers(all.clone()), container);
        let other = pod_ids[1 - index].clone();
        assert!(containers(ContainerFilter { pod_sandbox_id: other, ..all }).is_empty());
    }
    assert!(pods(PodSandboxFilter { label_selector: map(&[("tier", "none")]), ..Default::default() }).is_empty());
    let streamed = cri.client().stream_containers(Default::default()).expect("a stream");
    assert_eq!(streamed.iter().map(|it| it.containers.len()).sum::<usize>(), 2);
}

#[test]
fn a_status_says_what_was_asked_for_and_what_came_of_it() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let mut container = cri.container("c", BUSYBOX, &["sleep", "1000"]);
    container.stop_signal = StopSignal::Sigquit as i32;
    let id = cri.run_container(&sandbox, &pod, &container);
    let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
    let answer = cri.client().container_status(request).expect("it is there");
    let status = answer.status.expect("it has one");
    assert_eq!(status.stop_signal, StopSignal::Sigquit as i32);
    assert_eq!(status.log_path, cri.log_file(&pod, &container).display().to_string());
    assert_eq!(status.image.expect("it has one").image, BUSYBOX);
    assert!(status.image_id.starts_with("sha256:"), "{}", status.image_id);
    assert_eq!(status.user.and_then(|it| it.linux).map(|it| (it.uid, it.gid)), Some((0, 0)));
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).expect("it is JSON");
    assert_eq!(info["sandboxID"], sandbox.as_str());
    let pid = info["pid"].as_i64().expect("a number");
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    assert_eq!(arguments.trim_end_matches('\0'), "sleep\x001000");
    // Its own signal, and by default SIGTERM.
    cri.stop_container(&id, 60);
    assert_eq!(cri.status_of(&id).exit_code, 128 + 3);
    let plain = cri.create_container(&sandbox, &pod, &cri.container("plain", BUSYBOX, &["true"]));
    assert_eq!(cri.status_of(&plain).stop_signal, StopSignal::Sigterm as i32);
}
