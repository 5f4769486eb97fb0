//! What pods can count on: what the node has, less what is kept for its own services and what is never given away.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use manifests::kubelet::{Config, Resources, Signal};

use super::message::binary;
use super::signals::filesystem;
use super::threshold::amount_of;
use crate::engine::config::Node;
use crate::engine::config::quantity::milli;
use crate::host::qos::Bounds;

/// What the node has.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    /// Processors, memory, huge pages.
    pub node: Node,
    /// Bytes of the filesystem of pods' files.
    pub storage: u64,
    /// Process ids.
    pub pids: u64,
}

impl Capacity {
    fn memory(&self) -> u64 {
        u64::try_from(self.node.memory_bytes).unwrap_or(0)
    }

    fn pods(&self, config: &Config) -> u64 {
        let cores = u64::try_from(self.node.cpu_milli / 1000).unwrap_or(0);
        let by_core = config.pods_per_core.map(|each| u64::from(each) * cores);
        by_core.unwrap_or(u64::MAX).min(config.max_pods.into())
    }

    /// `status.capacity` of the Node object.
    pub fn quantities(&self, config: &Config) -> BTreeMap<String, Quantity> {
        let milli = u64::try_from(self.node.cpu_milli).unwrap_or(0);
        let mut list = list(milli, binary(self.memory()), binary(self.storage), self.pods(config));
        list.extend(self.hugepages());
        list
    }

    /// `status.allocatable` of the Node object.
    pub fn allocatable(&self, config: &Config) -> BTreeMap<String, Quantity> {
        let reserved = reserved(config);
        let milli = u64::try_from(self.node.cpu_milli).unwrap_or(0).saturating_sub(reserved.cpu_milli);
        let hugepages: u64 = self.node.hugepages.iter().map(|pages| pages.size * pages.count).sum();
        let memory = [reserved.memory, hard(config, Signal::MemoryAvailable, self.memory()), hugepages];
        let storage = [reserved.ephemeral_storage, hard(config, Signal::NodefsAvailable, self.storage)];
        let less = |all: u64, parts: &[u64]| parts.iter().fold(all, |left, part| left.saturating_sub(*part));
        let (memory, storage) = (less(self.memory(), &memory), less(self.storage, &storage));
        let mut list = list(milli, binary(memory), binary(storage), self.pods(config));
        list.extend(self.hugepages());
        list
    }

    /// What the cgroup of all pods is bounded to. Without anything reserved there is nothing to keep pods from.
    pub fn bounds(&self, config: &Config) -> Bounds {
        let reserved = reserved(config);
        let cpu = i64::try_from(reserved.cpu_milli).unwrap_or(i64::MAX);
        let left = |all: u64, part: u64| (part > 0).then(|| all.saturating_sub(part));
        Bounds {
            cpu_milli: self.node.cpu_milli.saturating_sub(cpu).max(0),
            memory: left(self.memory(), reserved.memory),
            pids: left(self.pids, reserved.pid),
        }
    }

    fn hugepages(&self) -> impl Iterator<Item = (String, Quantity)> {
        self.node.hugepages.iter().map(|pages| (pages.resource(), Quantity(binary(pages.size * pages.count))))
    }
}

/// What pods can count on, for those that are told of it, in thousandths.
pub fn for_pods(node: &Node, root_dir: &Path, config: &Config) -> BTreeMap<String, i64> {
    // The directory is made later; it will be on the filesystem of the nearest one that is there.
    let storage = root_dir.ancestors().find_map(|dir| filesystem(dir).ok()).map_or(0, |space| space.bytes.capacity);
    thousandths(&Capacity { node: node.clone(), storage, pids: 0 }.allocatable(config))
}

/// A list of amounts in thousandths.
pub fn thousandths(list: &BTreeMap<String, Quantity>) -> BTreeMap<String, i64> {
    list.iter().filter_map(|(name, amount)| Some((name.clone(), milli(amount)?))).collect()
}

fn list(milli: u64, memory: String, storage: String, pods: u64) -> BTreeMap<String, Quantity> {
    let cpu = if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") };
    let named = [("cpu", cpu), ("memory", memory), ("ephemeral-storage", storage), ("pods", pods.to_string())];
    named.map(|(name, amount)| (name.to_owned(), Quantity(amount))).into()
}

fn reserved(config: &Config) -> Resources {
    let (system, kube) = (&config.reserved.system, &config.reserved.kube);
    Resources {
        cpu_milli: system.cpu_milli.saturating_add(kube.cpu_milli),
        memory: system.memory.saturating_add(kube.memory),
        ephemeral_storage: system.ephemeral_storage.saturating_add(kube.ephemeral_storage),
        pid: system.pid.saturating_add(kube.pid),
    }
}

/// What is kept by a hard threshold.
fn hard(config: &Config, signal: Signal, capacity: u64) -> u64 {
    let hard = config.eviction.thresholds.iter().find(|it| it.signal == signal && it.grace.is_none());
    hard.map_or(0, |threshold| amount_of(threshold.value, capacity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::Hugepages;

    fn capacity() -> Capacity {
        let hugepages = vec![Hugepages { size: 2 << 20, count: 8 }, Hugepages { size: 1 << 30, count: 0 }];
        let node = Node { cpu_milli: 2000, memory_bytes: 1 << 30, hugepages, ..Node::default() };
        Capacity { node, storage: 100 << 30, pids: 32_768 }
    }

    fn shown(list: &BTreeMap<String, Quantity>) -> String {
        list.iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pods_can_count_on_what_is_left() {
        let mut config = Config::default();
        let all = "cpu=2 ephemeral-storage=100Gi hugepages-1Gi=0 hugepages-2Mi=16Mi memory=1Gi pods=110";
        assert_eq!(shown(&capacity().quantities(&config)), all);
        let left = "cpu=2 ephemeral-storage=90Gi hugepages-1Gi=0 hugepages-2Mi=16Mi memory=908Mi pods=110";
        assert_eq!(shown(&capacity().allocatable(&config)), left);
        config.reserved.system = Resources { cpu_milli: 250, memory: 100 << 20, ephemeral_storage: 1 << 30, pid: 1000 };
        config.reserved.kube = Resources { cpu_milli: 250, memory: 8 << 20, ..Resources::default() };
        (config.max_pods, config.pods_per_core) = (20, Some(5));
        let left = "cpu=1500m ephemeral-storage=89Gi hugepages-1Gi=0 hugepages-2Mi=16Mi memory=800Mi pods=10";
        assert_eq!(shown(&capacity().allocatable(&config)), left);
        assert_eq!(shown(&capacity().quantities(&config)), all.replace("110", "10"));
    }

    #[test]
    fn all_pods_are_bounded_where_something_is_reserved() {
        let mut config = Config::default();
        let none = Bounds { cpu_milli: 2000, memory: None, pids: None };
        assert_eq!(capacity().bounds(&config), none);
        config.reserved.system = Resources { cpu_milli: 500, memory: 24 << 20, ephemeral_storage: 0, pid: 768 };
        let bounds = Bounds { cpu_milli: 1500, memory: Some(1000 << 20), pids: Some(32_000) };
        assert_eq!(capacity().bounds(&config), bounds);
        config.reserved.system.cpu_milli = 9000;
        assert_eq!(capacity().bounds(&config).cpu_milli, 0);
    }

    #[test]
    fn what_pods_are_told_of_is_what_the_node_has_for_them() {
        let mut config = Config::default();
        config.reserved.system = Resources { cpu_milli: 250, memory: 100 << 20, ..Resources::default() };
        let told = for_pods(&capacity().node, Path::new("/proc/self/not/there/yet"), &config);
        assert_eq!((told["cpu"], told["memory"]), (1750, (808 << 20) * 1000));
        assert_eq!(told["ephemeral-storage"], 0, "procfs has no room");
        let told = for_pods(&capacity().node, &std::env::temp_dir().join("not/there/yet"), &config);
        assert!(told["ephemeral-storage"] > 0, "{told:?}");
    }
}
