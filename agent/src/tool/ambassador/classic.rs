//! The classic form: what to relay is in variables, as Docker's links set them, or in two words.

use super::config::{Place, Port, Protocol};
use manifests::ambassador::Target;

/// The ports that variables ask for: `…_PORT_<n>_TCP=tcp://HOST:PORT`, and the same for UDP. Of two variables for one
/// port the first counts; names are in order, so that this does not change from one start to the next.
pub fn ports(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Port> {
    let mut variables: Vec<(String, String)> = variables.into_iter().collect();
    variables.sort();
    let mut ports: Vec<Port> = Vec::new();
    for (name, value) in &variables {
        let Some(port) = port(name, value) else { continue };
        if !ports.iter().any(|known| (known.protocol, known.number) == (port.protocol, port.number)) {
            ports.push(port);
        }
    }
    ports
}

fn port(name: &str, value: &str) -> Option<Port> {
    let (rest, protocol, scheme) = match name.strip_suffix("_TCP") {
        Some(rest) => (rest, Protocol::Tcp, "tcp://"),
        None => (name.strip_suffix("_UDP")?, Protocol::Udp, "udp://"),
    };
    let (_, number) = rest.rsplit_once("_PORT_")?;
    let number = number.parse().ok().filter(|port| *port > 0)?;
    let target = Target::parse(value.strip_prefix(scheme)?.trim_end_matches('/')).ok()?;
    Some(relayed(protocol, number, target.host, target.port?))
}

/// The ports of `HOST PORT`: one, by TCP, relayed to the same.
pub fn of_words(host: &str, port: &str) -> Result<Vec<Port>, String> {
    let number = port.parse().ok().filter(|port| *port > 0);
    let number = number.ok_or_else(|| format!("{port} is not a port"))?;
    let target = Target::parse(host)?;
    if target.port.is_some() {
        return Err(format!("{host} names a port already"));
    }
    Ok(vec![relayed(Protocol::Tcp, number, target.host, number)])
}

fn relayed(protocol: Protocol, number: u16, host: String, port: u16) -> Port {
    let places = vec![Place { host: host.to_ascii_lowercase(), port }];
    Port { name: number.to_string(), protocol, number, places, check: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Vec<(Protocol, u16, String, u16)> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let one = |port: Port| (port.protocol, port.number, port.places[0].host.clone(), port.places[0].port);
        ports(variables).into_iter().map(one).collect()
    }

    #[test]
    fn variables_of_links_say_what_is_relayed() {
        let found = of(&[
            ("REDIS_PORT", "tcp://10.0.0.2:6379"),
            ("REDIS_PORT_6379_TCP", "tcp://10.0.0.2:16379"),
            ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.2"),
            ("REDIS_PORT_6379_TCP_PORT", "16379"),
            ("DNS_PORT_53_UDP", "udp://ns.example:53"),
            ("B_PORT_X_PORT_80_TCP", "tcp://[fd00::1]:8080"),
            ("PATH", "/bin"),
        ]);
        let expected = [
            (Protocol::Tcp, 80, "fd00::1".to_owned(), 8080),
            (Protocol::Udp, 53, "ns.example".to_owned(), 53),
            (Protocol::Tcp, 6379, "10.0.0.2".to_owned(), 16379),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_only_looks_like_one_is_left_alone() {
        assert!(
            of(&[("A_PORT_0_TCP", "tcp://h:1"), ("A_PORT_80_TCP", "udp://h:1"), ("A_PORT_80_UDP", "h:1")]).is_empty()
        );
        assert!(of(&[("A_PORT_99999_TCP", "tcp://h:1"), ("A_PORT_80_TCP", "tcp://h")]).is_empty());
        let clash = of(&[("B_PORT_80_TCP", "tcp://b:1"), ("A_PORT_80_TCP", "tcp://a:1")]);
        assert_eq!(clash, [(Protocol::Tcp, 80, "a".to_owned(), 1)]);
    }

    #[test]
    fn two_words_are_a_host_and_a_port() {
        let port = of_words("fd00::1", "80").unwrap().remove(0);
        assert_eq!((port.number, port.places[0].host.as_str(), port.places[0].port), (80, "fd00::1", 80));
        assert!(of_words("a:1", "80").unwrap_err().contains("names a port"));
        assert!(of_words("a", "x").unwrap_err().contains("not a port"));
    }
}
