//! How long to wait before the API server is asked again.

use std::time::Duration;

use kube::Error;

/// The longest wait that a server may ask for: more would be a fault of whoever answers in its place.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// A growing wait, with jitter, so that a thousand nodes do not return at once.
#[derive(Clone, Debug)]
pub struct Patience {
    first: Duration,
    longest: Duration,
    next: Duration,
    /// A number that is another one in each process, to begin with.
    seed: u64,
}

impl Patience {
    /// Waits `first`, and twice as long each time, up to `longest`; with jitter each.
    pub fn new(first: Duration, longest: Duration) -> Self {
        // Without randomness all wait alike, which is no fault.
        let seed = getrandom::u64().unwrap_or(1);
        Self { first, longest, next: first, seed }
    }

    /// It has answered: the next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to wait after this failure: what the server asks for, else longer than the last time.
    pub fn after(&mut self, error: &Error) -> Duration {
        let jitter = self.jitter();
        if let Some(asked) = asked(error) {
            return asked.min(LONGEST_ASKED).mul_f64(1.0 + jitter / 5.0);
        }
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(0.5 + jitter)
    }

    /// From 0 to 1.
    fn jitter(&mut self) -> f64 {
        // splitmix64
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandths = u32::try_from((mixed ^ (mixed >> 31)) % 1000).unwrap_or(0);
        f64::from(thousandths) / 1000.0
    }
}

/// How long the server asks to wait, if it does.
fn asked(error: &Error) -> Option<Duration> {
    let Error::Api(status) = error else { return None };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// Whether the answer is about what was asked for, not about the server: asked again, it would be the same.
pub fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Api(status) if (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 429))
}

/// Whether the server answered with this code.
pub fn is_code(error: &Error, code: u16) -> bool {
    matches!(error, Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::core::response::StatusDetails;

    use super::*;

    fn api(code: u16, retry_after_seconds: u32) -> Error {
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: vec![],
            retry_after_seconds,
        };
        Error::Api(Status::failure("", "").with_code(code).with_details(details).boxed())
    }

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_an_answer() {
        let mut patience = Patience::new(Duration::from_millis(800), Duration::from_secs(30));
        let unavailable = api(503, 0);
        let mut last = Duration::ZERO;
        for round in 0..10 {
            let base = Duration::from_millis(800 << round).min(Duration::from_secs(30));
            last = patience.after(&unavailable);
            assert!(last >= base / 2 && last <= base * 3 / 2, "{round}: {last:?}");
        }
        assert!(last >= Duration::from_secs(15));
        patience.reset();
        assert!(patience.after(&unavailable) <= Duration::from_millis(1200));
    }

    #[test]
    fn what_the_server_asks_for_is_granted_within_reason() {
        let mut patience = Patience::new(Duration::from_millis(1), Duration::from_millis(1));
        let wait = patience.after(&api(429, 7));
        assert!(wait >= Duration::from_secs(7) && wait < Duration::from_secs(9), "{wait:?}");
        assert!(patience.after(&api(429, 1_000_000)) <= LONGEST_ASKED * 2);
    }

    #[test]
    fn an_answer_about_the_server_is_no_refusal() {
        let rows =
            [(400, true), (403, true), (404, true), (409, true), (422, true), (401, false), (429, false), (500, false)];
        for (code, refusal) in rows {
            assert_eq!(is_refusal(&api(code, 0)), refusal, "{code}");
        }
        assert!(is_code(&api(410, 0), 410) && !is_code(&api(404, 0), 410));
    }
}
