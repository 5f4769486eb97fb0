//! The stream of container events.

use std::pin::Pin;

use cri_proto::cri;
use futures_util::Stream;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use super::{Services, show};
use crate::error::Result;
use crate::watch::Event;
use crate::{container, sandbox};

/// Events that a slow client may leave unread before it holds up its own stream.
const BUFFER: usize = 128;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

impl Services {
    /// Everything that happens to this owner's containers from now on. A client that is too slow is told, by the stream's
    /// end, that it has missed something and has to list.
    pub(super) fn container_events(&self) -> Answers<cri::ContainerEventResponse> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let mut events = self.core.watcher.subscribe();
        let services = self.clone();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = sender.closed() => return,
                };
                let answer = match event {
                    Ok(event) => services.describe(event).await.transpose(),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        Some(Err(Status::data_loss(format!("{missed} events were missed; list the containers"))))
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                let Some(answer) = answer else { continue };
                let last = answer.is_err();
                if sender.send(answer).await.is_err() || last {
                    return;
                }
            }
        });
        Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
    }

    /// The event with the states around it; none for what is another owner's.
    async fn describe(&self, event: Event) -> std::result::Result<Option<cri::ContainerEventResponse>, Status> {
        let (id, kind) = match event {
            Event::Created(id) => (id, cri::ContainerEventType::ContainerCreatedEvent),
            Event::Started(id) => (id, cri::ContainerEventType::ContainerStartedEvent),
            Event::Stopped(id) => (id, cri::ContainerEventType::ContainerStoppedEvent),
            Event::Deleted(id) => (id, cri::ContainerEventType::ContainerDeletedEvent),
            Event::ShimDied(id) => (id, cri::ContainerEventType::ContainerStoppedEvent),
        };
        self.run(move |core, owner| {
            let of = match container::load(core, &id) {
                Ok(record) if record.owner == *owner => record.sandbox,
                Ok(_) => return Ok(None),
                // It is gone, or it is a sandbox.
                Err(_) => id.clone(),
            };
            let (status, statuses) = match sandbox::owned(core, owner, &of) {
                Ok(record) => (Some(show::sandbox_status(core, &record)), statuses(core, &record.id)?),
                // Gone too, or another owner's: its id says nothing to anybody.
                Err(_) => (None, Vec::new()),
            };
            Ok(Some(cri::ContainerEventResponse {
                container_id: id,
                container_event_type: kind as i32,
                created_at: crate::shim::now(),
                pod_sandbox_status: status,
                containers_statuses: statuses,
            }))
        })
        .await
    }
}

fn statuses(core: &crate::core::Core, sandbox: &str) -> Result<Vec<cri::ContainerStatus>> {
    container::of_sandbox(core, sandbox)?.iter().map(|it| show::container_status(core, it)).collect()
}
