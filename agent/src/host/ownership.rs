//! fsGroup: a volume handed over to a group, as kubelet does it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::{HostError, io_error};

/// What a group may do with a file that nobody writes to.
pub const READABLE: u32 = 0o440;

/// Gives everything at and below `path` to `group`, readable (and writable unless `read_only`) for it; new files in
/// its directories belong to the group as well. Links are never followed.
pub fn hand_over(path: &Path, group: u32, read_only: bool) -> Result<(), HostError> {
    let metadata = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    lchown(path, None, Some(group)).map_err(io_error("change the group of", path))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut mode = metadata.permissions().mode() | if read_only { READABLE } else { 0o660 };
    if metadata.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777)).map_err(io_error("set the mode of", path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(io_error("list", path))? {
            hand_over(&entry.map_err(io_error("list", path))?.path(), group, read_only)?;
        }
    }
    Ok(())
}

/// The same for what containers write to, unless `path` itself says that it is done.
pub fn hand_over_once(path: &Path, group: u32) -> Result<(), HostError> {
    let metadata = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    let wanted = 0o2770;
    if metadata.gid() == group && metadata.permissions().mode() & wanted == wanted {
        return Ok(());
    }
    hand_over(path, group, false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn everything_goes_to_the_group_and_links_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: changing groups takes root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "").unwrap();
        fs::set_permissions(dir.path().join("sub/file"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        hand_over(dir.path(), 4321, false).unwrap();
        let of = |path: &str| {
            let metadata = fs::symlink_metadata(dir.path().join(path)).unwrap();
            (metadata.gid(), metadata.mode() & 0o7777)
        };
        assert_eq!(of("sub/file"), (4321, 0o660));
        assert_eq!(of("sub").0, 4321);
        assert_eq!(of("sub").1 & 0o2770, 0o2770);
        assert_eq!(of("link").0, 4321);
        assert_ne!(fs::metadata(outside.path()).unwrap().gid(), 4321);
    }
}
