//! What a client is told when it does not get what it asked for: a `metav1.Status`, with the codes, reasons and words of
//! an API server, for clients decide by them.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::store::{Gone, Kind};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is not there.
    #[error("{} \"{name}\" not found", resource(*kind))]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// Nothing is served at this address.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// What is asked for is not done with this.
    #[error("{0}")]
    MethodNotAllowed(String),
    /// The request makes no sense, or not now.
    #[error("{0}")]
    BadRequest(String),
    /// The client has not said who it is.
    #[error("Unauthorized")]
    Unauthorized,
    /// A watch from too long ago.
    #[error(transparent)]
    Expired(#[from] Gone),
    /// As many as may be served are.
    #[error("too many requests: {0}")]
    TooMany(&'static str),
    /// The body is larger than any that makes sense here.
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    /// What is asked for cannot be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// Something broke.
    #[error("Internal error occurred: {0}")]
    Internal(String),
}

impl Error {
    /// The code and Kubernetes' word for it.
    pub fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { .. } | Self::NoSuchPath => (StatusCode::NOT_FOUND, "NotFound"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Expired(_) => (StatusCode::GONE, "Expired"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }

    /// As a client reads it.
    pub fn status(&self) -> Value {
        let (code, reason) = self.code();
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code.as_u16(),
        });
        match self {
            Self::NotFound { kind, name } => {
                status["details"] = json!({"name": name, "kind": kind.plural()});
                if !kind.group().name.is_empty() {
                    status["details"]["group"] = json!(kind.group().name);
                }
            }
            // What kubectl waits for before it tries again.
            Self::TooMany(_) => status["details"] = json!({"retryAfterSeconds": 1}),
            _ => {}
        }
        status
    }
}

/// A kind as messages call it: `pods`, `networkpolicies.networking.k8s.io`.
fn resource(kind: Kind) -> String {
    match kind.group().name {
        "" => kind.plural().to_owned(),
        group => format!("{}.{group}", kind.plural()),
    }
}

impl From<tonic::Status> for Error {
    /// What the container runtime refuses is told with the code that fits.
    fn from(status: tonic::Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            tonic::Code::InvalidArgument | tonic::Code::NotFound => Self::BadRequest(message),
            tonic::Code::FailedPrecondition => Self::Conflict(message),
            _ => Self::Internal(message),
        }
    }
}
