//! Giving memory back once work is over. What a hundred pods need while they start is many times of what they need to be
//! watched, and an allocator keeps it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// How long nothing may have happened.
const QUIET: Duration = Duration::from_secs(5);

/// And after how much longer what is kept of it for those who watch is forgotten, too.
const SILENCE: Duration = Duration::from_secs(150);

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
            while self.happens_within(QUIET).await || !self.is_silent().await {}
        }
    }

    /// Gives back what the work has left, and, if no other begins, what is left of its tale.
    async fn is_silent(&self) -> bool {
        runtime::memory::give_back();
        if self.happens_within(SILENCE).await {
            return false;
        }
        runtime::memory::give_back();
        true
    }

    async fn happens_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.notified()).await.is_ok()
    }
}
