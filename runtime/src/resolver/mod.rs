//! Names for pods: a DNS server on the gateways of the pods' networks.
//!
//! ```text
//! pod ── question ──> gateway:53 (server) ──> zone: pods, services, links
//!                                        └──> upstream (cache): everything else, from the host's name servers
//! ```
//!
//! One process of a state directory serves: whoever holds `<state>/network/names.lock`. When it ends or cannot, the next one
//! does.
//! Who asks is known by the address, which the rules let nobody else use. Nobody but pods is answered.

mod answer;
mod cache;
mod conf;
mod connection;
mod flights;
mod listen;
mod message;
mod ready;
mod reverse;
mod server;
mod source;
mod upstream;
mod zone;

use std::net::{IpAddr, Ipv4Addr};

pub use conf::{host_search, host_text, server};
pub use ready::Ready;
pub use server::start;
pub use source::{adds_to_host, asks_on_host, domain};

use crate::core::Core;

/// The annotation of a sandbox whose pod has the gateway for a name server: the cluster's domain.
pub const CLUSTER_DOMAIN: &str = "coracle.dev/cluster-domain";

/// The annotation of a sandbox whose name servers come besides the host's, not in their place.
pub const ADDS_TO_HOST: &str = "coracle.dev/adds-to-host-resolver";

/// The annotation of a sandbox: its pod's subdomain.
pub const SUBDOMAIN: &str = "coracle.dev/subdomain";

/// The host's file that names its name servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of name servers.
pub const PORT: u16 = 53;

/// Where pods on the host's network find the server of this state directory. Every address of 127.0.0.0/8 is the host's,
/// and no packet from elsewhere goes there.
pub fn loopback(core: &Core) -> IpAddr {
    let [_, _, high, low] = core.network.group().to_be_bytes();
    Ipv4Addr::new(127, 67, high, low.clamp(1, 254)).into()
}

/// The host's file as this runtime is to read it.
pub fn resolv_conf(core: &Core) -> std::path::PathBuf {
    core.options.network.resolv_conf.clone().unwrap_or_else(|| RESOLV_CONF.into())
}
