//! Bodies of answers.

use std::io;

use futures_util::{Stream, TryStreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::error::Error;

/// What an answer carries: something whole, or something that goes on.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Bytes that are there.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Bytes that come.
pub fn coming(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
}

fn answer(code: StatusCode, kind: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An object.
pub fn json(value: &impl Serialize) -> Result<Response<Body>, Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Internal(format!("write the answer: {error}")))?;
    Ok(answer(StatusCode::OK, JSON, whole(bytes)))
}

/// Bytes of some kind that are there.
pub fn bytes(kind: &'static str, bytes: Vec<u8>) -> Response<Body> {
    answer(StatusCode::OK, HeaderValue::from_static(kind), whole(bytes))
}

/// Text that is there.
pub fn text(text: &'static str) -> Response<Body> {
    answer(StatusCode::OK, TEXT, whole(text))
}

/// Text that comes.
pub fn text_coming(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response<Body> {
    answer(StatusCode::OK, TEXT, coming(stream))
}

/// Objects that come, one a line.
pub fn json_coming(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response<Body> {
    answer(StatusCode::OK, JSON, coming(stream))
}

/// A refusal.
pub fn refused(error: &Error) -> Response<Body> {
    let mut response = answer(error.code().0, JSON, whole(error.status().to_string()));
    if matches!(error, Error::TooMany(_)) {
        response.headers_mut().insert(hyper::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
