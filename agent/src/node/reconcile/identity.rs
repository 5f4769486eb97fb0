//! Who a pod of a manifest is, as an API server would have said it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::identity::new_uid;
use crate::node::desired::Name;

/// Gives a pod its identity: that of the one that is there, or that runs and is in no record, or a new one.
pub(super) fn identify(mut pod: Pod, known: Option<&Pod>, strays: &BTreeMap<Name, String>, node_name: &str) -> Pod {
    let meta = &mut pod.metadata;
    let namespace = meta.namespace.get_or_insert_with(|| "default".into());
    let stray = strays.get(&(namespace.clone(), meta.name.clone().unwrap_or_default()));
    (meta.uid, meta.creation_timestamp) = match known {
        Some(known) => (known.metadata.uid.clone(), known.metadata.creation_timestamp.clone()),
        // Without randomness there is no id; the kernel has always some once it is up.
        None => (stray.cloned().or_else(|| new_uid().ok()), now()),
    };
    pod.spec.get_or_insert_default().node_name.get_or_insert_with(|| node_name.to_owned());
    // As an API server counts: from 1, and once more with every change of what is wanted.
    let counted = known.and_then(|known| known.metadata.generation).unwrap_or(1);
    let changed = known.is_some_and(|known| known.spec != pod.spec);
    pod.metadata.generation = Some(counted + i64::from(changed));
    pod
}

/// The time, as Kubernetes writes it.
pub(super) fn now() -> Option<Time> {
    // Kubernetes' times are whole seconds.
    Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time)
}
