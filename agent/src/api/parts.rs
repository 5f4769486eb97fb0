//! Parts of a pod: its logs, and sessions with it.

use hyper::body::Incoming;
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::Pod;

use super::route::Part;
use super::{Error, Inner, Query};
use crate::access::body::Body;
use crate::access::logs::Options;
use crate::access::{IDLE, Session, Streams, choose};
use crate::store::Kind;

/// Answers with a container's log.
pub fn log(api: &Inner, query: &Query, namespace: &str, name: &str) -> Result<Response<Body>, Error> {
    let options = Options::parse(query)?;
    let pod = pod(api, namespace, name)?;
    api.access.log(&pod, query.text("container"), options)
}

/// Answers with the upgrade that the client asks for.
pub async fn session(
    api: &Inner,
    request: Request<Incoming>,
    query: &Query,
    part: Part,
    namespace: &str,
    name: &str,
) -> Result<Response<Body>, Error> {
    let pod = pod(api, namespace, name)?;
    let session = match part {
        Part::PortForward => Session::PortForward { ports: ports(query)? },
        _ => {
            let container = choose(&pod, query.text("container"))?;
            let (stdin, stdout) = (query.switch("stdin")?, query.switch("stdout")?);
            let streams = Streams { stdin, stdout, stderr: query.switch("stderr")?, tty: query.switch("tty")? };
            match part {
                Part::Attach => Session::Attach { container, streams },
                _ => Session::Exec { container, command: query.all("command").to_vec(), streams },
            }
        }
    };
    api.access.session(&pod, session, request, Some(IDLE)).await
}

fn pod(api: &Inner, namespace: &str, name: &str) -> Result<std::sync::Arc<Pod>, Error> {
    let not_found = || Error::NotFound { kind: Kind::Pod, name: name.to_owned() };
    api.store.get::<Pod>(namespace, name).ok_or_else(not_found)
}

fn ports(query: &Query) -> Result<Vec<i32>, Error> {
    let ports = query.all("ports").iter().flat_map(|it| it.split(','));
    let wrong = |text: &str| Error::BadRequest(format!("ports: {text:?} is not a port"));
    ports.map(|text| text.parse().map_err(|_| wrong(text))).collect()
}
