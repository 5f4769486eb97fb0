//! The head of the PROXY protocol: tells a target who is behind a connection. Bytes only.

use std::net::{IpAddr, SocketAddr};

use super::config::Proxy;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// What is sent before a connection's own bytes: who connected, and to which address of ours.
pub fn head(version: Proxy, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    // A socket for both families writes IPv4 as a part of IPv6.
    let (from, to) = match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (from @ IpAddr::V4(_), to @ IpAddr::V4(_)) | (from @ IpAddr::V6(_), to @ IpAddr::V6(_)) => (from, to),
        _ => (client.ip(), local.ip()),
    };
    match version {
        Proxy::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), local.port()).into_bytes()
        }
        Proxy::V2 => {
            let mut head = SIGNATURE.to_vec();
            let mut addresses = Vec::with_capacity(36);
            for ip in [from, to] {
                match ip {
                    IpAddr::V4(ip) => addresses.extend(ip.octets()),
                    IpAddr::V6(ip) => addresses.extend(ip.octets()),
                }
            }
            addresses.extend(client.port().to_be_bytes());
            addresses.extend(local.port().to_be_bytes());
            head.extend([VERSION_2_PROXY, if from.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 }]);
            head.extend((addresses.len() as u16).to_be_bytes());
            head.extend(addresses);
            head
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        let head = |from, to| String::from_utf8(head(Proxy::V1, address(from), address(to))).unwrap();
        assert_eq!(head("10.0.0.9:5000", "10.0.0.2:80"), "PROXY TCP4 10.0.0.9 10.0.0.2 5000 80\r\n");
        assert_eq!(head("[::ffff:10.0.0.9]:5000", "[::ffff:10.0.0.2]:80"), "PROXY TCP4 10.0.0.9 10.0.0.2 5000 80\r\n");
        assert_eq!(head("[fd00::9]:1", "[fd00::2]:80"), "PROXY TCP6 fd00::9 fd00::2 1 80\r\n");
    }

    #[test]
    fn version_2_is_bytes() {
        let four = head(Proxy::V2, address("[::ffff:1.2.3.4]:258"), address("[::ffff:5.6.7.8]:80"));
        assert_eq!(four, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\0\x50");
        let six = head(Proxy::V2, address("[fd00::9]:1"), address("[fd00::2]:80"));
        assert_eq!((six.len(), &six[12..16]), (16 + 36, &b"\x21\x21\0\x24"[..]));
    }
}
