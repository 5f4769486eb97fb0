//! What a node has for its pods.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What a node's pods can count on, of each resource, in thousandths; nothing where nobody worked that out. All clones are
/// one, so that it follows the settings as the Node object does.
#[derive(Clone, Debug, Default)]
pub struct Allocatable(Arc<RwLock<BTreeMap<String, i64>>>);

impl Allocatable {
    /// How much of a resource.
    pub fn of(&self, resource: &str) -> Option<i64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(resource).copied()
    }

    /// This much from now on.
    pub fn set(&self, amounts: BTreeMap<String, i64>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = amounts;
    }
}
