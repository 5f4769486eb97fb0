//! What plug-ins may ask to be told of a pod, by the names of the conventions.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::error::Result;
use crate::network::PortMapping;
use crate::network::bandwidth::Bandwidth;
use crate::sandbox::Request;

/// Published ports.
pub const PORTS: &str = "portMappings";
/// How much may go over its link.
pub const BANDWIDTH: &str = "bandwidth";
/// Where its addresses are from.
pub const RANGES: &str = "ipRanges";

/// Bits of the least burst: a few of the largest packets.
const LEAST_BURST: u64 = 1 << 20;

/// All there is to tell of a pod. `ranges`: the pods' ranges, where somebody has said some.
pub fn of(request: &Request, ranges: &[IpNet]) -> Result<BTreeMap<String, Value>> {
    let mut offered = BTreeMap::new();
    let mut offer = |name: &str, value: Value| offered.insert(name.to_owned(), value);
    if !request.ports.is_empty() {
        offer(PORTS, request.ports.iter().map(port).collect());
    }
    let bandwidth = Bandwidth::of(&request.annotations)?;
    if bandwidth != Bandwidth::default() {
        offer(BANDWIDTH, rates(bandwidth));
    }
    if !ranges.is_empty() {
        // One set each: an address of every one of them.
        offer(RANGES, ranges.iter().map(|it| json!([{ "subnet": it.trunc().to_string() }])).collect());
    }
    if let Some(dns) = &request.dns {
        offer("dns", json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}));
    }
    if !request.cgroup_parent.is_empty() {
        offer("cgroupPath", request.cgroup_parent.clone().into());
    }
    offer("io.kubernetes.cri.pod-annotations", json!(request.annotations));
    Ok(offered)
}

fn port(port: &PortMapping) -> Value {
    let host_ip = port.host_ip.map(|it| it.to_string()).unwrap_or_default();
    json!({
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": port.protocol.to_string(),
        "hostIP": host_ip,
    })
}

/// In bits; a burst of a tenth of a second.
fn rates(bandwidth: Bandwidth) -> Value {
    let mut rates = serde_json::Map::new();
    for (direction, bytes) in [("ingress", bandwidth.ingress), ("egress", bandwidth.egress)] {
        let Some(bits) = bytes.map(|it| it.saturating_mul(8)) else { continue };
        // The plug-in keeps it in 32 bits.
        let burst = (bits / 10).clamp(LEAST_BURST, u32::MAX.into());
        rates.insert(format!("{direction}Rate"), bits.into());
        rates.insert(format!("{direction}Burst"), burst.into());
    }
    rates.into()
}
