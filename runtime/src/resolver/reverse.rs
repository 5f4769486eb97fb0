//! Names of addresses: `2.0.201.10.in-addr.arpa`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What such a name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One address.
    Address(IpAddr),
    /// All that begin so.
    Range(IpNet),
    /// It is no address's name.
    Other,
}

/// Reads a name in lower case without a last dot. None if it is not below one of the two domains.
pub fn parse(text: &str) -> Option<Asked> {
    if let Some(labels) = below(text, "in-addr.arpa") {
        return Some(v4(labels).unwrap_or(Asked::Other));
    }
    let labels = below(text, "ip6.arpa")?;
    Some(v6(labels).unwrap_or(Asked::Other))
}

/// The labels below a domain, the highest first.
fn below<'a>(text: &'a str, domain: &str) -> Option<Vec<&'a str>> {
    let rest = text.strip_suffix(domain)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    Some(rest.strip_suffix('.')?.rsplit('.').collect())
}

fn v4(labels: Vec<&str>) -> Option<Asked> {
    let mut bytes = [0; 4];
    for (byte, label) in bytes.get_mut(..labels.len())?.iter_mut().zip(&labels) {
        // One way to write a number: 010 is not 10.
        let plain = *label == "0" || !label.starts_with(['0', '+']);
        *byte = label.parse().ok().filter(|_| plain)?;
    }
    if labels.len() == bytes.len() {
        return Some(Asked::Address(Ipv4Addr::from(bytes).into()));
    }
    let length = u8::try_from(8 * labels.len()).ok()?;
    Some(Asked::Range(Ipv4Net::new(bytes.into(), length).ok()?.into()))
}

fn v6(labels: Vec<&str>) -> Option<Asked> {
    if labels.len() > 32 {
        return None;
    }
    let mut bits: u128 = 0;
    for (index, label) in labels.iter().enumerate() {
        let digit = label.chars().next().and_then(|it| it.to_digit(16)).filter(|_| label.len() == 1)?;
        bits |= u128::from(digit) << (124 - 4 * index);
    }
    let address = Ipv6Addr::from(bits);
    if labels.len() == 32 {
        return Some(Asked::Address(address.into()));
    }
    let length = u8::try_from(4 * labels.len()).ok()?;
    Some(Asked::Range(Ipv6Net::new(address, length).ok()?.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses_are_read_backwards() {
        let address = |text: &str| Some(Asked::Address(text.parse().unwrap()));
        let range = |text: &str| Some(Asked::Range(text.parse().unwrap()));
        assert_eq!(parse("2.0.201.10.in-addr.arpa"), address("10.201.0.2"));
        let v6 = format!("{}1.0.0.d.f.ip6.arpa", "2.".to_owned() + &"0.".repeat(26));
        assert_eq!(parse(&v6), address("fd00:1000::2"));
        assert_eq!(parse("201.10.in-addr.arpa"), range("10.201.0.0/16"));
        assert_eq!(parse("in-addr.arpa"), range("0.0.0.0/0"));
        assert_eq!(parse("d.f.ip6.arpa"), range("fd00::/8"));
        assert_eq!(parse("example.org"), None);
        assert_eq!(parse("xin-addr.arpa"), None);
        for wrong in [
            "256.0.0.10.in-addr.arpa",
            "1.2.0.201.10.in-addr.arpa",
            "02.0.201.10.in-addr.arpa",
            "xy.ip6.arpa",
            "+2.0.201.10.in-addr.arpa",
            ".in-addr.arpa",
            "g.ip6.arpa",
        ] {
            assert_eq!(parse(wrong), Some(Asked::Other), "{wrong}");
        }
        assert_eq!(parse(&format!("{}ip6.arpa", "0.".repeat(33))), Some(Asked::Other));
    }
}
