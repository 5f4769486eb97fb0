//! The devices of a node's pods.

use anyhow::Context as _;
use tokio::task::JoinHandle;

use super::Wish;
use crate::devices::Devices;
use crate::engine::config::Settings;
use crate::host::compat;

/// The devices that plug-ins bring, or have brought.
pub(super) fn open(wish: &Wish, settings: &Settings) -> anyhow::Result<Devices> {
    let Settings { root_dir, state_dir, boot_id, .. } = settings;
    let devices = Devices::open(root_dir.clone(), state_dir.clone(), boot_id, wish.kubelet_compat_dir.is_some());
    devices.context("read who has which devices")
}

/// Lets plug-ins register: they look for a node where a kubelet has its directory.
pub(super) fn serve(devices: &Devices, wish: &Wish) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(dir) = wish.kubelet_compat_dir.as_deref() else { return Ok(None) };
    devices.serve(&compat::device_plugins(dir)).map(Some).context("serve device plug-ins")
}
