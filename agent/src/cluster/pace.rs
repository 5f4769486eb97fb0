//! When something is tried again, and how often something may be done.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The waits between attempts: each twice as long as the one before, up to a longest one, and each cut by chance, so that
/// many nodes which lost a server at once do not come back at once.
#[derive(Clone, Debug)]
pub struct Pauses {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Pauses {
    /// From `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// As kubelet's watches wait: from 0.8 s to 30 s.
    pub fn of_watch() -> Self {
        Self::new(Duration::from_millis(800), Duration::from_secs(30))
    }

    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.most);
        // At least half of it, at most all of it.
        now.mul_f64(0.5 + chance() / 2.0)
    }

    /// It went well: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

/// A number from 0 to 1, never 1 itself.
pub fn chance() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        // Without chance it is the middle.
        Err(_) => 0.5,
    }
}

/// How often something may be done: `rate` times a second, and `burst` times at once.
#[derive(Debug)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    state: Mutex<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    /// Less than none while somebody waits.
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { rate, burst, state: Mutex::new(Tokens { left: burst, at: Instant::now() }) }
    }

    /// Waits until it may be done. Those who wait are served in the order in which they came.
    pub async fn take(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a token if there is one now.
    pub fn try_take(&self, now: Instant) -> bool {
        let mut tokens = self.refilled(now);
        if tokens.left < 1.0 {
            return false;
        }
        tokens.left -= 1.0;
        true
    }

    /// Whether it is as full as it was at first: nobody has taken anything for long.
    pub fn is_full(&self, now: Instant) -> bool {
        self.refilled(now).left >= self.burst
    }

    fn reserve(&self, now: Instant) -> Duration {
        let mut tokens = self.refilled(now);
        tokens.left -= 1.0;
        Duration::try_from_secs_f64(-tokens.left / self.rate).unwrap_or(Duration::ZERO)
    }

    fn refilled(&self, now: Instant) -> std::sync::MutexGuard<'_, Tokens> {
        let mut tokens = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(tokens.at).as_secs_f64();
        tokens.left = (tokens.left + passed * self.rate).min(self.burst);
        tokens.at = now;
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_less_than_half() {
        let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_millis(700));
        for expected in [100, 200, 400, 700, 700] {
            let wait = pauses.next();
            let expected = Duration::from_millis(expected);
            assert!(wait >= expected / 2 && wait <= expected, "{wait:?} of {expected:?}");
        }
        pauses.reset();
        assert!(pauses.next() <= Duration::from_millis(100));
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let bucket = Bucket::new(2.0, 3);
        let start = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| bucket.reserve(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        assert!(!bucket.try_take(start + Duration::from_millis(1400)));
        assert!(bucket.try_take(start + Duration::from_millis(1600)));
        assert!(!bucket.is_full(start + Duration::from_secs(2)));
        assert!(bucket.is_full(start + Duration::from_secs(3600)));
    }
}
