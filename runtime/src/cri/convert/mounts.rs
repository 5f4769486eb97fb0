//! Mounts.

use cri_proto::cri;

use crate::container::{Mount, Propagation};
use crate::error::{Error, Result};

pub(super) fn mount(mount: cri::Mount) -> Result<Mount> {
    let at = &mount.container_path;
    let refuse = |what: &str| Err(Error::Invalid(format!("the mount at {at}: {what} are not supported yet")));
    if mount.image.is_some() {
        return refuse("image mounts");
    }
    if !mount.mount_options.is_empty() {
        return refuse("mount options");
    }
    let propagation = match mount.propagation() {
        cri::MountPropagation::PropagationPrivate => Propagation::Private,
        cri::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        cri::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    let map = super::userns::of_mount(&mount)?;
    Ok(Mount {
        map,
        target: mount.container_path,
        source: mount.host_path,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation,
    })
}
