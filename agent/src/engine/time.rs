//! Time as the engine sees it: monotonic, and a parameter. The wall clock appears in status and records alone, for it
//! may jump (no real-time clock, NTP steps).

use std::ops::{Add, Sub};
use std::time::Duration;

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

    /// Sleeps until `until`.
    pub async fn sleep_until(&self, until: Monotonic) {
        tokio::time::sleep_until(self.start + until.0.saturating_sub(self.booted)).await;
    }
}

/// Reads a Go duration (`1h30m`, `500ms`, `0`); negative ones and bare numbers are refused.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * scale;
        rest = &rest[unit..];
    }
    // Go's own limit is 292 years; anything near it would overflow sums of instants.
    (total < 9e9).then(|| Duration::from_nanos((total * 1e9).round() as u64))
}

/// Writes a duration as Go does, without zero units: `10s`, `1m20s`, `500ms`, `1h0m0s` as `1h`.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.subsec_millis();
    let seconds = duration.as_secs();
    if seconds == 0 {
        return if millis == 0 { "0s".into() } else { format!("{millis}ms") };
    }
    let mut text = String::new();
    for (unit, count) in [("h", seconds / 3600), ("m", seconds % 3600 / 60)] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    let rest = seconds % 60;
    match (rest, millis) {
        (0, 0) => {}
        (_, 0) => text.push_str(&format!("{rest}s")),
        _ => text.push_str(&format!("{rest}.{}s", format!("{millis:03}").trim_end_matches('0'))),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in
            [("10s", 10_000), ("500ms", 500), ("1h30m", 5_400_000), ("1.5s", 1500), ("0", 0), ("2m0s", 120_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1d", "1 s", "1.2.3s", "999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_short() {
        for (millis, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1500, "1.5s"),
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m"),
            (3_600_000, "1h"),
            (5_400_000, "1h30m"),
            (3_661_000, "1h1m1s"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }
}
