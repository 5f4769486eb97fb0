//! How many pulls go on at a time, and how many are begun in a second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifests::kubelet::Pulls;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Images whose names begin so are made here: nobody is asked for them.
const OWN: &str = "coracle.local/";

/// The limits of pulls. All clones are one, and they may change while pulls go on.
#[derive(Clone, Debug, Default)]
pub struct PullLimits {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// No limits until some are set.
    limits: Option<Pulls>,
    going: u32,
    /// Pulls that may begin at once, and when that was worked out.
    tokens: f64,
    counted: Option<Instant>,
}

/// A pull that goes on, until this is dropped.
#[derive(Debug)]
pub struct Permit {
    limits: Option<PullLimits>,
}

/// Why a pull does not begin yet.
enum Wait {
    Freed,
    For(Duration),
}

impl PullLimits {
    /// Changes them. What goes on goes on.
    pub fn set(&self, limits: Pulls) {
        let mut state = self.lock();
        if state.limits.is_none() {
            state.tokens = f64::from(limits.burst);
        }
        state.limits = Some(limits);
        drop(state);
        self.inner.freed.notify_waiters();
    }

    /// Waits until an image may be pulled. Where kubelet fails a pull that comes too early, this one comes later.
    pub async fn enter(&self, image: &str) -> Permit {
        if image.starts_with(OWN) {
            return Permit { limits: None };
        }
        loop {
            // Asked for before looking, so that nothing that is freed meanwhile is missed.
            let freed = self.inner.freed.notified();
            match self.try_enter() {
                Ok(()) => return Permit { limits: Some(self.clone()) },
                Err(Wait::Freed) => freed.await,
                Err(Wait::For(time)) => tokio::time::sleep(time).await,
            }
        }
    }

    fn try_enter(&self) -> Result<(), Wait> {
        let mut state = self.lock();
        let Some(limits) = state.limits else {
            state.going += 1;
            return Ok(());
        };
        if limits.parallel.is_some_and(|most| state.going >= most) {
            return Err(Wait::Freed);
        }
        if let Some(qps) = limits.qps {
            let now = Instant::now();
            let since = state.counted.replace(now).map_or(0.0, |then| (now - then).as_secs_f64());
            // A burst of none would let nothing ever begin.
            let most = f64::from(limits.burst.max(1));
            state.tokens = (state.tokens + since * f64::from(qps)).min(most);
            if state.tokens < 1.0 {
                return Err(Wait::For(Duration::from_secs_f64((1.0 - state.tokens) / f64::from(qps))));
            }
            state.tokens -= 1.0;
        }
        state.going += 1;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limits) = &self.limits {
            limits.lock().going -= 1;
            limits.inner.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds(limits: &PullLimits, pulls: u32) -> f64 {
        let begun = Instant::now();
        for _ in 0..pulls {
            drop(limits.enter("nginx").await);
        }
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn pulls_begin_as_often_as_they_may() {
        let limits = PullLimits::default();
        assert_eq!(seconds(&limits, 100).await, 0.0, "nothing is limited yet");
        limits.set(Pulls { qps: Some(5), burst: 10, parallel: None });
        assert_eq!(seconds(&limits, 10).await, 0.0);
        let took = seconds(&limits, 10).await;
        assert!((1.9..2.1).contains(&took), "{took}");
        assert_eq!(seconds(&PullLimits::default(), 100).await, 0.0);
        drop(limits.enter("coracle.local/tools").await);
        limits.set(Pulls { qps: None, burst: 0, parallel: None });
        assert_eq!(seconds(&limits, 100).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_pulls_go_on_than_may() {
        let limits = PullLimits::default();
        limits.set(Pulls { qps: None, burst: 0, parallel: Some(2) });
        let (first, _second) = (limits.enter("a").await, limits.enter("b").await);
        let third = tokio::spawn({
            let limits = limits.clone();
            async move { limits.enter("c").await }
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!third.is_finished());
        drop(first);
        let _third = third.await;
        let fourth = tokio::time::timeout(Duration::from_secs(1), limits.enter("d")).await;
        assert!(fourth.is_err());
        limits.set(Pulls { qps: None, burst: 0, parallel: None });
        let fourth = tokio::time::timeout(Duration::from_secs(1), limits.enter("d")).await;
        assert!(fourth.is_ok());
    }
}
