//! Whether the server is there, for those who are about to start a pod that will ask it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A pod's start is not held up for longer, whatever is wrong.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Who {
    /// That is yet to be found out.
    #[default]
    Nobody,
    /// Another process, or none can.
    Other,
    /// This process.
    Here,
}

#[derive(Debug, Default)]
struct State {
    who: Who,
    /// Where it listens, or has tried to.
    tried: BTreeSet<IpAddr>,
}

/// What is known of the server in this process.
#[derive(Debug, Default)]
pub struct Ready {
    state: Mutex<State>,
    changed: Condvar,
}

impl Ready {
    /// Another process serves, or none can.
    pub fn elsewhere(&self) {
        self.change(|it| it.who = Who::Other);
    }

    /// This process serves, and listens at these addresses wherever it can.
    pub fn here(&self, tried: &BTreeSet<IpAddr>) {
        self.change(|it| {
            it.who = Who::Here;
            it.tried.clone_from(tried);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until the server of this process listens at these addresses, which are in a record. Another process is told of
    /// them by the kernel: it has more time than it needs.
    pub fn wait(&self, addresses: &[IpAddr]) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |it: &mut State| match it.who {
            Who::Nobody => true,
            Who::Other => false,
            Who::Here => !addresses.iter().all(|address| it.tried.contains(address)),
        };
        drop(self.changed.wait_timeout_while(state, PATIENCE, missing));
    }
}
