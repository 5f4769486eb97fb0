//! Ambassadors as objects, `coracle.dev/v1alpha1`: what they relay, and how their pods are.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::ambassador::{AmbassadorPort, AmbassadorSpec, config_map_name};
use serde::{Deserialize, Serialize};

use super::{FILE, LABEL};
use crate::net::Inputs;
use crate::node::desired::Name;

/// An ambassador.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ambassador {
    /// `coracle.dev/v1alpha1`
    pub api_version: String,
    /// `Ambassador`
    pub kind: String,
    /// Its name is its pod's, too.
    pub metadata: ObjectMeta,
    /// What is relayed where.
    pub spec: AmbassadorSpec,
    /// How it is.
    pub status: AmbassadorStatus,
}

/// How an ambassador is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AmbassadorStatus {
    /// The pod that relays.
    pub pod: String,
    /// Each of its ports leads to some target that is there.
    pub ready: bool,
    /// The pod's phase.
    pub phase: String,
    /// The pod's addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

impl Ambassador {
    /// Its ports as they are shown.
    pub fn ports(&self) -> Vec<String> {
        let word = |it: &AmbassadorPort| format!("{}/{}", it.port, it.protocol.as_deref().unwrap_or("TCP"));
        self.spec.ports.iter().map(word).collect()
    }

    /// Where they lead, each once.
    pub fn targets(&self) -> Vec<&str> {
        let mut targets: Vec<&str> = Vec::new();
        for target in self.spec.targets.iter().chain(self.spec.ports.iter().flat_map(|it| &it.targets)) {
            if !targets.contains(&target.as_str()) {
                targets.push(target);
            }
        }
        targets
    }
}

/// The ambassadors of these inputs: the pods that were made of some, with what their ConfigMaps say.
pub fn all(inputs: &Inputs, config: impl Fn(&Name) -> Option<ConfigMap>) -> Vec<Ambassador> {
    let pods = inputs.pods.iter().filter(|(_, pod)| label(pod).is_some());
    let made = pods.map(|(name, pod)| {
        let state = inputs.state(name);
        let config = config(&(name.0.clone(), config_map_name(&name.1)));
        let text = config.and_then(|map| map.data?.remove(FILE));
        Ambassador {
            api_version: "coracle.dev/v1alpha1".into(),
            kind: "Ambassador".into(),
            metadata: ObjectMeta {
                namespace: Some(name.0.clone()),
                name: Some(name.1.clone()),
                creation_timestamp: pod.metadata.creation_timestamp.clone(),
                ..ObjectMeta::default()
            },
            // Made of one that was good.
            spec: text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            status: AmbassadorStatus {
                pod: name.1.clone(),
                ready: state.ready,
                phase: state.phase.as_str().to_owned(),
                addresses: inputs.addresses(name),
            },
        }
    });
    made.collect()
}

/// The pods that were made of some.
pub fn names(inputs: &Inputs) -> impl Iterator<Item = Name> {
    inputs.pods.iter().filter(|(_, pod)| label(pod).is_some()).map(|(name, _)| name.clone())
}

fn label(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(LABEL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_ambassador_is_shown_with_its_targets_and_how_its_pod_is() {
        let name: Name = ("shop".into(), "redis".into());
        let pod = |status: serde_json::Value| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": {"namespace": "shop", "name": "redis", "labels": {LABEL: "redis"}},
                    "status": status,
                }))
                .unwrap(),
            )
        };
        let other: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}})).unwrap();
        let mut inputs = Inputs::default();
        inputs.pods.insert(name.clone(), pod(json!({})));
        inputs.pods.insert(("shop".into(), "web".into()), Arc::new(other));
        let config = |asked: &Name| -> Option<ConfigMap> {
            assert_eq!(*asked, ("shop".to_owned(), "redis-ambassador".to_owned()));
            let spec = json!({"targets": ["a:1", "b"], "ports": [
                {"port": 6379}, {"port": 53, "protocol": "UDP", "targets": ["b", "c:53"]},
            ]});
            Some(serde_json::from_value(json!({"data": {FILE: spec.to_string()}})).unwrap())
        };
        assert_eq!(crate::net::Picture::of(inputs.clone()).watched(), [name.clone()].into());
        let [shown] = &all(&inputs, config)[..] else { panic!("there is one") };
        assert_eq!(
            (shown.ports(), shown.targets()),
            (vec!["6379/TCP".into(), "53/UDP".into()], vec!["a:1", "b", "c:53"])
        );
        assert_eq!((shown.status.ready, shown.status.phase.as_str()), (false, "Pending"));
        inputs.seen.insert(
            name,
            pod(json!({
                "phase": "Running", "podIPs": [{"ip": "10.1.0.2"}], "conditions": [{"type": "Ready", "status": "True"}],
            })),
        );
        let [shown] = &all(&inputs, config)[..] else { panic!("there is one") };
        assert_eq!((shown.status.ready, shown.status.phase.as_str()), (true, "Running"));
        assert_eq!(shown.status.addresses, ["10.1.0.2"]);
    }
}
