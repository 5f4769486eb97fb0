//! What a hub knows of its owner's containers: which sandbox each is in, and how far its events have been told. With it
//! an event costs the records of one pod, however many there are.

use std::collections::BTreeMap;

use super::order::{Phase, due};
use crate::container;
use crate::core::Core;
use crate::error::Result;
use crate::ids::Owner;
use crate::sandbox;
use crate::shim::protocol::State;
use crate::watch::Event;

struct Known {
    sandbox: String,
    phase: Phase,
}

/// Something to tell.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// The container, or the sandbox itself.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Where it is now.
    pub phase: Phase,
}

/// The containers and sandboxes of one owner.
pub struct Index {
    owner: Owner,
    containers: BTreeMap<String, Known>,
    sandboxes: BTreeMap<String, Phase>,
}

impl Index {
    /// Everything as it is now, of which nothing needs to be told.
    pub fn read(core: &Core, owner: &Owner) -> Result<Self> {
        let mut index = Self { owner: owner.clone(), containers: BTreeMap::new(), sandboxes: BTreeMap::new() };
        for record in sandbox::all(core)?.into_iter().filter(|it| it.owner == *owner) {
            let phase = match record.is_ready(core) {
                false => Phase::Stopped,
                true if core.watcher.follows(&record.id) => Phase::Started,
                // It is being made.
                true => Phase::Unknown,
            };
            index.sandboxes.insert(record.id.clone(), phase);
        }
        for record in container::all(core)?.into_iter().filter(|it| it.owner == *owner) {
            let phase = phase(core, &record).unwrap_or(Phase::Unknown);
            index.containers.insert(record.id.clone(), Known { sandbox: record.sandbox.clone(), phase });
        }
        Ok(index)
    }

    /// The containers of a sandbox.
    pub fn of_sandbox(&self, sandbox: &str) -> impl Iterator<Item = &str> {
        self.containers.iter().filter(move |(_, it)| it.sandbox == sandbox).map(|(id, _)| id.as_str())
    }

    /// What is to be told of an event.
    pub fn hear(&mut self, core: &Core, event: &Event) -> Vec<News> {
        match event {
            Event::Created(id) => self.container(core, id, Phase::Created),
            Event::Started(id) => self.container(core, id, Phase::Started),
            Event::Stopped(id) => self.container(core, id, Phase::Stopped),
            Event::Deleted(id) => self.container(core, id, Phase::Deleted),
            Event::SandboxStarted(id) => self.sandbox(core, id, Phase::Started),
            Event::SandboxStopped(id) | Event::ShimDied(id) => {
                let mut news = self.ends(core, id);
                news.extend(self.sandbox(core, id, Phase::Stopped));
                news
            }
            Event::SandboxDeleted(record) => self.sandbox(core, &record.id, Phase::Deleted),
        }
    }

    /// With its sandbox every container ends that has not, whoever was there to see it.
    fn ends(&mut self, core: &Core, sandbox: &str) -> Vec<News> {
        let own: Vec<String> = self.of_sandbox(sandbox).map(str::to_owned).collect();
        own.iter().flat_map(|id| self.container(core, id, Phase::Stopped)).collect()
    }

    fn container(&mut self, core: &Core, id: &str, next: Phase) -> Vec<News> {
        if !self.containers.contains_key(id) {
            // One that is gone again was never told of, and another owner's is not ours to tell.
            let Ok(record) = container::load(core, id) else { return Vec::new() };
            if record.owner != self.owner {
                return Vec::new();
            }
            self.containers.insert(id.to_owned(), Known { sandbox: record.sandbox, phase: Phase::Unknown });
        }
        let ran = next > Phase::Started && has_run(core, id);
        let Some(known) = self.containers.get_mut(id) else { return Vec::new() };
        let phases = due(known.phase, next, ran);
        known.phase = known.phase.max(next);
        let sandbox = known.sandbox.clone();
        if next == Phase::Deleted {
            self.containers.remove(id);
        }
        phases.into_iter().map(|phase| News { id: id.to_owned(), sandbox: sandbox.clone(), phase }).collect()
    }

    fn sandbox(&mut self, core: &Core, id: &str, next: Phase) -> Vec<News> {
        if !self.sandboxes.contains_key(id) {
            if !sandbox::load(core, id).is_ok_and(|it| it.owner == self.owner) {
                return Vec::new();
            }
            self.sandboxes.insert(id.to_owned(), Phase::Unknown);
        }
        let Some(phase) = self.sandboxes.get_mut(id) else { return Vec::new() };
        let phases = due(*phase, next, true);
        *phase = (*phase).max(next);
        if next == Phase::Deleted {
            self.sandboxes.remove(id);
        }
        phases.into_iter().map(|phase| News { id: id.to_owned(), sandbox: id.to_owned(), phase }).collect()
    }
}

/// None of one that is still being made.
fn phase(core: &Core, record: &container::Record) -> Option<Phase> {
    let state = container::view(core, record).ok().flatten()?.state;
    Some(match state {
        State::Created => Phase::Created,
        State::Running => Phase::Started,
        State::Exited => Phase::Stopped,
    })
}

fn has_run(core: &Core, id: &str) -> bool {
    let record = container::load(core, id);
    let view = record.and_then(|it| container::view(core, &it));
    view.is_ok_and(|it| it.is_some_and(|it| it.started_at != 0))
}
