//! When a container's log goes on in a new file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use manifests::kubelet::ContainerLogs;

/// Annotation: bytes at which a log goes on in a new file, for a runtime that sees to that itself.
const MAX_SIZE: &str = "coracle.dev/log-max-size";
/// Annotation: how many files are kept, the one being written included.
const MAX_FILES: &str = "coracle.dev/log-max-files";

/// The limits of the logs of containers that are made from now on. All clones are one: they change while pods run.
#[derive(Clone, Debug, Default)]
pub struct LogLimits {
    limits: Arc<Mutex<ContainerLogs>>,
}

impl LogLimits {
    /// Changes them. Containers that are there keep theirs.
    pub fn set(&self, limits: &ContainerLogs) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = *limits;
    }

    /// Tells the runtime.
    pub fn annotate(&self, annotations: &mut HashMap<String, String>) {
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(max_size) = limits.max_size {
            annotations.insert(MAX_SIZE.into(), max_size.to_string());
            annotations.insert(MAX_FILES.into(), limits.max_files.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_as_they_are_now() {
        let limits = LogLimits::default();
        let annotations = || {
            let mut annotations = HashMap::new();
            limits.annotate(&mut annotations);
            annotations
        };
        assert_eq!(annotations()[MAX_SIZE], (10 << 20).to_string());
        assert_eq!(annotations()[MAX_FILES], "5");
        limits.clone().set(&ContainerLogs { max_size: Some(1024), max_files: 2, ..ContainerLogs::default() });
        assert_eq!((annotations()[MAX_SIZE].as_str(), annotations()[MAX_FILES].as_str()), ("1024", "2"));
        limits.set(&ContainerLogs { max_size: None, ..ContainerLogs::default() });
        assert!(annotations().is_empty());
    }
}
