//! `coracle.node.v1` over the runtime.

mod export;
mod network;
mod pull;

use std::path::PathBuf;
use std::pin::Pin;

use cri_proto::node::node_service_server::NodeService;
use cri_proto::node::{
    ExportImageProgress, ExportImageRequest, GetNetworkRequest, GetNetworkResponse, ImportImageProgress,
    ImportImageRequest, ImportedImage, LeaseAddressesRequest, LeaseAddressesResponse, PullImageProgress,
    PullImageRequest, SetNetworkRequest, SetNetworkResponse,
};
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::cri::Services;
use crate::images::{Imported, Limits, Progress};

/// Messages of progress that may wait; what comes in between is left out, never waited for.
const BUFFER: usize = 16;

#[tonic::async_trait]
impl NodeService for Services {
    type ImportImageStream = Pin<Box<dyn Stream<Item = Result<ImportImageProgress, Status>> + Send>>;

    async fn import_image(
        &self,
        request: Request<ImportImageRequest>,
    ) -> Result<Response<Self::ImportImageStream>, Status> {
        let request = request.into_inner();
        let path = PathBuf::from(&request.path);
        if !path.is_absolute() {
            return Err(Status::invalid_argument(format!("path {:?} is not absolute", request.path)));
        }
        let (sender, receiver) = mpsc::channel(BUFFER);
        let services = self.clone();
        tokio::spawn(async move {
            let progress = sender.clone();
            let work = move |core: &std::sync::Arc<crate::core::Core>, _: &crate::Owner| {
                let reference = (!request.reference.is_empty()).then_some(request.reference.as_str());
                // A caller that reads slowly misses some of the progress, never the end.
                let mut tell = |at: Progress| drop(progress.try_send(Ok(message(at))));
                Ok(core.images.import(&path, reference, &limits(request.limits), &mut tell)?)
            };
            let last = services.run(work).await.map(|images| ImportImageProgress {
                done: images.into_iter().map(imported).collect(),
                ..Default::default()
            });
            // A caller that is gone does not want to know.
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }

    type PullImageStream = Pin<Box<dyn Stream<Item = Result<PullImageProgress, Status>> + Send>>;

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Result<Response<Self::PullImageStream>, Status> {
        let subscription = self.begin_pull(pull::request(request.into_inner()))?;
        Ok(Response::new(Box::pin(pull::stream(subscription))))
    }

    type ExportImageStream = Pin<Box<dyn Stream<Item = Result<ExportImageProgress, Status>> + Send>>;

    async fn export_image(
        &self,
        request: Request<ExportImageRequest>,
    ) -> Result<Response<Self::ExportImageStream>, Status> {
        let wanted = export::request(request.into_inner())?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        let services = self.clone();
        tokio::spawn(async move {
            let progress = sender.clone();
            let work = move |core: &std::sync::Arc<crate::core::Core>, _: &crate::Owner| {
                let mut total = 0;
                let mut tell = |bytes, all| {
                    total = all;
                    drop(progress.try_send(Ok(export::message(bytes, all))));
                };
                core.images.export(&wanted.images, &wanted.path, wanted.format, &mut tell)?;
                Ok(ExportImageProgress { bytes: total, total_bytes: total, done: true })
            };
            let _ = sender.send(services.run(work).await).await;
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }

    async fn set_network(&self, request: Request<SetNetworkRequest>) -> Result<Response<SetNetworkResponse>, Status> {
        network::set(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_network(&self, _: Request<GetNetworkRequest>) -> Result<Response<GetNetworkResponse>, Status> {
        network::get(self).await.map(Response::new)
    }

    async fn lease_addresses(
        &self,
        request: Request<LeaseAddressesRequest>,
    ) -> Result<Response<LeaseAddressesResponse>, Status> {
        network::lease(self, request.into_inner()).await.map(Response::new)
    }
}

fn limits(asked: Option<cri_proto::node::UnpackLimits>) -> Limits {
    let (asked, default) = (asked.unwrap_or_default(), Limits::default());
    let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
    Limits {
        max_entries: or(asked.max_entries, default.max_entries),
        max_bytes: or(asked.max_bytes, default.max_bytes),
        max_path_bytes: or(asked.max_path_bytes, default.max_path_bytes),
        ..default
    }
}

fn message(at: Progress) -> ImportImageProgress {
    ImportImageProgress {
        layer: u32::try_from(at.layer).unwrap_or(u32::MAX),
        layers: u32::try_from(at.layers).unwrap_or(u32::MAX),
        digest: at.digest.to_string(),
        bytes: at.bytes,
        total_bytes: at.total_bytes,
        exists: at.exists,
        done: Vec::new(),
    }
}

fn imported(image: Imported) -> ImportedImage {
    ImportedImage {
        id: image.id.to_string(),
        references: image.references.iter().map(ToString::to_string).collect(),
        size: image.size,
    }
}
