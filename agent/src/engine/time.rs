//! Time as the engine sees it: monotonic, and a parameter. The wall clock appears in status and records alone, for it
//! may jump (no real-time clock, NTP steps).

use std::ops::{Add, Sub};
use std::time::Duration;

pub use manifests::duration::{format as format_duration, parse as parse_duration};
use serde::{Deserialize, Serialize};

/// A monotonic instant: the time since this boot, which every process counts alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Monotonic(pub Duration);

impl Add<Duration> for Monotonic {
    type Output = Monotonic;

    fn add(self, rhs: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(rhs))
    }
}

/// The time since `rhs`; zero when `rhs` is later.
impl Sub for Monotonic {
    type Output = Duration;

    fn sub(self, rhs: Monotonic) -> Duration {
        self.0.saturating_sub(rhs.0)
    }
}

/// The engine's clock: tokio's, so that tests can pause it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: tokio::time::Instant,
    /// What the kernel's monotonic clock said then.
    booted: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Clock { start: tokio::time::Instant::now(), booted: Duration::try_from(boot).unwrap_or_default() }
    }

    /// The time now.
    pub fn now(&self) -> Monotonic {
        Monotonic(self.booted + self.start.elapsed())
    }

    /// Sleeps until `until`; for ever, if that is further away than any clock goes.
    pub async fn sleep_until(&self, until: Monotonic) {
        match self.start.checked_add(until.0.saturating_sub(self.booted)) {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}
