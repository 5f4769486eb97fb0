//! Numbers for people: sizes as docker and crictl show them, ages as kubectl does.

use std::time::Duration;

use jiff::Timestamp;

/// Bytes with three significant digits and decimal units: `4.63MB`, `712kB`, `12B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    // 999.5 and more would round to 1000, which has a unit of its own.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.decimals$}");
    let short = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{short}{}", UNITS[unit])
}

/// A time span by kubectl's rules: finer while it is short, `<invalid>` never, for a span is not negative.
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |a: u64, unit: &str, b: u64, rest: &str| match b {
        0 => format!("{a}{unit}"),
        _ => format!("{a}{unit}{b}{rest}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

/// The time since an instant by kubectl's rules; one that is unknown or to come shows as such.
pub fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return "<unknown>".into() };
    age(Duration::try_from(now.duration_since(time)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1kB"),
            (712_345, "712kB"),
            (999_499, "999kB"),
            (999_500, "1MB"),
            (4_630_000, "4.63MB"),
            (9_996_000, "10MB"),
            (18_446_744_073_709_551_615, "18.4EB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn ages_are_kubectls() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (8 * 86_400, "8d"),
            (730 * 86_400, "2y"),
            (731 * 86_400, "2y1d"),
            (2920 * 86_400, "8y"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }
}
