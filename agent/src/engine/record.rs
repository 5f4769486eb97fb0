//! Pod records: what other terminals know of a run's pods. A record is the pod as JSON, with its status, and besides
//! Kubernetes' fields `owner`, `bootId` and `logDirectory`, which a reader of plain pods does not see.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use runtime::store::{Durability, write_json};
use serde::Serialize;
use serde_json::Value;

use super::config::names::PodKey;
use super::reboot;

/// A pod and what Coracle knows about it besides.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRecord {
    /// The pod, with its status.
    pub pod: Pod,
    /// `run:ID`, `agent` or `cri`.
    pub owner: String,
    /// The boot in which it was written.
    pub boot_id: String,
    /// Where its logs are.
    pub log_directory: PathBuf,
}

/// A record as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(flatten)]
    pod: &'a Pod,
    owner: &'a str,
    boot_id: &'a str,
    log_directory: Cow<'a, str>,
}

/// Why a record could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not a record.
    #[error("{} is no pod record: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The directory of pod records.
pub fn directory(state: &Path) -> PathBuf {
    state.join("pods")
}

impl PodRecord {
    /// Writes the record, whole or not at all.
    pub fn write(&self, state: &Path) -> Result<(), RecordError> {
        let directory = directory(state);
        let name = format!("{}.json", PodKey::of(&self.pod).uid);
        let file = File {
            pod: &self.pod,
            owner: &self.owner,
            boot_id: &self.boot_id,
            log_directory: self.log_directory.to_string_lossy(),
        };
        let write = || write_json(&directory, &name, &file, Durability::Volatile);
        let io = |source| RecordError::Io { operation: "write", path: directory.join(&name), source };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&directory).map_err(io)?;
                write().map_err(io)
            }
            other => other.map_err(io),
        }
    }

    /// Reads one record.
    pub fn read(path: &Path) -> Result<PodRecord, RecordError> {
        let io = |source| RecordError::Io { operation: "read", path: path.to_owned(), source };
        let format = |source| RecordError::Format { path: path.to_owned(), source };
        let text = fs::read(path).map_err(io)?;
        let value: Value = serde_json::from_slice(&text).map_err(format)?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (owner, boot_id, log_directory) = (field("owner"), field("bootId"), field("logDirectory").into());
        let pod = serde_json::from_value(value).map_err(format)?;
        Ok(PodRecord { pod, owner, boot_id, log_directory })
    }
}

/// Removes what writers that died have left unfinished.
pub fn sweep(state: &Path) -> Result<(), RecordError> {
    let path = directory(state);
    runtime::store::sweep_temporaries(&path).map_err(|source| RecordError::Io { operation: "sweep", path, source })
}

/// Removes a record; one that is not there is fine.
pub fn remove(state: &Path, uid: &str) -> Result<(), RecordError> {
    let path = directory(state).join(format!("{uid}.json"));
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RecordError::Io { operation: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// Every record as it is in the boot `boot_id`: what another boot has left does not run. What cannot be read is told
/// apart.
pub fn list_in_boot(state: &Path, boot_id: &str) -> Result<(Vec<PodRecord>, Vec<RecordError>), RecordError> {
    let (mut records, bad) = list(state)?;
    for record in records.iter_mut().filter(|record| record.boot_id != boot_id) {
        if let Some(status) = &mut record.pod.status {
            reboot::settle(status);
        }
    }
    Ok((records, bad))
}

/// Every record of a state directory, by namespace and name; what cannot be read is told apart.
pub fn list(state: &Path) -> Result<(Vec<PodRecord>, Vec<RecordError>), RecordError> {
    let directory = directory(state);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((vec![], vec![])),
        Err(source) => return Err(RecordError::Io { operation: "list", path: directory, source }),
    };
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for entry in entries {
        let path =
            entry.map_err(|source| RecordError::Io { operation: "list", path: directory.clone(), source })?.path();
        // Files being written have other names.
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match PodRecord::read(&path) {
            Ok(record) => records.push(record),
            // Removed since it was listed.
            Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => bad.push(error),
        }
    }
    records.sort_by_key(|record| PodKey::of(&record.pod));
    Ok((records, bad))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_come_back_and_bad_ones_do_not_hide_the_others() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(list(state.path()).unwrap().0, []);
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.uid = Some("u-1".into());
        let (owner, boot_id) = ("run:x".into(), "b-1".into());
        let record = PodRecord { pod, owner, boot_id, log_directory: "/var/log/pods/p".into() };
        record.write(state.path()).unwrap();
        fs::write(directory(state.path()).join("bad.json"), "{").unwrap();
        fs::write(directory(state.path()).join("u-2.json.tmp"), "{").unwrap();
        let (records, bad) = list(state.path()).unwrap();
        assert_eq!((records, bad.len()), (vec![record], 1));
        remove(state.path(), "u-1").unwrap();
        remove(state.path(), "u-1").unwrap();
        assert!(list(state.path()).unwrap().0.is_empty());
    }
}
