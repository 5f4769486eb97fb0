//! How long to wait before asking a registry again, and when to stop.

use std::time::Duration;

use super::progress::Reporter;
use crate::images::Error;
use crate::images::registry::{Failure, Registry, Timeouts};

/// Attempts since something came last.
pub(super) struct Patience<'a> {
    timeouts: &'a Timeouts,
    failed: u32,
}

impl Patience<'_> {
    pub fn new(timeouts: &Timeouts) -> Patience<'_> {
        Patience { timeouts, failed: 0 }
    }

    /// Something came: all attempts are there again.
    pub fn renew(&mut self) {
        self.failed = 0;
    }

    /// How long to wait after a failure; `None` when it is final. `random` is in 0..=1: half of each wait is by chance,
    /// so that many nodes do not come back at once.
    fn after(&mut self, failure: &Failure, random: f64) -> Option<Duration> {
        self.failed += 1;
        if !failure.is_transient() || self.failed >= self.timeouts.attempts {
            return None;
        }
        let doubled = self.timeouts.back_off.saturating_mul(1 << (self.failed - 1).min(20));
        let own = doubled.min(self.timeouts.max_back_off).mul_f64(0.5 + random / 2.0);
        let asked = failure.retry_after().unwrap_or_default().min(self.timeouts.max_retry_after);
        Some(own.max(asked))
    }

    /// Waits and says so; gives the failure back when it is final.
    pub async fn wait(&mut self, failure: Failure, what: &str, reporter: &Reporter) -> Result<(), Failure> {
        let Some(wait) = self.after(&failure, random()) else { return Err(failure) };
        reporter.notice(format!(
            "{what}: {failure}; trying again in {:.1} s (attempt {} of {})",
            wait.as_secs_f64(),
            self.failed + 1,
            self.timeouts.attempts
        ));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Asks until it is there or the failure is final.
pub(super) async fn persist<T>(
    registry: &Registry,
    reporter: &Reporter,
    what: &str,
    ask: impl AsyncFn() -> Result<T, Failure>,
) -> Result<T, Error> {
    let mut patience = Patience::new(&registry.timeouts);
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(failure) => {
                let waited = patience.wait(failure, what, reporter).await;
                waited.map_err(|failure| registry.error(what.to_owned(), failure))?;
            }
        }
    }
}

fn random() -> f64 {
    // Without random numbers the waits are the longest there are.
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::images::registry::Trouble;

    fn busy(retry_after: Option<u64>) -> Failure {
        let retry_after = retry_after.map(Duration::from_secs);
        Failure::one("h", Trouble::Busy { status: "503".into(), message: String::new(), retry_after })
    }

    #[test]
    fn waits_double_up_to_a_bound_and_end() {
        let timeouts = Timeouts {
            back_off: Duration::from_secs(1),
            max_back_off: Duration::from_secs(3),
            max_retry_after: Duration::from_secs(20),
            attempts: 5,
            ..Timeouts::default()
        };
        let mut patience = Patience::new(&timeouts);
        let waits: Vec<Option<u64>> =
            (0..5).map(|_| patience.after(&busy(None), 1.0).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(3), Some(3), None]);
        patience.renew();
        assert_eq!(patience.after(&busy(None), 0.0), Some(Duration::from_millis(500)));
        assert_eq!(patience.after(&busy(Some(7)), 1.0), Some(Duration::from_secs(7)));
        assert_eq!(patience.after(&busy(Some(9999)), 1.0), Some(Duration::from_secs(20)));
        let final_one = Failure::one("h", Trouble::NotFound(String::new()));
        assert_eq!(Patience::new(&timeouts).after(&final_one, 1.0), None);
    }
}
