//! What the API and verbs ask for.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::identity::now;
use super::{Reconciler, not_found, sync, uid};
use crate::identity::new_uid;
use crate::node::control::{Command, Deleted, Refusal};
use crate::node::desired::{Name, disk};

impl Reconciler {
    pub(super) async fn obey(&mut self, command: Command) {
        // Who asked may have gone.
        match command {
            Command::Delete { name, grace, reply } => drop(reply.send(self.delete(&name, grace).await)),
            Command::Restart { name, container, reply } => match self.restart(&name, container.as_deref()) {
                Ok(noted) => drop(tokio::spawn(async move { reply.send(noted.await) })),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Why { name, reply } => {
                let why = crate::node::why::of(&name, &self.view());
                let _ = reply.send(why.ok_or_else(|| not_found(&name)));
            }
            Command::Ping { reply } => drop(reply.send(())),
            Command::Reload { reply } => {
                self.look.send_replace(());
                let _ = reply.send(());
            }
        }
    }

    /// Stops a pod and starts it anew.
    async fn delete(&mut self, name: &Name, grace: Option<Duration>) -> Result<Deleted, Refusal> {
        let live = self.pods.get(name).ok_or_else(|| not_found(name))?;
        if self.desired.bound().get(uid(&live.pod)).is_some() {
            let (namespace, name) = name;
            return Err(Refusal::Failed(format!(
                "pod {name} is the cluster's: delete it there, with kubectl -n {namespace} delete pod {name}"
            )));
        }
        let (old, leaves, grace) = (live.pod.clone(), live.leaves(), grace.unwrap_or_else(|| live.grace()));
        let mut file = None;
        if !leaves && let Some(pod) = self.desired.pods().get(name) {
            let mut anew = Pod::clone(pod);
            anew.metadata.uid = Some(new_uid().map_err(|error| Refusal::Failed(error.to_string()))?);
            anew.metadata.creation_timestamp = now();
            file = self.record_anew(name, &old, anew)?;
        }
        if let Some(live) = self.pods.get_mut(name) {
            live.leave(Some(grace));
        }
        self.apply().await;
        Ok(Deleted { uid: uid(&old).to_owned(), file, grace })
    }

    /// Records that a pod ends and another one comes in its place, or nothing of that: what is answered to who asked
    /// holds, also when the agent is killed the moment after.
    fn record_anew(&mut self, name: &Name, old: &Pod, anew: Pod) -> Result<Option<String>, Refusal> {
        let unrecorded = |error: std::io::Error| {
            let (name, directory) = (&name.1, self.disk.directory().display());
            Refusal::Failed(format!(
                "pod {name} goes on as it is: that it is deleted cannot be recorded in {directory}: {error}"
            ))
        };
        let ending = self.disk.write_ending(old).map_err(unrecorded)?;
        let before = self.desired.pods().get(name).cloned();
        let file = self.desired.replace(name, anew);
        let written = file.as_deref().map(|file| self.disk.write_file(file, &self.desired)).transpose();
        match written.map_err(unrecorded) {
            Ok(record) => {
                sync(record.into_iter().chain([ending]).collect());
                Ok(file)
            }
            Err(refusal) => {
                if let Some(before) = before {
                    self.desired.replace(name, Pod::clone(&before));
                }
                if let Err(error) = disk::discard(&ending) {
                    tracing::error!(pod = name.1, %error, "the record of a deletion that is not done cannot be removed");
                }
                Err(refusal)
            }
        }
    }

    /// Asks for a restart. What comes back ends when that is written down, and so done also by the next agent.
    fn restart(
        &self,
        name: &Name,
        container: Option<&str>,
    ) -> Result<impl Future<Output = Result<(), Refusal>> + use<>, Refusal> {
        let live = self.pods.get(name).ok_or_else(|| not_found(name))?;
        if self.desired.bound().find(name).is_some() && live.is_over() {
            let why =
                "it is over, and an API server's pod does not begin again: delete it, and its controller makes another";
            return Err(Refusal::Failed(format!("pod {}/{}: {why}", name.0, name.1)));
        }
        live.restart(container)
    }
}
