//! The devices that a pod asks for: it has them before anything of it is made.

use super::super::orders::Eviction;
use super::super::steps::Problem;
use super::Worker;

impl Worker {
    /// Takes note of plug-ins that have come: who has waited for one is tried again at once.
    pub(super) fn note_plugins(&mut self) {
        let Some(arrivals) = &mut self.arrivals else { return };
        // One that has not changed costs nothing; the sender outlives every worker.
        if arrivals.has_changed().unwrap_or(false) {
            arrivals.mark_unchanged();
            self.history.note_objects();
        }
    }

    /// Has the pod's devices given to it. True when it may begin; else it waits, or has failed as a kubelet would have
    /// refused it.
    pub(super) async fn take_devices(&mut self) -> Result<bool, Problem> {
        let Some(devices) = self.engine.devices().cloned() else { return Ok(true) };
        match devices.give_pod(&self.pod).await {
            Ok(()) => Ok(true),
            Err(refused) if refused.passes() => {
                Err(Problem { transient: true, ..Problem::new("UnexpectedAdmissionError", refused) })
            }
            Err(refused) => {
                let message = format!("Pod was rejected: Allocate failed due to {refused}, which is unexpected");
                self.note_eviction(Eviction { reason: "UnexpectedAdmissionError".into(), message, grace: None });
                Ok(false)
            }
        }
    }
}
