//! Probes of one pod: a timer for each probe of each running container, and what they found.
//!
//! Guarantees: a timer lives no longer than its container runs; the worker's bell rings and something is told when what
//! counts changes, and at no other time; nothing is asked before the initial delay, nor (but the startup probe) before the
//! container has started; a pod that ends is asked for its readiness alone.

mod board;
mod counts;
mod instance;
mod tally;
mod timer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use tokio::sync::Notify;

use self::board::Board;
#[cfg(test)]
pub use self::board::ProbeFailure;
pub use self::board::ProbeResult;
pub use self::counts::{BOUNDS, Counts, PodCounts, Took};
use self::instance::Instance;
pub use self::tally::Kind;
use super::action::Actions;
use super::notice::Event;
use super::plan::{init_of, is_sidecar, spec_of};
use super::time::Clock;
use super::view::PodStatusView;

/// A pod as its worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// As it is wanted.
    pub pod: &'a Pod,
    /// As it is.
    pub view: &'a PodStatusView,
    /// Where it is reached: its sandbox's addresses, or the node's where it is in the host's network.
    pub ips: &'a [String],
    /// It is on its way out.
    pub ending: bool,
}

/// The probes of one pod.
#[derive(Debug)]
pub struct Probes {
    actions: Actions,
    clock: Clock,
    board: Board,
    instances: BTreeMap<String, Instance>,
    /// What the pod's record said of containers that another process started, by id: started, ready.
    recalled: BTreeMap<String, (bool, bool)>,
    /// Containers that run at the first look were started by another process.
    first: bool,
}

impl Probes {
    /// No probes yet; `bell` is rung when what they found changes what counts.
    pub fn new(actions: Actions, bell: Arc<Notify>, clock: Clock, counts: PodCounts) -> Self {
        let board = Board::new(bell, counts);
        Probes { actions, clock, board, instances: BTreeMap::new(), recalled: BTreeMap::new(), first: true }
    }

    /// Takes over what another process knew of the pod: a container that had started and was ready is both until its
    /// probes say otherwise. To be called before the first `update`.
    pub fn recall(&mut self, status: &PodStatus) {
        let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        self.recalled.extend(statuses.filter_map(recalled));
    }

    /// Starts and ends timers by what runs now.
    pub fn update(&mut self, observed: &Observed<'_>) {
        let running: BTreeMap<&str, &Container> = running(observed).collect();
        for id in self.instances.keys().filter(|id| !running.contains_key(id.as_str())) {
            self.board.remove(id);
        }
        self.instances.retain(|id, _| running.contains_key(id.as_str()));
        for (id, container) in running {
            if !self.instances.contains_key(id) {
                self.begin(id, container);
            }
            if let Some(instance) = self.instances.get_mut(id) {
                instance.follow(container, observed.ips);
                instance.keep_timers(container, observed.ending);
            }
        }
        self.first = false;
    }

    /// What is known of every running container, by id: of those without a probe that they have started.
    pub fn results(&self) -> BTreeMap<String, ProbeResult> {
        self.board.results()
    }

    /// What there is to tell since this was asked last; the bell has been rung for it.
    pub fn take_events(&self) -> Vec<Event> {
        self.board.take_events()
    }

    fn begin(&mut self, id: &str, container: &Container) {
        let (was_started, was_ready) = self.recalled.remove(id).unwrap_or_default();
        let started = was_started || container.startup_probe.is_none();
        let ready = container.readiness_probe.as_ref().map(|_| was_ready);
        self.board.insert(id, ProbeResult { started, ready, failed: None });
        let instance = Instance::new(id, self.actions.clone(), self.board.clone(), self.clock, self.first, started);
        self.instances.insert(id.to_owned(), instance);
    }
}

/// The running containers that may have probes, by id.
fn running<'a>(observed: &Observed<'a>) -> impl Iterator<Item = (&'a str, &'a Container)> {
    let spec = spec_of(observed.pod);
    let running = observed.view.containers.iter().filter(|seen| seen.running());
    running.filter_map(|seen| {
        let sidecars = init_of(spec).iter().filter(|container| is_sidecar(container));
        let container = spec.containers.iter().chain(sidecars).find(|container| container.name == seen.name)?;
        Some((seen.id.as_str(), container))
    })
}

/// What a status says of a container: its id, whether it had started, whether it was ready.
fn recalled(status: &ContainerStatus) -> Option<(String, (bool, bool))> {
    let (_, id) = status.container_id.as_deref()?.split_once("://")?;
    Some((id.to_owned(), (status.started.unwrap_or(false), status.ready)))
}
