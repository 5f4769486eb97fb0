//! Finding the pod that a user names among the records of a state directory.

use std::path::{Path, PathBuf};

use crate::engine::record::{self, PodRecord, RecordError};

/// There is no one pod of that name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The records cannot be listed.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// No pod of that name is here.
    #[error("no pod {name} is known in {}{}", state_dir.display(), list_known(.known))]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        state_dir: PathBuf,
        /// The pods that are there.
        known: Vec<String>,
    },
    /// Several pods have that name.
    #[error("pod {name} is in several namespaces: {}; choose with --namespace", namespaces.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Where it is.
        namespaces: Vec<String>,
    },
}

fn list_known(names: &[String]) -> String {
    if names.is_empty() { "; there is none".into() } else { format!("; there are {}", names.join(", ")) }
}

/// A pod's name.
pub fn name_of(record: &PodRecord) -> &str {
    record.pod.metadata.name.as_deref().unwrap_or_default()
}

/// A pod's namespace.
pub fn namespace_of(record: &PodRecord) -> &str {
    record.pod.metadata.namespace.as_deref().unwrap_or("default")
}

fn ended(record: &PodRecord) -> bool {
    let phase = record.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The pod that a user means by `NAME` or `pod/NAME`. One that still runs goes before one that has ended.
pub fn find(state_dir: &Path, boot_id: &str, name: &str, namespace: Option<&str>) -> Result<PodRecord, Error> {
    let name = ["pod/", "pods/"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let (records, _) = record::list_in_boot(state_dir, boot_id)?;
    let known = records.iter().map(|it| name_of(it).to_owned()).collect();
    let named = |it: &PodRecord| name_of(it) == name && namespace.is_none_or(|ns| namespace_of(it) == ns);
    let mut found: Vec<_> = records.into_iter().filter(named).collect();
    if found.iter().any(|it| !ended(it)) {
        found.retain(|it| !ended(it));
    }
    let mut namespaces: Vec<_> = found.iter().map(|it| namespace_of(it).to_owned()).collect();
    namespaces.dedup();
    if namespaces.len() > 1 {
        return Err(Error::Ambiguous { name: name.into(), namespaces });
    }
    found.pop().ok_or_else(|| Error::NotFound { name: name.into(), state_dir: state_dir.into(), known })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn state(pods: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pods")).unwrap();
        for (at, (namespace, name, phase)) in pods.iter().enumerate() {
            let record = json!({"apiVersion": "v1", "kind": "Pod", "owner": "run:1", "logDirectory": "/log",
                "metadata": {"namespace": namespace, "name": name, "uid": at.to_string()}, "status": {"phase": phase}});
            std::fs::write(dir.path().join(format!("pods/{at}.json")), record.to_string()).unwrap();
        }
        dir
    }

    #[test]
    fn without_a_state_directory_there_are_no_pods() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(dir.path(), "", "web", None).unwrap_err().to_string();
        assert_eq!(error, format!("no pod web is known in {}; there is none", dir.path().display()));
    }

    #[test]
    fn a_running_pod_goes_before_an_ended_one() {
        let dir = state(&[("default", "web", "Running"), ("default", "web", "Failed"), ("default", "db", "Running")]);
        let found = find(dir.path(), "", "pod/web", None).unwrap();
        assert_eq!((found.pod.metadata.uid.as_deref(), found.log_directory), (Some("0"), PathBuf::from("/log")));
        assert!(find(dir.path(), "", "cache", None).unwrap_err().to_string().contains("there are db, web, web"));
    }

    #[test]
    fn a_name_in_two_namespaces_needs_a_choice() {
        let dir = state(&[("a", "web", "Running"), ("b", "web", "Running")]);
        assert!(matches!(find(dir.path(), "", "web", None), Err(Error::Ambiguous { .. })));
        assert_eq!(namespace_of(&find(dir.path(), "", "web", Some("b")).unwrap()), "b");
    }
}
