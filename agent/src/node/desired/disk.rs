//! The desired state on disk: `ROOT/desired/files/DIGEST.json`, one a manifest, `ROOT/desired/bound/UID.json`, one a pod that
//! an API server has bound to this node, and `ROOT/desired/ending/UID.json`, one a pod that is being stopped for good.
//!
//! A record is written before what it says is begun, so that an agent that was killed knows afterwards what it had
//! started; it is synced beside that, for only a power cut loses what is not synced, and that ends the pods too.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use manifests::{Located, Object};
use runtime::store::{self, Durability};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::bound::{BoundPod, BoundPods, Role};
use super::{Desired, File};

/// The file of the container runtimes that were used.
const RUNTIMES: &str = "runtimes.json";

/// The version of the records.
const VERSION: u32 = 1;

/// The directory of the desired state.
pub fn directory(root: &Path) -> PathBuf {
    root.join("desired")
}

/// The records below one root directory.
#[derive(Clone, Debug)]
pub struct Disk {
    directory: PathBuf,
    files: PathBuf,
    bound: PathBuf,
    ending: PathBuf,
}

/// One pod of an API server's as it is recorded.
#[derive(Debug, Serialize, Deserialize)]
struct BoundRecord {
    version: u32,
    role: Role,
    pod: Pod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    room_for: Option<String>,
}

/// One manifest as it is recorded.
#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    version: u32,
    source: String,
    file: String,
    objects: Vec<ObjectRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ObjectRecord {
    line: usize,
    object: Value,
}

/// A record that cannot be used: its manifest, or its pod, is not known until it is written again.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {source}", path.display())]
pub struct Unusable {
    /// The record.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Disk {
    /// Makes the directories.
    pub fn open(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let disk = Self::at(root);
        for dir in [&disk.files, &disk.bound, &disk.ending] {
            // Secrets lie in there.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            store::sweep_temporaries(dir)?;
        }
        Ok(disk)
    }

    /// The records, to be read only: there may be none.
    pub fn at(root: &Path) -> Self {
        let directory = directory(root);
        let (files, bound, ending) = ("files", "bound", "ending");
        Disk { files: directory.join(files), bound: directory.join(bound), ending: directory.join(ending), directory }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What this agent is called among others: given once, and kept.
    pub fn id(&self) -> io::Result<String> {
        const NAME: &str = "agent.json";
        if let Some(id) = store::read_json::<String>(&self.directory.join(NAME))? {
            return Ok(id);
        }
        let id = runtime::new_id()?.get(..16).unwrap_or_default().to_owned();
        store::write_json(&self.directory, NAME, &id, Durability::Durable)?;
        Ok(id)
    }

    /// The container runtimes that the agent has worked with, as far as something of it may be there.
    pub fn runtimes(&self) -> io::Result<BTreeSet<String>> {
        Ok(store::read_json(&self.directory.join(RUNTIMES))?.unwrap_or_default())
    }

    /// Records them.
    pub fn write_runtimes(&self, runtimes: &BTreeSet<String>) -> io::Result<()> {
        store::write_json(&self.directory, RUNTIMES, runtimes, Durability::Durable)
    }

    /// The desired state as it was recorded, the pods that were being stopped, and what cannot be used.
    pub fn load(&self) -> io::Result<(Desired, Vec<Pod>, Vec<Unusable>)> {
        let mut desired = Desired::default();
        let mut unusable = Vec::new();
        for path in records_in(&self.files)? {
            match read_file(&path) {
                Ok((name, file)) => drop(desired.files.insert(name, file)),
                Err(source) => unusable.push(Unusable { path, source }),
            }
        }
        let mut bound = Vec::new();
        for path in records_in(&self.bound)? {
            match read_bound(&path) {
                Ok(pod) => bound.push(pod),
                Err(source) => unusable.push(Unusable { path, source }),
            }
        }
        desired.bound = BoundPods::recorded(bound);
        let mut ending = Vec::new();
        for path in records_in(&self.ending)? {
            match store::read_json::<Pod>(&path) {
                Ok(pod) => ending.extend(pod),
                Err(source) => unusable.push(Unusable { path, source }),
            }
        }
        Ok((desired, ending, unusable))
    }

    /// Records a manifest as it is desired now; one that is not, or holds nothing good, has no record.
    pub fn write_file(&self, name: &str, desired: &Desired) -> io::Result<PathBuf> {
        let record = record_of(name);
        let path = self.files.join(&record);
        match desired.files.get(name).filter(|file| !file.good.is_empty()) {
            Some(file) => {
                store::write_json(&self.files, &record, &show(name, file)?, Durability::Deferred)?;
            }
            None => discard(&path)?,
        }
        Ok(path)
    }

    /// Records a pod of an API server's as it is desired now; one that is not has no record.
    pub fn write_bound(&self, uid: &str, desired: &Desired) -> io::Result<PathBuf> {
        let name = format!("{uid}.json");
        let path = self.bound.join(&name);
        match desired.bound.get(uid) {
            Some(bound) => {
                let (pod, room_for) = (Pod::clone(&bound.pod), bound.room_for.clone());
                let record = BoundRecord { version: VERSION, role: bound.role, pod, room_for };
                store::write_json(&self.bound, &name, &record, Durability::Deferred)?;
            }
            None => discard(&path)?,
        }
        Ok(path)
    }

    /// Records that a pod is being stopped for good.
    pub fn write_ending(&self, pod: &Pod) -> io::Result<PathBuf> {
        let record = format!("{}.json", pod.metadata.uid.as_deref().unwrap_or_default());
        store::write_json(&self.ending, &record, pod, Durability::Deferred)?;
        Ok(self.ending.join(record))
    }

    /// Forgets a pod that was being stopped.
    pub fn remove_ending(&self, uid: &str) -> io::Result<()> {
        discard(&self.ending.join(format!("{uid}.json")))
    }
}

/// Makes records outlast a power cut.
pub fn sync(records: &[PathBuf]) -> io::Result<()> {
    let mut dirs: Vec<&Path> = Vec::new();
    for record in records {
        match std::fs::File::open(record) {
            Ok(file) => file.sync_all()?,
            // Replaced or removed since, and synced by whoever did it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        dirs.extend(record.parent().filter(|dir| !dirs.contains(dir)));
    }
    dirs.into_iter().try_for_each(|dir| std::fs::File::open(dir)?.sync_all())
}

/// The name of a manifest's record: paths have characters and lengths that file names cannot have.
fn record_of(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.json")
}

/// Removes a record; one that is not there is fine.
pub fn discard(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn records_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn show(name: &str, file: &File) -> io::Result<FileRecord> {
    let objects = file.good.iter().map(|located| {
        let object = match &located.object {
            Object::Pod(pod) => serde_json::to_value(pod),
            Object::ConfigMap(map) => serde_json::to_value(map),
            Object::Secret(secret) => serde_json::to_value(secret),
            Object::PersistentVolumeClaim(claim) => serde_json::to_value(claim),
            Object::Service(service) => serde_json::to_value(service),
            Object::NetworkPolicy(policy) => serde_json::to_value(policy),
            Object::Network(network) => serde_json::to_value(network),
            // What it means is recorded instead.
            Object::Ambassador(ambassador) => serde_json::to_value(ambassador),
        };
        Ok(ObjectRecord { line: located.line, object: object? })
    });
    let objects = objects.collect::<io::Result<_>>()?;
    Ok(FileRecord { version: VERSION, source: file.source.clone(), file: name.to_owned(), objects })
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn check(version: u32) -> io::Result<()> {
    match version {
        VERSION => Ok(()),
        version => Err(invalid(format!("it has version {version}, and this coracle knows version {VERSION}"))),
    }
}

fn read_bound(path: &Path) -> io::Result<BoundPod> {
    let record: BoundRecord = store::read_json(path)?.ok_or(io::ErrorKind::NotFound)?;
    check(record.version)?;
    Ok(BoundPod { room_for: record.room_for, ..BoundPod::new(Arc::new(record.pod), record.role) })
}

fn read_file(path: &Path) -> io::Result<(String, File)> {
    let record: FileRecord = store::read_json(path)?.ok_or(io::ErrorKind::NotFound)?;
    check(record.version)?;
    let mut good = Vec::new();
    for ObjectRecord { line, object } in record.objects {
        let object = match object.get("kind").and_then(Value::as_str) {
            Some("Pod") => Object::Pod(Box::new(serde_json::from_value::<Pod>(object)?)),
            Some("ConfigMap") => Object::ConfigMap(Box::new(serde_json::from_value::<ConfigMap>(object)?)),
            Some("Secret") => Object::Secret(Box::new(serde_json::from_value::<Secret>(object)?)),
            Some("PersistentVolumeClaim") => {
                Object::PersistentVolumeClaim(Box::new(serde_json::from_value::<PersistentVolumeClaim>(object)?))
            }
            Some("Service") => Object::Service(Box::new(serde_json::from_value::<Service>(object)?)),
            Some("NetworkPolicy") => Object::NetworkPolicy(Box::new(serde_json::from_value::<NetworkPolicy>(object)?)),
            Some("Network") => Object::Network(Box::new(serde_json::from_value::<manifests::Network>(object)?)),
            kind => return Err(invalid(format!("it holds an object of kind {kind:?}"))),
        };
        good.push(Located { object, file: record.file.clone(), line });
    }
    Ok((record.file, File { source: record.source, good, ..File::default() }))
}
