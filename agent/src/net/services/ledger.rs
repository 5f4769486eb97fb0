//! Who has which Service's address, on disk: `ROOT/network/services.json`, for the agent and for runs alike.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Service;
use runtime::network::Surroundings;
use runtime::store::{self, Durability};
use serde::{Deserialize, Serialize};

use super::addresses::{Addresses, Allocation, Ranges, allocate};
use crate::node::desired::Name;

/// The version of the record.
const VERSION: u32 = 1;

const RECORD: &str = "services.json";

/// What is tried, in this order: what others do not take by themselves, and pods do not get either.
const CANDIDATES: [[u8; 2]; 8] =
    [[10, 155], [10, 141], [10, 233], [10, 179], [10, 217], [172, 26], [172, 25], [172, 24]];

/// Services of a family that has this long a prefix are some ten thousands, or some.
const V4_LENGTHS: std::ops::RangeInclusive<u8> = 12..=29;
const V6_LENGTHS: std::ops::RangeInclusive<u8> = 64..=124;

/// Why a range cannot be one of Services.
#[derive(Debug, thiserror::Error)]
#[error("--service-cidr {range} {why}")]
pub struct BadRange {
    range: IpNet,
    why: String,
}

/// The addresses of one owner's Services.
#[derive(Clone, Debug)]
pub struct Ledger {
    dir: PathBuf,
    /// Where it says which runs there are.
    runs: PathBuf,
    /// `agent`, or `run:ID`.
    owner: String,
    /// What the operator has said.
    wanted: Ranges,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    version: u32,
    ranges: Ranges,
    services: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    owner: String,
    namespace: String,
    name: String,
    addresses: Addresses,
}

/// Whether ranges can be those of Services.
pub fn check(ranges: &[IpNet], host: &Surroundings) -> Result<(), BadRange> {
    for (index, &range) in ranges.iter().enumerate() {
        let bad = |why: String| Err(BadRange { range, why });
        let lengths = if range.addr().is_ipv4() { V4_LENGTHS } else { V6_LENGTHS };
        if range.trunc() != range {
            return bad(format!("has bits set behind its length; write {}", range.trunc()));
        }
        if !lengths.contains(&range.prefix_len()) {
            return bad(format!("is too large or too small: from /{} to /{} can be", lengths.start(), lengths.end()));
        }
        if ranges[..index].iter().any(|other| other.addr().is_ipv4() == range.addr().is_ipv4()) {
            return bad("is the second of its family; name one IPv4 and one IPv6 range at most".to_owned());
        }
        if let Some((_, by)) = host.taken.iter().find(|(taken, _)| overlap(taken, &range)) {
            return bad(format!("cannot be: there is {by}"));
        }
    }
    Ok(())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

impl Ledger {
    /// The ledger below a root directory, for an owner.
    pub fn new(root: &Path, state: &Path, owner: String, wanted: Ranges) -> Self {
        Ledger { dir: root.join("network"), runs: state.join("runs"), owner, wanted }
    }

    /// Gives Services their addresses and records who has which. `host` is looked at where a range has to be chosen.
    pub fn allocate(
        &self,
        services: &BTreeMap<Name, Service>,
        host: impl FnOnce() -> io::Result<Surroundings>,
    ) -> io::Result<Allocation> {
        if services.is_empty() && !self.dir.join(RECORD).exists() {
            return Ok(Allocation::default());
        }
        std::fs::create_dir_all(&self.dir)?;
        let _lock = lock(&self.dir)?;
        let mut record = self.read()?;
        let former = record.clone();
        record.services.retain(|entry| entry.owner == self.owner || self.lives(&entry.owner));
        if !self.wanted.is_empty() {
            record.ranges.clone_from(&self.wanted);
        } else if record.ranges.is_empty() && !services.is_empty() {
            record.ranges = choose(&host()?)?;
        }
        let (own, others): (Vec<Entry>, Vec<Entry>) =
            record.services.into_iter().partition(|entry| entry.owner == self.owner);
        let before = own.into_iter().map(|entry| ((entry.namespace, entry.name), entry.addresses)).collect();
        let elsewhere: Vec<IpAddr> = others.iter().flat_map(|entry| entry.addresses.clone()).collect();
        let allocation = allocate(&record.ranges, services, &before, &elsewhere);
        let own = allocation.addresses.iter().map(|((namespace, name), addresses)| Entry {
            owner: self.owner.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            addresses: addresses.clone(),
        });
        record.services = others.into_iter().chain(own).collect();
        record.version = VERSION;
        if record != former {
            store::write_json(&self.dir, RECORD, &record, Durability::Durable)?;
        }
        Ok(allocation)
    }

    /// Gives every address of this owner back.
    pub fn release(&self) -> io::Result<()> {
        self.allocate(&BTreeMap::new(), || Ok(Surroundings::default())).map(drop)
    }

    /// One that cannot be read is begun anew: Services get the addresses that follow from their names.
    fn read(&self) -> io::Result<Record> {
        match store::read_json::<Record>(&self.dir.join(RECORD)) {
            Ok(record) => Ok(record.filter(|record| record.version == VERSION).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, "who has which Service's address cannot be read; it is decided anew");
                Ok(Record::default())
            }
            Err(error) => Err(error),
        }
    }

    fn lives(&self, owner: &str) -> bool {
        owner.strip_prefix("run:").is_none_or(|run| self.runs.join(format!("{run}.json")).exists())
    }
}

/// Takes the ledger away: it begins anew.
pub fn forget(root: &Path) -> io::Result<()> {
    std::fs::remove_file(path(root))
}

/// Where the ledger below a root directory is.
pub fn path(root: &Path) -> PathBuf {
    root.join("network").join(RECORD)
}

/// The directory itself is what is locked: it stays.
fn lock(dir: &Path) -> io::Result<File> {
    let dir = File::open(dir)?;
    dir.lock()?;
    Ok(dir)
}

/// The first range that is nobody's, and a random one of IPv6 where there is that.
fn choose(host: &Surroundings) -> io::Result<Ranges> {
    let candidates = CANDIDATES.iter().map(|[a, b]| IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(*a, *b, 0, 0), 16)));
    let free = |range: &IpNet| !host.taken.iter().any(|(taken, _)| overlap(taken, range));
    let mut ranges: Ranges = candidates.filter(free).take(1).collect();
    if host.ipv6 {
        // fd00::/8 and 40 random bits are a site's own (RFC 4193).
        let random = u128::from_str_radix(runtime::new_id()?.get(..10).unwrap_or_default(), 16).unwrap_or(0);
        let range = Ipv6Net::new_assert(Ipv6Addr::from(0xfd << 120 | random << 80), 112);
        ranges.extend([IpNet::from(range)].into_iter().filter(free));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests;
