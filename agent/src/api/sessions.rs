//! Exec, attach and port-forward: the container runtime is asked for a session, and the client's connection is handed to
//! whoever serves that.

use std::collections::HashMap;
use std::sync::Arc;

use cri_proto::cri;
use hyper::body::Incoming;
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::Pod;

use super::body::{self, Body};
use super::error::Error;
use super::query::Query;
use super::route::Part;
use super::{Inner, relay, target};
use crate::engine::config::names::{POD_UID, PodKey};
use crate::store::Kind;

/// The most words of a command, and bytes of all of them: what is longer no header would have carried either.
const MOST_WORDS: usize = 4096;

/// Answers with the upgrade that the client asks for.
pub async fn answer(
    api: &Arc<Inner>,
    request: Request<Incoming>,
    query: &Query,
    part: Part,
    namespace: &str,
    name: &str,
) -> Result<Response<Body>, Error> {
    let not_found = || Error::NotFound { kind: Kind::Pod, name: name.to_owned() };
    let pod = api.store.get::<Pod>(namespace, name).ok_or_else(not_found)?;
    let place = api.session()?;
    let address = match part {
        Part::PortForward => port_forward(api, &pod, query).await?,
        _ => command(api, &pod, query, part).await?,
    };
    match &api.runtime {
        Some(runtime) => Ok(runtime.join_session(&address, place, request).map(body::whole)),
        None => relay::relay(&address, request, place).await,
    }
}

/// Asks for a session of exec or attach.
async fn command(api: &Inner, pod: &Pod, query: &Query, part: Part) -> Result<String, Error> {
    let container = target::choose(pod, query.text("container"))?;
    let container_id = target::running(pod, &container)?.to_owned();
    let tty = query.switch("tty")?;
    let (stdin, stdout, stderr) = (query.switch("stdin")?, query.switch("stdout")?, query.switch("stderr")?);
    let mut runtime = api.cri.runtime.clone();
    if part == Part::Attach {
        let request = cri::AttachRequest { container_id, stdin, tty, stdout, stderr };
        return Ok(runtime.attach(request).await?.into_inner().url);
    }
    let cmd = query.all("command").to_vec();
    if cmd.is_empty() {
        return Err(Error::BadRequest("you must specify at least one command for the container".into()));
    }
    if cmd.len() > MOST_WORDS {
        return Err(Error::BadRequest(format!("a command has at most {MOST_WORDS} words")));
    }
    let request = cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    Ok(runtime.exec(request).await?.into_inner().url)
}

/// Asks for a session of port-forward.
async fn port_forward(api: &Inner, pod: &Pod, query: &Query) -> Result<String, Error> {
    let key = PodKey::of(pod);
    let label_selector = HashMap::from([(POD_UID.to_owned(), key.uid)]);
    let state = Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() });
    let filter = Some(cri::PodSandboxFilter { label_selector, state, ..Default::default() });
    let mut runtime = api.cri.runtime.clone();
    let listed = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await?.into_inner().items;
    let Some(sandbox) = listed.into_iter().max_by_key(|it| it.created_at) else {
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or("Pending");
        return Err(Error::BadRequest(format!("pod {} is not running: {phase}", key.name)));
    };
    // A client names them one by one later; an old one, which cannot, names them here.
    let ports = query.all("ports").iter().flat_map(|it| it.split(','));
    let wrong = |text: &str| Error::BadRequest(format!("ports: {text:?} is not a port"));
    let port = ports.map(|text| text.parse().map_err(|_| wrong(text))).collect::<Result<Vec<i32>, _>>()?;
    let request = cri::PortForwardRequest { pod_sandbox_id: sandbox.id, port };
    Ok(runtime.port_forward(request).await?.into_inner().url)
}
