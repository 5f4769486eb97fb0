//! Reproducible randomness: every seed that a test draws is printed, and `CORACLE_E2E_SEED` repeats it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long chaos lasts: `CORACLE_E2E_CHAOS_SECONDS`, or what fits into CI.
pub fn chaos_seconds(of_ci: u64) -> Duration {
    Duration::from_secs(number_of("CORACLE_E2E_CHAOS_SECONDS", of_ci))
}

/// What a variable of the environment says, or else `default`.
pub fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// SplitMix64: small, seedable, good enough to pick instants.
pub struct Random(u64);

impl Random {
    /// A generator whose numbers follow from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of `CORACLE_E2E_SEED`, or the clock's; printed, so that a failure can be repeated.
    pub fn announced(what: &str) -> Self {
        let seed = match std::env::var("CORACLE_E2E_SEED") {
            Ok(text) => text.parse().expect("CORACLE_E2E_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64),
        };
        println!("{what}: repeat with CORACLE_E2E_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration in `[0, limit)`, to the microsecond.
    pub fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.number() % (limit.as_micros() as u64).max(1))
    }
}
