//! The way to a container runtime: one channel type, whatever lies behind it.

use std::path::PathBuf;

use cri_proto::MAX_MESSAGE_BYTES;
use cri_proto::cri::image_service_client::ImageServiceClient;
use cri_proto::cri::runtime_service_client::RuntimeServiceClient;
use cri_proto::node::node_service_client::NodeServiceClient;
use hyper_util::rt::TokioIo;
use tower::{ServiceExt, util::BoxCloneSyncService};

/// A gRPC transport: in memory for Coracle's own runtime, a unix socket for a foreign one.
pub type Channel =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, ChannelError>;

/// A call that did not reach the runtime. A type of its own, for a boxed error keeps the clients' futures from being
/// known as `Send`.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the container runtime: {0}")]
pub struct ChannelError(#[source] pub tower::BoxError);

/// Makes the channel that calls the services of `routes` in this process: no socket, no HTTP/2.
pub fn in_memory(routes: tonic::service::Routes) -> Channel {
    let service =
        ServiceExt::<http::Request<tonic::body::Body>>::map_err(routes.prepare(), |error| ChannelError(error.into()));
    BoxCloneSyncService::new(service)
}

/// Makes the channel to a runtime that serves on a unix socket. It connects when it is first used, and again whenever
/// the connection was lost.
pub fn unix(socket: PathBuf) -> Channel {
    // The address is never looked at: what connects knows the way.
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    let connect = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let service = ServiceExt::<http::Request<tonic::body::Body>>::map_err(
        endpoint.connect_with_connector_lazy(connect),
        |error: tonic::transport::Error| ChannelError(error.into()),
    );
    BoxCloneSyncService::new(service)
}

/// The clients over one channel, cheap to clone.
#[derive(Clone, Debug)]
pub struct Cri {
    /// Sandboxes and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
    /// What the CRI has no word for; a foreign runtime answers that it is not implemented.
    pub node: NodeServiceClient<Channel>,
}

impl Cri {
    /// Makes clients over `channel`, with the message limit that kubelet uses.
    pub fn new(channel: Channel) -> Self {
        Cri {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            node: NodeServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        }
    }
}
