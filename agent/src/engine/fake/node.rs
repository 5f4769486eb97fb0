//! The fake runtime's pulls, by either service.

use cri_proto::node::node_service_server::NodeService;
use cri_proto::node::pull_image_progress::Event;
use cri_proto::node::{
    ExportImageProgress, ExportImageRequest, GetNetworkRequest, GetNetworkResponse, ImportImageProgress,
    ImportImageRequest, ImportedImage, LeaseAddressesRequest, LeaseAddressesResponse, PodAddresses, PullImageLayers,
    PullImageProgress, PullImageRequest, PullLayer, PullLayerProgress, PullPhase, SetNetworkRequest,
    SetNetworkResponse,
};

use super::*;

/// How pulls go.
#[derive(Default)]
pub struct Pulls {
    /// The runtime is a foreign one, without a node service.
    pub foreign: bool,
    /// How long each takes.
    pub takes: Duration,
    /// What the first ones fail with.
    pub failures: VecDeque<Status>,
    /// Bytes of the image's one layer; 0 for one that is here.
    pub bytes: u64,
    /// The user that is let in; anybody unless set.
    pub user: Option<String>,
}

/// How the network goes.
#[derive(Default)]
pub struct Networks {
    /// How long each request takes.
    pub takes: Duration,
    /// What the first ones fail with.
    pub failures: VecDeque<Status>,
    /// What is in force.
    pub set: SetNetworkRequest,
}

impl Fake {
    /// A pull: noted, then what was scripted.
    pub(super) async fn pull(&self, name: String, user: String) -> Result<String, Status> {
        self.note(format!("pull {name} {user}").trim_end().to_owned());
        let takes = self.world().pulls.takes;
        sleep(takes).await;
        let mut world = self.world();
        if let Some(status) = world.pulls.failures.pop_front() {
            return Err(status);
        }
        if world.pulls.user.as_ref().is_some_and(|wanted| *wanted != user) {
            return Err(Status::unauthenticated(format!("{name} is not for \"{user}\"")));
        }
        if world.images.contains(&name) {
            return Ok(format!("sha256:{name}"));
        }
        Err(Status::not_found(format!("no image \"{name}\"; there are: i")))
    }
}

#[tonic::async_trait]
impl NodeService for Fake {
    type ImportImageStream = Never<ImportImageProgress>;
    type ExportImageStream = Never<ExportImageProgress>;
    type PullImageStream = Never<PullImageProgress>;

    async fn import_image(&self, _: Request<ImportImageRequest>) -> Answer<Self::ImportImageStream> {
        absent()
    }

    async fn export_image(&self, _: Request<ExportImageRequest>) -> Answer<Self::ExportImageStream> {
        absent()
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<Self::PullImageStream> {
        if self.world().pulls.foreign {
            return absent();
        }
        let request = request.into_inner();
        let user = request.auth.unwrap_or_default().username;
        let id = self.pull(request.reference, user).await?;
        let size = self.world().pulls.bytes;
        let phase = if size == 0 { PullPhase::Exists } else { PullPhase::Done };
        let layers = vec![PullLayer { digest: "sha256:77".into(), size }];
        let events = [
            Event::Layers(PullImageLayers { manifest_digest: "sha256:88".into(), layers }),
            Event::Layer(PullLayerProgress { layer: 0, phase: phase.into(), bytes: size, resumed_bytes: 0 }),
            Event::Done(ImportedImage { id, ..ImportedImage::default() }),
        ];
        let messages = events.map(|event| Ok(PullImageProgress { event: Some(event) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn set_network(&self, request: Request<SetNetworkRequest>) -> Answer<SetNetworkResponse> {
        let request = request.into_inner();
        self.note(format!("set-network {}", request.links.len()));
        let takes = self.world().networks.takes;
        sleep(takes).await;
        let mut world = self.world();
        match world.networks.failures.pop_front() {
            Some(status) => Err(status),
            None => {
                world.networks.set = request;
                Ok(Response::new(SetNetworkResponse {}))
            }
        }
    }

    async fn get_network(&self, _: Request<GetNetworkRequest>) -> Answer<GetNetworkResponse> {
        absent()
    }

    async fn lease_addresses(&self, request: Request<LeaseAddressesRequest>) -> Answer<LeaseAddressesResponse> {
        let pods = request.into_inner().pods.into_iter();
        let leased = pods.map(|_| PodAddresses { addresses: vec!["10.9.0.9".into()] });
        Ok(Response::new(LeaseAddressesResponse { pods: leased.collect() }))
    }
}
