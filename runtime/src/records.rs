//! Finding the records of sandboxes and containers: one directory an object, named by its id.

mod cache;

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::RawDir;
use serde::de::DeserializeOwned;

pub use cache::Cache;

use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::ids::{Owner, is_id};
use crate::store::open_dir;

/// A record that lies in a directory of its own.
pub trait Stored: DeserializeOwned + Clone {
    /// What it is a record of, for messages.
    const WHAT: &'static str;
    /// What clients call its id.
    const FIELD: &'static str;
    /// The directory in the state directory that holds the objects'.
    const DIR: &'static str;
    /// The file in the object's directory.
    const FILE: &'static str;

    /// Those that were read.
    fn cache(core: &Core) -> &Cache<Self>;
    /// The object's id.
    fn id(&self) -> &str;
    /// Whose the object is.
    fn owner(&self) -> &Owner;
}

fn dir<R: Stored>(core: &Core) -> PathBuf {
    core.options.state_dir.join(R::DIR)
}

fn missing<R: Stored>(id: &str) -> Error {
    Error::NotFound { what: R::WHAT, id: id.to_owned() }
}

/// The record of `id`, of whatever owner, to be changed.
pub fn load<R: Stored>(core: &Core, id: &str) -> Result<R> {
    read(core, id).map(Arc::unwrap_or_clone)
}

/// The record of `id`, of whatever owner, to be looked at.
pub fn read<R: Stored>(core: &Core, id: &str) -> Result<Arc<R>> {
    if !is_id(id) {
        return Err(missing::<R>(id));
    }
    let path = dir::<R>(core).join(id).join(R::FILE);
    let record = R::cache(core).read(&path).during(|| format!("read {}", path.display()))?;
    record.ok_or_else(|| missing::<R>(id))
}

/// The record whose id begins with `id`, if it is `owner`'s.
pub fn owned<R: Stored>(core: &Core, owner: &Owner, id: &str) -> Result<R> {
    let record = if is_id(id) {
        load(core, id)?
    } else {
        let mine = all::<R>(core)?.into_iter().filter(|it| it.owner() == owner);
        let mut found = mine.filter(|it| !id.is_empty() && it.id().starts_with(id));
        let first = found.next().ok_or_else(|| missing::<R>(id))?;
        if found.next().is_some() {
            let why = "is the beginning of several: give more of it";
            return Err(Error::Invalid(format!("{} {id:?} {why}", R::FIELD)));
        }
        Arc::unwrap_or_clone(first)
    };
    // What is being made is its maker's alone.
    let shown = record.owner() == owner && !core.names.is_making(record.id());
    if shown { Ok(record) } else { Err(missing::<R>(id)) }
}

/// The records of every owner of which `wanted` holds, which may only ask for what stays as it is from an object's first
/// record to its last: the others are not looked at again.
pub fn select<R: Stored>(core: &Core, wanted: impl Fn(&R) -> bool) -> Result<Vec<Arc<R>>> {
    let mut records = list(core, |path| R::cache(core).last(path).is_none_or(|it| wanted(&it)))?;
    records.retain(|it| wanted(it));
    Ok(records)
}

/// Every record of every owner. One that cannot be read costs its object alone, and is said in the log.
pub fn all<R: Stored>(core: &Core) -> Result<Vec<Arc<R>>> {
    list(core, |_| true)
}

/// The records whose files `wanted` holds of.
fn list<R: Stored>(core: &Core, wanted: impl Fn(&Path) -> bool) -> Result<Vec<Arc<R>>> {
    let dir = dir::<R>(core);
    let mut records = Vec::new();
    let listing = || format!("list {}", dir.display());
    // Asked for all the time: what read_dir(3) keeps for each time is 32 KiB.
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(open_dir(&dir).during(listing)?, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.during(listing)?;
        let path = dir.join(OsStr::from_bytes(entry.file_name().to_bytes())).join(R::FILE);
        if entry.file_name().to_bytes().starts_with(b".") || !wanted(&path) {
            continue;
        }
        match R::cache(core).read(&path) {
            Ok(Some(record)) => records.push(record),
            // It is being made or removed, or was when its maker died: `gc` tells.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "a {}'s record cannot be read", R::WHAT)
            }
        }
    }
    Ok(records)
}
