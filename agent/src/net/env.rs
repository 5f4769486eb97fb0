//! The variables of links, as Docker made them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::links::{Port, Protocol, runs};

/// Variables of the source that are its image's, and say nothing to others.
const NOT_PASSED_ON: [&str; 2] = ["HOME", "PATH"];

/// What a link's variables are made from.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The pod that has the link.
    pub recipient: &'a str,
    /// What it calls the source.
    pub alias: &'a str,
    /// Where the source is; nobody knows before it was somewhere.
    pub address: Option<&'a str>,
    /// The source's ports.
    pub ports: &'a BTreeSet<Port>,
}

/// The variables of a link: for its lowest port, for ports in a row, for each port; then its name.
pub fn variables(source: &Source<'_>) -> Vec<(String, String)> {
    let prefix = prefix(source.alias);
    let mut all = Vec::new();
    if let Some(address) = source.address {
        // TCP wins where two protocols have the lowest number.
        if let Some(port) = source.ports.iter().min_by_key(|port| (port.number, port.protocol)) {
            all.push((format!("{prefix}_PORT"), url(address, *port)));
        }
        let rows = runs(source.ports).filter(|(first, last)| last.number - first.number >= 2);
        all.extend(rows.flat_map(|(first, last)| row(&prefix, address, first, last)));
        all.extend(source.ports.iter().flat_map(|port| single(&prefix, address, *port)));
    }
    all.push((format!("{prefix}_NAME"), format!("/{}/{}", source.recipient, source.alias)));
    all
}

/// The source's own variables, for who asked for them.
pub fn passed_on(alias: &str, variables: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let prefix = prefix(alias);
    let wanted = variables.iter().filter(|(name, _)| !NOT_PASSED_ON.contains(&name.as_str()));
    wanted.map(|(name, value)| (format!("{prefix}_ENV_{name}"), value.clone())).collect()
}

fn prefix(alias: &str) -> String {
    alias.to_uppercase().replace('-', "_")
}

fn key(prefix: &str, port: Port) -> String {
    format!("{prefix}_PORT_{}_{}", port.number, port.protocol.as_str().to_uppercase())
}

fn url(address: &str, port: Port) -> String {
    let Port { protocol, number } = port;
    // Docker knew no IPv6 here; a URL has such an address in brackets.
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("{}://[{address}]:{number}", Protocol::as_str(protocol)),
        _ => format!("{}://{address}:{number}", protocol.as_str()),
    }
}

/// Three ports or more in a row are told by the first of them.
fn row(prefix: &str, address: &str, first: Port, last: Port) -> [(String, String); 6] {
    let key = key(prefix, first);
    [
        (format!("{key}_START"), url(address, first)),
        (format!("{key}_ADDR"), address.to_owned()),
        (format!("{key}_PROTO"), first.protocol.as_str().to_owned()),
        (format!("{key}_PORT_START"), first.number.to_string()),
        (format!("{key}_END"), url(address, last)),
        (format!("{key}_PORT_END"), last.number.to_string()),
    ]
}

fn single(prefix: &str, address: &str, port: Port) -> [(String, String); 4] {
    let key = key(prefix, port);
    let url = url(address, port);
    [
        (format!("{key}_ADDR"), address.to_owned()),
        (format!("{key}_PORT"), port.number.to_string()),
        (format!("{key}_PROTO"), port.protocol.as_str().to_owned()),
        (key, url),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, number: u16) -> Port {
        Port { protocol, number }
    }

    fn made(alias: &str, address: Option<&str>, ports: &[Port]) -> Vec<String> {
        let ports = ports.iter().copied().collect();
        let source = Source { recipient: "web", alias, address, ports: &ports };
        let mut lines: Vec<String> =
            variables(&source).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let names: BTreeSet<&str> = lines.iter().filter_map(|line| line.split_once('=')).map(|it| it.0).collect();
        assert!(names.len() == lines.len() || alias == "rows", "{lines:?}");
        lines.sort();
        lines.dedup();
        lines
    }

    #[test]
    fn a_port_is_told_as_docker_told_it() {
        assert_eq!(
            made("redis", Some("10.1.0.2"), &[port(Protocol::Tcp, 6379)]),
            [
                "REDIS_NAME=/web/redis",
                "REDIS_PORT=tcp://10.1.0.2:6379",
                "REDIS_PORT_6379_TCP=tcp://10.1.0.2:6379",
                "REDIS_PORT_6379_TCP_ADDR=10.1.0.2",
                "REDIS_PORT_6379_TCP_PORT=6379",
                "REDIS_PORT_6379_TCP_PROTO=tcp",
            ]
        );
    }

    #[test]
    fn dashes_become_underscores_and_tcp_wins_a_tie() {
        let ports = [port(Protocol::Udp, 53), port(Protocol::Tcp, 53), port(Protocol::Tcp, 953)];
        let lines = made("my-dns", Some("10.1.0.2"), &ports);
        assert!(lines.contains(&"MY_DNS_PORT=tcp://10.1.0.2:53".to_owned()), "{lines:?}");
        assert!(lines.contains(&"MY_DNS_PORT_53_UDP=udp://10.1.0.2:53".to_owned()), "{lines:?}");
        assert_eq!(lines.len(), 1 + 3 * 4 + 1);
        let udp = made("a", Some("10.1.0.2"), &[port(Protocol::Udp, 53), port(Protocol::Tcp, 80)]);
        assert!(udp.contains(&"A_PORT=udp://10.1.0.2:53".to_owned()), "the lowest number comes first: {udp:?}");
    }

    #[test]
    fn three_ports_in_a_row_are_told_by_the_first() {
        let ports: Vec<Port> = [7000, 7001, 7002, 8000, 8001].map(|number| port(Protocol::Tcp, number)).into();
        let lines = made("rows", Some("10.1.0.2"), &ports);
        for line in [
            "ROWS_PORT_7000_TCP_START=tcp://10.1.0.2:7000",
            "ROWS_PORT_7000_TCP_ADDR=10.1.0.2",
            "ROWS_PORT_7000_TCP_PROTO=tcp",
            "ROWS_PORT_7000_TCP_PORT_START=7000",
            "ROWS_PORT_7000_TCP_END=tcp://10.1.0.2:7002",
            "ROWS_PORT_7000_TCP_PORT_END=7002",
            "ROWS_PORT_7001_TCP=tcp://10.1.0.2:7001",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} is not in {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.starts_with("ROWS_PORT_8000_TCP_START")), "two are no row: {lines:?}");
        let mixed: Vec<Port> = vec![port(Protocol::Tcp, 7000), port(Protocol::Tcp, 7001), port(Protocol::Udp, 7002)];
        let lines = made("rows", Some("10.1.0.2"), &mixed);
        assert!(!lines.iter().any(|line| line.contains("_START")), "a row is of one protocol: {lines:?}");
    }

    #[test]
    fn without_ports_or_an_address_there_is_the_name() {
        assert_eq!(made("db", Some("10.1.0.2"), &[]), ["DB_NAME=/web/db"]);
        assert_eq!(made("db", None, &[port(Protocol::Tcp, 80)]), ["DB_NAME=/web/db"]);
        let six = made("db", Some("fd00::2"), &[port(Protocol::Tcp, 80)]);
        assert!(six.contains(&"DB_PORT=tcp://[fd00::2]:80".to_owned()), "{six:?}");
        assert!(six.contains(&"DB_PORT_80_TCP_ADDR=fd00::2".to_owned()), "{six:?}");
    }

    #[test]
    fn the_sources_variables_are_passed_on_but_for_home_and_path() {
        let own = ["HOME", "PATH", "A", "URL"].map(|name| (name.to_owned(), b"x=1,y=2".to_vec()));
        let passed: Vec<String> = passed_on("my-db", &own).into_iter().map(|(name, _)| name).collect();
        assert_eq!(passed, ["MY_DB_ENV_A", "MY_DB_ENV_URL"]);
    }
}
