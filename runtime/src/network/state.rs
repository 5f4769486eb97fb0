//! What the processes of one state directory share of its network, in this boot: `<state>/network/`.
//!
//! `network.json` (ranges, sysctls) and `addresses/<seat>` (who has which) change under `lock`, which is held for
//! moments and ends with its holder. A marker whose sandbox has no directory any more is as good as none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::leases::exclusive;
use super::named::InForce;
use super::ranges::Ranges;
use super::{PortMapping, thread};
use crate::store::{Durability, read_json, sweep_temporaries, write_json};

const FILE: &str = "network.json";
const MARKERS: &str = "addresses";

/// `network.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Version of this record.
    pub version: u32,
    /// The boot and the network namespace that the rest is true in.
    pub place: Place,
    /// One more at every change.
    pub generation: u64,
    /// Claims, sysctls and rules are in place for these ranges.
    pub up: bool,
    /// The pods' ranges.
    pub ranges: Ranges,
    /// Named networks in force.
    #[serde(default)]
    pub networks: InForce,
    /// Destinations that see pods by their own addresses.
    #[serde(default)]
    pub non_masquerade: Vec<IpNet>,
    /// The largest packet.
    pub mtu: u32,
    /// Sysctls that were changed, and what they were.
    pub sysctls: BTreeMap<String, String>,
}

/// Which boot, and which network namespace of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The kernel's name for the boot.
    pub boot_id: String,
    /// The namespace's inode.
    pub namespace: u64,
}

impl Place {
    /// Here and now.
    pub fn here(boot_id: &str) -> io::Result<Self> {
        let namespace = rustix::fs::fstat(thread::open_own()?)?.st_ino;
        Ok(Self { boot_id: boot_id.to_owned(), namespace })
    }
}

/// A place in a network's ranges. In words, which are the name of its file, `17`, or `NETWORK@17` in a named network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The network: empty is the default one.
    pub network: String,
    /// Which of its places.
    pub place: u32,
}

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.network.as_str() {
            "" => write!(f, "{}", self.place),
            network => write!(f, "{network}@{}", self.place),
        }
    }
}

impl Seat {
    /// `None` for the temporaries of writers that died.
    fn parse(name: &str) -> Option<Self> {
        let (network, place) = name.rsplit_once('@').unwrap_or(("", name));
        Some(Self { network: network.to_owned(), place: place.parse().ok()? })
    }
}

/// `addresses/<seat>`: which sandbox has a place, or had it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Version of this record.
    pub version: u32,
    /// In which boot.
    pub boot_id: String,
    /// The sandbox.
    pub sandbox: String,
    /// Its pod: namespace and name.
    pub pod: String,
    /// Its interface on the host.
    pub link: String,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
    /// Since when it does not have it any more, in nanoseconds since 1970.
    pub idle: Option<i64>,
}

/// The state while this process alone may change it.
pub struct Locked {
    dir: PathBuf,
    _lock: File,
    /// What is shared.
    pub shared: Shared,
}

impl Locked {
    /// Waits for the lock of a directory, which exists.
    pub fn new(dir: &Path, boot_id: &str) -> io::Result<Self> {
        let lock = exclusive(&dir.join("lock"))?;
        let here = Place::here(boot_id)?;
        let known: Shared = match read_json(&dir.join(FILE)) {
            // Its writer replaces it whole: somebody else has spoilt it. What it said is found again but the sysctls.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "the record of the network cannot be read");
                Shared::default()
            }
            other => other?.unwrap_or_default(),
        };
        let shared = if known.place == here {
            known
        } else {
            Shared { place: here, generation: known.generation, ranges: known.ranges, ..Shared::default() }
        };
        Ok(Self { dir: dir.to_owned(), _lock: lock, shared })
    }

    /// Writes what is shared.
    pub fn save(&mut self) -> io::Result<()> {
        self.shared.version = 1;
        self.shared.generation += 1;
        write_json(&self.dir, FILE, &self.shared, Durability::Volatile)
    }

    /// Removes what writers left that were killed.
    pub fn sweep(&self) -> io::Result<()> {
        sweep_temporaries(&self.dir)?;
        sweep_temporaries(&self.dir.join(MARKERS))
    }

    /// Removes it where nothing is left to be known.
    pub fn forget(&mut self) -> io::Result<()> {
        let gone = |removed: io::Result<()>| match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        gone(std::fs::remove_dir_all(self.dir.join(MARKERS)))?;
        gone(std::fs::remove_file(self.dir.join(super::healer::REPAIRS)))?;
        gone(std::fs::remove_file(self.dir.join(FILE)))
    }

    /// Writes who has a place.
    pub fn mark(&self, seat: &Seat, marker: &Marker) -> io::Result<()> {
        let dir = self.dir.join(MARKERS);
        match write_json(&dir, &seat.to_string(), marker, Durability::Volatile) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&dir)?;
                write_json(&dir, &seat.to_string(), marker, Durability::Volatile)
            }
            other => other,
        }
    }

    /// Nobody has, or had, a place.
    pub fn unmark(&self, seat: &Seat) -> io::Result<()> {
        match std::fs::remove_file(self.dir.join(MARKERS).join(seat.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every marker.
    pub fn markers(&self) -> io::Result<Vec<(Seat, Marker)>> {
        markers(&self.dir, |_| true)
    }
}

/// The markers of places in named networks.
pub fn members(dir: &Path) -> io::Result<Vec<(String, Marker)>> {
    let markers = markers(dir, |seat| !seat.network.is_empty())?;
    Ok(markers.into_iter().map(|(seat, marker)| (seat.network, marker)).collect())
}

fn markers(dir: &Path, which: impl Fn(&Seat) -> bool) -> io::Result<Vec<(Seat, Marker)>> {
    let entries = match std::fs::read_dir(dir.join(MARKERS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut markers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(seat) = name.to_str().and_then(Seat::parse).filter(|seat| which(seat)) else { continue };
        markers.extend(marker(dir, &seat).map(|it| (seat, it)));
    }
    Ok(markers)
}

/// What was written last, whatever is being done.
pub fn glance(dir: &Path) -> Option<Shared> {
    read_json(&dir.join(FILE)).ok().flatten()
}

/// Whether the network is up, for who may be wrong by a moment: nothing is locked.
pub fn is_up(dir: &Path) -> bool {
    read_json::<Shared>(&dir.join(FILE)).ok().flatten().is_some_and(|it| it.up)
}

/// The marker of a place. One that cannot be read is as good as none.
pub fn marker(dir: &Path, seat: &Seat) -> Option<Marker> {
    read_json(&dir.join(MARKERS).join(seat.to_string())).ok().flatten()
}
