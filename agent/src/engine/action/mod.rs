//! What probes and hooks do to a container: run a command in it, ask it over HTTP, connect to it, ask for its gRPC
//! health. None of them starts a process on the host, and all but the command go straight to the pod's address.

mod dial;
mod exec;
mod grpc;
mod http;
mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::Semaphore;

pub use self::http::Purpose;
use crate::channel::Cri;

/// Commands of probes that run at a time on this node; more of them wait for their turn, and no timeout runs for them
/// meanwhile. Each is a process, and on a small node a thundering herd of them would make one another late.
const EXECS: usize = 32;

/// The most of an answer that is looked at, in bytes.
const MAX_ANSWER: usize = 10 * 1024;

/// Whom something is done to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// The container's id.
    pub id: String,
    /// What the manifest says of it: names of ports, values for a command.
    pub container: Arc<Container>,
    /// Its pod's addresses, the one to ask first: the node's where the pod is in the host's network.
    pub ips: Vec<String>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It went well.
    Passed,
    /// It went well, and there is something that the operator should know.
    Warned(String),
    /// It did not, for this reason.
    Failed(String),
}

/// Nothing came back that could be judged.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The manifest names none of the actions.
    #[error("it names no action")]
    Empty,
    /// A port that the container does not have.
    #[error("container {container} has no port named {name:?}")]
    NoSuchPort {
        /// The container.
        container: String,
        /// The name asked for.
        name: String,
    },
    /// A number that is no port.
    #[error("{0} is not a port: 1 to 65535")]
    BadPort(i64),
    /// The pod has no address to be asked at.
    #[error("the pod has no address")]
    NoAddress,
    /// What is asked for cannot be put into a request.
    #[error("{what}: {reason}")]
    BadRequest {
        /// The part of it.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The runtime did not run the command.
    #[error("cannot run the command in container {container}: {reason}")]
    Runtime {
        /// The container.
        container: String,
        /// In the runtime's words.
        reason: String,
    },
    /// An answer began and did not end.
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
}

/// Does actions; cheap to clone. One for a process, so that its bound is one for all pods.
#[derive(Clone, Debug)]
pub struct Actions {
    cri: Cri,
    execs: Arc<Semaphore>,
}

impl Actions {
    /// Actions through `cri`.
    pub fn new(cri: Cri) -> Self {
        Actions { cri, execs: Arc::new(Semaphore::new(EXECS)) }
    }

    /// Runs a command of a probe within `limit`, when it is its turn.
    pub async fn probe_exec(&self, subject: &Subject, exec: &ExecAction, limit: Duration) -> Outcome {
        // The semaphore is never closed.
        let _turn = self.execs.acquire().await.ok();
        exec::run(&self.cri, subject, exec, Some(limit)).await.map(exec::Ended::answer)
    }

    /// Runs a command of a hook; without a limit for as long as it takes.
    pub async fn hook_exec(&self, subject: &Subject, exec: &ExecAction, limit: Option<Duration>) -> Outcome {
        exec::run(&self.cri, subject, exec, limit).await.map(exec::Ended::answer_of_hook)
    }

    /// Asks over HTTP: a probe, whose answer is judged.
    pub async fn http(&self, subject: &Subject, get: &HTTPGetAction, limit: Duration) -> Outcome {
        let request = http::Request::new(subject, get, Purpose::Probe)?;
        let url = request.url().to_owned();
        match tokio::time::timeout(limit, http::probe(request)).await {
            Ok(answer) => answer,
            Err(_) => Ok(Answer::Failed(format!("Get {url:?}: no answer within {limit:?}"))),
        }
    }

    /// Asks over HTTP: a hook, which any answer ends well.
    pub async fn hook_http(&self, subject: &Subject, get: &HTTPGetAction) -> Outcome {
        http::hook(http::Request::new(subject, get, Purpose::Lifecycle)?).await
    }

    /// Connects, and says nothing.
    pub async fn tcp(&self, subject: &Subject, tcp: &TCPSocketAction, limit: Duration) -> Outcome {
        let port = subject.port(&tcp.port)?;
        let host = subject.host(tcp.host.as_deref())?;
        Ok(match tokio::time::timeout(limit, dial::dial(host, port)).await {
            Ok(Ok(_)) => Answer::Passed,
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => Answer::Failed(dial::DialError::late(host, port, limit).to_string()),
        })
    }

    /// Asks `grpc.health.v1.Health`.
    pub async fn grpc(&self, subject: &Subject, grpc: &GRPCAction, limit: Duration) -> Outcome {
        let port = port_number(grpc.port.into())?;
        let tls = grpc.mode.as_deref() == Some("TLS");
        let server = grpc::Server { host: subject.host(None)?, port, tls };
        server.probe(grpc.service.as_deref().unwrap_or_default(), limit).await
    }
}

/// How an action went.
pub type Outcome = Result<Answer, ActionError>;

impl Subject {
    /// Whom to ask: the host that the manifest names, or the pod itself.
    fn host<'a>(&'a self, named: Option<&'a str>) -> Result<&'a str, ActionError> {
        let named = named.filter(|host| !host.is_empty());
        named.or(self.ips.first().map(String::as_str)).ok_or(ActionError::NoAddress)
    }

    /// The number of a port, which the manifest may name as the container does.
    fn port(&self, port: &IntOrString) -> Result<u16, ActionError> {
        let name = match port {
            IntOrString::Int(number) => return port_number(i64::from(*number)),
            IntOrString::String(name) => name,
        };
        let named = self.container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
        match named {
            Some(port) => port_number(i64::from(port.container_port)),
            // Kubernetes takes a number in quotes, too.
            None => {
                name.parse().ok().and_then(|number: i64| port_number(number).ok()).ok_or_else(|| {
                    ActionError::NoSuchPort { container: self.container.name.clone(), name: name.clone() }
                })
            }
        }
    }
}

fn port_number(number: i64) -> Result<u16, ActionError> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or(ActionError::BadPort(number))
}
