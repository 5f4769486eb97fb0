//! What a registry can do to us, and which of it is worth another attempt.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::images::Kind;

/// Why one request to one host brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The host could not be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// Nothing came for too long.
    #[error("nothing came for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The host is overloaded or broken at the moment.
    #[error("it answered {status}{}", said(.message))]
    Busy {
        /// The status line.
        status: String,
        /// The registry's own words.
        message: String,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// We are nobody to the host.
    #[error("it wants credentials{}; {}", said(.message), .advice)]
    Unauthenticated {
        /// The registry's own words.
        message: String,
        /// What was looked for where.
        advice: String,
    },
    /// We are somebody, but not for this image.
    #[error("it denies access{}; {}", said(.message), .advice)]
    Denied {
        /// The registry's own words.
        message: String,
        /// Who we are.
        advice: String,
    },
    /// The host does not have it.
    #[error("it does not have it{}", said(.0))]
    NotFound(String),
    /// The host refuses for a reason of its own.
    #[error("it answered {status}{}", said(.message))]
    Refused {
        /// The status line.
        status: String,
        /// The registry's own words.
        message: String,
    },
    /// The host does not speak the protocol as it should.
    #[error("{0}")]
    Protocol(String),
    /// The host's TLS set-up on our side is not usable.
    #[error("{}: {reason}", .path.display())]
    Setup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Trouble {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Trouble::Connection(_) | Trouble::Stalled(_) | Trouble::Busy { .. })
    }

    /// How long the registry wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Trouble::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The class for exit codes and statuses.
    pub fn kind(&self) -> Kind {
        match self {
            Trouble::Connection(_) | Trouble::Stalled(_) | Trouble::Busy { .. } => Kind::Transient,
            Trouble::Unauthenticated { .. } | Trouble::Denied { .. } => Kind::Unauthenticated,
            Trouble::NotFound(_) => Kind::NotFound,
            Trouble::Refused { .. } | Trouble::Protocol(_) | Trouble::Setup { .. } => Kind::Invalid,
        }
    }

    /// From the HTTP client: its own words are the outermost of a chain, and say the least.
    pub(super) fn of(error: &reqwest::Error) -> Trouble {
        let mut words: Vec<String> = Vec::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !words.last().is_some_and(|last| last.contains(&text)) {
                words.push(text);
            }
            cause = error.source();
        }
        let words = if words.is_empty() { error.to_string() } else { words.join(": ") };
        match error {
            it if it.is_timeout() => Trouble::Connection(format!("no connection in time: {words}")),
            it if it.is_connect() => Trouble::Connection(format!("cannot connect: {words}")),
            it if it.is_builder() => Trouble::Protocol(format!("the request cannot be made: {words}")),
            _ => Trouble::Connection(format!("the connection broke: {words}")),
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// What every host answered. The last one is the registry itself, whose word counts most.
#[derive(Debug)]
pub struct Failure {
    /// Host and answer, in the order they were asked.
    pub answers: Vec<(String, Trouble)>,
}

impl Failure {
    pub(in crate::images) fn one(host: &str, trouble: Trouble) -> Failure {
        Failure { answers: vec![(host.to_owned(), trouble)] }
    }

    /// Whether another round may bring it.
    pub fn is_transient(&self) -> bool {
        self.answers.iter().any(|(_, trouble)| trouble.is_transient())
    }

    /// Whether a host does not have the bytes from where we would go on.
    pub fn is_range(&self) -> bool {
        let is = |trouble: &Trouble| matches!(trouble, Trouble::Refused { status, .. } if status == "416");
        self.answers.iter().any(|(_, trouble)| is(trouble))
    }

    /// The longest wait that a host asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.answers.iter().filter_map(|(_, trouble)| trouble.retry_after()).max()
    }

    /// The class for exit codes and statuses.
    pub fn kind(&self) -> Kind {
        self.answers.last().map_or(Kind::Internal, |(_, trouble)| trouble.kind())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(((host, trouble), before)) = self.answers.split_last() else {
            return f.write_str("no host is configured that may serve it");
        };
        write!(f, "{host}: {trouble}")?;
        for (position, (host, trouble)) in before.iter().enumerate() {
            let word = if position == 0 { " (before that " } else { "; " };
            write!(f, "{word}{host}: {trouble}")?;
        }
        if before.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl std::error::Error for Failure {}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> io::Error {
        io::Error::other(trouble.to_string())
    }
}
