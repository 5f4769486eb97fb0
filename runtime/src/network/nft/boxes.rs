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
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Allowed {
    everything: bool,
    ports: BTreeMap<u8, Vec<(u16, u16)>>,
}

/// The pieces of what rules allow, in one family of addresses.
pub fn of(rules: &[Allow], family: usize) -> Vec<Piece> {
    // Rules that allow the same are one: of what is left there is little at any one address, however many blocks there are.
    let mut groups: BTreeMap<Allowed, Vec<(u128, u128)>> = BTreeMap::new();
    for rule in rules {
        groups.entry(allowed(rule)).or_default().extend(addresses(rule, family));
    }
    // Between two of these, all rules say the same of every address: what begins there, and what does not go on.
    let mut cuts: BTreeMap<u128, [Vec<&Allowed>; 2]> = BTreeMap::new();
    for (allowed, ranges) in &mut groups {
        for (first, last) in merged(std::mem::take(ranges), |it| it.saturating_add(1)) {
            cuts.entry(first).or_default()[0].push(allowed);
            if let Some(next) = last.checked_add(1).filter(|it| *it <= highest(family)) {
                cuts.entry(next).or_default()[1].push(allowed);
            }
        }
    }
    let mut pieces = Vec::new();
    let mut here: BTreeSet<&Allowed> = BTreeSet::new();
    let mut before: Option<(u128, Allowed)> = None;
    for (at, [begin, end]) in cuts {
        here.retain(|it| !end.contains(it));
        here.extend(begin);
        let allowed = together(&here);
        if before.as_ref().is_some_and(|(_, known)| *known == allowed) {
            continue;
        }
        if let Some((first, allowed)) = before.replace((at, allowed)) {
            pieces.extend(cut(((first, at - 1), allowed)));
        }
    }
    pieces.extend(before.into_iter().flat_map(|(first, allowed)| cut(((first, highest(family)), allowed))));
    pieces
}

/// What a rule allows whom it is about.
fn allowed(rule: &Allow) -> Allowed {
    let mut ports: BTreeMap<u8, Vec<(u16, u16)>> = BTreeMap::new();
    for range in &rule.ports {
        ports.entry(range.protocol.number()).or_default().push((range.first, range.last));
    }
    Allowed { everything: rule.ports.is_empty(), ports: all_merged(ports) }
}

/// What several allow.
fn together(several: &BTreeSet<&Allowed>) -> Allowed {
    if several.iter().any(|it| it.everything) {
        return Allowed { everything: true, ports: BTreeMap::new() };
    }
    let mut ports: BTreeMap<u8, Vec<(u16, u16)>> = BTreeMap::new();
    for (protocol, ranges) in several.iter().flat_map(|it| &it.ports) {
        ports.entry(*protocol).or_default().extend(ranges);
    }
    Allowed { everything: false, ports: all_merged(ports) }
}

fn all_merged(ports: BTreeMap<u8, Vec<(u16, u16)>>) -> BTreeMap<u8, Vec<(u16, u16)>> {
    ports.into_iter().map(|(protocol, ranges)| (protocol, merged(ranges, |it| it.saturating_add(1)))).collect()
}

/// Ranges that neither touch nor overlap, in their order.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> T) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= next(before.1) => before.1 = before.1.max(last),
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
        let holes = block.except.iter().filter(|it| family(it.addr()) == index).map(ends).collect();
        ranges.extend(without(ends(&block.cidr), &merged(holes, |it| it.saturating_add(1))));
    }
    ranges
}

/// A range without others, which are in their order and apart.
fn without((first, last): (u128, u128), holes: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut left = Vec::new();
    let mut from = first;
    for &(begin, end) in holes.iter().filter(|(begin, end)| *end >= first && *begin <= last) {
        if begin > from {
            left.push((from, begin - 1));
        }
        let Some(next) = end.checked_add(1).filter(|it| *it <= last) else { return left };
        from = next;
    }
    left.push((from, last));
    left
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

    /// With steps for each pair of blocks it would not end in a time that anybody waits for.
    #[test]
    fn many_blocks_are_few_pieces() {
        let block = |cidr: String, except| Block { cidr: cidr.parse().unwrap(), except };
        let own = |it: u32| format!("10.{}.{}.{}/32", it >> 16, it >> 8 & 255, it & 255);
        let hole = |it: u32| own(2 * it).parse().unwrap();
        let many = 50_000;
        let rules = [
            Allow { peers: Some((0..many).map(|it| block(own(it), vec![])).collect()), ports: vec![] },
            Allow { peers: Some(vec![block("10.0.0.0/8".into(), (0..many).map(hole).collect())]), ports: vec![] },
        ];
        // All but every second one of the upper half.
        assert_eq!(of(&rules[..1], 0).len(), 1);
        assert_eq!(of(&rules, 0).len(), many as usize / 2 + 1);
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
