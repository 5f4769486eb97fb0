//! The runtime as the agent holds it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cri_proto::MAX_MESSAGE_BYTES;
use cri_proto::cri::image_service_server::ImageServiceServer;
use cri_proto::cri::runtime_service_server::RuntimeServiceServer;
use cri_proto::node::node_service_server::NodeServiceServer;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tonic::service::Routes;

use crate::collect::{self, CollectReport};
use crate::container::{self, Session};
use crate::core::{Core, Options};
use crate::cri::Services;
use crate::error::{Error, Result};
use crate::ids::Owner;
use crate::images::ImageStore;
use crate::network::{self, Network};
use crate::resolver;
use crate::runs::{self, RunsHeld};
use crate::sandbox;
use crate::servers::{self, Serving};
use crate::sessions::{Sessions, Wanted};
use crate::streaming;
use crate::watch::Event;
use crate::zygote::Zygote;

/// The runtime. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    core: Arc<Core>,
    sessions: Sessions,
}

impl Runtime {
    /// Opens the directories. Without a zygote it can look, stop and remove, but start no sandbox.
    pub fn open(options: Options, zygote: Option<Zygote>) -> Result<Self> {
        let core = Core::open(options, zygote)?;
        let weak = Arc::downgrade(&core);
        core.watcher.on_death(Box::new(move |id| bury(&weak, id)));
        Ok(Self { core, sessions: Sessions::default() })
    }

    /// The services of one owner: RuntimeService, ImageService and NodeService.
    pub fn services(&self, owner: Owner) -> Routes {
        let services = Services::new(Arc::clone(&self.core), owner, self.sessions.clone());
        let runtime = RuntimeServiceServer::new(services.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let image = ImageServiceServer::new(services.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let node = NodeServiceServer::new(services)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(runtime).add_service(image).add_service(node).prepare()
    }

    /// Declares this process the one that serves an owner, takes away what one that died was making, and follows what runs.
    /// It is so until the answer is dropped. Blocking.
    pub fn serve(&self, owner: &Owner) -> Result<Serving> {
        let serving = servers::begin(&self.core, owner)?;
        for (what, outcome) in servers::discard_half_made(&self.core, owner)? {
            match outcome {
                Ok(()) => tracing::info!(what, "removed what a killed server had not finished"),
                Err(error) => {
                    tracing::warn!(what, %error, "what a killed server had not finished could not be removed")
                }
            }
        }
        self.adopt(owner)?;
        network::cni::sweep_beside(&self.core);
        network::cni::check_all(&self.core, owner);
        if let Err(error) = network::outgrow(&self.core, owner) {
            tracing::warn!(%error, "what was wanted of the pods' network stays in force, though CNI plug-ins connect the pods now");
        }
        Ok(serving)
    }

    /// Follows the shims of an owner's sandboxes that were started by another process.
    fn adopt(&self, owner: &Owner) -> Result<()> {
        for record in sandbox::all(&self.core)?.into_iter().filter(|it| it.owner == *owner) {
            if record.shim_lives(&self.core) {
                if record.attachment.is_some() || resolver::asks_on_host(&record) {
                    Network::watch(&self.core)?;
                }
                // One shim that does not answer must not keep the other pods from being served.
                if let Err(error) = sandbox::follow(&self.core, &record.id) {
                    tracing::warn!(%error, sandbox = record.id, "a sandbox cannot be followed");
                }
            } else {
                sandbox::bury(&self.core, &record.id)?;
            }
        }
        Ok(())
    }

    /// Starts the command of an address that Exec answered with, without a connection. Blocking.
    pub fn take_session(&self, url: &str) -> Result<Session> {
        match self.sessions.take(url) {
            Some(Wanted::Exec { container, exec, .. }) => {
                container::exec(&self.core, &container::load(&self.core, &container)?, &exec)
            }
            _ => Err(Error::NotFound { what: "session", id: url.to_owned() }),
        }
    }

    /// Answers a client that wants the session of an address that Exec, Attach or PortForward answered with, over the
    /// connection that its request came by. `place` is dropped when the session is over, which a connection without a byte
    /// in either direction for `idle` is, too.
    pub fn join_session(
        &self,
        address: &str,
        place: impl Send + 'static,
        request: Request<Incoming>,
        idle: Option<Duration>,
    ) -> Response<String> {
        let config = streaming::channels::Config { idle, ..Default::default() };
        let state = streaming::State { core: Arc::clone(&self.core), sessions: self.sessions.clone(), config };
        streaming::join(Arc::new(state), address, place, request)
    }

    /// Listens for the clients of Exec, Attach and PortForward: from now on the addresses that those answer with are
    /// this server's.
    pub async fn streaming(&self, options: &streaming::Options) -> Result<streaming::Server> {
        streaming::Server::bind(options, Arc::clone(&self.core), self.sessions.clone()).await
    }

    /// Keeps runs from beginning and others from collecting. Blocking.
    pub fn hold_runs(&self) -> Result<RunsHeld> {
        runs::hold(&self.core)
    }

    /// Removes what killed runs have left; with `all`, everything that the state directory knows. Blocking.
    pub fn collect(&self, all: bool, held: &RunsHeld) -> Result<CollectReport> {
        collect::collect(&self.core, all, held)
    }

    /// Declares this process the one that a run belongs to, until [`Runtime::end_run`].
    pub fn begin_run(&self, id: &str) -> Result<()> {
        runs::begin(&self.core, id)
    }

    /// The run is over and everything of it removed.
    pub fn end_run(&self, id: &str) -> Result<()> {
        runs::end(&self.core, id)
    }

    /// The images.
    pub fn images(&self) -> &ImageStore {
        &self.core.images
    }
}

fn bury(core: &Weak<Core>, sandbox: &str) {
    let Some(core) = core.upgrade() else { return };
    if let Err(error) = sandbox::bury(&core, sandbox) {
        tracing::error!(%error, sandbox, "what a shim left when it died could not be ended; run coracle gc");
    }
    core.watcher.announce(Event::ShimDied(sandbox.to_owned()));
}
