//! What others may ask of a running agent: its local API, and the verbs behind that.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::desired::Name;
use super::why::Why;

/// What may wait to be carried out; whoever asks waits beyond that.
pub(super) const BACKLOG: usize = 64;

/// Asks the agent; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
}

/// Why something asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such pod.
    #[error("pod {namespace}/{name} is not there")]
    NotFound {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The pod has no such container.
    #[error("{0}")]
    NoContainer(String),
    /// The agent is about to end.
    #[error("the agent is stopping")]
    Stopping,
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
}

/// What became of a DELETE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The uid of the pod that is being stopped.
    pub uid: String,
    /// Its manifest, from which it is started anew; none when that is gone already.
    pub file: Option<String>,
    /// How long its containers may take to stop.
    pub grace: Duration,
}

pub(super) enum Command {
    Delete { name: Name, grace: Option<Duration>, reply: oneshot::Sender<Result<Deleted, Refusal>> },
    Restart { name: Name, container: Option<String>, reply: oneshot::Sender<Result<(), Refusal>> },
    Why { name: Name, reply: oneshot::Sender<Result<Why, Refusal>> },
    Reload { reply: oneshot::Sender<()> },
    Ping { reply: oneshot::Sender<()> },
}

impl Control {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(BACKLOG);
        (Control { commands }, received)
    }

    /// Stops a pod; it is started anew from its manifest, with another uid, when it is gone. The pod's own grace
    /// counts unless one is given.
    pub async fn delete_pod(&self, namespace: &str, name: &str, grace: Option<Duration>) -> Result<Deleted, Refusal> {
        let name = (namespace.to_owned(), name.to_owned());
        self.ask(|reply| Command::Delete { name, grace, reply }).await?
    }

    /// Restarts a pod's containers, or one of them, within their grace and without back-off.
    pub async fn restart(&self, namespace: &str, name: &str, container: Option<&str>) -> Result<(), Refusal> {
        let (name, container) = ((namespace.to_owned(), name.to_owned()), container.map(str::to_owned));
        self.ask(|reply| Command::Restart { name, container, reply }).await?
    }

    /// Why a pod is as it is.
    pub async fn why(&self, namespace: &str, name: &str) -> Result<Why, Refusal> {
        let name = (namespace.to_owned(), name.to_owned());
        self.ask(|reply| Command::Why { name, reply }).await?
    }

    /// Looks at every source at once.
    pub async fn reload(&self) -> Result<(), Refusal> {
        self.ask(|reply| Command::Reload { reply }).await
    }

    /// Whether anything is still decided.
    pub async fn ping(&self) -> Result<(), Refusal> {
        self.ask(|reply| Command::Ping { reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)
    }
}
