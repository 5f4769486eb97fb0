//! What of the node can run short, and from where on it is too little.

use std::time::Duration;

use manifests::kubelet::{self, Amount};

/// What of the node can run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Memory of the node.
    MemoryAvailable,
    /// Memory of all pods together, where the node keeps some for itself. No configuration names it.
    AllocatableMemoryAvailable,
    /// Bytes where volumes and logs are.
    NodefsAvailable,
    /// Files where volumes and logs are.
    NodefsInodesFree,
    /// Bytes where images are.
    ImagefsAvailable,
    /// Files where images are.
    ImagefsInodesFree,
    /// Process ids.
    PidAvailable,
}

impl Signal {
    /// As kubelet writes it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::AllocatableMemoryAvailable => "allocatableMemory.available",
            Signal::NodefsAvailable => "nodefs.available",
            Signal::NodefsInodesFree => "nodefs.inodesFree",
            Signal::ImagefsAvailable => "imagefs.available",
            Signal::ImagefsInodesFree => "imagefs.inodesFree",
            Signal::PidAvailable => "pid.available",
        }
    }
}

/// What is taken back when a signal says that there is too little of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Bytes of disks.
    EphemeralStorage,
    /// Files of disks.
    Inodes,
    /// Process ids.
    Pids,
}

/// A condition of the Node object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Too little memory.
    Memory,
    /// Too little of a disk.
    Disk,
    /// Too few process ids.
    Pid,
}

impl From<kubelet::Signal> for Signal {
    fn from(signal: kubelet::Signal) -> Self {
        match signal {
            kubelet::Signal::MemoryAvailable => Signal::MemoryAvailable,
            kubelet::Signal::NodefsAvailable => Signal::NodefsAvailable,
            kubelet::Signal::NodefsInodesFree => Signal::NodefsInodesFree,
            kubelet::Signal::ImagefsAvailable => Signal::ImagefsAvailable,
            kubelet::Signal::ImagefsInodesFree => Signal::ImagefsInodesFree,
            kubelet::Signal::PidAvailable => Signal::PidAvailable,
        }
    }
}

impl Signal {
    /// What is short.
    pub fn resource(self) -> Resource {
        match self {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => Resource::Memory,
            Signal::NodefsAvailable | Signal::ImagefsAvailable => Resource::EphemeralStorage,
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => Resource::Inodes,
            Signal::PidAvailable => Resource::Pids,
        }
    }

    /// What the node says of itself then.
    pub fn condition(self) -> Condition {
        match self.resource() {
            Resource::Memory => Condition::Memory,
            Resource::EphemeralStorage | Resource::Inodes => Condition::Disk,
            Resource::Pids => Condition::Pid,
        }
    }

    /// Whether it is about the images' filesystem.
    pub fn is_of_images(self) -> bool {
        matches!(self, Signal::ImagefsAvailable | Signal::ImagefsInodesFree)
    }
}

impl Resource {
    /// Its name in messages and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::EphemeralStorage => "ephemeral-storage",
            Resource::Inodes => "inodes",
            Resource::Pids => "pids",
        }
    }
}

impl Condition {
    /// Its type in the Node object.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Memory => "MemoryPressure",
            Condition::Disk => "DiskPressure",
            Condition::Pid => "PIDPressure",
        }
    }
}

/// Too little of something: less of it than `value`, for longer than `grace`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// Less than this.
    pub value: Amount,
    /// For how long, before a pod goes; zero is a hard threshold.
    pub grace: Duration,
    /// How much more than `value` is taken back once the threshold was met.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// Whether it is met at once, and evicts without grace.
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// The thresholds of a configuration. Where pods may use no more memory than a part of the node's (`bounded`), what is
/// left of that part counts as the node's memory does.
pub fn of(configured: &[kubelet::Threshold], bounded: bool) -> Vec<Threshold> {
    let mut thresholds: Vec<Threshold> = configured
        .iter()
        .map(|it| Threshold {
            signal: it.signal.into(),
            value: it.value,
            grace: it.grace.unwrap_or_default(),
            reclaim: it.minimum_reclaim,
        })
        .collect();
    let memory = |it: &&Threshold| it.signal == Signal::MemoryAvailable && it.is_hard();
    if let Some(hard) = thresholds.iter().find(memory).copied().filter(|_| bounded) {
        thresholds.push(Threshold { signal: Signal::AllocatableMemoryAvailable, ..hard });
    }
    thresholds
}

/// An amount where there are `capacity` in all.
pub fn amount_of(amount: Amount, capacity: u64) -> u64 {
    match amount {
        Amount::Quantity(amount) => amount,
        // Below 2^53, as every capacity is; and cut off, as kubelet does.
        Amount::Percent(percent) => (capacity as f64 * (percent / 100.0)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_the_capacity() {
        for (amount, capacity, is) in [
            (Amount::Percent(10.0), 1005, 100),
            (Amount::Percent(15.0), 100, 15),
            (Amount::Quantity(7), 3, 7),
            (Amount::Percent(0.0), 9, 0),
        ] {
            assert_eq!(amount_of(amount, capacity), is, "{amount:?} of {capacity}");
        }
    }

    #[test]
    fn every_signal_says_its_condition() {
        for signal in kubelet::Signal::ALL {
            let name = signal.name();
            let expected = match name.split('.').next() {
                Some("memory") => Condition::Memory,
                Some("pid") => Condition::Pid,
                _ => Condition::Disk,
            };
            assert_eq!(Signal::from(signal).condition(), expected, "{name}");
        }
    }

    #[test]
    fn the_memory_of_all_pods_counts_where_it_is_bounded() {
        let configured = kubelet::Eviction::default().thresholds;
        assert_eq!(of(&configured, false).len(), 5);
        let last = of(&configured, true).pop();
        let expected = Threshold {
            signal: Signal::AllocatableMemoryAvailable,
            value: Amount::Quantity(100 << 20),
            grace: Duration::ZERO,
            reclaim: None,
        };
        assert_eq!(last, Some(expected));
        let soft = configured.iter().map(|it| kubelet::Threshold { grace: Some(Duration::from_secs(9)), ..*it });
        assert_eq!(of(&soft.collect::<Vec<_>>(), true).len(), 5, "a soft one says nothing of it");
    }
}
