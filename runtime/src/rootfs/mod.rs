//! A container's root: the image's layers below a writable one, as a mount that is attached nowhere.

mod overlay;
mod volume;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

pub use overlay::{mapped as mapped_overlay, mount as overlay};
pub use volume::volume;

use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::images::Image;
use crate::launch::confined;
use crate::userns::{IdMap, Inside};

/// More than any real passwd or group file; an image cannot make the runtime read for ever.
const MAX_FILE: u64 = 4 << 20;

/// Makes the writable layer of a container and mounts its root. In a user namespace the image's files, whatever their
/// owner on the disk, are those of the ids inside, and the writable layer belongs to the host's ids.
pub fn make(core: &Core, id: &str, image: &Image, inside: Option<&Inside>) -> Result<OwnedFd> {
    let dir = core.container_root(id);
    crate::core::make_private(&dir)?;
    for name in ["upper", "work"] {
        let path = dir.join(name);
        std::fs::create_dir(&path).during(|| format!("make {}", path.display()))?;
    }
    let layers: Vec<&Path> = image.layers.iter().map(AsRef::as_ref).collect();
    // The root directory itself comes from the upper layer: it has to look as the image's does.
    if let Some(top) = layers.last() {
        let map = inside.map(|it| &it.map);
        copy_looks(top, &dir.join("upper"), map).during(|| format!("prepare {}", dir.display()))?;
    }
    match inside {
        None => overlay(&layers, &dir),
        Some(inside) => mapped_overlay(&layers, &dir, &inside.namespace),
    }
}

fn copy_looks(from: &Path, to: &Path, map: Option<&IdMap>) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let looks = std::fs::metadata(from)?;
    // An owner that has no id inside is nobody there, and here whoever made the directory.
    let uid = map.map_or(Some(looks.uid()), |it| it.uid(looks.uid()));
    let gid = map.map_or(Some(looks.gid()), |it| it.gid(looks.gid()));
    std::os::unix::fs::chown(to, uid, gid)?;
    std::fs::set_permissions(to, looks.permissions())
}

/// Reads a text file of the root, confined to it. One that is not there is empty.
pub fn read(root: &OwnedFd, path: &str) -> Result<String> {
    use std::io::Read as _;
    let operation = || format!("read the image's {path}");
    let file = match confined::open(root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error).during(operation),
    };
    if !file.metadata().during(operation)?.is_file() {
        return Err(Error::Invalid(format!("the image's {path} is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).during(operation)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
