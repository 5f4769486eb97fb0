//! When a certificate is renewed. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::Pair;

/// How long to wait at `now` until a certificate is to be renewed: at 70 to 90 % of its life, by chance, so that nodes
/// which came together do not go on together.
pub fn wait(pair: &Pair, now: Timestamp, chance: f64) -> Duration {
    let seconds = |one: Timestamp, other: Timestamp| (other.as_second() - one.as_second()) as f64;
    let at = seconds(pair.not_before, pair.not_after) * (0.7 + 0.2 * chance);
    Duration::try_from_secs_f64(at - seconds(pair.not_before, now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::self_signed;
    use super::*;

    #[test]
    fn it_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        let (certificate, key) = self_signed::make("here", &[], "2026-01-02T00:00:00Z".parse().unwrap()).unwrap();
        let mut pair = Pair::of_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        (pair.not_before, pair.not_after) = (at(0), at(1000));
        for (now, chance, expected) in [(0, 0.0, 700), (0, 1.0, 900), (300, 0.5, 500), (950, 0.0, 0), (2000, 1.0, 0)] {
            assert_eq!(wait(&pair, at(now), chance), Duration::from_secs(expected), "{now} {chance}");
        }
    }
}
