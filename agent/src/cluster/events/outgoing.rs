//! An event as the API server is told it. Pure, but for the look at the pod that it is about.

use k8s_openapi::api::core::v1::{Event, EventSource, Pod};
use serde_json::{Value, json};

use crate::node::desired;
use crate::store::Store;

/// Who tells events of pods and nodes, by the name that others look for.
const COMPONENT: &str = "kubelet";

/// What names depend on.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// The node's name.
    pub(super) node: String,
}

/// The event for the API server; none if it is about something that the API server does not have.
pub(super) fn outgoing(event: &Event, naming: &Naming, store: &Store) -> Option<Event> {
    let mut event = event.clone();
    event.metadata.uid = None;
    event.metadata.resource_version = None;
    event.metadata.creation_timestamp = None;
    let about = &mut event.involved_object;
    match about.kind.as_deref() {
        Some("Node") => {}
        Some("Pod") => {
            let (namespace, name) = (about.namespace.clone()?, about.name.clone()?);
            let pod = store.get::<Pod>(&namespace, &name);
            if pod.is_some_and(|pod| is_of_file(&pod)) {
                // As its mirror is called.
                about.name = Some(format!("{name}-{}", naming.node));
            }
        }
        _ => return None,
    }
    event.source = Some(EventSource { component: Some(COMPONENT.into()), host: Some(naming.node.clone()) });
    event.reporting_component = Some(COMPONENT.into());
    event.reporting_instance = Some(naming.node.clone());
    Some(event)
}

fn is_of_file(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|it| it.contains_key(desired::FILE))
}

/// What is new when it has happened again.
pub(super) fn told_again(event: &Event) -> Value {
    json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(kind: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": "p.1", "namespace": "web", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "involvedObject": {"kind": kind, "namespace": "web", "name": "p"},
            "source": {"component": "coracle"}, "count": 2, "reason": "Started"
        }))
        .unwrap()
    }

    #[test]
    fn it_is_told_in_kubelet_s_name_and_leaves_to_the_server_what_is_the_server_s() {
        let (store, naming) = (Store::new(0), Naming { node: "here".into() });
        let told = outgoing(&event("Pod"), &naming, &store).unwrap();
        assert_eq!((told.metadata.uid, told.metadata.resource_version), (None, None));
        assert_eq!(told.source.unwrap().host.as_deref(), Some("here"));
        assert_eq!((told.reporting_component.as_deref(), told.count), (Some("kubelet"), Some(2)));
        assert!(outgoing(&event("Ambassador"), &naming, &store).is_none());
    }

    #[test]
    fn of_a_file_s_pod_the_mirror_is_told() {
        let (store, naming) = (Store::new(0), Naming { node: "here".into() });
        let pod =
            |annotations: Value| json!({"metadata": {"name": "p", "namespace": "web", "annotations": annotations}});
        store.put(serde_json::from_value::<Pod>(pod(json!({}))).unwrap());
        let name = |event: Option<Event>| event.unwrap().involved_object.name.unwrap();
        assert_eq!(name(outgoing(&event("Pod"), &naming, &store)), "p");
        store.put(serde_json::from_value::<Pod>(pod(json!({desired::FILE: "/m/p.yaml"}))).unwrap());
        assert_eq!(name(outgoing(&event("Pod"), &naming, &store)), "p-here");
    }
}
