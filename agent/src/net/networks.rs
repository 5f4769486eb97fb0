//! The networks that manifests declare, and the pods that are in one by its name.

pub mod object;

use cri_proto::node;
use k8s_openapi::api::core::v1::Pod;
use manifests::Network;
use manifests::annotations::NETWORK;
use runtime::network::Kind;

use super::Inputs;
use crate::engine::plan::spec_of;
use crate::node::desired::Name;

/// What a pod says of its network; nothing on the host's.
fn said(pod: &Pod) -> Option<Kind> {
    let text = pod.metadata.annotations.as_ref()?.get(NETWORK)?;
    text.parse().ok().filter(|_| spec_of(pod).host_network != Some(true))
}

/// The name of the network that a pod is in, if it has one. `default`: where pods are that say nothing.
pub fn of(pod: &Pod, default: &Kind) -> Option<String> {
    if spec_of(pod).host_network == Some(true) {
        return None;
    }
    match said(pod).unwrap_or_else(|| default.clone()) {
        Kind::Named(name) => Some(name),
        Kind::Flat | Kind::Private => None,
    }
}

/// This owner's pods that are in networks with names.
pub fn members(inputs: &Inputs) -> impl Iterator<Item = (&Name, String)> {
    inputs.pods.iter().filter_map(|(name, pod)| Some((name, of(pod, &inputs.default_network)?)))
}

fn declared(inputs: &Inputs, network: &str) -> bool {
    inputs.declared.networks.keys().any(|(_, name)| name == network)
}

/// Whether a pod is in a network that only others may declare.
pub fn look_abroad(inputs: &Inputs) -> bool {
    members(inputs).any(|(_, network)| !declared(inputs, &network))
}

/// Whether a pod asks for a network where not everybody reaches it.
pub fn asks(inputs: &Inputs, pod: &Name) -> bool {
    inputs.pods.get(pod).and_then(|pod| said(pod)).is_some_and(|kind| kind != Kind::Flat)
}

/// What a pod waits for whose network nobody declares.
pub fn missing(inputs: &Inputs, pod: &Name) -> Option<String> {
    let pod = inputs.pods.get(pod)?;
    let network = of(pod, &inputs.default_network)?;
    if declared(inputs, &network) || inputs.networks_abroad.contains(&network) {
        return None;
    }
    let says = if said(pod).is_some() { NETWORK } else { "--default-network" };
    Some(format!("there is no network {network}: add a Network of this name to the manifests, or change {says}"))
}

/// What the runtime is asked for.
pub fn wanted(inputs: &Inputs) -> Vec<node::Network> {
    inputs.declared.networks.values().map(network).collect()
}

fn network(network: &Network) -> node::Network {
    let spec = &network.spec;
    let kind = match spec.type_.as_deref() {
        Some("bridge") => node::NetworkType::Bridge,
        _ => node::NetworkType::Ptp,
    };
    node::Network {
        name: network.metadata.name.clone().unwrap_or_default(),
        subnets: spec.subnets.clone(),
        isolated: spec.isolated.unwrap_or(true),
        masquerade: spec.masquerade.unwrap_or(true),
        mtu: spec.mtu.and_then(|it| u32::try_from(it).ok()).unwrap_or(0),
        r#type: kind.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::net::sender::Trouble;
    use crate::net::{Declared, Picture};

    fn pod(name: &str, network: Option<&str>, host: bool) -> (Name, Arc<Pod>) {
        let annotations = network.map(|network| json!({NETWORK: network}));
        let meta = json!({"name": name, "namespace": "default", "annotations": annotations});
        let object = json!({"metadata": meta, "spec": {"hostNetwork": host, "containers": []}});
        (("default".to_owned(), name.to_owned()), Arc::new(serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn a_pod_waits_for_a_network_that_nobody_declares() {
        let pods = [
            pod("in", Some("back"), false),
            pod("silent", None, false),
            pod("flat", Some("flat"), false),
            pod("private", Some("private"), false),
            pod("host", None, true),
        ];
        let held = |inputs: &Inputs, foreign: bool| {
            let picture = Picture::of(inputs.clone());
            let said = pods.iter().filter_map(|(name, _)| {
                let gate = picture.gate(name, foreign.then_some(&Trouble::Foreign))?;
                Some(format!("{}: {}: {}", name.1, gate.reason, gate.message))
            });
            (said.collect::<Vec<_>>(), picture.looks_abroad())
        };
        let mut inputs = Inputs { pods: pods.clone().into(), ..Inputs::default() };
        let missing =
            "WaitingForNetwork: there is no network back: add a Network of this name to the manifests, or change";
        assert_eq!(held(&inputs, false), (vec![format!("in: {missing} coracle.dev/network")], true));
        let own = Picture::of(inputs.clone()).watched();
        assert_eq!(own, [("default".to_owned(), "in".to_owned())].into());
        inputs.default_network = Kind::Named("back".into());
        let both = vec![format!("in: {missing} coracle.dev/network"), format!("silent: {missing} --default-network")];
        assert_eq!(held(&inputs, false), (both, true));
        inputs.networks_abroad = ["back".to_owned()].into();
        assert_eq!(held(&inputs, false), (vec![], true), "another owner's may go again");
        inputs.networks_abroad.clear();
        inputs.declared.networks = [((String::new(), "back".to_owned()), Network::default())].into();
        assert_eq!(held(&inputs, false), (vec![], false));
        let unsupported = |pod: &str| {
            format!(
                "{pod}: NetworkUnsupported: this container runtime has no links, policies, Services or networks; Coracle's own has; take coracle.dev/network away"
            )
        };
        assert_eq!(held(&inputs, true).0, ["in", "private"].map(unsupported), "it would be open to everybody there");
    }

    #[test]
    fn what_a_network_does_not_say_is_isolated_masqueraded_and_routed() {
        let of = |spec| serde_json::from_value::<Network>(json!({"metadata": {"name": "back"}, "spec": spec})).unwrap();
        let wanted = |spec| {
            let networks = [(("default".to_owned(), "back".to_owned()), of(spec))].into();
            let declared = Declared { networks, ..Declared::default() };
            wanted(&Inputs { declared, ..Inputs::default() }).remove(0)
        };
        let plain = node::Network {
            name: "back".into(),
            isolated: true,
            masquerade: true,
            r#type: node::NetworkType::Ptp.into(),
            ..node::Network::default()
        };
        assert_eq!(wanted(json!({})), plain);
        let said =
            json!({"subnets": ["10.5.0.0/24"], "isolated": false, "masquerade": false, "mtu": 1400, "type": "bridge"});
        let expected = node::Network {
            name: "back".into(),
            subnets: vec!["10.5.0.0/24".into()],
            mtu: 1400,
            r#type: node::NetworkType::Bridge.into(),
            ..node::Network::default()
        };
        assert_eq!(wanted(said), expected);
    }
}
