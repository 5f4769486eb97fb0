//! Which addresses are for pods: pure choices over what the host looks like.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::survey::{Claim, Survey, Taken};

/// What is tried, in this order. Left out is what others take by themselves: Docker, podman, Kubernetes' usual pod and
/// service networks, the beginnings of blocks that people number by hand.
const CANDIDATES: [[u8; 2]; 16] = [
    [10, 201],
    [10, 137],
    [10, 229],
    [10, 173],
    [10, 149],
    [10, 211],
    [10, 163],
    [10, 187],
    [172, 30],
    [172, 29],
    [172, 28],
    [172, 27],
    [192, 168],
    [10, 219],
    [198, 18],
    [198, 19],
];

/// Shorter IPv4 prefixes than this are no networks of pods; longer ones hold too few.
const IPV4_LENGTHS: std::ops::RangeInclusive<u8> = 8..=29;
/// The same for IPv6.
const IPV6_LENGTHS: std::ops::RangeInclusive<u8> = 16..=120;

/// The most addresses that are kept count of in one range.
const MOST: u32 = 1 << 20;

/// The ranges of a state directory's pods. At least one is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// IPv4.
    pub v4: Option<Ipv4Net>,
    /// IPv6.
    pub v6: Option<Ipv6Net>,
}

impl Ranges {
    /// Both, where there are both.
    pub fn all(&self) -> Vec<IpNet> {
        self.v4.map(IpNet::from).into_iter().chain(self.v6.map(IpNet::from)).collect()
    }

    /// The host's addresses on every pod's link: the first of each range.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.nth(1)
    }

    /// How many pods can have an address.
    pub fn capacity(&self) -> u32 {
        // Not the network's own, nor the gateway's, nor, in IPv4, the one for all.
        let v4 = self.v4.map(|it| (1u64 << (32 - it.prefix_len())) - 3);
        let v6 = self.v6.map(|it| 1u64.checked_shl(128 - u32::from(it.prefix_len())).unwrap_or(u64::MAX) - 2);
        let least = v4.into_iter().chain(v6).min().unwrap_or(0);
        u32::try_from(least).unwrap_or(MOST).min(MOST)
    }

    /// The addresses of a place, one of each range.
    pub fn addresses(&self, place: u32) -> Vec<IpAddr> {
        self.nth(u64::from(place) + 2)
    }

    fn nth(&self, number: u64) -> Vec<IpAddr> {
        let v4 = self.v4.map(|it| Ipv4Addr::from(u32::from(it.network()).wrapping_add(number as u32)).into());
        let v6 = self.v6.map(|it| Ipv6Addr::from(u128::from(it.network()).wrapping_add(number.into())).into());
        v4.into_iter().chain(v6).collect()
    }

    /// In words.
    pub fn words(&self) -> String {
        self.all().iter().map(IpNet::to_string).collect::<Vec<_>>().join(" and ")
    }
}

/// What was asked for, if anything: one range of a family at most, each of which can be.
pub fn wanted(ranges: &[IpNet]) -> Result<Option<Ranges>, Error> {
    let mut wanted = Ranges::default();
    for &range in ranges {
        let bad = |why: String| Err(Error::Range { range, why });
        if range.trunc() != range {
            return bad(format!("has bits set behind its length; write {}", range.trunc()));
        }
        let lengths = if range.addr().is_ipv4() { IPV4_LENGTHS } else { IPV6_LENGTHS };
        if !lengths.contains(&range.prefix_len()) {
            return bad(format!("is too large or too small: from /{} to /{} can be", lengths.start(), lengths.end()));
        }
        let address = range.addr();
        let special = match address {
            IpAddr::V4(it) => it.is_loopback() || it.is_multicast() || it.is_link_local() || it.octets()[0] >= 240,
            IpAddr::V6(it) => it.is_loopback() || it.is_multicast() || it.is_unicast_link_local(),
        };
        if special || address.is_unspecified() {
            return bad("is of a kind that cannot be routed; take a private one, such as 10.201.0.0/16".into());
        }
        let twice = match range {
            IpNet::V4(it) => wanted.v4.replace(it).is_some(),
            IpNet::V6(it) => wanted.v6.replace(it).is_some(),
        };
        if twice {
            return bad("is the second of its family; name one IPv4 and one IPv6 range at most".into());
        }
    }
    Ok((wanted != Ranges::default()).then_some(wanted))
}

/// Chooses: what was wanted, if it is free; else what was used before, if it is; else the first that is.
///
/// `group` is whose own claims do not count as somebody's; `ula` makes a new random IPv6 prefix.
pub fn choose(
    wanted: Option<Ranges>,
    before: Ranges,
    survey: &Survey,
    group: u32,
    ula: impl FnMut() -> io::Result<Ipv6Net>,
) -> Result<Ranges, crate::Error> {
    let taken = |range: IpNet| taken(survey, group, range);
    if let Some(wanted) = wanted {
        for range in wanted.all() {
            if let Some(by) = taken(range) {
                return Err(Error::Taken { range, by }.into());
            }
            if range.addr().is_ipv6() && !survey.ipv6 {
                let why = "needs IPv6, which this host does not have or has switched off";
                return Err(Error::Range { range, why: why.into() }.into());
            }
        }
        return Ok(wanted);
    }
    let candidates = CANDIDATES.iter().map(|[a, b]| Ipv4Net::new_assert(Ipv4Addr::new(*a, *b, 0, 0), 16));
    choose_from(candidates, before, survey, group, ula)
}

fn choose_from(
    candidates: impl Iterator<Item = Ipv4Net> + Clone,
    before: Ranges,
    survey: &Survey,
    group: u32,
    mut ula: impl FnMut() -> io::Result<Ipv6Net>,
) -> Result<Ranges, crate::Error> {
    let taken = |range: IpNet| taken(survey, group, range);
    let free = |range: &IpNet| taken(*range).is_none();
    let v4 = before.v4.into_iter().chain(candidates.clone()).find(|it| free(&IpNet::from(*it)));
    let mut v6 = None;
    // A random one that is taken is unheard of; that many in turn means that everything is.
    for attempt in 0..16 {
        let next = match before.v6.filter(|_| attempt == 0) {
            Some(before) => before,
            None if survey.ipv6 => {
                use crate::error::During as _;
                ula().during(|| "make a random IPv6 prefix".into())?
            }
            None => break,
        };
        if survey.ipv6 && free(&IpNet::from(next)) {
            v6 = Some(next);
            break;
        }
    }
    let Some(v4) = v4 else {
        let first = candidates.map(IpNet::from).next().unwrap_or_default();
        let by = taken(first).unwrap_or_default();
        return Err(Error::NoneFree { first, by }.into());
    };
    Ok(Ranges { v4: Some(v4), v6 })
}

/// Where the ranges of networks are looked for that name none: in blocks of the same sort as [`CANDIDATES`], none of
/// which is one of those.
const SMALL: [[u8; 2]; 4] = [[10, 202], [10, 138], [10, 230], [172, 26]];

/// How long the prefixes of these are.
const SMALL_LENGTH: u8 = 24;

/// Chooses for a network that names no ranges: what it had before, if it is free; else the first that is.
pub fn choose_small(
    before: Ranges,
    survey: &Survey,
    group: u32,
    ula: impl FnMut() -> io::Result<Ipv6Net>,
) -> Result<Ranges, crate::Error> {
    let blocks = SMALL.iter().flat_map(|[a, b]| (0..=255).map(move |c| Ipv4Addr::new(*a, *b, c, 0)));
    let blocks = blocks.map(|it| Ipv4Net::new_assert(it, SMALL_LENGTH));
    choose_from(blocks, before, survey, group, ula)
}

/// Who has addresses of a range.
pub fn taken(survey: &Survey, group: u32, range: IpNet) -> Option<String> {
    let overlaps = |other: &IpNet| range.contains(other) || other.contains(&range);
    let somebody =
        survey.taken.iter().chain(&survey.routed).find(|it| overlaps(&it.range)).map(|Taken { by, .. }| by.clone());
    let claimed = || {
        let claim = survey.claims.iter().find(|it| it.group != group && overlaps(&it.range));
        claim.map(|Claim { range, .. }| format!("{range}, the pods' range of another Coracle on this host"))
    };
    somebody.or_else(claimed)
}

/// A random prefix for private use (RFC 4193).
pub fn random_ula() -> io::Result<Ipv6Net> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes[1..8]).map_err(|error| io::Error::other(format!("get random numbers: {error}")))?;
    bytes[0] = 0xfd;
    Ok(Ipv6Net::new_assert(Ipv6Addr::from(bytes), 64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn survey(taken: &[&str]) -> Survey {
        let taken = taken.iter().map(|it| Taken { range: it.parse().unwrap(), by: format!("the route {it}") });
        Survey { taken: taken.collect(), ipv6: true, mtu: 1500, ..Survey::default() }
    }

    fn ula() -> io::Result<Ipv6Net> {
        Ok("fd01:2:3:4::/64".parse().unwrap())
    }

    fn chosen(wanted_ranges: &[&str], survey: &Survey) -> Result<Ranges, String> {
        let ranges: Vec<IpNet> = wanted_ranges.iter().map(|it| it.parse().unwrap()).collect();
        let wanted = wanted(&ranges).map_err(|error| error.to_string())?;
        choose(wanted, Ranges::default(), survey, 7, ula).map_err(|error| error.to_string())
    }

    #[test]
    fn a_host_with_nothing_gets_the_first_range_and_a_random_one() {
        let ranges = chosen(&[], &survey(&[])).unwrap();
        assert_eq!(ranges.words(), "10.201.0.0/16 and fd01:2:3:4::/64");
        assert_eq!(ranges.gateways(), ["10.201.0.1".parse::<IpAddr>().unwrap(), "fd01:2:3:4::1".parse().unwrap()]);
        assert_eq!(ranges.addresses(0)[0], "10.201.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(ranges.capacity(), 65_533);
        assert_eq!(
            *ranges.addresses(ranges.capacity() - 1).first().unwrap(),
            "10.201.255.254".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn a_range_that_any_route_address_or_name_server_is_in_is_passed_over() {
        for (taken, expected) in [
            (vec!["10.201.3.0/24"], "10.137.0.0/16"),
            (vec!["10.201.0.53/32", "10.137.0.0/16"], "10.229.0.0/16"),
            (vec!["10.0.0.0/8"], "172.30.0.0/16"),
            (vec!["10.0.0.0/8", "172.16.0.0/12"], "192.168.0.0/16"),
            (vec!["10.0.0.0/8", "172.16.0.0/12", "192.168.1.0/24"], "198.18.0.0/16"),
        ] {
            assert_eq!(chosen(&[], &survey(&taken)).unwrap().v4.unwrap().to_string(), expected, "{taken:?}");
        }
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"];
        let error = chosen(&[], &survey(&all)).unwrap_err();
        assert!(error.contains("10.201.0.0/16 overlaps the route 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn what_was_used_before_is_used_again_while_it_is_free() {
        let before = Ranges { v4: Some("10.7.0.0/24".parse().unwrap()), v6: Some("fd09::/64".parse().unwrap()) };
        assert_eq!(choose(None, before, &survey(&[]), 7, ula).unwrap(), before);
        let moved = choose(None, before, &survey(&["10.7.0.0/16"]), 7, ula).unwrap();
        assert_eq!(moved, Ranges { v4: Some("10.201.0.0/16".parse().unwrap()), ..before });
    }

    #[test]
    fn anothers_claim_is_taken_and_ones_own_is_not() {
        let mut survey = survey(&[]);
        survey.claims = vec![Claim { range: "10.201.0.0/16".parse().unwrap(), group: 7 }];
        assert_eq!(chosen(&[], &survey).unwrap().v4.unwrap().to_string(), "10.201.0.0/16");
        survey.claims[0].group = 8;
        assert_eq!(chosen(&[], &survey).unwrap().v4.unwrap().to_string(), "10.137.0.0/16");
        let error = chosen(&["10.201.4.0/24"], &survey).unwrap_err();
        assert!(error.contains("another Coracle"), "{error}");
    }

    #[test]
    fn named_ranges_are_all_there_is_or_an_error_that_names_the_clash() {
        assert_eq!(chosen(&["10.5.0.0/24"], &survey(&[])).unwrap().words(), "10.5.0.0/24");
        assert_eq!(chosen(&["fd05::/64"], &survey(&[])).unwrap().words(), "fd05::/64");
        let rows = [
            (vec!["10.5.0.1/24"], "write 10.5.0.0/24"),
            (vec!["10.5.0.0/30"], "from /8 to /29"),
            (vec!["127.4.0.0/16"], "cannot be routed"),
            (vec!["fe80::/64"], "cannot be routed"),
            (vec!["10.5.0.0/24", "10.6.0.0/24"], "second of its family"),
            (vec!["10.9.0.0/16"], "overlaps the route 10.9.3.0/24"),
        ];
        for (ranges, expected) in rows {
            let error = chosen(&ranges, &survey(&["10.9.3.0/24"])).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_given_may_be_a_part_of_what_a_router_has_and_of_nothing_else() {
        let given: IpNet = "10.244.1.0/24".parse().unwrap();
        let routed = |range: &str| Taken { range: range.parse().unwrap(), by: format!("the route {range}") };
        for (range, clashes) in [("10.244.0.0/16", false), ("10.244.1.0/24", true), ("10.244.1.128/25", true)] {
            let mut behind = Survey { routed: vec![routed(range)], ..survey(&[]) };
            assert!(taken(&behind, 7, given).is_some(), "{range}");
            behind.allow_part(&[given]);
            assert_eq!(taken(&behind, 7, given).is_some(), clashes, "{range}");
            let mut on_link = survey(&[range]);
            on_link.allow_part(&[given]);
            assert!(taken(&on_link, 7, given).is_some(), "{range}");
        }
    }

    #[test]
    fn a_network_that_names_no_range_gets_a_small_one_that_is_free() {
        let small = |taken: &[&str]| choose_small(Ranges::default(), &survey(taken), 7, ula).unwrap().words();
        assert_eq!(small(&[]), "10.202.0.0/24 and fd01:2:3:4::/64");
        assert_eq!(small(&["10.202.0.0/23"]), "10.202.2.0/24 and fd01:2:3:4::/64");
        assert_eq!(small(&["10.202.0.0/16"]), "10.138.0.0/24 and fd01:2:3:4::/64");
        let all = survey(&["10.0.0.0/8", "172.16.0.0/12"]);
        let error = choose_small(Ranges::default(), &all, 7, ula).unwrap_err().to_string();
        assert!(error.contains("10.202.0.0/24 overlaps the route 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn a_host_without_ipv6_has_ipv4_alone() {
        let survey = Survey { ipv6: false, ..survey(&[]) };
        assert_eq!(chosen(&[], &survey).unwrap().words(), "10.201.0.0/16");
        assert!(chosen(&["fd05::/64"], &survey).unwrap_err().contains("does not have"));
    }
}
