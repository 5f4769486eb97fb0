//! User namespaces: which ids of a pod stand for which of the host, and who gets which range.

mod choice;
mod probe;

pub use probe::{supported, sweep};

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::sandbox;
use crate::sys::mount::{Attributes, IDMAP, set_attributes};

/// The largest id plus one: (uint32)-1 is no id.
const IDS: u64 = u32::MAX as u64;

/// A stretch of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first one inside.
    pub container: u32,
    /// What it is on the host.
    pub host: u32,
    /// How many.
    pub length: u32,
}

impl IdMapping {
    /// What an id of inside is on the host; none where it is not mapped.
    pub fn to_host(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container).filter(|offset| *offset < self.length)?;
        self.host.checked_add(offset)
    }

    /// Refuses what maps nothing, or more ids than there are. `field` names it.
    fn check(self, field: &str) -> Result<()> {
        let fits = |first: u32| u64::from(first) + u64::from(self.length) <= IDS;
        if self.length == 0 {
            return Err(Error::Invalid(format!("{field} maps no ids: its length is 0")));
        }
        if !(fits(self.container) && fits(self.host)) {
            return Err(Error::Invalid(format!("{field} reaches beyond the last id, {}", IDS - 1)));
        }
        Ok(())
    }
}

/// The mappings of a user namespace, or of an id-mapped mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

impl IdMap {
    /// The same stretch for users and groups, from 0 on inside.
    pub fn of_range(host: u32, length: u32) -> Self {
        let one = vec![IdMapping { container: 0, host, length }];
        Self { uids: one.clone(), gids: one }
    }

    /// Refuses what the kernel would.
    pub fn check(&self, field: &str) -> Result<()> {
        for (mappings, name) in [(&self.uids, "uid"), (&self.gids, "gid")] {
            if mappings.is_empty() {
                return Err(Error::Invalid(format!("{field} has no {name} mapping")));
            }
            for mapping in mappings {
                mapping.check(&format!("a {name} mapping of {field}"))?;
            }
        }
        Ok(())
    }

    /// What a user of inside is on the host.
    pub fn uid(&self, id: u32) -> Option<u32> {
        self.uids.iter().find_map(|it| it.to_host(id))
    }

    /// What a group of inside is on the host.
    pub fn gid(&self, id: u32) -> Option<u32> {
        self.gids.iter().find_map(|it| it.to_host(id))
    }

    /// The user and the group of the host that are root inside.
    pub fn root(&self) -> Result<(u32, u32)> {
        let unmapped = || Error::Invalid("the user namespace maps no root: container id 0 has to be mapped".into());
        self.uid(0).zip(self.gid(0)).ok_or_else(unmapped)
    }
}

/// The contents of `uid_map` or `gid_map` (user_namespaces(7)).
pub fn lines(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|it| format!("{} {} {}\n", it.container, it.host, it.length)).collect()
}

/// A sandbox's user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// Its mappings; empty until the runtime has chosen them.
    pub map: IdMap,
    /// The runtime chooses the host's ids, and maps every mount of the containers as it maps the pod.
    pub chosen: bool,
}

/// A sandbox's user namespace, open.
#[derive(Debug)]
pub struct Inside {
    /// Its mappings.
    pub map: IdMap,
    /// The namespace.
    pub namespace: OwnedFd,
    /// See [`UserNamespace::chosen`].
    pub chosen: bool,
}

impl Inside {
    /// The one of a sandbox, where it has one.
    pub fn of(core: &Core, sandbox: &sandbox::Record) -> Result<Option<Self>> {
        let Some(user) = &sandbox.request.user else { return Ok(None) };
        let path = core.pins_dir(&sandbox.id).join(PIN);
        let file = std::fs::File::open(&path);
        let file = file.during(|| format!("open the user namespace of sandbox {}, {}", sandbox.id, path.display()))?;
        Ok(Some(Self { map: user.map.clone(), namespace: file.into(), chosen: user.chosen }))
    }
}

/// The name of a user namespace's pin.
pub const PIN: &str = "user";

/// Completes what was asked for: chooses a range that no sandbox of any owner has, where the client leaves that to the
/// runtime. Nobody else chooses until the answer is dropped: the caller saves its record first.
pub fn settle(core: &Core, request: &mut sandbox::Request) -> Result<Option<std::fs::File>> {
    let Some(user) = request.user.as_mut().filter(|it| it.chosen) else { return Ok(None) };
    let path = core.options.state_dir.join("user-namespaces.lock");
    let lock = crate::network::exclusive(&path).during(|| format!("lock {}", path.display()))?;
    let records = sandbox::all(core)?;
    let of =
        |it: &IdMap| it.uids.iter().chain(&it.gids).map(|it| (it.host.into(), it.length.into())).collect::<Vec<_>>();
    let used: Vec<(u64, u64)> = records.iter().flat_map(|it| &it.request.user).flat_map(|it| of(&it.map)).collect();
    let chosen = choice::choose(&choice::Ranges::read(std::path::Path::new("/etc")), &used);
    let host = chosen.ok_or_else(|| {
        let why = "every range of ids for pods is in use; remove pods, or widen the range of kubelet in /etc/subuid and /etc/subgid";
        Error::Conflict(format!("sandbox {}/{} gets no user namespace: {why}", request.namespace, request.name))
    })?;
    user.map = IdMap::of_range(host, choice::LENGTH);
    Ok(Some(lock))
}

/// Maps the ids of a detached mount by a user namespace's mappings.
pub fn map_ids(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> std::io::Result<()> {
    set_attributes(tree, false, Attributes { set: IDMAP, user_namespace: Some(namespace), ..Attributes::default() })
}

/// Maps the ids of a volume: `path`, of which `tree` is a detached copy.
pub fn map_volume(core: &Core, tree: &OwnedFd, map: &IdMap, inside: Option<&Inside>, path: &str) -> Result<()> {
    let made;
    let namespace = match inside.filter(|it| it.map == *map) {
        Some(inside) => &inside.namespace,
        None => {
            made = core.zygote()?.user_namespace(map).during(|| format!("make the id mappings of {path}"))?;
            &made
        }
    };
    map_ids(tree.as_fd(), namespace.as_fd()).map_err(|source| match source.raw_os_error() {
        // mount_setattr(2): the filesystem does not know how, or it is mapped already.
        Some(libc::EINVAL) => Error::Invalid(format!(
            "{path} cannot be mounted with mapped ids: its filesystem does not support that on this kernel, or it is such a mount already"
        )),
        _ => Error::Io { operation: format!("map the ids of {path}"), source },
    })
}

/// net.ipv4.ping_group_range as the pod means it, in the host's groups: the kernel takes it in the writer's. A range
/// that begins outside of what is mapped stays as it is.
pub fn ping_group_range(value: &str, gids: &[IdMapping]) -> String {
    let mut words = value.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last)), None) = (words.next(), words.next(), words.next()) else {
        return value.to_owned();
    };
    let found = gids.iter().find_map(|it| it.to_host(first).map(|host| (it, host)));
    match found {
        Some((mapping, host)) if first <= last => {
            let end = mapping.container.saturating_add(mapping.length - 1).min(last);
            format!("{host} {}", mapping.to_host(end).unwrap_or(host))
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
