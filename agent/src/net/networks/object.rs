//! Networks as objects, `coracle.dev/v1alpha1`: what they shall be, how they are, who is in them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::network::NetworkSpec;
use runtime::network::Overview;
use runtime::network::named::{Shape, Spec};
use serde::{Deserialize, Serialize};

use super::members;
use crate::net::Picture;

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// `coracle.dev/v1alpha1`
    pub api_version: String,
    /// `Network`
    pub kind: String,
    /// Its name is what pods call it.
    pub metadata: ObjectMeta,
    /// How it shall be.
    pub spec: NetworkSpec,
    /// How it is.
    pub status: NetworkStatus,
}

/// How a network is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// `Ready`, `Unused`, `Terminating`, `Conflict` or `NotInForce`.
    pub state: String,
    /// What is the matter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The ranges that its pods' addresses are from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// The pods in it, `NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
}

/// The state of a network that nobody declares any more, while pods are in it.
pub const TERMINATING: &str = "Terminating";

/// The networks of a picture: those that its manifests declare, and those that its pods are in still.
pub fn networks_of(picture: &Picture, known: &BTreeMap<String, Overview>) -> BTreeMap<String, Network> {
    let inputs = picture.inputs();
    let none = Overview::default();
    let mut networks = BTreeMap::new();
    for ((_, name), network) in &inputs.declared.networks {
        let known = known.get(name).unwrap_or(&none);
        networks.insert(name.clone(), object(name, network.spec.clone(), known, true));
    }
    for (_, name) in members(inputs) {
        let declared = inputs.networks_abroad.contains(&name);
        // Who waits for a network is not in it.
        let Some(known) = known.get(&name).filter(|it| !it.pods.is_empty()) else { continue };
        networks.entry(name).or_insert_with_key(|name| object(name, spec_of(known), known, declared));
    }
    networks
}

/// The networks that the records tell of.
pub fn recorded(known: &BTreeMap<String, Overview>) -> Vec<Network> {
    known.iter().map(|(name, it)| object(name, spec_of(it), it, !it.wanted.is_empty())).collect()
}

fn object(name: &str, spec: NetworkSpec, known: &Overview, declared: bool) -> Network {
    let (state, message) = state(known, declared);
    Network {
        api_version: "coracle.dev/v1alpha1".into(),
        kind: "Network".into(),
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec,
        status: NetworkStatus {
            state: state.into(),
            message,
            subnets: known.ranges.iter().map(ToString::to_string).collect(),
            pods: known.pods.clone(),
        },
    }
}

fn state(known: &Overview, declared: bool) -> (&'static str, String) {
    let mut wishes = known.wanted.iter();
    let other = wishes.next().and_then(|first| Some((first, wishes.find(|it| it.1 != first.1)?)));
    match other {
        Some(((one, _), (other, _))) => {
            ("Conflict", format!("{one} and {other} want different ones of this name; give one another"))
        }
        None if !declared => {
            let pods = known.pods.join(", ");
            (TERMINATING, format!("no manifest declares it any more; it stays until its last pod has ended: {pods}"))
        }
        None if known.pods.is_empty() => ("Unused", String::new()),
        None => ("Ready", String::new()),
    }
}

/// As manifests write it: what is wanted, or, of one that nobody wants, what it was made by.
fn spec_of(known: &Overview) -> NetworkSpec {
    let none = Spec::default();
    let spec = known.wanted.first().map(|(_, spec)| spec).or(known.made.as_ref()).unwrap_or(&none);
    let shape = match spec.shape {
        Shape::Ptp => "ptp",
        Shape::Bridge => "bridge",
    };
    NetworkSpec {
        subnets: spec.subnets.iter().map(ToString::to_string).collect(),
        isolated: Some(spec.isolated),
        masquerade: Some(spec.masquerade),
        mtu: spec.mtu.and_then(|it| i32::try_from(it).ok()),
        type_: Some(shape.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Pod;
    use runtime::Owner;
    use serde_json::json;

    use super::*;
    use crate::net::{Declared, Inputs};

    fn known(pods: &[&str], wanted: &[bool]) -> BTreeMap<String, Overview> {
        let spec = |isolated| Spec { name: "back".into(), isolated, shape: Shape::Bridge, ..Spec::default() };
        let overview = Overview {
            wanted: wanted.iter().map(|isolated| (Owner::Agent, spec(*isolated))).collect(),
            made: Some(spec(true)),
            ranges: vec!["10.66.0.0/24".parse().unwrap()],
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        };
        [("back".to_owned(), overview)].into()
    }

    #[test]
    fn a_network_is_as_long_as_somebody_wants_it_or_is_in_it() {
        let states = |known: &BTreeMap<String, Overview>| {
            recorded(known).into_iter().map(|it| (it.status.state, it.status.message)).collect::<Vec<_>>()
        };
        let one = |state: &str, message: &str| vec![(state.to_owned(), message.to_owned())];
        assert_eq!(states(&known(&["default/a"], &[true])), one("Ready", ""));
        assert_eq!(states(&known(&[], &[true, true])), one("Unused", ""));
        let conflict = "agent and agent want different ones of this name; give one another";
        assert_eq!(states(&known(&[], &[true, false])), one("Conflict", conflict));
        let left = "no manifest declares it any more; it stays until its last pod has ended: default/a, default/b";
        assert_eq!(states(&known(&["default/a", "default/b"], &[])), one("Terminating", left));
        assert_eq!(recorded(&known(&["default/a"], &[]))[0].spec.type_.as_deref(), Some("bridge"), "as it was made");
    }

    #[test]
    fn an_agent_shows_its_networks_and_those_that_its_pods_are_in() {
        let annotations = json!({"coracle.dev/network": "back"});
        let meta = json!({"name": "a", "namespace": "default", "annotations": annotations});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).unwrap();
        let name = |name: &str| ("default".to_owned(), name.to_owned());
        let other = serde_json::from_value(json!({"metadata": {"name": "other"}, "spec": {"type": "ptp"}})).unwrap();
        let declared = Declared { networks: [(name("other"), other)].into(), ..Declared::default() };
        let pods = [(name("a"), Arc::new(pod))].into();
        let mut inputs = Inputs { pods, declared, ..Inputs::default() };
        let shown = |inputs: &Inputs, known: &BTreeMap<String, Overview>| {
            let networks = networks_of(&Picture::of(inputs.clone()), known).into_values();
            networks.map(|it| (it.metadata.name.unwrap(), it.status.state)).collect::<Vec<_>>()
        };
        let rows = |rows: &[(&str, &str)]| rows.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect::<Vec<_>>();
        assert_eq!(shown(&inputs, &known(&["default/a"], &[])), rows(&[("back", "Terminating"), ("other", "Unused")]));
        assert_eq!(shown(&inputs, &known(&[], &[])), rows(&[("other", "Unused")]), "who waits is not in it");
        inputs.networks_abroad = ["back".to_owned()].into();
        assert_eq!(
            shown(&inputs, &known(&["default/a"], &[true])),
            rows(&[("back", "Ready"), ("other", "Unused")]),
            "another owner's"
        );
    }
}
