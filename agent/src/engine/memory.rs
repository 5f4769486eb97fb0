//! What a worker's memory is written down as, for the next agent and the next boot: back-off, marks, the restart counts,
//! and how what is gone had ended.
//!
//! It lies with the pod's volumes, in the durable directory. It is synced within seconds ([`Settler`]): what a loss of
//! power takes from it until then, the numbers of the log files tell again.
//!
//! [`Settler`]: super::settle::Settler

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::{History, Track};
use super::time::Monotonic;
use super::view::{ContainerView, Exit, PodStatusView, SandboxView, State};
use crate::host::{HostError, PodDir, io_error};
use runtime::store::{Durability, read_json, write_json};

/// The file.
pub const FILE: &str = "memory.json";

const VERSION: u32 = 1;

/// How many instances of each container are remembered: the newest, and the one before it.
const INSTANCES: usize = 2;

/// What is remembered of one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    boot_id: String,
    /// When it was written.
    at: Monotonic,
    /// When the pod was accepted; wall clock, seconds.
    pub started: i64,
    /// Waits and marks.
    pub history: History,
    sandbox: Option<SandboxView>,
    containers: Vec<ContainerView>,
}

impl Memory {
    /// The memory of a pod that was not known yet.
    pub fn new(boot_id: &str, started: i64) -> Self {
        Memory { version: VERSION, boot_id: boot_id.to_owned(), started, ..Memory::default() }
    }

    /// What is written in a pod's directory, and whether it holds as it is; `None` when nothing is written. What was another
    /// boot's is turned into what it means in this one.
    pub fn read(dir: &PodDir, boot_id: &str) -> Result<Option<(Memory, bool)>, HostError> {
        let path = dir.path().join(FILE);
        let Some(mut memory) = read_json::<Memory>(&path).map_err(io_error("read", &path))? else { return Ok(None) };
        if memory.version != VERSION {
            let why = format!("its version is {}, and {VERSION} is known", memory.version);
            return Err(io_error("read", &path)(std::io::Error::new(std::io::ErrorKind::InvalidData, why)));
        }
        let holds = memory.boot_id == boot_id;
        if !holds {
            memory.boot_id = boot_id.to_owned();
            memory.history.reboot(memory.at);
        }
        Ok(Some((memory, holds)))
    }

    /// Writes it into the pod's directory, and answers with the file, which is to be synced.
    pub fn write(&self, dir: &PodDir) -> Result<PathBuf, HostError> {
        let path = dir.path().join(FILE);
        let write = || write_json(dir.path(), FILE, self, Durability::Volatile);
        let written = match write() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                dir.create()?;
                write()
            }
            other => other,
        };
        written.map_err(io_error("write", &path))?;
        Ok(path)
    }

    /// Adds what the runtime does not know any more to what it lists.
    pub fn recall(&self, sandboxes: &mut Vec<SandboxView>, containers: &mut Vec<ContainerView>) {
        if let Some(sandbox) = &self.sandbox
            && sandboxes.iter().all(|listed| listed.attempt < sandbox.attempt)
        {
            sandboxes.push(SandboxView { ready: false, gone: true, ..sandbox.clone() });
        }
        for remembered in &self.containers {
            let same = |it: &ContainerView| it.name == remembered.name && it.attempt == remembered.attempt;
            if !containers.iter().any(same) {
                containers.push(ghost(remembered));
            }
        }
    }

    /// This memory with what is seen now; equal to the one before as long as nothing changes.
    pub fn with(&self, view: &PodStatusView) -> Memory {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        let begun = view.containers.iter().filter(|seen| seen.state != State::Created);
        let newest = begun.filter(|seen| {
            let count = count.entry(&seen.name).or_default();
            *count += 1;
            *count <= INSTANCES
        });
        let containers = newest.cloned().collect();
        Memory { history: view.history.clone(), sandbox: view.sandbox().cloned(), containers, ..self.clone() }
    }

    /// This memory, of a time.
    pub fn dated(self, at: Monotonic) -> Memory {
        Memory { at, ..self }
    }
}

/// An instance that the runtime does not know: it has ended, and nobody knows how if that was not seen.
fn ghost(remembered: &ContainerView) -> ContainerView {
    let state = match &remembered.state {
        State::Exited(exit) => State::Exited(exit.clone()),
        _ => State::Exited(Exit {
            code: 255,
            reason: "ContainerStatusUnknown".into(),
            message: "the container could not be located when its state was asked for".into(),
        }),
    };
    ContainerView { state, gone: true, ..remembered.clone() }
}

impl History {
    /// Turns the memory of another boot, last written at `until` of its clock, into one of this boot: counts and marks
    /// stay, waits are over.
    fn reboot(&mut self, until: Monotonic) {
        let renew = |track: &mut Track| {
            *track = Track {
                void: track.void,
                condemned: track.condemned,
                next: track.next,
                definition: track.definition.take(),
                ..Track::default()
            };
        };
        self.containers.values_mut().for_each(renew);
        renew(&mut self.sandbox);
        self.resized.clear();
        if let Some(since) = self.active_since.take() {
            self.active_before = self.active_before.saturating_add(until - since).min(Duration::MAX);
        }
    }
}

/// The number after that of a container's newest log file; 0 without any.
pub fn next_by_logs(logs: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(logs) else { return 0 };
    // `3.log`, and what was rotated from it: `3.log.20260101-101500.gz`.
    let number = |name: &str| name.split_once(".log").and_then(|(number, _)| number.parse::<u32>().ok());
    let names = entries.flatten().filter_map(|entry| number(&entry.file_name().to_string_lossy()));
    names.max().map_or(0, |newest| newest.saturating_add(1))
}
