//! The agent's API: what it is served from, where, and what its writes do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::control::{Control, Deleted, Refusal};
use crate::api::{self, Api, Doing, Error, Identity, Tcp, serve_socket};
use crate::cri_socket::Place;
use crate::engine::config::Settings;
use crate::engine::notice::Notice;
use crate::events::Events;
use crate::store::{Kind, Store};

/// How often what is too old is forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// Where the API is served besides its socket.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// The address for clients that say the token.
    pub address: Option<SocketAddr>,
    /// Where to write what kubectl needs to know.
    pub kubeconfig: Option<PathBuf>,
}

/// The API before it listens.
pub struct Serving {
    socket: Place,
    tcp: Option<Tcp>,
}

impl Serving {
    /// Takes the places to serve at, so that what is wrong with them is known before anything starts.
    pub async fn prepare(settings: &Settings, listen: &Listen) -> anyhow::Result<Self> {
        let socket = Place::take(&settings.state_dir.join("agent.sock"))?;
        let mut tcp = None;
        if let Some(address) = listen.address {
            let identity = Identity::open(&Identity::directory(&settings.root_dir))?;
            let listening = Tcp::listen(address, identity).await?;
            if let Some(path) = &listen.kubeconfig {
                listening.write_kubeconfig(path, &settings.node.name).context("tell kubectl of the API")?;
            }
            tcp = Some(listening);
        }
        Ok(Self { socket, tcp })
    }

    /// Serves until the answer is dropped.
    pub fn begin(self, api: Api) -> anyhow::Result<JoinSet<()>> {
        let mut serving = JoinSet::new();
        let socket = self.socket.listen()?;
        tracing::info!(socket = %socket.path().display(), "the API is served");
        serving.spawn(serve_socket(api.clone(), socket));
        if let Some(tcp) = self.tcp {
            tracing::info!(address = %tcp.address(), "the API is served to clients that say the token");
            serving.spawn(tcp.serve(api));
        }
        Ok(serving)
    }
}

/// Makes events of what the workers tell, after `also` has heard of it.
pub async fn tell(mut notices: mpsc::Receiver<Notice>, events: Events, store: Store, also: impl Fn(&Notice)) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(notice) => {
                    also(&notice);
                    events.tell(&notice);
                }
                None => return,
            },
            _ = sweep.tick() => {
                events.forget_old(Instant::now());
                store.forget_old_changes(Instant::now());
            }
        }
    }
}

impl api::Control for Control {
    fn delete_pod<'a>(&'a self, namespace: &'a str, name: &'a str, grace: Option<Duration>) -> Doing<'a, String> {
        Box::pin(async move {
            let Deleted { file, .. } = Control::delete_pod(self, namespace, name, grace).await.map_err(refusal)?;
            Ok(match file {
                Some(file) => format!("pod {name} comes from {file}: it is started anew unless that goes too"),
                None => String::new(),
            })
        })
    }

    fn restart<'a>(&'a self, namespace: &'a str, name: &'a str, container: Option<&'a str>) -> Doing<'a, ()> {
        Box::pin(async move { Control::restart(self, namespace, name, container).await.map_err(refusal) })
    }

    fn why<'a>(&'a self, namespace: &'a str, name: &'a str) -> Doing<'a, Value> {
        Box::pin(async move { Ok(json!(Control::why(self, namespace, name).await.map_err(refusal)?)) })
    }
}

fn refusal(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotFound { name, .. } => Error::NotFound { kind: Kind::Pod, name },
        Refusal::NoContainer(_) => Error::BadRequest(refusal.to_string()),
        Refusal::Stopping => Error::Conflict(refusal.to_string()),
        Refusal::Failed(_) => Error::Internal(refusal.to_string()),
    }
}
