//! Whether the API server answers: said once when it is lost, and once when it is back.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether the API server answers. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    lost: Arc<Mutex<Option<Instant>>>,
}

impl Reach {
    /// It has answered, whatever it said.
    pub fn answered(&self) {
        if let Some(since) = self.set(None) {
            tracing::info!(after = ?rounded(since), "the API server answers again");
        }
    }

    /// It has not: the connection failed, or no answer came.
    pub fn failed(&self, error: &dyn Display) {
        match self.since() {
            Some(_) => tracing::debug!(error = %error, "the API server is still out of reach"),
            None => {
                self.set(Some(Instant::now()));
                tracing::warn!(
                    error = %error,
                    "the API server cannot be reached; what runs goes on running, and the server is tried until it answers"
                );
            }
        }
    }

    /// Since when it does not answer.
    pub fn since(&self) -> Option<Instant> {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, lost: Option<Instant>) -> Option<Instant> {
        std::mem::replace(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner), lost)
    }
}

fn rounded(since: Instant) -> Duration {
    Duration::from_secs(since.elapsed().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_lost_from_the_first_failure_to_the_first_answer() {
        let reach = Reach::default();
        assert!(reach.since().is_none());
        reach.failed(&"refused");
        let since = reach.since();
        reach.failed(&"refused");
        assert!(since.is_some() && reach.since() == since);
        reach.answered();
        assert!(reach.since().is_none());
    }
}
