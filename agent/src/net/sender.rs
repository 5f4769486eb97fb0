//! Brings what is wanted of the network to the runtime: the whole of it each time, only when it has changed, the newest
//! alone when it changes faster than it can be sent, and again until the runtime takes it.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use cri_proto::node::{PodRef, SetNetworkRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::pod_ref;
use crate::channel::Cri;
use crate::node::desired::Name;

/// How long to wait before a request that failed is sent again; what was refused may be taken later, for others' wishes
/// go.
const RETRY: Duration = Duration::from_secs(2);

/// Why the network is not as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The runtime knows nothing of links, policies, Services and names.
    #[error("this container runtime has no links, policies, Services or networks; Coracle's own has")]
    Foreign,
    /// Others connect the pods.
    #[error(
        "CNI plug-ins connect the pods here (--cni-conf-dir), and they have no links, policies, Services or networks; Coracle's \
         own network has"
    )]
    Plugged,
    /// It cannot be.
    #[error("the network cannot be as the manifests want it: {0}")]
    Refused(String),
    /// It may be later.
    #[error("the network is not yet as the manifests want it: {0}")]
    Failed(String),
}

impl Trouble {
    /// It stays so as long as this process lives.
    fn is_lasting(&self) -> bool {
        matches!(self, Trouble::Foreign | Trouble::Plugged)
    }

    fn of(status: &Status) -> Self {
        let why = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Trouble::Refused(why),
            _ => Trouble::Failed(why),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    version: u64,
    request: Arc<SetNetworkRequest>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// The latest version that is in force.
    done: u64,
    /// Why the version after it that was tried last is not.
    trouble: Option<(u64, Trouble)>,
}

/// The way to the runtime. Cheap to clone; the last clone ends the task.
#[derive(Clone, Debug)]
pub struct Sender {
    wanted: watch::Sender<Wanted>,
    state: watch::Receiver<State>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(Option<JoinHandle<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Sender {
    /// Begins to send through `cri`.
    pub fn new(cri: Cri) -> Self {
        let (wanted, newest) = watch::channel(Wanted::default());
        let (tell, state) = watch::channel(State::default());
        let task = tokio::spawn(work(cri, newest, tell));
        Sender { wanted, state, _task: Arc::new(Task(Some(task))) }
    }

    /// One that brings nothing anywhere, for the reason that is said: [`Trouble::is_lasting`].
    pub fn without(why: Trouble) -> Self {
        let (wanted, _) = watch::channel(Wanted::default());
        let trouble = Some((u64::MAX, why));
        let (_, state) = watch::channel(State { done: 0, trouble });
        Sender { wanted, state, _task: Arc::new(Task(None)) }
    }

    /// Why nothing of it can ever be in force.
    pub fn unsupported(&self) -> Option<Trouble> {
        self.trouble().filter(Trouble::is_lasting)
    }

    /// Why what was sent last is not in force.
    pub fn trouble(&self) -> Option<Trouble> {
        self.state.borrow().trouble.as_ref().map(|(_, trouble)| trouble.clone())
    }

    /// Wants this from now on. What was wanted before is not sent any more.
    pub fn set(&self, request: SetNetworkRequest) {
        self.wanted.send_if_modified(|wanted| {
            // An agent before this one may have wanted something: the first is sent even when it is nothing.
            let changed = wanted.version == 0 || *wanted.request != request;
            if changed {
                *wanted = Wanted { version: wanted.version + 1, request: Arc::new(request) };
            }
            changed
        });
    }

    /// Waits until everything that is wanted now is in force, as far as it concerns a pod: nobody waits for what is none
    /// of its business. `network`: the one that it is in by name.
    pub async fn in_force(&self, pod: &Name, network: Option<String>) -> Result<(), Trouble> {
        let wanted = self.wanted.borrow().clone();
        let among = wanted.request.networks.iter().any(|it| Some(&it.name) == network.as_ref());
        if !among && !concerns(&wanted.request, &pod_ref(pod)) {
            return Ok(());
        }
        let decided = |state: &State| {
            state.done >= wanted.version
                || state.trouble.as_ref().is_some_and(|(version, _)| *version >= wanted.version)
        };
        let mut state = self.state.clone();
        let Ok(state) = state.wait_for(decided).await else {
            return Err(Trouble::Failed("nobody brings it to the runtime any more".into()));
        };
        match &state.trouble {
            Some((_, trouble)) if state.done < wanted.version => Err(trouble.clone()),
            _ => Ok(()),
        }
    }
}

impl Sender {
    /// Waits until what is wanted now was sent, whatever became of it.
    pub async fn settled(&self) {
        let version = self.wanted.borrow().version;
        let sent = |state: &State| state.done >= version || state.trouble.as_ref().is_some_and(|it| it.0 >= version);
        // Without a task there is nothing to wait for.
        let _ = self.state.clone().wait_for(sent).await;
    }
}

/// Whether a request says something of a pod.
fn concerns(request: &SetNetworkRequest, pod: &PodRef) -> bool {
    let is = |it: &Option<PodRef>| it.as_ref() == Some(pod);
    request.links.iter().any(|link| is(&link.from) || link.endpoints.iter().any(|endpoint| is(&endpoint.pod)))
        || request.policies.iter().any(|policy| is(&policy.pod))
        || request.services.iter().flat_map(|it| &it.ports).flat_map(|it| &it.endpoints).any(|it| is(&it.pod))
        || request.names.iter().any(|name| is(&name.asker))
}

async fn work(cri: Cri, mut wanted: watch::Receiver<Wanted>, tell: watch::Sender<State>) {
    let mut told: Option<Trouble> = None;
    loop {
        let Wanted { version, request } = wanted.borrow_and_update().clone();
        let mut done = version == 0;
        if !done {
            let answer = cri.node.clone().set_network(SetNetworkRequest::clone(&request)).await;
            let trouble = answer.err().map(|status| Trouble::of(&status));
            done = trouble.is_none();
            if let Some(trouble) = trouble.as_ref().filter(|trouble| told.as_ref() != Some(trouble)) {
                tracing::warn!(%trouble, "what is wanted of the network is not in force; it is tried again");
            }
            told.clone_from(&trouble);
            tell.send_modify(|state| {
                if done {
                    state.done = version;
                }
                state.trouble = trouble.map(|trouble| (version, trouble));
            });
        }
        let retry = async { if done { std::future::pending().await } else { tokio::time::sleep(RETRY).await } };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = retry => {}
        }
    }
}
