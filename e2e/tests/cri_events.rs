//! The stream of container events.

use std::time::Duration;

use e2e::cri::proto::ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
    ContainerStoppedEvent as Stopped,
};
use e2e::cri::proto::*;
use e2e::cri::{Cri, Endpoint, Events};
use e2e::{BUSYBOX, Node, need};

const SOON: Duration = Duration::from_secs(20);

/// The next event, which must be this one.
#[track_caller]
fn expect(events: &mut Events, id: &str, kind: ContainerEventType) -> ContainerEventResponse {
    let event = events.next_within(SOON).unwrap_or_else(|why| panic!("{kind:?} of {id}: {why}"));
    assert_eq!((event.container_id.as_str(), event.container_event_type), (id, kind as i32), "{kind:?}: {event:?}");
    event
}

fn state_in(event: &ContainerEventResponse, id: &str) -> Option<ContainerState> {
    event.containers_statuses.iter().find(|it| it.id == id).map(|it| it.state())
}

fn pod_in(event: &ContainerEventResponse) -> &PodSandboxStatus {
    event.pod_sandbox_status.as_ref().expect("an event says what its pod is like")
}

#[test]
fn the_life_of_a_pod_is_told_in_order_to_all_who_listen() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (mut events, mut others) = (cri.client().events().expect("first"), cri.client().events().expect("second"));
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let first = cri.run_container(&sandbox, &pod, &cri.container("first", BUSYBOX, &["sh", "-c", "exit 3"]));
    let mut told = vec![expect(&mut events, &sandbox, Created), expect(&mut events, &sandbox, Started)];
    assert_eq!(pod_in(&told[1]).state(), PodSandboxState::SandboxReady);
    assert_eq!(pod_in(&told[1]).metadata.as_ref().map(|it| it.uid.as_str()), Some("uid-p"));
    for kind in [Created, Started, Stopped] {
        told.push(expect(&mut events, &first, kind));
    }
    let ended = told[4].containers_statuses.iter().find(|it| it.id == first).expect("it is in its event");
    assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 3));
    let second = cri.run_container(&sandbox, &pod, &cri.container("second", BUSYBOX, &["sleep", "1000"]));
    for (kind, state) in [(Created, ContainerState::ContainerCreated), (Started, ContainerState::ContainerRunning)] {
        let event = expect(&mut events, &second, kind);
        // It may have gone on already when it was looked at.
        let seen = state_in(&event, &second).expect("it is in its event");
        assert!(seen as i32 >= state as i32, "{kind:?} {seen:?}");
        assert_eq!(state_in(&event, &first), Some(ContainerState::ContainerExited));
        told.push(event);
    }
    cri.remove_container(&first);
    told.push(expect(&mut events, &first, Deleted));
    assert_eq!(state_in(&told[7], &first), None, "it is gone");
    cri.stop_pod(&sandbox);
    told.push(expect(&mut events, &second, Stopped));
    told.push(expect(&mut events, &sandbox, Stopped));
    assert_eq!(state_in(&told[9], &second), Some(ContainerState::ContainerExited));
    assert_eq!(pod_in(&told[9]).state(), PodSandboxState::SandboxNotready);
    cri.stop_pod(&sandbox);
    cri.remove_pod(&sandbox);
    told.push(expect(&mut events, &second, Deleted));
    told.push(expect(&mut events, &sandbox, Deleted));
    assert_eq!(pod_in(&told[11]).id, sandbox, "a pod's last event says what it was");
    assert!(told.is_sorted_by_key(|it| it.created_at), "{told:?}");
    for event in told {
        assert_eq!(others.next_within(SOON), Ok(event), "everybody is told the same");
    }
}

#[test]
fn a_container_that_runs_out_of_memory_is_told_of() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let mut events = cri.client().events().expect("it listens");
    let mut config = cri.container("c", BUSYBOX, &["tail", "/dev/zero"]);
    let limits = LinuxContainerResources { memory_limit_in_bytes: 16 << 20, ..Default::default() };
    config.linux = Some(LinuxContainerConfig { resources: Some(limits), ..Default::default() });
    let id = cri.run_container(&sandbox, &pod, &config);
    expect(&mut events, &id, Created);
    expect(&mut events, &id, Started);
    let event = expect(&mut events, &id, Stopped);
    let status = event.containers_statuses.iter().find(|it| it.id == id).expect("it is in its event");
    assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137));
}

#[test]
fn a_container_that_cannot_be_run_is_told_of() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let mut events = cri.client().events().expect("it listens");
    let id = cri.create_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["/no/such/program"]));
    cri.try_start_container(&id).expect_err("there is no such program");
    expect(&mut events, &id, Created);
    expect(&mut events, &id, Stopped);
    cri.remove_container(&id);
    expect(&mut events, &id, Deleted);
}

#[test]
fn a_new_server_tells_of_the_containers_of_the_one_before() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let config = |name| cri.container(name, BUSYBOX, &["sleep", "1000"]);
    let (first, second) = (config("first"), config("second"));
    let [first, second] = [first, second].map(|config| cri.run_container(&sandbox, &pod, &config));
    cri.kill();
    cri.restart();
    let mut events = cri.client().events().expect("it listens");
    cri.stop_container(&first, 0);
    expect(&mut events, &first, Stopped);
    // What ends by itself is heard from a shim that the server before has started.
    let pid = cri.output(&second, &["pidof", "sleep"]);
    cri.exec_sync(&second, &["kill", "-9", &pid]);
    let event = expect(&mut events, &second, Stopped);
    let status = event.containers_statuses.iter().find(|it| it.id == second).expect("it is in its event");
    assert_eq!(status.exit_code, 137);
    cri.remove_pod(&sandbox);
    expect(&mut events, &sandbox, Stopped);
    let mut deleted = [(); 3].map(|()| events.next_within(SOON).expect("everything is removed").container_id);
    assert_eq!(deleted[2], sandbox, "the pod itself last");
    deleted.sort();
    let mut all = [first, second, sandbox];
    all.sort();
    assert_eq!(deleted, all);
}
