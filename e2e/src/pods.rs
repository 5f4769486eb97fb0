//! Running pods, as far as their networks go.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::inspect;
use crate::manifest::{pod, shell, with};
use crate::netns::Host;
use crate::node::Node;
use crate::process::Run;

/// A pod that prints `up` and stays until it is stopped; [`Pod::find`] finds it.
pub fn keeper(name: &str, container: Value) -> Value {
    let env = json!({"env": [{"name": "E2E_POD", "value": name}]});
    pod(name, json!({"containers": [with(with(shell("c", "echo up; exec sleep 1000"), env), container)]}))
}

/// [`keeper`] with capabilities besides the usual ones.
pub fn capable(name: &str, capabilities: &[&str]) -> Value {
    keeper(name, json!({"securityContext": {"capabilities": {"add": capabilities}}}))
}

/// A running pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its addresses, as its status has them.
    pub ips: Vec<IpAddr>,
    /// Its own network: what runs there runs as if in a container.
    pub network: Host,
}

impl Pod {
    /// Waits until a [`keeper`] runs.
    #[track_caller]
    pub fn find(node: &Node, name: &str) -> Self {
        let pod = node.wait_for_phase(name, "Running");
        let network = inspect::network_of(node, &format!("E2E_POD={name}"));
        let network = network.unwrap_or_else(|| panic!("pod {name} has no process: {pod:#}"));
        Self { name: name.to_owned(), ips: ips(&pod), network }
    }

    /// Its IPv4 address.
    #[track_caller]
    pub fn v4(&self) -> IpAddr {
        *self.ips.iter().find(|ip| ip.is_ipv4()).unwrap_or_else(|| panic!("no IPv4 address: {self:?}"))
    }

    /// Its IPv6 address.
    #[track_caller]
    pub fn v6(&self) -> IpAddr {
        *self.ips.iter().find(|ip| ip.is_ipv6()).unwrap_or_else(|| panic!("no IPv6 address: {self:?}"))
    }

    /// Its address of the same family as `other`.
    #[track_caller]
    pub fn ip_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4() } else { self.v6() }
    }

    /// A port of each of its addresses.
    pub fn at(&self, port: u16) -> Vec<SocketAddr> {
        self.ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
    }
}

/// The addresses in a pod's status, which has to name the first of them apart.
#[track_caller]
pub fn ips(pod: &Value) -> Vec<IpAddr> {
    let list = pod["status"]["podIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parse = |ip: &Value| ip["ip"].as_str().and_then(|ip| ip.parse().ok());
    let ips: Vec<IpAddr> = list.iter().map(|ip| parse(ip).unwrap_or_else(|| panic!("not an address: {ip}"))).collect();
    assert_eq!(pod["status"]["podIP"].as_str().map(str::to_owned), ips.first().map(IpAddr::to_string), "{pod:#}");
    ips
}

/// Ends a run in good order.
pub fn stop(mut run: Run) {
    run.signal(Signal::TERM);
    run.wait();
}

/// Ends a run; nothing of it stays once the test itself lets go of what it has in the pods' networks.
#[track_caller]
pub fn end<T>(node: &Node, run: Run, held: T) {
    drop(held);
    stop(run);
    node.assert_nothing_left();
}

/// Whether this machine has IPv6.
pub fn has_v6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}
