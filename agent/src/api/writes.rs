//! The two writes, and the refusal of all others.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde_json::json;

use super::Error;
use super::Inner;
use super::Query;
use super::route::Route;
use crate::access::body::{self, Body};
use crate::store::{Kind, Store};

/// The largest body that is read. The options of a deletion are some hundred bytes.
const MOST: usize = 64 * 1024;

const WARNING: HeaderName = HeaderName::from_static("warning");

/// Stops a pod, and starts it anew if its manifest is still there.
pub async fn delete(
    api: &Arc<Inner>,
    request: Request<Incoming>,
    query: &Query,
    namespace: &str,
    name: &str,
) -> Result<Response<Body>, Error> {
    let options = options(request).await?;
    let pod = existing(&api.store, namespace, name)?;
    let expected = options.preconditions.as_ref().and_then(|it| it.uid.as_ref());
    if expected.is_some() && expected != pod.metadata.uid.as_ref() {
        let (expected, uid) = (expected.cloned().unwrap_or_default(), pod.metadata.uid.clone().unwrap_or_default());
        let why = format!("the UID in the precondition ({expected}) does not match the UID in record ({uid})");
        return Err(Error::Conflict(why));
    }
    let dry = !query.all("dryRun").is_empty() || options.dry_run.is_some_and(|it| !it.is_empty());
    if dry {
        return body::json(&*pod);
    }
    let asked = query.number("gracePeriodSeconds")?;
    let seconds = asked.or(options.grace_period_seconds.and_then(|it| u64::try_from(it).ok()));
    let note = api.control.delete_pod(namespace, name, seconds.map(Duration::from_secs)).await?;
    let now = api.store.get::<Pod>(namespace, name).filter(|it| it.metadata.uid == pod.metadata.uid).unwrap_or(pod);
    let mut response = body::json(&*now)?;
    if let Some(warning) = warning(&note) {
        response.headers_mut().insert(WARNING, warning);
    }
    Ok(response)
}

/// Starts a pod's containers, or one of them, anew.
pub async fn restart(api: &Arc<Inner>, query: &Query, namespace: &str, name: &str) -> Result<Response<Body>, Error> {
    existing(&api.store, namespace, name)?;
    api.control.restart(namespace, name, query.text("container")).await?;
    body::json(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
}

/// Why something is not done.
pub fn refuse(method: &Method, route: &Route) -> Error {
    let what = match route {
        Route::Collection { kind, .. } | Route::Object { kind, .. } => kind.plural(),
        Route::Pod { .. } => Kind::Pod.plural(),
        _ => return Error::MethodNotAllowed(format!("the server does not allow {method} on the requested resource")),
    };
    Error::MethodNotAllowed(format!(
        "the server does not allow {method} on {what}: what this node has comes from its manifests; change the file, \
         and the node follows. Deleting one pod, which starts it anew, and pods/restart are the writes there are"
    ))
}

fn existing(store: &Store, namespace: &str, name: &str) -> Result<Arc<Pod>, Error> {
    store.get::<Pod>(namespace, name).ok_or_else(|| Error::NotFound { kind: Kind::Pod, name: name.to_owned() })
}

/// The options of a deletion, which may be left out.
async fn options(request: Request<Incoming>) -> Result<DeleteOptions, Error> {
    let read = Limited::new(request.into_body(), MOST).collect().await;
    let bytes = read.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Error::TooLarge(MOST),
        None => Error::BadRequest(format!("the request's body: {error}")),
    })?;
    let bytes = bytes.to_bytes();
    if bytes.is_empty() {
        return Ok(DeleteOptions::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::BadRequest(format!("the request's body: {error}")))
}

/// A warning as clients print it: `299 - "text"`.
fn warning(text: &str) -> Option<HeaderValue> {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    let quoted = plain.replace('\\', r"\\").replace('"', r#"\""#);
    HeaderValue::from_str(&format!("299 - \"{quoted}\"")).ok().filter(|_| !plain.is_empty())
}
