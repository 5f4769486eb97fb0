//! The networks that manifests declare.

use cri_proto::node;
use manifests::Network;

use super::Inputs;

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
    use serde_json::json;

    use super::*;
    use crate::net::Declared;

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
