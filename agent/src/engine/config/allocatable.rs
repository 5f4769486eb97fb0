//! What pods can count on of a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Node;

/// What pods can count on where that is less than all: what is kept for others changes with the settings. All clones are
/// one.
#[derive(Clone, Debug)]
pub struct Allocatable {
    cpu_milli: Arc<AtomicI64>,
    memory_bytes: Arc<AtomicI64>,
}

impl Allocatable {
    /// Changes it, for every clone.
    pub fn set(&self, cpu_milli: i64, memory_bytes: i64) {
        self.cpu_milli.store(cpu_milli, Ordering::Relaxed);
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
    }

    fn get(&self) -> (i64, i64) {
        (self.cpu_milli.load(Ordering::Relaxed), self.memory_bytes.load(Ordering::Relaxed))
    }
}

impl Default for Allocatable {
    fn default() -> Self {
        let all = || Arc::new(AtomicI64::new(i64::MAX));
        Allocatable { cpu_milli: all(), memory_bytes: all() }
    }
}

impl PartialEq for Allocatable {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Allocatable {}

impl Node {
    /// Thousandths of its processors that pods can count on.
    pub fn cpu_for_pods(&self) -> i64 {
        self.cpu_milli.min(self.allocatable.get().0)
    }

    /// Bytes of its memory that pods can count on.
    pub fn memory_for_pods(&self) -> i64 {
        self.memory_bytes.min(self.allocatable.get().1)
    }
}
