//! The host's cgroup hierarchies, and making, finding and removing cgroups in them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode as FileMode, OFlags};

use super::dir::{DIRECTORY, Dir, absent};
use super::mounts::components;
use super::{Cgroup, Controller, Error, Mount, Version, parse_mountinfo, remove, v1, v2};

/// What kind of host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Version 1 alone.
    V1,
    /// Version 2 alone.
    V2,
    /// Version 1 controllers, and a version 2 hierarchy beside them.
    Hybrid,
}

/// The hierarchies, opened, and the prefix below which cgroups are ours to remove. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    roots: Arc<Vec<Dir>>,
    prefix: String,
}

impl Hierarchies {
    /// Finds the hierarchies that this process sees mounted (`proc_root` is `/proc`).
    pub fn discover(proc_root: &Path, prefix: &str) -> Result<Hierarchies, Error> {
        let path = proc_root.join("self/mountinfo");
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::Io { op: "read".to_owned(), path, source })?;
        Hierarchies::open(parse_mountinfo(&text), prefix)
    }

    /// Opens these mounts; of a version 2 mount the controllers are read.
    pub fn open(mounts: Vec<Mount>, prefix: &str) -> Result<Hierarchies, Error> {
        let prefix = components(prefix)?.to_owned();
        let roots = mounts.into_iter().map(open_root).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() {
            return Err(Error::NoHierarchy);
        }
        Ok(Hierarchies { roots: Arc::new(roots), prefix })
    }

    /// The same hierarchies with another prefix: a CRI client's own cgroup parent.
    pub fn below(&self, prefix: &str) -> Result<Hierarchies, Error> {
        Ok(Hierarchies { roots: Arc::clone(&self.roots), prefix: components(prefix)?.to_owned() })
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Which kind of host this is.
    pub fn mode(&self) -> Mode {
        let has = |version| self.roots.iter().any(|root| root.mount.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            _ => Mode::V2,
        }
    }

    /// The mounts, version 2 first.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.roots.iter().map(|root| &root.mount)
    }

    /// Whether a controller is there, in whichever version.
    pub fn has(&self, controller: Controller) -> bool {
        self.roots.iter().any(|root| root.mount.has(controller))
    }

    /// Makes a cgroup, and what is missing above it, in every hierarchy; `path` is below the roots, not the prefix. One
    /// that exists is opened. In version 2 the controllers are enabled down to its parent; in version 1 a new cpuset
    /// gets its parent's CPUs and memory nodes, without which no task may enter.
    pub fn create(&self, path: &str) -> Result<Cgroup, Error> {
        let path = components(path)?;
        let dirs = self.roots.iter().map(|root| create_in(root, path)).collect::<Result<_, _>>()?;
        Ok(Cgroup { path: path.to_owned(), dirs })
    }

    /// Opens a cgroup; none if it exists in no hierarchy. Hierarchies that lack it are left out.
    pub fn find(&self, path: &str) -> Result<Option<Cgroup>, Error> {
        let path = components(path)?;
        let mut dirs = Vec::new();
        for root in self.roots.iter() {
            dirs.extend(absent(root.open_child(path))?);
        }
        Ok((!dirs.is_empty()).then(|| Cgroup { path: path.to_owned(), dirs }))
    }

    /// Whether a cgroup exists in any hierarchy.
    pub fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(self.find(path)?.is_some())
    }

    /// The names of the cgroups directly below a path, in any hierarchy; empty if it does not exist.
    pub fn children(&self, path: &str) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        if let Some(cgroup) = self.find(path)? {
            for dir in &cgroup.dirs {
                names.extend(dir.children()?);
            }
        }
        Ok(names)
    }

    /// Removes a cgroup and all below it, in every hierarchy. What is gone is fine; a directory that is still busy is
    /// tried again until the deadline, for killed processes take a moment to leave. Only below the prefix.
    pub fn remove(&self, path: &str, deadline: Duration) -> Result<(), Error> {
        let path = components(path)?;
        if !path.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('/')) {
            return Err(Error::Foreign { path: path.to_owned(), prefix: self.prefix.clone() });
        }
        self.remove_everywhere(path, deadline)
    }

    /// Removes the empty cgroups below the prefix and the prefix itself, if nothing is left in them. Returns whether
    /// the prefix is gone.
    pub fn prune(&self) -> Result<bool, Error> {
        for root in self.roots.iter() {
            remove::empty(root, &self.prefix)?;
        }
        Ok(!self.exists(&self.prefix)?)
    }

    /// Removes a cgroup in every hierarchy where nothing is in it, neither a process nor another cgroup.
    pub fn remove_if_empty(&self, path: &str) -> Result<(), Error> {
        let path = components(path)?;
        self.roots.iter().try_for_each(|root| remove::alone(root, path))
    }

    fn remove_everywhere(&self, path: &str, deadline: Duration) -> Result<(), Error> {
        let mut first = Ok(());
        for root in self.roots.iter() {
            let result = remove::below(root, path, deadline);
            first = first.and(result);
        }
        first
    }
}

fn open_root(mut mount: Mount) -> Result<Dir, Error> {
    let fd = rustix::fs::openat(CWD, &mount.point, DIRECTORY | OFlags::CLOEXEC, FileMode::empty()).map_err(|e| {
        Error::Io { op: "open cgroup hierarchy".to_owned(), path: mount.point.clone(), source: e.into() }
    })?;
    if mount.version == Version::V2 {
        let root = Dir { fd, mount, path: String::new(), refused: Vec::new() };
        let text = root.read("cgroup.controllers")?;
        let Dir { fd, mut mount, path, refused } = root;
        mount.controllers = text.split_whitespace().filter_map(|name| name.parse().ok()).collect();
        return Ok(Dir { fd, mount, path, refused });
    }
    mount.controllers.shrink_to_fit();
    Ok(Dir { fd, mount, path: String::new(), refused: Vec::new() })
}

/// The directory of `path` in one hierarchy, made where it is missing.
fn create_in(root: &Dir, path: &str) -> Result<Dir, Error> {
    // Another process may prune an empty ancestor between two steps: then begin again.
    for _ in 0..1000 {
        match absent(descend(root, path))? {
            Some(dir) => return Ok(dir),
            None => continue,
        }
    }
    descend(root, path)
}

fn descend(root: &Dir, path: &str) -> Result<Dir, Error> {
    match root.mount.version {
        Version::V1 => v1::create(root, path),
        Version::V2 => v2::create(root, path),
    }
}
