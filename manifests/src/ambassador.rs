//! The kind Ambassador: ports that are relayed to targets elsewhere, as it is written and as the relay reads it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::network::Status;

/// Where the relay says how it is, unless it is told a port.
pub const STATUS_PORT: i32 = 15021;

/// The name of the ConfigMap that an Ambassador's pod reads what it relays from.
pub fn config_map_name(ambassador: &str) -> String {
    format!("{ambassador}-ambassador")
}

/// `coracle.dev/v1alpha1` Ambassador.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ambassador {
    /// `coracle.dev/v1alpha1`.
    pub api_version: String,
    /// `Ambassador`.
    pub kind: String,
    /// Its name is the pod's, too.
    pub metadata: ObjectMeta,
    /// What is relayed where.
    pub spec: AmbassadorSpec,
    /// Written by servers.
    #[serde(skip_serializing)]
    pub status: Option<Status>,
}

/// What is relayed where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AmbassadorSpec {
    /// The ports to listen on.
    pub ports: Vec<AmbassadorPort>,
    /// `HOST`, `HOST:PORT`, `[IPV6]:PORT`: where each port that has no targets of its own leads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// `FirstHealthy` or `RoundRobin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<String>,
    /// How it is found out whether a target is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<AmbassadorHealthCheck>,
    /// How long one target may take to accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_seconds: Option<i32>,
    /// `v1` or `v2`: targets are told who connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<String>,
    /// Connections at a time, and UDP clients at a time, of all ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i32>,
    /// How long connections may go on when the ambassador is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<i32>,
    /// How long a UDP client is remembered that says nothing and is told nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_idle_seconds: Option<i32>,
    /// Where `/ready` and `/metrics` are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_port: Option<i32>,
}

/// A port to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AmbassadorPort {
    /// For people and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port.
    pub port: i32,
    /// `TCP` or `UDP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The node's port that leads here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<i32>,
    /// The node's address that leads here; all of them without it.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// The port of targets that name none; the same port without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<i32>,
    /// Where this port leads, instead of the common targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

/// How it is found out whether a target is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AmbassadorHealthCheck {
    /// `TCP` (it accepts), `HTTP` (it answers with 200 to 399) or `None`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is asked for by HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The port to ask; the target's own without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Between checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<i32>,
    /// How long one may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Failures in a row that make a target one that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
    /// Successes in a row that make it one that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<i32>,
}

impl AmbassadorSpec {
    /// Fills in what was not said.
    pub fn fill(&mut self) {
        self.balance.get_or_insert_with(|| "FirstHealthy".to_owned());
        let check = self.health_check.get_or_insert_default();
        check.kind.get_or_insert_with(|| "TCP".to_owned());
        if check.kind.as_deref() == Some("HTTP") {
            check.path.get_or_insert_with(|| "/".to_owned());
        }
        check.period_seconds.get_or_insert(5);
        check.timeout_seconds.get_or_insert(2);
        check.failure_threshold.get_or_insert(2);
        check.success_threshold.get_or_insert(1);
        self.connect_timeout_seconds.get_or_insert(5);
        self.max_connections.get_or_insert(1024);
        self.drain_seconds.get_or_insert(10);
        self.udp_idle_seconds.get_or_insert(60);
        self.status_port.get_or_insert(STATUS_PORT);
        for port in &mut self.ports {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
}

/// Where a port leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// A name, or an address.
    pub host: String,
    /// Its port, if it was said.
    pub port: Option<u16>,
}

impl Target {
    /// Reads `HOST`, `HOST:PORT`, `IPV4:PORT`, `[IPV6]:PORT` or a bare IPv6 address; or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Target, String> {
        let port = |port: &str| match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("`{}` is not a port from 1 to 65535", crate::suggest::clip(port))),
        };
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Target { host: text.to_owned(), port: None });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("there is no `]` for the `[`")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("`{}` is not an IPv6 address", crate::suggest::clip(host)));
            }
            let port = match rest {
                "" => None,
                rest => Some(port(rest.strip_prefix(':').ok_or("a `:` and a port is what follows `]`")?)?),
            };
            return Ok(Target { host: host.to_owned(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err("an IPv6 address stands in `[` and `]`".to_owned()),
            Some((host, number)) => (host, Some(port(number)?)),
            None => (text, None),
        };
        is_host(host)?;
        Ok(Target { host: host.to_owned(), port })
    }
}

/// A name that can be looked up, or an IPv4 address.
fn is_host(host: &str) -> Result<(), String> {
    let alphabet = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(alphabet);
    let name = host.strip_suffix('.').unwrap_or(host);
    let numeric = name.rsplit('.').next().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    let clipped = crate::suggest::clip(host);
    if host.is_empty() {
        Err("a host is missing".to_owned())
    } else if numeric && host.parse::<IpAddr>().is_err() {
        Err(format!("`{clipped}` is not an IPv4 address"))
    } else if name.len() > 253 || !name.split('.').all(label) {
        Err(format!("`{clipped}` is not a host name"))
    } else {
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        if self.host.contains(':') { write!(f, "[{}]{port}", self.host) } else { write!(f, "{}{port}", self.host) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_read_and_written_in_their_forms() {
        for (text, host, port) in [
            ("db", "db", None),
            ("db.other:6379", "db.other", Some(6379)),
            ("db.example.com.:1", "db.example.com.", Some(1)),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("[fd00::1]:80", "fd00::1", Some(80)),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
            assert_eq!(target.to_string(), text);
        }
        assert_eq!(Target::parse("fd00::1").unwrap().to_string(), "[fd00::1]");
        assert_eq!(Target::parse("[::1]").unwrap().host, "::1");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for (text, why) in [
            ("", "a host is missing"),
            (":80", "a host is missing"),
            ("db:", "is not a port"),
            ("db:0", "is not a port"),
            ("db:65536", "is not a port"),
            ("db:http", "is not a port"),
            ("a..b:1", "is not a host name"),
            ("a/b", "is not a host name"),
            ("10.0.0:80", "is not an IPv4 address"),
            ("10.0.0.256:80", "is not an IPv4 address"),
            ("fd00::zz:80", "stands in `[` and `]`"),
            ("[fd00::1", "there is no `]`"),
            ("[db]:80", "is not an IPv6 address"),
            ("[::1]80", "follows `]`"),
        ] {
            let said = Target::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
