//! Somebody who is known.

use std::collections::BTreeMap;

/// Whom every authenticated client belongs to.
const AUTHENTICATED: &str = "system:authenticated";

/// A client, as the API server calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What makes it another one than somebody earlier of its name.
    pub uid: String,
    /// What it belongs to.
    pub groups: Vec<String>,
    /// What else was said of it.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// As it goes on to be asked about: it is known.
    pub fn authenticated(mut self) -> Self {
        if self.groups.iter().all(|it| it != AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
