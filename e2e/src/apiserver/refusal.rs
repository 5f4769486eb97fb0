//! What is said when a request is refused: a `Status`, in the words of the real server.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The status of HTTP.
    pub code: u16,
    reason: &'static str,
    message: String,
    details: Value,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self { code, reason, message: message.into(), details, retry_after: None }
    }

    /// A request that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", Value::Null)
    }

    /// Somebody may not do it.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let qualified = kind.qualified();
        let what = if name.is_empty() { qualified } else { format!("{qualified} {name:?}") };
        Self::new(403, "Forbidden", format!("{what} is forbidden: {why}"), details(kind, name))
    }

    /// Somebody may not ask for that path.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}");
        Self::new(403, "Forbidden", message, json!({}))
    }

    /// There is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        Self::new(404, "NotFound", message, details(kind, name))
    }

    /// There is no such path.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource", json!({}))
    }

    /// It may not be done to that.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message, json!({}))
    }

    /// There is such an object.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        Self::new(409, "AlreadyExists", message, details(kind, name))
    }

    /// The object is another than was thought.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified());
        Self::new(409, "Conflict", message, details(kind, name))
    }

    /// What was asked for is too long ago.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message, Value::Null)
    }

    /// A body of a form that is not read.
    pub fn media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message, json!({}))
    }

    /// An object that is not valid: field, value as Go prints it, and what is wrong.
    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let all = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
        let qualified =
            if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let mut details = json!({"name": name, "kind": kind.kind});
        if !kind.group.is_empty() {
            details["group"] = kind.group.into();
        }
        let cause = |it: &Cause| json!({"reason": it.reason, "message": it.message, "field": it.field});
        details["causes"] = causes.iter().map(cause).collect();
        Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {all}"), details)
    }

    /// A resourceVersion that is still to come.
    pub fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        let details = json!({"causes": causes, "retryAfterSeconds": 1});
        Self { retry_after: Some(1), ..Self::new(504, "Timeout", message, details) }
    }

    /// An answer that a test wants, whatever the request.
    pub fn wanted(code: u16, retry_after: Option<u32>) -> Self {
        let (reason, message) = match code {
            429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "the server was unable to return a response in the time allotted"),
            _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
        };
        let details = retry_after.map_or(json!({}), |seconds| json!({"retryAfterSeconds": seconds}));
        Self { retry_after, ..Self::new(code, reason, message, details) }
    }

    /// An eviction that a budget does not allow.
    pub fn budget(name: &str) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let why = format!("The disruption budget {name} needs 0 healthy pods and has 0 currently");
        let details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
        Self::new(429, "TooManyRequests", message, details)
    }

    /// Something that the real server can do and this one cannot: a test that meets it fails.
    pub fn not_implemented(what: impl std::fmt::Display) -> Self {
        let message = format!("the test server does not implement {what}");
        Self::new(501, "NotImplemented", message, json!({}))
    }

    /// The node of a pod cannot be asked.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message, json!({}))
    }

    /// As it is sent.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid` …
    pub reason: &'static str,
    /// What a reader is told.
    pub message: String,
    /// The field's path.
    pub field: String,
}

/// Which object a Status is of.
pub fn details(kind: &Kind, name: &str) -> Value {
    let mut details = json!({"kind": kind.plural});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    details
}
