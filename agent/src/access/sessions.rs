//! Exec, attach and port-forward: the container runtime is asked for a session, and the client's connection is handed to
//! whoever serves that.

use std::collections::HashMap;
use std::time::Duration;

use cri_proto::cri;
use hyper::body::Incoming;
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::Pod;

use super::body::{self, Body};
use super::error::Error;
use super::{Access, relay, target};
use crate::engine::config::names::{POD_UID, PodKey};

/// The most words of a command: what is longer no header would have carried either.
const MOST_WORDS: usize = 4096;

/// What a client wants to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Session {
    /// A new process in a container.
    Exec {
        /// The container.
        container: String,
        /// The program and its arguments.
        command: Vec<String>,
        /// What of it.
        streams: Streams,
    },
    /// A container's first process.
    Attach {
        /// The container.
        container: String,
        /// What of it.
        streams: Streams,
    },
    /// The pod's ports.
    PortForward {
        /// Those that an old client names at once; others name them one by one later.
        ports: Vec<i32>,
    },
}

/// Which streams of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// What it reads.
    pub stdin: bool,
    /// What it writes.
    pub stdout: bool,
    /// What it complains of.
    pub stderr: bool,
    /// A terminal is all of them.
    pub tty: bool,
}

impl Access {
    /// Answers with the upgrade that the client asks for. A session without a byte in either direction for `idle` is over;
    /// of another runtime's sessions that runtime decides.
    pub async fn session(
        &self,
        pod: &Pod,
        session: Session,
        request: Request<Incoming>,
        idle: Option<Duration>,
    ) -> Result<Response<Body>, Error> {
        let place = self.session_place()?;
        let address = self.address(pod, session).await?;
        match &self.inner.runtime {
            Some(runtime) => Ok(runtime.join_session(&address, place, request, idle).map(body::whole)),
            None => relay::relay(&address, request, place).await,
        }
    }

    /// Asks the runtime for the session. The answer is the address that it is joined at.
    async fn address(&self, pod: &Pod, session: Session) -> Result<String, Error> {
        let mut runtime = self.inner.cri.runtime.clone();
        match session {
            Session::Attach { container, streams: Streams { stdin, stdout, stderr, tty } } => {
                let container_id = target::running(pod, &container)?.to_owned();
                let request = cri::AttachRequest { container_id, stdin, tty, stdout, stderr };
                Ok(runtime.attach(request).await?.into_inner().url)
            }
            Session::Exec { container, command: cmd, streams: Streams { stdin, stdout, stderr, tty } } => {
                let container_id = target::running(pod, &container)?.to_owned();
                if cmd.is_empty() {
                    let why = "you must specify at least one command for the container";
                    return Err(Error::BadRequest(why.into()));
                }
                if cmd.len() > MOST_WORDS {
                    return Err(Error::BadRequest(format!("a command has at most {MOST_WORDS} words")));
                }
                let request = cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
                Ok(runtime.exec(request).await?.into_inner().url)
            }
            Session::PortForward { ports: port } => {
                let pod_sandbox_id = self.sandbox(pod).await?;
                let request = cri::PortForwardRequest { pod_sandbox_id, port };
                Ok(runtime.port_forward(request).await?.into_inner().url)
            }
        }
    }

    /// The sandbox that the pod runs in.
    async fn sandbox(&self, pod: &Pod) -> Result<String, Error> {
        let key = PodKey::of(pod);
        let label_selector = HashMap::from([(POD_UID.to_owned(), key.uid)]);
        let state = Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() });
        let filter = Some(cri::PodSandboxFilter { label_selector, state, ..Default::default() });
        let mut runtime = self.inner.cri.runtime.clone();
        let listed = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await?.into_inner().items;
        listed.into_iter().max_by_key(|it| it.created_at).map(|it| it.id).ok_or_else(|| {
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or("Pending");
            Error::BadRequest(format!("pod {} is not running: {phase}", key.name))
        })
    }
}
