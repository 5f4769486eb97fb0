//! Finding the records of sandboxes and containers: one directory an object, named by its id.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::ids::{Owner, is_id};
use crate::store::read_json;

/// A record that lies in a directory of its own.
pub trait Stored: DeserializeOwned {
    /// What it is a record of, for messages.
    const WHAT: &'static str;
    /// What clients call its id.
    const FIELD: &'static str;
    /// The directory in the state directory that holds the objects'.
    const DIR: &'static str;
    /// The file in the object's directory.
    const FILE: &'static str;

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

/// The record of `id`, of whatever owner.
pub fn load<R: Stored>(core: &Core, id: &str) -> Result<R> {
    if !is_id(id) {
        return Err(missing::<R>(id));
    }
    let path = dir::<R>(core).join(id).join(R::FILE);
    read_json(&path).during(|| format!("read {}", path.display()))?.ok_or_else(|| missing::<R>(id))
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
        first
    };
    // What is being made is its maker's alone.
    let shown = record.owner() == owner && !core.names.is_making(record.id());
    if shown { Ok(record) } else { Err(missing::<R>(id)) }
}

/// Every record of every owner. One that cannot be read costs its object alone, and is said in the log.
pub fn all<R: Stored>(core: &Core) -> Result<Vec<R>> {
    let dir = dir::<R>(core);
    let mut records = Vec::new();
    for entry in std::fs::read_dir(&dir).during(|| format!("list {}", dir.display()))? {
        let entry = entry.during(|| format!("list {}", dir.display()))?;
        match read_json(&entry.path().join(R::FILE)) {
            Ok(Some(record)) => records.push(record),
            // It is being made or removed, or was when its maker died: `gc` tells.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, path = %entry.path().display(), "a {}'s record cannot be read", R::WHAT)
            }
        }
    }
    Ok(records)
}
