//! The drivers of this node that are known, and calls to them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri_proto::csi::node_client::NodeClient;
use cri_proto::csi::node_service_capability::Type as CapabilityType;
use cri_proto::csi::node_service_capability::rpc::Type;
use cri_proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use cri_proto::csi::{
    NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};
use tokio::sync::watch;
use tonic::{Code, Response, Status};

use super::{CsiError, DEADLINE, Wish};
use crate::channel::{self, Channel};

/// What a driver says of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// By what its controller knows the node.
    pub node_id: String,
    /// How many of its volumes there may be; any number, if none.
    pub most: Option<i32>,
    /// Where the node is.
    pub topology: BTreeMap<String, String>,
}

/// A driver that is there.
#[derive(Clone, Debug)]
pub struct Driver {
    client: NodeClient<Channel>,
    /// The socket that it was registered by.
    socket: PathBuf,
    info: Info,
    abilities: Arc<Vec<i32>>,
}

/// The drivers that are there; cheap to clone.
#[derive(Clone, Debug)]
pub struct Drivers {
    known: watch::Sender<Arc<BTreeMap<String, Driver>>>,
    infos: watch::Sender<BTreeMap<String, Info>>,
}

impl Default for Drivers {
    fn default() -> Self {
        Drivers { known: watch::Sender::new(Arc::default()), infos: watch::Sender::new(BTreeMap::new()) }
    }
}

impl Drivers {
    /// The driver of a name.
    pub fn get(&self, name: &str) -> Result<Driver, CsiError> {
        self.known.borrow().get(name).cloned().ok_or_else(|| CsiError::NoDriver(name.to_owned()))
    }

    /// What they say of this node, by their names.
    pub fn infos(&self) -> watch::Receiver<BTreeMap<String, Info>> {
        self.infos.subscribe()
    }

    /// Tells when there are others.
    pub fn changes(&self) -> watch::Receiver<Arc<BTreeMap<String, Driver>>> {
        self.known.subscribe()
    }

    /// A driver is there; the one of its name, if there was one, is not any more.
    pub fn add(&self, name: &str, driver: Driver) {
        self.infos.send_modify(|infos| drop(infos.insert(name.to_owned(), driver.info.clone())));
        self.known.send_modify(|known| drop(Arc::make_mut(known).insert(name.to_owned(), driver)));
    }

    /// The socket is gone, and with it the driver that was registered by it; its name.
    pub fn remove(&self, socket: &Path) -> Option<String> {
        let name = self.known.borrow().iter().find(|(_, driver)| driver.socket == socket)?.0.clone();
        self.known.send_modify(|known| drop(Arc::make_mut(known).remove(&name)));
        self.infos.send_modify(|infos| drop(infos.remove(&name)));
        Some(name)
    }
}

impl Driver {
    /// Gets to know the driver that serves on `endpoint`.
    pub async fn meet(socket: &Path, endpoint: PathBuf) -> Result<Self, CsiError> {
        let mut client = NodeClient::new(channel::unix(endpoint));
        let info = within(client.node_get_info(NodeGetInfoRequest {})).await?;
        if info.node_id.is_empty() {
            return Err(CsiError::Waits("the driver has no id for this node".to_owned()));
        }
        let info = Info {
            node_id: info.node_id,
            most: i32::try_from(info.max_volumes_per_node).ok().filter(|most| *most > 0),
            topology: info.accessible_topology.map(|it| it.segments.into_iter().collect()).unwrap_or_default(),
        };
        let answer = within(client.node_get_capabilities(NodeGetCapabilitiesRequest {})).await?;
        let abilities = answer.capabilities.into_iter().filter_map(|it| match it.r#type? {
            CapabilityType::Rpc(rpc) => Some(rpc.r#type),
        });
        Ok(Driver { client, socket: socket.to_owned(), info, abilities: Arc::new(abilities.collect()) })
    }

    fn can(&self, what: Type) -> bool {
        self.abilities.contains(&what.into())
    }

    /// Whether volumes are staged before they are published.
    pub fn stages(&self) -> bool {
        self.can(Type::StageUnstageVolume)
    }

    /// Whether it hands files over to a pod's group by itself.
    pub fn groups(&self) -> bool {
        self.can(Type::VolumeMountGroup)
    }

    fn capability(&self, wish: &Wish) -> VolumeCapability {
        let group = wish.group.filter(|_| self.groups()).map(|group| group.to_string());
        let mount = MountVolume {
            fs_type: wish.fs_type.clone(),
            mount_flags: wish.mount_flags.clone(),
            volume_mount_group: group.unwrap_or_default(),
        };
        let mode = wish.access(self.can(Type::SingleNodeMultiWriter)).into();
        VolumeCapability { access_mode: Some(AccessMode { mode }), access_type: Some(AccessType::Mount(mount)) }
    }

    /// Makes a volume ready for the node.
    pub async fn stage(&self, wish: &Wish, staging: &Path) -> Result<(), CsiError> {
        let request = NodeStageVolumeRequest {
            volume_id: wish.handle.clone(),
            publish_context: wish.publish_context.clone(),
            staging_target_path: text(staging),
            volume_capability: Some(self.capability(wish)),
            secrets: wish.stage_secrets.clone(),
            volume_context: wish.attributes.clone(),
        };
        within(self.client.clone().node_stage_volume(request)).await.map(drop)
    }

    /// Mounts a volume for a pod.
    pub async fn publish(&self, wish: &Wish, staging: Option<&Path>, target: &Path) -> Result<(), CsiError> {
        let mut volume_context: HashMap<_, _> = wish.attributes.clone();
        volume_context.extend(wish.pod_info.clone());
        let request = NodePublishVolumeRequest {
            volume_id: wish.handle.clone(),
            publish_context: wish.publish_context.clone(),
            staging_target_path: staging.map(text).unwrap_or_default(),
            target_path: text(target),
            volume_capability: Some(self.capability(wish)),
            readonly: wish.read_only,
            secrets: wish.publish_secrets.clone(),
            volume_context,
        };
        within(self.client.clone().node_publish_volume(request)).await.map(drop)
    }

    /// Undoes [`Driver::publish`].
    pub async fn unpublish(&self, handle: &str, target: &Path) -> Result<(), CsiError> {
        let request = NodeUnpublishVolumeRequest { volume_id: handle.to_owned(), target_path: text(target) };
        within(self.client.clone().node_unpublish_volume(request)).await.map(drop)
    }

    /// Undoes [`Driver::stage`].
    pub async fn unstage(&self, handle: &str, staging: &Path) -> Result<(), CsiError> {
        let request = NodeUnstageVolumeRequest { volume_id: handle.to_owned(), staging_target_path: text(staging) };
        within(self.client.clone().node_unstage_volume(request)).await.map(drop)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The answer to a call, if it comes in time.
async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, CsiError> {
    let answer = tokio::time::timeout(DEADLINE, call).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")));
    answer.map(Response::into_inner).map_err(CsiError::Call)
}

impl CsiError {
    /// Whether a driver certainly does nothing any more, as kubelet has it (isFinalError in pkg/volume/csi).
    pub fn is_final(&self) -> bool {
        match self {
            CsiError::Call(status) => !matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Unavailable
                    | Code::ResourceExhausted
                    | Code::Aborted
                    // A connection that broke is no answer: grpc-go calls it Unavailable, tonic Unknown.
                    | Code::Unknown
            ),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_after_its_deadline() {
        let begun = tokio::time::Instant::now();
        let error = within(std::future::pending::<Result<Response<()>, Status>>()).await.unwrap_err();
        assert_eq!(begun.elapsed(), DEADLINE);
        assert_eq!(error.to_string(), "rpc error: code = DeadlineExceeded desc = context deadline exceeded");
        assert!(!error.is_final(), "it may still be at it");
    }

    #[test]
    fn what_a_driver_refuses_is_final_and_what_is_not_known_is_not() {
        for (code, expected) in [
            (Code::InvalidArgument, true),
            (Code::Internal, true),
            (Code::Aborted, false),
            (Code::Unavailable, false),
            (Code::Unknown, false),
        ] {
            assert_eq!(CsiError::Call(Status::new(code, "")).is_final(), expected, "{code:?}");
        }
        assert!(!CsiError::NoDriver("d".to_owned()).is_final());
    }
}
