//! Whether pods can have user namespaces here: tried, not guessed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::IdMap;
use super::choice::LENGTH;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::rootfs;
use crate::store::remove_dir;

/// How a directory is called in which something is tried, before the id of the process that tries.
const TRIAL: &str = ".probe-";

/// Whether everything that a pod with a user namespace needs works: such a namespace, id-mapped layers of the images'
/// filesystem, and an overlay of those. What worked once is not tried again.
pub fn supported(core: &Core) -> bool {
    static WORKS: AtomicBool = AtomicBool::new(false);
    if WORKS.load(Ordering::Relaxed) {
        return true;
    }
    match try_all(core) {
        Ok(()) => WORKS.store(true, Ordering::Relaxed),
        Err(error) => {
            tracing::info!(%error, source = ?std::error::Error::source(&error), "no user namespaces for pods")
        }
    }
    WORKS.load(Ordering::Relaxed)
}

fn try_all(core: &Core) -> Result<()> {
    if let Err(error) = sweep(core) {
        tracing::debug!(%error, "what an earlier try has left stays until coracle gc");
    }
    let map = IdMap::of_range(LENGTH, LENGTH);
    let namespace = core.zygote()?.user_namespace(&map).during(|| "make a user namespace".into())?;
    let dir = core.options.root_dir.join("containers").join(format!("{TRIAL}{}", std::process::id()));
    let made = ["lower", "upper", "work"].iter().try_for_each(|name| crate::core::make_private(&dir.join(name)));
    let tried = made.and_then(|()| try_overlay(&dir, &namespace));
    let _ = std::fs::remove_dir_all(&dir);
    tried
}

/// Removes what processes that were killed while they tried have left: all that can be; what could not be first.
pub fn sweep(core: &Core) -> Result<()> {
    let dir = core.options.root_dir.join("containers");
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.during(|| format!("read {}", dir.display()))?,
    };
    let mut outcome = Ok(());
    for entry in entries {
        let name = entry.during(|| format!("read {}", dir.display()))?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(TRIAL)) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let path = dir.join(&name);
            outcome = outcome.and(remove_dir(&path).during(|| format!("remove {}", path.display())));
        }
    }
    outcome
}

fn try_overlay(dir: &Path, namespace: &std::os::fd::OwnedFd) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let lower = dir.join("lower");
    let file = lower.join("file");
    std::fs::write(&file, "").during(|| format!("write {}", file.display()))?;
    let root = rootfs::mapped_overlay(&[lower.as_path()], dir, namespace)?;
    let seen = rustix::fs::statat(&root, "file", rustix::fs::AtFlags::empty());
    let owner = seen.during(|| "look into the overlay".into())?.st_uid;
    let expected = file.metadata().during(|| "look at a file".into())?.uid() + LENGTH;
    if owner == expected {
        return Ok(());
    }
    Err(Error::Conflict(format!("a file of an id-mapped layer belongs to {owner} and not to {expected}")))
}
