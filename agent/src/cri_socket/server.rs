//! Everything that serves CRI clients: the calls on the socket, and the sessions that they lead to.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use runtime::{Owner, Runtime, Serving, streaming};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Place;

/// How long calls that are being answered may take once the end was asked for. Streams of events have none.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A server of the container runtime interface.
#[derive(Debug)]
pub struct Server {
    held: Serving,
    answering: JoinHandle<Result<(), tonic::transport::Error>>,
    ask: oneshot::Sender<()>,
    streaming: JoinHandle<()>,
}

impl Server {
    /// Serves at `path` from now on.
    pub async fn start(runtime: &Runtime, path: &Path, options: &streaming::Options) -> anyhow::Result<Self> {
        let place = Place::take(path)?;
        let serving = runtime.clone();
        let serving = tokio::task::spawn_blocking(move || serving.serve(&Owner::Cri)).await?;
        let held = serving.context("take over the pods of the container runtime interface")?;
        let routes = runtime.services(Owner::Cri);
        let streaming = tokio::spawn(runtime.streaming(options).await?.serve());
        let socket = place.listen()?;
        let (ask, asked) = oneshot::channel::<()>();
        let answering = tokio::spawn(async move {
            let asked = async {
                let _ = asked.await;
            };
            let server = tonic::transport::Server::builder().add_routes(routes);
            server.serve_with_incoming_shutdown(socket.connections(), asked).await
        });
        Ok(Server { held, answering, ask, streaming })
    }

    /// Waits until it serves no more, which nobody has asked for.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.answering).await?.context("serve the container runtime interface")
    }

    /// Ends it in good order. What runs goes on running.
    pub async fn finish(self) -> anyhow::Result<Serving> {
        let Server { held, answering, ask, streaming } = self;
        drop(ask);
        let ended = match answering.is_finished() {
            true => Ok(()),
            false => match tokio::time::timeout(LAST_ANSWERS, answering).await {
                Ok(ended) => ended?.context("serve the container runtime interface"),
                // Streams of events are open for as long as their clients like.
                Err(_) => Ok(()),
            },
        };
        streaming.abort();
        ended.map(|()| held)
    }
}
