//! Events of containers.

use std::time::Duration;

use e2e::cri::Endpoint;
use e2e::cri::proto::*;

use crate::harness::tests;
use crate::tools::Pod;

tests![containers_have_events_in_order];

fn containers_have_events_in_order(endpoint: &dyn Endpoint) {
    let mut events = endpoint.client().events().expect("GetContainerEvents answers");
    let pod = Pod::new(endpoint);
    let id = pod.run(&pod.script("c", "exit 5"));
    endpoint.wait_for_state(&id, ContainerState::ContainerExited);
    endpoint.remove_container(&id);
    let mut seen = Vec::new();
    while seen.last() != Some(&ContainerEventType::ContainerDeletedEvent) {
        let event = events.next_within(Duration::from_secs(20)).unwrap_or_else(|why| panic!("{why}; before: {seen:?}"));
        if event.container_id == id {
            assert!(event.created_at > 0);
            let of_pod = event.pod_sandbox_status.as_ref().map(|it| it.id.as_str());
            assert_eq!(of_pod, Some(pod.id.as_str()), "{event:#?}");
            seen.push(event.container_event_type());
        }
    }
    let expected = [
        ContainerEventType::ContainerCreatedEvent,
        ContainerEventType::ContainerStartedEvent,
        ContainerEventType::ContainerStoppedEvent,
        ContainerEventType::ContainerDeletedEvent,
    ];
    assert_eq!(seen, expected);
}
