//! The requests that came, in their order.

use std::fmt;
use std::time::Instant;

use serde_json::Value;

use super::Shared;
use super::asked::{self, Asked, Route, User};

/// A request that came, and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who asked: the name in the certificate, or nothing.
    pub user: String,
    /// `User-Agent`.
    pub agent: String,
    /// `GET`, `POST` …
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The media type of the body.
    pub media: String,
    /// The body; null if there is none, or none that can be read.
    pub body: Value,
    /// The status of the answer; 0 as long as there is none.
    pub status: u16,
    /// When it came.
    pub at: Instant,
}

impl Seen {
    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.query("watch").is_some_and(|it| it == "true" || it == "1")
    }

    /// What was done to what, as audit logs say it: `patch pods/status`. The path if it is of no objects.
    pub fn deed(&self) -> String {
        let asked = Asked {
            user: User::default(),
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            media: String::new(),
            body: Value::Null,
        };
        match asked::route(&self.path) {
            Ok(Route::Objects(target)) => {
                let part = target.part.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
                format!("{} {}{part}", asked.verb(&target), target.kind.plural)
            }
            Ok(Route::Review(plural, _)) => format!("create {plural}"),
            _ => format!("{} {}", self.method, self.path),
        }
    }

    /// A value of the query.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query: Vec<String> = self.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let Self { method, path, status, user, body, .. } = self;
        write!(f, "{status} {method} {path}?{} by {user:?} {body}", query.join("&"))
    }
}

impl Shared {
    /// Notes a request; its number.
    pub(super) fn begin(&self, asked: &Asked, user: Option<&User>, agent: &str, body: &[u8]) -> Instant {
        let at = Instant::now();
        self.lock().requests.push(Seen {
            user: user.map(|it| it.name.clone()).unwrap_or_default(),
            agent: agent.to_owned(),
            method: asked.method.clone(),
            path: asked.path.clone(),
            query: asked.query.clone(),
            media: asked.media.clone(),
            body: serde_json::from_slice(body).unwrap_or_default(),
            status: 0,
            at,
        });
        at
    }

    /// Notes what was answered. Requests may have been forgotten meanwhile.
    pub(super) fn finish(&self, number: Instant, status: u16) {
        if let Some(seen) = self.lock().requests.iter_mut().find(|it| it.at == number) {
            seen.status = status;
        }
    }
}
