//! Execs that were prepared and wait to be taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::container::Exec;
use crate::error::{During as _, Result};
use crate::ids::new_id;

/// How long a prepared exec waits.
const EXPIRES: Duration = Duration::from_secs(60);

/// The most that may wait: a client that never takes any must not fill the memory.
const MAX_WAITING: usize = 1000;

/// The beginning of the address of what is taken in memory.
const SCHEME: &str = "coracle+token://";

/// Prepared execs, each to be taken once. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions {
    waiting: Arc<Mutex<BTreeMap<String, Waiting>>>,
}

/// One that waits.
pub struct Waiting {
    /// The container.
    pub container: String,
    /// What to run in it.
    pub exec: Exec,
    until: Instant,
}

impl Sessions {
    /// Keeps an exec for whoever has the address that this answers with.
    pub fn prepare(&self, container: String, exec: Exec) -> Result<String> {
        let token = new_id().during(|| "make a token".into())?;
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, it| it.until > now);
        if waiting.len() >= MAX_WAITING {
            let why = format!("{MAX_WAITING} prepared sessions wait to be taken");
            return Err(crate::error::Error::Conflict(why));
        }
        waiting.insert(token.clone(), Waiting { container, exec, until: now + EXPIRES });
        Ok(format!("{SCHEME}{token}"))
    }

    /// Takes the exec of an address. `None` when there is none, or it was taken, or it has expired.
    pub fn take(&self, url: &str) -> Option<Waiting> {
        let token = url.strip_prefix(SCHEME)?;
        let taken = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (taken.until > Instant::now()).then_some(taken)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_taken_once() {
        let sessions = Sessions::default();
        let url = sessions.prepare("c".into(), Exec::default()).unwrap();
        assert!(sessions.take("coracle+token://else").is_none());
        assert_eq!(sessions.take(&url).unwrap().container, "c");
        assert!(sessions.take(&url).is_none());
    }
}
