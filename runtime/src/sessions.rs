//! Sessions that were prepared and wait to be taken: in memory by the process itself, or over HTTP by whoever has the
//! address.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::container::{Attach, Exec};
use crate::error::{During as _, Error, Result};
use crate::ids::new_id;

/// How long a prepared session waits.
const EXPIRES: Duration = Duration::from_secs(60);

/// The most that may wait: a client that never takes any must not fill the memory.
const MAX_WAITING: usize = 1000;

/// The beginning of the address of what is taken in memory.
const IN_MEMORY: &str = "coracle+token:/";

/// Prepared sessions, each to be taken once. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions {
    waiting: Arc<Mutex<BTreeMap<String, (Wanted, Instant)>>>,
    /// Where they are served, once they are: `http://127.0.0.1:PORT`.
    base: Arc<OnceLock<String>>,
}

/// What a session is to be.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A command in a container.
    Exec {
        /// The container.
        container: String,
        /// What to run in it.
        exec: Exec,
        /// The client wants its standard output.
        stdout: bool,
        /// The client wants its standard error.
        stderr: bool,
    },
    /// A container's streams.
    Attach {
        /// The container.
        container: String,
        /// Which.
        attach: Attach,
        /// It has a terminal.
        tty: bool,
    },
    /// Connections to a sandbox's ports.
    PortForward {
        /// The sandbox.
        sandbox: String,
        /// The ports, where the client cannot name them later.
        ports: Vec<u16>,
    },
}

impl Wanted {
    /// Where it is served.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }
}

impl Sessions {
    /// From now on addresses begin with this.
    pub fn serve_at(&self, base: String) -> Result<()> {
        let twice = |_| Error::Conflict("the streaming server was started before".into());
        self.base.set(base).map_err(twice)
    }

    /// Keeps what is wanted for whoever has the address that this answers with.
    pub fn prepare(&self, wanted: Wanted) -> Result<String> {
        let token = new_id().during(|| "make a token".into())?;
        let now = Instant::now();
        let base = self.base.get().map_or(IN_MEMORY, String::as_str);
        let url = format!("{base}/{}/{token}", wanted.verb());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, until)| *until > now);
        if waiting.len() >= MAX_WAITING {
            let why = format!("{MAX_WAITING} prepared sessions wait to be taken; take some or wait a minute");
            return Err(Error::Conflict(why));
        }
        waiting.insert(token, (wanted, now + EXPIRES));
        Ok(url)
    }

    /// Takes what an address, or its path, stands for. `None` when there is nothing, or it was taken, or has expired.
    pub fn take(&self, url: &str) -> Option<Wanted> {
        let mut parts = url.rsplitn(3, '/');
        let (token, verb) = (parts.next()?, parts.next()?);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(token)?.0.verb() != verb {
            return None;
        }
        let (wanted, until) = waiting.remove(token)?;
        (until > Instant::now()).then_some(wanted)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn forward() -> Wanted {
        Wanted::PortForward { sandbox: "s".into(), ports: vec![80] }
    }

    #[test]
    fn a_session_is_taken_once_and_by_its_own_verb() {
        let sessions = Sessions::default();
        let url = sessions.prepare(forward()).unwrap();
        assert!(url.starts_with("coracle+token://portforward/"), "{url}");
        assert!(sessions.take("coracle+token://portforward/else").is_none());
        assert!(sessions.take(&url.replace("portforward", "exec")).is_none());
        assert!(matches!(sessions.take(&url), Some(Wanted::PortForward { ports, .. }) if ports == [80]));
        assert!(sessions.take(&url).is_none());
    }

    #[test]
    fn addresses_are_those_of_the_server_and_its_paths_do_as_well() {
        let sessions = Sessions::default();
        sessions.serve_at("http://127.0.0.1:1".into()).unwrap();
        let url = sessions.prepare(forward()).unwrap();
        assert!(sessions.take(url.strip_prefix("http://127.0.0.1:1").unwrap()).is_some());
    }

    #[test]
    fn no_more_wait_than_the_limit() {
        let sessions = Sessions::default();
        for _ in 0..MAX_WAITING {
            sessions.prepare(forward()).unwrap();
        }
        assert!(sessions.prepare(forward()).is_err());
    }
}
