//! What the node and its pods use, as kubelet tells it. What the container runtime says of containers and pods is the one
//! source of that; the node's own figures are the kernel's.

mod asked;
mod disk;
mod node;
mod pod;
mod types;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use tonic::Status;

use self::asked::Asked;
use self::disk::Space;
use self::node::Sample;
pub use self::types::{ContainerStats, FsStats, Moment, NodeStats, PodStats, Summary, VolumeStats};
use self::types::{PvcReference, RuntimeStats};
use super::pods::Names;
use crate::engine::Engine;
use crate::engine::config::names::POD_UID;
use crate::host::volumes::claim_directories;
use crate::node::care::usage::{Meter, PodUsage};
use crate::node::ours::Ours;
use crate::store::{Kind, Object, Store};

/// Tells it. Cheap to clone.
#[derive(Clone)]
pub struct Statistics {
    inner: Arc<Inner>,
}

struct Inner {
    ours: Ours,
    store: Store,
    meter: Meter,
    names: Names,
    /// Who knows what pods refer to.
    engine: Engine,
    /// A directory on the filesystem of pods' files.
    nodefs: PathBuf,
    began: Moment,
    sample: Mutex<Option<Sample>>,
    /// What pods' claims have said of themselves.
    asked: Arc<Asked>,
}

/// What the runtime and the store say of pods, to be put together.
struct Seen {
    /// When each sandbox and container was made, by id.
    made: HashMap<String, Moment>,
    /// The pods, by uid.
    pods: HashMap<String, Arc<Pod>>,
    /// What they take of disks, by uid.
    disks: HashMap<String, PodUsage>,
    /// Their claims, by uid.
    claims: HashMap<String, Vec<VolumeStats>>,
    /// The filesystem of pods' files.
    nodefs: Option<Space>,
    /// The filesystem of images and containers' own files.
    imagefs: Option<Space>,
}

impl Statistics {
    /// Of what is `ours`, on a node whose pods are run by `engine` and shown in `store`.
    pub fn new(ours: Ours, store: Store, meter: Meter, names: Names, engine: Engine) -> Self {
        let (began, nodefs) = (Moment::now(), engine.settings().root_dir.clone());
        let (sample, asked) = (Mutex::default(), Arc::default());
        Self { inner: Arc::new(Inner { ours, store, meter, names, engine, nodefs, began, sample, asked }) }
    }

    /// Everything, or what is cheap to tell.
    pub async fn summary(&self, only_cpu_and_memory: bool) -> Result<Summary, Status> {
        let this = &self.inner;
        let (stats, sandboxes, containers) =
            tokio::try_join!(this.ours.stats(), this.ours.sandboxes(), this.ours.containers())?;
        let made = sandboxes.iter().map(|it| (it.id.clone(), Moment(it.created_at)));
        let made = made.chain(containers.iter().map(|it| (it.id.clone(), Moment(it.created_at)))).collect();
        let pods = this.pods();
        let mut seen = Seen { made, pods, disks: HashMap::new(), claims: HashMap::new(), nodefs: None, imagefs: None };
        let mut node = self.node().await?;
        if only_cpu_and_memory {
            (node.network, node.rlimit) = (None, None);
        } else {
            let uid = |it: &cri_proto::cri::PodSandboxStats| it.attributes.as_ref()?.labels.get(POD_UID).cloned();
            let asked = stats.iter().filter_map(uid).filter_map(|uid| seen.pods.get(&uid).map(|pod| Pod::clone(pod)));
            seen.disks = this.meter.disks(asked.collect()).await?;
            seen.claims = self.claims().await?;
            seen.nodefs = disk::space(&this.nodefs);
            let images = this.images().await;
            seen.imagefs = images.as_ref().and_then(|(_, space)| *space);
            node.fs = seen.nodefs.map(|space| space.of_all());
            node.runtime =
                images.map(|(used, _)| RuntimeStats { image_fs: Some(used.clone()), container_fs: Some(used) });
        }
        let outer = |pod: &Pod| this.names.outer(pod);
        let pods = stats.iter().filter_map(|it| pod::stats(it, &seen, only_cpu_and_memory, outer)).collect();
        Ok(Summary { node, pods })
    }

    /// What there is in the claims of pods that are not over, by the pods' uids.
    pub async fn claims(&self) -> Result<HashMap<String, Vec<VolumeStats>>, Status> {
        let this = self.clone();
        // A file system may be one that does not answer.
        let look = tokio::task::spawn_blocking(move || this.inner.claims());
        look.await.map_err(|panic| Status::internal(panic.to_string()))
    }

    async fn node(&self) -> Result<NodeStats, Status> {
        let this = self.clone();
        let look = tokio::task::spawn_blocking(move || node::stats(&this.inner));
        look.await.map_err(|panic| Status::internal(panic.to_string()))
    }
}

impl Inner {
    fn pods(&self) -> HashMap<String, Arc<Pod>> {
        let items = self.store.objects(Kind::Pod, None).items.into_iter();
        let pods = items.filter_map(|object| match object {
            Object::Pod(pod) => Some((pod.metadata.uid.clone()?, pod)),
            _ => None,
        });
        pods.collect()
    }

    fn claims(&self) -> HashMap<String, Vec<VolumeStats>> {
        let over = |pod: &Pod| crate::cluster::pods::is_terminal(pod);
        let pods = self.pods().into_iter().filter(|(_, pod)| !over(pod));
        let found: Vec<_> =
            pods.map(|(uid, pod)| (claim_directories(&pod, &self.engine.objects_of(&uid)), uid, pod)).collect();
        let paths: BTreeSet<PathBuf> = found.iter().flat_map(|it| &it.0).map(|(_, _, path)| path.clone()).collect();
        let spaces = self.asked.look(&paths);
        let of = |(directories, uid, pod): (Vec<_>, String, Arc<Pod>)| {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let volume = |(name, claim, directory): (String, String, PathBuf)| {
                let fs = spaces.get(&directory)?.of_all();
                Some(VolumeStats {
                    fs,
                    name,
                    pvc_ref: Some(PvcReference { name: claim, namespace: namespace.clone() }),
                })
            };
            let volumes: Vec<_> = directories.into_iter().filter_map(volume).collect();
            (!volumes.is_empty()).then_some((uid, volumes))
        };
        found.into_iter().filter_map(of).collect()
    }

    /// What images take, and the filesystem that they are on. A runtime that does not say it has none.
    async fn images(&self) -> Option<(FsStats, Option<Space>)> {
        let request = cri_proto::cri::ImageFsInfoRequest {};
        let answer = self.ours.cri.images.clone().image_fs_info(request).await.ok()?.into_inner();
        let usage = answer.image_filesystems.into_iter().next()?;
        let space = disk::space(usage.fs_id.as_ref().map(|it| it.mountpoint.as_ref())?);
        let of = |value: Option<cri_proto::cri::UInt64Value>| value.map(|it| it.value);
        let (bytes, inodes) = (of(usage.used_bytes), of(usage.inodes_used));
        Some((disk::used(space.as_ref(), bytes, inodes), space))
    }
}
