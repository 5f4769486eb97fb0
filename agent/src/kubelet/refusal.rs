//! What a client is told when it does not get what it asked for: a line of text, as kubelet has it; an API server passes
//! it on to whoever asked that.

use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::access::Error;
use crate::access::body::{self, Body};

/// A code and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// HTTP's word for it.
    pub code: StatusCode,
    /// For people.
    pub why: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: StatusCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }

    /// Nothing is here.
    pub fn not_found(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    /// The request makes no sense.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// As an answer.
    pub fn answer(&self) -> Response<Body> {
        let mut response = text(self.code, self.why.clone());
        if self.code == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { code: error.code().0, why: error.to_string() }
    }
}

/// Text, whatever it says.
pub fn text(code: StatusCode, text: impl Into<hyper::body::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::whole(text));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
