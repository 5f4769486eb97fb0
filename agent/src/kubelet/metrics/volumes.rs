//! What there is in the claims of pods, under kubelet's names.

use std::collections::BTreeMap;

use crate::kubelet::stats::{FsStats, VolumeStats};
use crate::node::metrics::{Kind, Page};

/// What is told of a file system.
type Value = fn(&FsStats) -> Option<u64>;

/// Writes it. A claim that several pods have is written once.
pub fn write<'a>(page: &mut Page, volumes: impl IntoIterator<Item = &'a VolumeStats>) {
    let claim = |it: &'a VolumeStats| it.pvc_ref.as_ref().map(|of| ((of.namespace.as_str(), of.name.as_str()), &it.fs));
    let claims: BTreeMap<(&str, &str), &FsStats> = volumes.into_iter().filter_map(claim).collect();
    if claims.is_empty() {
        return;
    }
    let families: [(&str, &str, Value); 6] = [
        ("available_bytes", "Number of available bytes in the volume", |it| it.available_bytes),
        ("capacity_bytes", "Capacity in bytes of the volume", |it| it.capacity_bytes),
        ("inodes", "Maximum number of inodes in the volume", |it| it.inodes),
        ("inodes_free", "Number of free inodes in the volume", |it| it.inodes_free),
        ("inodes_used", "Number of used inodes in the volume", |it| it.inodes_used),
        ("used_bytes", "Number of used bytes in the volume", |it| it.used_bytes),
    ];
    for (name, help, value) in families {
        let name = format!("kubelet_volume_stats_{name}");
        page.family(&name, Kind::Gauge, help);
        for ((namespace, claim), fs) in &claims {
            if let Some(value) = value(fs) {
                page.sample(&name, &[("namespace", namespace), ("persistentvolumeclaim", claim)], value as f64);
            }
        }
    }
}
