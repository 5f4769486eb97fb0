//! Names of things: ids, owners, and which boot this is.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::sys::process;

/// Whose a sandbox or container is. Each owner sees only its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Owner {
    /// One `coracle run`, by its id: gone when its process is.
    Run(String),
    /// The node agent.
    Agent,
    /// The clients of the CRI socket.
    Cri,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(id) => write!(f, "run:{id}"),
            Self::Agent => f.write_str("agent"),
            Self::Cri => f.write_str("cri"),
        }
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

impl TryFrom<String> for Owner {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("run:")) {
            ("agent", _) => Ok(Self::Agent),
            ("cri", _) => Ok(Self::Cri),
            (_, Some(id)) if !id.is_empty() => Ok(Self::Run(id.to_owned())),
            _ => Err(format!("{text:?} is no owner: run:ID, agent or cri")),
        }
    }
}

/// Characters of an id in names that have to be short.
pub const SHORT: usize = 12;

/// A new id: 256 random bits in hexadecimal digits.
pub fn new_id() -> io::Result<String> {
    use std::fmt::Write as _;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("get random numbers: {error}")))?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut id, byte| {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

/// The beginning of an id.
pub fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// An id as it may stand in a path: 64 hexadecimal digits. What a client sends is not, until it was looked at.
pub fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The kernel's name for this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Which process: an id and its start time, so that a reused id is not mistaken for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (proc(5), field 22).
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this id now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_ticks: process::look(pid)?.1 })
    }

    /// It exists and is no zombie, which has nothing left and only waits for its parent.
    pub fn is_running(self) -> bool {
        self.pid > 0 && process::look(self.pid).is_some_and(|(state, start)| state != 'Z' && start == self.start_ticks)
    }

    /// It still exists (as a zombie at least).
    pub fn is_alive(self) -> bool {
        self.pid > 0 && Self::of(self.pid) == Some(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn owners_survive_being_written() {
        for owner in [Owner::Run("a1".into()), Owner::Agent, Owner::Cri] {
            let text = serde_json::to_string(&owner).unwrap();
            assert_eq!(serde_json::from_str::<Owner>(&text).unwrap(), owner);
        }
        assert!(serde_json::from_str::<Owner>("\"run:\"").is_err());
    }

    #[test]
    fn a_process_is_known_by_its_start_time_too() {
        let own = Process::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        assert!(!Process { start_ticks: own.start_ticks + 1, ..own }.is_alive());
    }

    #[test]
    fn only_an_id_is_an_id() {
        assert!(is_id(&new_id().unwrap()));
        for wrong in ["", "..", "../../etc", &"g".repeat(64), &"a".repeat(63)] {
            assert!(!is_id(wrong), "{wrong}");
        }
    }
}
