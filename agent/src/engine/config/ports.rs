//! The ports of the host that pods ask for, and which of them clash.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::super::plan::{init_of, is_sidecar, spec_of};

/// A port of the host that a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The field that asks for it.
    pub path: String,
    /// The port.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The one address that it is open on; all of them without.
    pub address: Option<IpAddr>,
}

impl HostPort {
    /// Whether the two cannot both be open.
    pub fn clashes(&self, other: &HostPort) -> bool {
        let overlap = match (self.address, other.address) {
            (Some(one), Some(two)) => {
                one.is_ipv4() == two.is_ipv4() && (one == two || one.is_unspecified() || two.is_unspecified())
            }
            _ => true,
        };
        self.port == other.port && self.protocol == other.protocol && overlap
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}", self.port)?;
        if self.protocol == "TCP" { Ok(()) } else { write!(f, "/{}", self.protocol.to_lowercase()) }
    }
}

/// The ports of the host that a pod asks for as long as it runs; those of a pod in the host's network among them.
pub fn of_host(pod: &Pod) -> impl Iterator<Item = HostPort> + '_ {
    let spec = spec_of(pod);
    let sidecars = init_of(spec).iter().enumerate().filter(|(_, init)| is_sidecar(init));
    let lists = spec.containers.iter().enumerate().map(|it| ("containers", it));
    let all = lists.chain(sidecars.map(|it| ("initContainers", it)));
    all.flat_map(|(list, (index, container))| {
        container.ports.iter().flatten().enumerate().filter_map(move |(at, port)| {
            Some(HostPort {
                path: format!("spec.{list}[{index}].ports[{at}].hostPort"),
                port: port.host_port.filter(|port| *port != 0)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                address: port.host_ip.as_ref().and_then(|address| address.parse().ok()),
            })
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn port(port: serde_json::Value) -> HostPort {
        let pod: Pod = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "ports": [port]}]}}))
        .unwrap();
        of_host(&pod).next().unwrap()
    }

    #[test]
    fn ports_clash_where_both_would_be_open() {
        let base = port(json!({"containerPort": 1, "hostPort": 80}));
        let rows = [
            (json!({"containerPort": 2, "hostPort": 80}), true),
            (json!({"containerPort": 1, "hostPort": 81}), false),
            (json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}), false),
            (json!({"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}), true),
        ];
        for (other, expected) in rows {
            assert_eq!(base.clashes(&port(other.clone())), expected, "{other}");
        }
        let on = |address: &str| port(json!({"containerPort": 1, "hostPort": 80, "hostIP": address}));
        for (one, two, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0", "127.0.0.2", true),
            ("::", "::1", true),
            ("0.0.0.0", "::1", false),
        ] {
            assert_eq!(on(one).clashes(&on(two)), expected, "{one} {two}");
            assert_eq!(on(two).clashes(&on(one)), expected, "{two} {one}");
        }
    }

    #[test]
    fn ports_are_written_as_people_type_them() {
        let all = [
            (json!({"containerPort": 1, "hostPort": 80}), "80"),
            (json!({"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "::1"}), "[::1]:53/udp"),
            (json!({"containerPort": 1, "hostPort": 53, "hostIP": "127.0.0.1"}), "127.0.0.1:53"),
        ];
        for (written, shown) in all {
            assert_eq!(port(written).to_string(), shown);
        }
    }
}
