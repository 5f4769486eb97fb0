//! The stream of container events.
//!
//! One thread for all who listen hears what happens, and describes each event once, at once: the states in it are those
//! of that time, and everybody is told the same. It runs while somebody listens.

mod index;
mod order;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use cri_proto::cri;
use futures_util::Stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Services, show};
use crate::container;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::Owner;
use crate::sandbox;
use crate::watch::Event;
use index::{Index, News};
use order::Phase;

/// Events that a client may leave unread before it is told that it has missed some.
const BACKLOG: usize = 1024;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

/// What is told: an event, or how many were missed by everybody.
type Told = std::result::Result<Arc<cri::ContainerEventResponse>, u64>;

/// Tells the events of one owner to all who listen.
pub struct Hub {
    listeners: broadcast::Sender<Told>,
    /// Whether the thread runs.
    runs: Mutex<bool>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { listeners: broadcast::channel(BACKLOG).0, runs: Mutex::default() }
    }
}

impl Services {
    /// Everything that happens to this owner's containers and sandboxes from now on. A client that is too slow is told, by
    /// the stream's end, that it has missed something and has to list.
    pub(super) async fn container_events(&self) -> std::result::Result<Answers<cri::ContainerEventResponse>, Status> {
        let hub = Arc::clone(&self.events);
        let told = self.run(move |core, owner| listen(&hub, core, owner)).await?;
        Ok(forward(told))
    }
}

/// Listens from now on.
fn listen(hub: &Arc<Hub>, core: &Arc<Core>, owner: &Owner) -> Result<broadcast::Receiver<Told>> {
    let mut runs = hub.runs.lock().unwrap_or_else(PoisonError::into_inner);
    let told = hub.listeners.subscribe();
    if !*runs {
        let heard = core.watcher.subscribe();
        // Of what happens while this is read, nothing is told twice: that is in the index, or it comes after.
        let index = Index::read(core, owner)?;
        let describer =
            Describer { hub: Arc::clone(hub), core: Arc::downgrade(core), owner: owner.clone(), index, last: 0 };
        let thread = std::thread::Builder::new().name("events".into());
        thread.spawn(move || describer.run(heard)).during(|| "start the thread that tells events".into())?;
        *runs = true;
    }
    Ok(told)
}

/// To one client, until it goes or has missed something.
fn forward(mut told: broadcast::Receiver<Told>) -> Answers<cri::ContainerEventResponse> {
    // What is waiting is in the backlog: the next event leaves it when the client takes this one.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = told.recv() => event,
                () = sender.closed() => return,
            };
            let answer = match event {
                Ok(Ok(event)) => Ok(cri::ContainerEventResponse::clone(&event)),
                Ok(Err(missed)) | Err(RecvError::Lagged(missed)) => {
                    Err(Status::data_loss(format!("{missed} events were missed; list the containers and listen again")))
                }
                Err(RecvError::Closed) => return,
            };
            let last = answer.is_err();
            if sender.send(answer).await.is_err() || last {
                return;
            }
        }
    });
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// The thread.
struct Describer {
    hub: Arc<Hub>,
    core: std::sync::Weak<Core>,
    owner: Owner,
    index: Index,
    /// When the last event was told.
    last: i64,
}

impl Describer {
    fn run(mut self, mut heard: broadcast::Receiver<Event>) {
        loop {
            let event = heard.blocking_recv();
            let (Some(core), false) = (self.core.upgrade(), self.is_over()) else { return };
            match event {
                Ok(event) => self.tell(&core, &event),
                Err(RecvError::Closed) => return self.end(),
                Err(RecvError::Lagged(missed)) => {
                    self.send(Err(missed));
                    match Index::read(&core, &self.owner) {
                        Ok(index) => self.index = index,
                        Err(error) => tracing::warn!(%error, "the containers cannot be listed for their events"),
                    }
                }
            }
        }
    }

    /// Nobody listens any more, and whoever comes later finds that there is no thread.
    fn is_over(&self) -> bool {
        let mut runs = self.hub.runs.lock().unwrap_or_else(PoisonError::into_inner);
        *runs = self.hub.listeners.receiver_count() > 0;
        !*runs
    }

    fn end(&self) {
        *self.hub.runs.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn send(&self, told: Told) {
        // That the last listener has gone is seen at the next event.
        let _ = self.hub.listeners.send(told);
    }

    fn tell(&mut self, core: &Core, event: &Event) {
        let news = self.index.hear(core, event);
        let Some(first) = news.first() else { return };
        let gone = if let Event::SandboxDeleted(record) = event { Some(record.as_ref()) } else { None };
        let status = match gone {
            Some(record) => Some(show::sandbox_status(core, record)),
            None => sandbox::load(core, &first.sandbox).ok().map(|it| show::sandbox_status(core, &it)),
        };
        let containers = self.statuses(core, &first.sandbox);
        for News { id, phase, .. } in news {
            let Some(kind) = kind(phase) else { continue };
            // The clock may be set back: what comes later is not told to have been before.
            self.last = self.last.max(crate::shim::now());
            self.send(Ok(Arc::new(cri::ContainerEventResponse {
                container_id: id,
                container_event_type: kind as i32,
                created_at: self.last,
                pod_sandbox_status: status.clone(),
                containers_statuses: containers.clone(),
            })));
        }
    }

    /// The containers of a sandbox, oldest first. What cannot be read is left out: the event is more than that.
    fn statuses(&self, core: &Core, sandbox: &str) -> Vec<cri::ContainerStatus> {
        let status = |id: &str| show::container_status(core, &container::load(core, id)?);
        let mut all: Vec<_> = self.index.of_sandbox(sandbox).filter_map(|id| status(id).ok()).collect();
        all.sort_by_key(|it| it.created_at);
        all
    }
}

fn kind(phase: Phase) -> Option<cri::ContainerEventType> {
    match phase {
        Phase::Unknown => None,
        Phase::Created => Some(cri::ContainerEventType::ContainerCreatedEvent),
        Phase::Started => Some(cri::ContainerEventType::ContainerStartedEvent),
        Phase::Stopped => Some(cri::ContainerEventType::ContainerStoppedEvent),
        Phase::Deleted => Some(cri::ContainerEventType::ContainerDeletedEvent),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    fn event(number: usize) -> Told {
        Ok(Arc::new(cri::ContainerEventResponse { container_id: number.to_string(), ..Default::default() }))
    }

    #[tokio::test]
    async fn a_client_that_reads_is_told_everything_and_one_that_does_not_is_told_so() {
        let sender = broadcast::channel(8).0;
        let (mut reader, mut sleeper) = (forward(sender.subscribe()), forward(sender.subscribe()));
        for number in 0..100 {
            sender.send(event(number)).unwrap();
            assert_eq!(reader.next().await.unwrap().unwrap().container_id, number.to_string());
        }
        let mut told = 0;
        let end = loop {
            match sleeper.next().await.unwrap() {
                Ok(event) => assert_eq!(event.container_id, told.to_string(), "what came before the gap is in order"),
                Err(status) => break status,
            }
            told += 1;
        };
        assert_eq!(end.code(), tonic::Code::DataLoss);
        let missed: usize = end.message().split(' ').next().unwrap().parse().unwrap();
        assert!(told <= 2 && missed >= 90 && told + missed <= 100, "told {told}, missed {missed}");
        assert!(sleeper.next().await.is_none(), "the stream has ended");
    }

    #[tokio::test]
    async fn what_everybody_missed_ends_every_stream() {
        let sender = broadcast::channel(8).0;
        let mut streams = [forward(sender.subscribe()), forward(sender.subscribe())];
        sender.send(Err(7)).unwrap();
        for stream in &mut streams {
            assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::DataLoss);
            assert!(stream.next().await.is_none());
        }
    }
}
