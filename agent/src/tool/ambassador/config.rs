//! What to relay, checked: from a file, or from the classic form's words.

use std::collections::BTreeSet;
use std::time::Duration;

use manifests::ambassador::{AmbassadorHealthCheck, AmbassadorPort, AmbassadorSpec, STATUS_PORT, Target};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As metrics and messages write it.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }
}

/// Which target is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The first one that is there, in the order they are written.
    #[default]
    FirstHealthy,
    /// Each in turn.
    RoundRobin,
}

/// Whether targets are told who connects, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// How it is found out whether a target is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// What is asked for by HTTP; without it, that the target accepts is enough.
    pub path: Option<String>,
    /// The port to ask, if it is not the target's own.
    pub port: Option<u16>,
    /// Between checks.
    pub period: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failures: u32,
    /// Successes in a row that count.
    pub successes: u32,
}

/// A place that a port leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// A name, or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// One port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// For metrics.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub number: u16,
    /// Where it leads.
    pub places: Vec<Place>,
    /// How it is found out whether they are there.
    pub check: Option<Check>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The ports, each of another protocol or number.
    pub ports: Vec<Port>,
    /// Which target is next.
    pub balance: Balance,
    /// Whether targets are told who connects.
    pub proxy: Option<Proxy>,
    /// How long one target may take to accept.
    pub connect_timeout: Duration,
    /// Connections at a time, and UDP clients at a time.
    pub max_connections: usize,
    /// How long connections may go on when this process is told to end.
    pub drain: Duration,
    /// How long a silent UDP client is remembered.
    pub udp_idle: Duration,
    /// Where `/ready` and `/metrics` are served, if anywhere.
    pub status_port: Option<u16>,
}

impl Config {
    /// Reads a configuration file: the `spec` of an Ambassador, in JSON.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let mut spec: AmbassadorSpec = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        spec.fill();
        Self::of(&spec)
    }

    /// What a filled-in `spec` asks for.
    pub fn of(spec: &AmbassadorSpec) -> Result<Self, String> {
        let seconds = |value: Option<i32>| Duration::from_secs(u64::try_from(value.unwrap_or_default()).unwrap_or(0));
        let mut seen = BTreeSet::new();
        let mut ports = Vec::with_capacity(spec.ports.len());
        for written in &spec.ports {
            let port = port(written, spec)?;
            if !seen.insert((port.protocol, port.number)) {
                return Err(format!("port {} of {} is there twice", port.number, port.protocol.word()));
            }
            ports.push(port);
        }
        if ports.is_empty() {
            return Err("there are no ports".to_owned());
        }
        Ok(Config {
            ports,
            balance: match spec.balance.as_deref() {
                Some("RoundRobin") => Balance::RoundRobin,
                Some("FirstHealthy") | None => Balance::FirstHealthy,
                Some(other) => return Err(format!("unknown balance {other:?}")),
            },
            proxy: match spec.proxy_protocol.as_deref() {
                None => None,
                Some("v1") => Some(Proxy::V1),
                Some("v2") => Some(Proxy::V2),
                Some(other) => return Err(format!("unknown proxyProtocol {other:?}")),
            },
            connect_timeout: seconds(spec.connect_timeout_seconds).max(Duration::from_secs(1)),
            max_connections: usize::try_from(spec.max_connections.unwrap_or(1)).unwrap_or(1).max(1),
            drain: seconds(spec.drain_seconds),
            udp_idle: seconds(spec.udp_idle_seconds).max(Duration::from_secs(1)),
            status_port: Some(number(spec.status_port.unwrap_or(STATUS_PORT))?),
        })
    }

    /// A configuration of the classic form: nothing but ports and where they lead.
    pub fn classic(ports: Vec<Port>) -> Result<Self, String> {
        let mut spec = AmbassadorSpec::default();
        spec.ports.push(AmbassadorPort { port: 1, targets: vec!["localhost".to_owned()], ..AmbassadorPort::default() });
        spec.fill();
        // Whoever stops it means it: nobody told it how long to wait.
        spec.drain_seconds = Some(0);
        Ok(Config { ports, status_port: None, ..Self::of(&spec)? })
    }
}

fn number(value: i32) -> Result<u16, String> {
    u16::try_from(value).ok().filter(|port| *port > 0).ok_or_else(|| format!("{value} is not a port"))
}

fn port(written: &AmbassadorPort, spec: &AmbassadorSpec) -> Result<Port, String> {
    let own = number(written.port)?;
    let protocol = match written.protocol.as_deref() {
        Some("TCP") | None => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(other) => return Err(format!("unknown protocol {other:?}")),
    };
    let default = written.target_port.map_or(Ok(own), number)?;
    let targets = if written.targets.is_empty() { &spec.targets } else { &written.targets };
    let mut places = Vec::with_capacity(targets.len());
    for text in targets {
        let target = Target::parse(text)?;
        let place = Place { host: target.host.to_ascii_lowercase(), port: target.port.unwrap_or(default) };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() {
        return Err(format!("port {own} leads nowhere"));
    }
    let check = spec.health_check.as_ref().map(check).transpose()?.flatten();
    // Whether something answers by UDP is not known, unless it answers by TCP, too.
    let check = check.filter(|check| protocol == Protocol::Tcp || check.port.is_some());
    // It becomes a part of the metrics as it stands.
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let name = written.name.clone().filter(plain).unwrap_or_else(|| own.to_string());
    Ok(Port { name, protocol, number: own, places, check })
}

fn check(written: &AmbassadorHealthCheck) -> Result<Option<Check>, String> {
    let path = match written.kind.as_deref() {
        Some("None") => return Ok(None),
        Some("TCP") | None => None,
        Some("HTTP") => Some(written.path.clone().unwrap_or_else(|| "/".to_owned())),
        Some(other) => return Err(format!("unknown type of health check {other:?}")),
    };
    if path.iter().any(|path| !path.starts_with('/') || !path.chars().all(|c| c.is_ascii_graphic())) {
        return Err("the path of the health check is none".to_owned());
    }
    let least_one = |value: Option<i32>| u32::try_from(value.unwrap_or(1)).unwrap_or(1).max(1);
    Ok(Some(Check {
        path,
        port: written.port.map(number).transpose()?,
        period: Duration::from_secs(least_one(written.period_seconds).into()),
        timeout: Duration::from_secs(least_one(written.timeout_seconds).into()),
        failures: least_one(written.failure_threshold),
        successes: least_one(written.success_threshold),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_says_ports_and_where_they_lead() {
        let text = br#"{"ports": [{"port": 6379}, {"port": 53, "protocol": "UDP", "targets": ["[::1]:5353"]}],
            "targets": ["DB", "10.0.0.1:7000", "db"], "balance": "RoundRobin", "proxyProtocol": "v2",
            "healthCheck": {"type": "HTTP", "periodSeconds": 3}}"#;
        let config = Config::read(text).unwrap();
        let place = |host: &str, port| Place { host: host.to_owned(), port };
        assert_eq!(config.ports[0].places, [place("db", 6379), place("10.0.0.1", 7000)]);
        assert_eq!(config.ports[1].places, [place("::1", 5353)]);
        let check = config.ports[0].check.as_ref().unwrap();
        assert_eq!((check.path.as_deref(), check.period, check.failures), (Some("/"), Duration::from_secs(3), 2));
        assert_eq!(config.ports[1].check, None, "nothing answers by TCP there");
        assert_eq!((config.balance, config.proxy), (Balance::RoundRobin, Some(Proxy::V2)));
        assert_eq!(config.status_port, Some(15021));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, why) in [
            ("", "EOF"),
            ("{}", "no ports"),
            (r#"{"ports": [{"port": 1}]}"#, "leads nowhere"),
            (r#"{"ports": [{"port": 0, "targets": ["a"]}]}"#, "0 is not a port"),
            (r#"{"ports": [{"port": 1}, {"port": 1}], "targets": ["a"]}"#, "twice"),
            (r#"{"ports": [{"port": 1, "protocol": "SCTP"}], "targets": ["a"]}"#, "unknown protocol"),
            (r#"{"ports": [{"port": 1}], "targets": ["a:b"]}"#, "not a port"),
            (r#"{"ports": [{"port": 1}], "targets": ["a"], "balance": "x"}"#, "unknown balance"),
        ] {
            let said = Config::read(text.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
