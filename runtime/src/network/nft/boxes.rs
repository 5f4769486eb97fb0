//! What a policy allows, cut into pieces that have nothing in common: the kernel takes no range that begins or ends within
//! another one.

use std::collections::{BTreeMap, BTreeSet};

use super::elements::{address, family, highest, number, port_key, protocol_key};
use super::relations::Allow;

/// A range of addresses, of protocols and of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// The lowest and the highest address, as numbers.
    pub addresses: (u128, u128),
    /// The lowest and the highest protocol.
    pub protocols: (u8, u8),
    /// The lowest and the highest port.
    pub ports: (u16, u16),
}

impl Piece {
    /// The first and the last key of what follows the pod's own address.
    pub fn keys(&self, family: usize) -> (Vec<u8>, Vec<u8>) {
        let key =
            |it: u128, protocol, port| [&address(family, it)[..], &protocol_key(protocol), &port_key(port)].concat();
        let Self { addresses, protocols, ports } = *self;
        (key(addresses.0, protocols.0, ports.0), key(addresses.1, protocols.1, ports.1))
    }
}

/// What of some addresses is allowed: everything, or these protocols and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Allowed {
    everything: bool,
    ports: BTreeMap<u8, Vec<(u16, u16)>>,
}

/// The pieces of what rules allow, in one family of addresses.
pub fn of(rules: &[Allow], family: usize) -> Vec<Piece> {
    let ranges: Vec<Vec<(u128, u128)>> = rules.iter().map(|rule| addresses(rule, family)).collect();
    // Between two of these, all rules say the same of every address.
    let mut cuts: BTreeSet<u128> = BTreeSet::new();
    for &(first, last) in ranges.iter().flatten() {
        cuts.insert(first);
        cuts.extend(last.checked_add(1).filter(|it| *it <= highest(family)));
    }
    let cuts: Vec<u128> = cuts.into_iter().collect();
    let mut pieces = Vec::new();
    let mut before: Option<((u128, u128), Allowed)> = None;
    for (index, &first) in cuts.iter().enumerate() {
        let last = cuts.get(index + 1).map_or(highest(family), |next| next - 1);
        let here = allowed(rules, &ranges, first);
        match &mut before {
            Some((range, known)) if *known == here => range.1 = last,
            _ => pieces.extend(before.replace(((first, last), here)).into_iter().flat_map(cut)),
        }
    }
    pieces.extend(before.into_iter().flat_map(cut));
    pieces
}

/// What is allowed of one address.
fn allowed(rules: &[Allow], ranges: &[Vec<(u128, u128)>], it: u128) -> Allowed {
    let mut allowed = Allowed::default();
    for (rule, ranges) in rules.iter().zip(ranges) {
        if !ranges.iter().any(|(first, last)| (first..=last).contains(&&it)) {
            continue;
        }
        allowed.everything |= rule.ports.is_empty();
        for range in &rule.ports {
            allowed.ports.entry(range.protocol.number()).or_default().push((range.first, range.last));
        }
    }
    if allowed.everything {
        allowed.ports.clear();
    }
    allowed.ports.values_mut().for_each(|it| *it = merged(std::mem::take(it)));
    allowed
}

/// Ranges of ports that neither touch nor overlap.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn cut((addresses, allowed): ((u128, u128), Allowed)) -> Vec<Piece> {
    if allowed.everything {
        return vec![Piece { addresses, protocols: (0, 255), ports: (0, u16::MAX) }];
    }
    let of_protocol = |(protocol, ports): (u8, Vec<(u16, u16)>)| {
        ports.into_iter().map(move |ports| Piece { addresses, protocols: (protocol, protocol), ports })
    };
    allowed.ports.into_iter().flat_map(of_protocol).collect()
}

/// The addresses of a rule that are of this family.
fn addresses(rule: &Allow, index: usize) -> Vec<(u128, u128)> {
    let Some(peers) = &rule.peers else { return vec![(0, highest(index))] };
    let mut ranges = Vec::new();
    for block in peers.iter().filter(|it| family(it.cidr.addr()) == index) {
        let ends = |net: &ipnet::IpNet| (number(net.network()), number(net.broadcast()));
        let mut left = vec![ends(&block.cidr)];
        for hole in block.except.iter().filter(|it| family(it.addr()) == index) {
            let (first, last) = ends(hole);
            left = left.into_iter().flat_map(|range| without(range, (first, last))).collect();
        }
        ranges.extend(left);
    }
    ranges
}

/// A range without another one.
fn without((first, last): (u128, u128), hole: (u128, u128)) -> Vec<(u128, u128)> {
    if hole.1 < first || hole.0 > last {
        return vec![(first, last)];
    }
    let below = (hole.0 > first).then(|| (first, hole.0 - 1));
    let above = (hole.1 < last).then(|| (hole.1 + 1, last));
    below.into_iter().chain(above).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::nft::relations::Block;
    use crate::network::ports::Protocol;
    use crate::network::wanted::Ports;

    fn allow(peers: Option<Vec<(&str, Vec<&str>)>>, ports: Vec<(Protocol, u16, u16)>) -> Allow {
        let block = |(cidr, except): (&str, Vec<&str>)| Block {
            cidr: cidr.parse().unwrap(),
            except: except.into_iter().map(|it| it.parse().unwrap()).collect(),
        };
        Allow {
            peers: peers.map(|it| it.into_iter().map(block).collect()),
            ports: ports.into_iter().map(|(protocol, first, last)| Ports { protocol, first, last }).collect(),
        }
    }

    #[test]
    fn everybody_and_everything_is_one_piece() {
        let pieces = of(&[allow(None, vec![])], 1);
        assert_eq!(pieces, [Piece { addresses: (0, u128::MAX), protocols: (0, 255), ports: (0, 65535) }]);
    }

    #[test]
    fn peers_that_are_not_there_allow_nothing() {
        assert_eq!(of(&[allow(Some(vec![]), vec![])], 0), []);
        assert_eq!(of(&[allow(Some(vec![("fd00::/8", vec![])]), vec![])], 0), []);
    }

    #[test]
    fn a_hole_is_allowed_by_another_rule() {
        let rules = [
            allow(Some(vec![("10.0.0.0/8", vec!["10.1.0.0/16"])]), vec![]),
            allow(Some(vec![("10.1.0.7/32", vec![])]), vec![(Protocol::Tcp, 80, 90), (Protocol::Tcp, 91, 91)]),
        ];
        let pieces = of(&rules, 0);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.iter().find(|it| it.protocols == (6, 6)).unwrap().ports, (80, 91));
    }

    fn holds(piece: &Piece, address: u128, protocol: u8, port: u16) -> bool {
        let within = |(first, last): (u128, u128), it| (first..=last).contains(&it);
        within(piece.addresses, address)
            && (piece.protocols.0..=piece.protocols.1).contains(&protocol)
            && (piece.ports.0..=piece.ports.1).contains(&port)
    }

    proptest! {
        /// On a world of 16 addresses and 16 ports.
        #[test]
        fn pieces_are_apart_and_hold_what_the_rules_allow(
            rules in prop::collection::vec(
                (
                    prop::option::of(prop::collection::vec((0u8..16, 0u8..3, 0u8..16), 0..4)),
                    prop::collection::vec((any::<bool>(), 1u16..16, 0u16..4), 0..4),
                ),
                0..6,
            )
        ) {
            let rules: Vec<Allow> = rules.into_iter().map(|(peers, ports)| Allow {
                peers: peers.map(|peers| peers.into_iter().map(|(at, wider, hole)| Block {
                    cidr: format!("10.0.0.{at}/{}", 32 - wider).parse::<ipnet::IpNet>().unwrap().trunc(),
                    except: vec![format!("10.0.0.{hole}/32").parse().unwrap()],
                }).collect()),
                ports: ports.into_iter().map(|(udp, first, more)| Ports {
                    protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                    first,
                    last: first + more,
                }).collect(),
            }).collect();
            let pieces = of(&rules, 0);
            for at in 0..16u32 {
                let address = u128::from(u32::from_be_bytes([10, 0, 0, 0]) + at);
                let ip = std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(address as u32));
                for (protocol, number) in [(Protocol::Tcp, 6), (Protocol::Udp, 17)] {
                    for port in 0..20u16 {
                        let wanted = rules.iter().any(|rule| {
                            let peer = |it: &Block| it.cidr.contains(&ip) && !it.except.iter().any(|it| it.contains(&ip));
                            rule.peers.as_ref().is_none_or(|it| it.iter().any(peer))
                                && (rule.ports.is_empty()
                                    || rule.ports.iter().any(|it| {
                                        it.protocol == protocol && (it.first..=it.last).contains(&port)
                                    }))
                        });
                        let count = pieces.iter().filter(|it| holds(it, address, number, port)).count();
                        prop_assert_eq!(count, usize::from(wanted), "{} {} {}", ip, number, port);
                    }
                }
            }
        }
    }
}
