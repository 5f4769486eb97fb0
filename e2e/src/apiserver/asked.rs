//! A request: who asks what.

use serde_json::Value;

use super::kinds::{self, Kind, REVIEWS};
use super::refusal::Refusal;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The uid, of a service account.
    pub uid: String,
}

impl User {
    /// Who may do everything.
    pub fn admin() -> Self {
        Self::new("admin", &["system:masters", "system:authenticated"])
    }

    /// A node.
    pub fn node(name: &str) -> Self {
        Self::new(&format!("system:node:{name}"), &["system:nodes", "system:authenticated"])
    }

    /// Somebody.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.to_owned(), groups: groups.iter().map(|it| (*it).to_owned()).collect(), uid: String::new() }
    }

    /// Whether this is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|it| it == group)
    }

    /// The node that this is.
    pub fn as_node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asks.
    pub user: User,
    /// `GET`, `POST` …
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The media type of the body, without parameters.
    pub media: String,
    /// The body, if there is one.
    pub body: Value,
}

impl Asked {
    /// A value of the query.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
    }

    /// Whether the query says yes.
    pub fn says(&self, key: &str) -> bool {
        matches!(self.query(key), Some("true" | "1" | "True" | "TRUE" | "t" | "T"))
    }

    /// What is done, in the words of authorization.
    pub fn verb(&self, target: &Target) -> &'static str {
        match (self.method.as_str(), &target.name) {
            ("GET", Some(_)) => "get",
            ("GET", None) if self.says("watch") => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", Some(_)) => "delete",
            ("DELETE", None) => "deletecollection",
            _ => "",
        }
    }
}

/// What a path names.
#[derive(Clone, Debug)]
pub struct Target {
    /// The kind of objects.
    pub kind: &'static Kind,
    /// The namespace, if it says one.
    pub namespace: Option<String>,
    /// The object, if it says one.
    pub name: Option<String>,
    /// The part of the object, `status` for one.
    pub part: Option<String>,
    /// What comes after that.
    pub rest: Vec<String>,
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub enum Route {
    /// To objects.
    Objects(Target),
    /// To a review, which is not stored: its plural and its kind.
    Review(&'static str, &'static str),
    /// Elsewhere: versions, discovery, health.
    Elsewhere,
}

/// Reads a path.
pub fn route(path: &str) -> Result<Route, Refusal> {
    let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Route::Elsewhere),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..] if *plural != "status" && *plural != "finalize" => {
            let whole = [&[*plural], rest].concat();
            (Some((*namespace).to_owned()), whole)
        }
        rest => (None, rest.to_vec()),
    };
    let plural = rest[0];
    if let Some((_, plural, kind)) = REVIEWS.iter().find(|it| it.0 == group && it.1 == plural && rest.len() == 1) {
        return Ok(Route::Review(plural, kind));
    }
    let kind = kinds::find(group, version, plural).ok_or_else(Refusal::no_such_path)?;
    let part = rest.get(2).map(|it| (*it).to_owned());
    if part.as_deref().is_some_and(|part| !kind.parts.contains(&part)) || namespace.is_some() && !kind.namespaced {
        return Err(Refusal::no_such_path());
    }
    let name = rest.get(1).map(|it| (*it).to_owned());
    let rest = rest.iter().skip(3).map(|it| (*it).to_owned()).collect();
    Ok(Route::Objects(Target { kind, namespace, name, part, rest }))
}
