//! Giving memory back once work is over. What a hundred pods need while they start is many times of what they need to be
//! watched, and an allocator keeps it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// How long nothing may have happened.
const QUIET: Duration = Duration::from_secs(5);

/// Hears of everything that happens.
#[derive(Clone, Debug, Default)]
pub struct Quiet(Arc<Notify>);

impl Quiet {
    /// Something has happened.
    pub fn hear(&self) {
        self.0.notify_one();
    }

    /// Works for ever.
    pub async fn run(self) {
        loop {
            self.0.notified().await;
            while tokio::time::timeout(QUIET, self.0.notified()).await.is_ok() {}
            runtime::memory::give_back();
        }
    }
}
