//! Which address a Service has: pure choices.
//!
//! An address belongs to the Service's name. One that has none yet gets that which follows from its name, or the next free
//! one; so a node that has lost its records gives mostly the same ones again. The beginning of a range is left to
//! manifests that name an address themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use sha2::{Digest as _, Sha256};

use super::is_headless;
use crate::node::desired::Name;

/// Where Services have their addresses: at most one range of a family, the preferred family first.
pub type Ranges = Vec<IpNet>;

/// A Service's addresses, the preferred family's first.
pub type Addresses = Vec<IpAddr>;

/// More addresses than this of one range are not counted.
const MOST: u128 = 1 << 20;

/// What Services get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The addresses of each that has some.
    pub addresses: BTreeMap<Name, Addresses>,
    /// Why others have none, or not all.
    pub problems: BTreeMap<Name, String>,
}

/// Gives every Service its addresses. `before` is who has which, `others` what is somebody else's.
pub fn allocate(
    ranges: &Ranges,
    services: &BTreeMap<Name, Service>,
    before: &BTreeMap<Name, Addresses>,
    others: &[IpAddr],
) -> Allocation {
    let mut allocation = Allocation::default();
    let mut taken: BTreeMap<IpAddr, Name> = BTreeMap::new();
    let wishes: Vec<(&Name, Wish)> =
        services.iter().filter_map(|(name, service)| Some((name, Wish::of(service.spec.as_ref()?, ranges)?))).collect();
    // Who has an address keeps it, if it is still right.
    for (name, wish) in &wishes {
        for address in before.get(*name).into_iter().flatten() {
            let right = ranges.iter().any(|range| range.contains(address)) && wish.takes(*address);
            if right && !others.contains(address) {
                taken.entry(*address).or_insert_with(|| (*name).clone());
            }
        }
    }
    // Those who name one go before those who take any.
    let (given, free): (Vec<_>, Vec<_>) = wishes.iter().partition(|(_, wish)| wish.given.iter().any(Option::is_some));
    for (name, wish) in given.into_iter().chain(free) {
        let mut addresses = Vec::new();
        for (index, family) in wish.families.iter().enumerate() {
            let given = wish.given.get(index).copied().flatten();
            match one(name, *family, given, ranges, &taken, others) {
                Ok(address) => {
                    taken.insert(address, (*name).clone());
                    addresses.push(address);
                }
                Err(why) => drop(allocation.problems.insert((*name).clone(), why)),
            }
        }
        if let Some(why) = &wish.problem {
            allocation.problems.entry((*name).clone()).or_insert_with(|| why.clone());
        }
        if !addresses.is_empty() && (wish.problem.is_none()) {
            allocation.addresses.insert((*name).clone(), addresses);
        }
    }
    allocation
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// What a Service asks for.
#[derive(Debug)]
struct Wish {
    families: Vec<Family>,
    /// The address that is named, by family.
    given: Vec<Option<IpAddr>>,
    problem: Option<String>,
}

impl Wish {
    /// None of a Service without an address.
    fn of(spec: &ServiceSpec, ranges: &Ranges) -> Option<Self> {
        if is_headless(spec) || spec.ports.as_ref().is_none_or(Vec::is_empty) {
            return None;
        }
        let mut named: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|it| it.parse().ok()).collect();
        if named.is_empty() {
            named.extend(spec.cluster_ip.as_ref().and_then(|it| it.parse::<IpAddr>().ok()));
        }
        let listed = spec.ip_families.iter().flatten().filter_map(|name| match name.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        });
        let there: Vec<Family> = ranges.iter().map(|range| Family::of(&range.addr())).collect();
        let mut families: Vec<Family> = listed.collect();
        let extend = |families: &mut Vec<Family>, more: &[Family]| {
            let new: Vec<Family> = more.iter().filter(|it| !families.contains(it)).copied().collect();
            families.extend(new);
        };
        extend(&mut families, &named.iter().map(Family::of).collect::<Vec<_>>());
        let policy = spec.ip_family_policy.as_deref();
        let wants_both = matches!(policy, Some("PreferDualStack" | "RequireDualStack"));
        if families.is_empty() || wants_both {
            extend(&mut families, &there[..if wants_both { there.len() } else { there.len().min(1) }]);
        }
        let mut problem = None;
        if policy == Some("PreferDualStack") && families.len() > 1 {
            // What is not there is not preferred; what is named is asked for.
            families.retain(|it| there.contains(it) || named.iter().any(|named| Family::of(named) == *it));
        } else if policy == Some("RequireDualStack") && families.len() < 2 {
            problem = Some("it requires addresses of both families, and this node has Services in one only".to_owned());
        }
        let given = families.iter().map(|family| named.iter().find(|it| Family::of(it) == *family).copied());
        Some(Wish { given: given.collect(), families, problem })
    }

    /// Whether an address would do.
    fn takes(&self, address: IpAddr) -> bool {
        let index = self.families.iter().position(|it| *it == Family::of(&address));
        let given = index.and_then(|index| self.given.get(index));
        given.is_some_and(|given| given.is_none_or(|given| given == address))
    }
}

/// The address of one family.
fn one(
    name: &Name,
    family: Family,
    given: Option<IpAddr>,
    ranges: &Ranges,
    taken: &BTreeMap<IpAddr, Name>,
    others: &[IpAddr],
) -> Result<IpAddr, String> {
    let Some(range) = ranges.iter().find(|range| Family::of(&range.addr()) == family) else {
        return Err(format!("this node has no Services with addresses of {}; say --service-cidr", family.name()));
    };
    if let Some(address) = given {
        if !usable(range, address) {
            return Err(format!("its address {address} is not one of {range}; say --service-cidr, or leave it out"));
        }
        if let Some((namespace, other)) = taken.get(&address).filter(|other| *other != name) {
            return Err(format!("its address {address} is that of Service {namespace}/{other}"));
        }
        return match others.contains(&address) {
            true => Err(format!("its address {address} is that of a Service of a run")),
            false => Ok(address),
        };
    }
    if let Some((address, _)) = taken.iter().find(|(address, its)| *its == name && Family::of(address) == family) {
        return Ok(*address);
    }
    let size = size(range);
    let low = static_part(size);
    let start = u128::from(number(name)) % (size - low).max(1);
    // From its own place to the end, then around; the part for those who name one comes last.
    let upper = (0..size - low).map(|step| low + (start + step) % (size - low).max(1));
    let free = |address: &IpAddr| usable(range, *address) && !taken.contains_key(address) && !others.contains(address);
    upper
        .chain(0..low)
        .map(|place| nth(range, place))
        .find(free)
        .ok_or_else(|| format!("every address of {range} is taken"))
}

/// How many addresses of a range are for those who name one.
fn static_part(size: u128) -> u128 {
    if size <= 16 { 0 } else { (size / 16).clamp(16, 256).min(size / 2) }
}

fn size(range: &IpNet) -> u128 {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    1_u128.checked_shl(bits).unwrap_or(MOST).min(MOST)
}

fn nth(range: &IpNet, place: u128) -> IpAddr {
    match range.network() {
        IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).wrapping_add(u32::try_from(place).unwrap_or(0))).into(),
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).wrapping_add(place)).into(),
    }
}

/// Neither the network's own nor, in IPv4, that of all.
fn usable(range: &IpNet, address: IpAddr) -> bool {
    range.contains(&address) && address != range.network() && (address.is_ipv6() || address != range.broadcast())
}

/// The number that follows from a name.
fn number(name: &Name) -> u64 {
    let digest = Sha256::digest(format!("{}/{}", name.0, name.1).as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
