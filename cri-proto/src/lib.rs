//! The gRPC interfaces that Coracle's parts speak: the Container Runtime Interface, whole, `coracle.node.v1`, kubelet's device
//! plug-in API, and what a node asks of drivers of volumes.
//!
//! All are generated, client and server, from the files in `proto/`.

mod codec;

/// The Container Runtime Interface, version 1 (package `runtime.v1`, proto3).
#[allow(missing_docs, deprecated, clippy::all)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// `coracle.node.v1`: what the CRI has no word for.
#[allow(missing_docs, clippy::all)]
pub mod node {
    tonic::include_proto!("coracle.node.v1");
}

/// The Container Storage Interface, version 1: what a node calls (package `csi.v1`, proto3).
#[allow(missing_docs, clippy::all)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// How plug-ins of a kubelet become known (package `pluginregistration`, proto3).
#[allow(missing_docs, clippy::all)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

/// kubelet's device plug-in API (KEP-3573, package `v1beta1`).
#[allow(missing_docs, clippy::all)]
pub mod device_plugin {
    tonic::include_proto!("v1beta1");
}

/// The encoded `FileDescriptorSet` of all of them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest message that a client or server of these services accepts, in bytes. kubelet uses the same; tonic's
/// default of 4 MiB cuts an ExecSync answer short.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
