//! Following the changes.

use tokio::sync::watch;

use super::{Change, Kind, Store};

/// The changes after the version that a watcher has are not all known any more, or are another store's. It has to list
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {since} ({latest})")]
pub struct Gone {
    /// What the watcher has.
    pub since: u64,
    /// The latest version.
    pub latest: u64,
}

/// Follows the changes of one kind.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    kind: Kind,
    seen: u64,
    latest: watch::Receiver<u64>,
}

impl Watch {
    pub(super) fn begin(store: Store, kind: Kind, since: u64) -> Result<Self, Gone> {
        let latest = store.inner.latest.subscribe();
        {
            let state = store.lock();
            if since > state.version || !state.ring.reaches(since) {
                return Err(Gone { since, latest: state.version });
            }
        }
        Ok(Self { store, kind, seen: since, latest })
    }

    /// The next change. Cancel safe.
    pub async fn next(&mut self) -> Result<Change, Gone> {
        loop {
            // First, so that what comes while the ring is read is not missed.
            self.latest.borrow_and_update();
            if let Some(change) = self.poll()? {
                return Ok(change);
            }
            if self.latest.changed().await.is_err() {
                // The store lives as long as this has a clone of it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next change, if there is one already.
    pub fn poll(&mut self) -> Result<Option<Change>, Gone> {
        let state = self.store.lock();
        if !state.ring.reaches(self.seen) {
            return Err(Gone { since: self.seen, latest: state.version });
        }
        let change = state.ring.after(self.seen, self.kind).cloned();
        self.seen = change.as_ref().map_or(state.version, |change| change.version);
        Ok(change)
    }

    /// The version up to which everything was seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}
