//! Files of a ConfigMap or Secret, in the layout that programs know from kubelet: the visible names are links through
//! `..data`, one link that a single rename moves, so a reader sees all of the old content or all of the new.
//!
//! ```text
//! KEY -> ..data/KEY
//! ..data -> ..2026_11_22_18_31_45.123456789
//! ..2026_11_22_18_31_45.123456789/KEY
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{HostError, io_error, make_dir, ownership};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its content.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner, if not root.
    pub user: Option<u32>,
}

/// Files by relative path.
pub type Payload = BTreeMap<String, Entry>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `directory` hold exactly `payload`; false when it did already.
pub fn write(directory: &Path, payload: &Payload, group: Option<u32>) -> Result<bool, HostError> {
    let current = current(directory)?;
    if let Some(current) = &current
        && holds(&directory.join(current), payload, group)
    {
        return Ok(false);
    }
    sweep(directory, current.as_deref())?;
    let name = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%N").to_string();
    let fresh = directory.join(&name);
    make_dir(&fresh, 0o755)?;
    for (path, entry) in payload {
        write_entry(&fresh, path, entry)?;
    }
    if let Some(group) = group {
        ownership::hand_over(&fresh, group, true)?;
    }
    let link = directory.join(NEW_DATA);
    remove_if_there(&link)?;
    symlink(&name, &link).map_err(io_error("make link", &link))?;
    fs::rename(&link, directory.join(DATA)).map_err(io_error("rename link", &link))?;
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    show(directory, &wanted)?;
    hide(directory, &wanted)?;
    if let Some(old) = current {
        let old = directory.join(old);
        fs::remove_dir_all(&old).map_err(io_error("remove", &old))?;
    }
    Ok(true)
}

/// Removes what earlier attempts have left: of one that failed, or whose agent was killed on the way.
fn sweep(directory: &Path, current: Option<&Path>) -> Result<(), HostError> {
    for entry in fs::read_dir(directory).map_err(io_error("read", directory))? {
        let entry = entry.map_err(io_error("read", directory))?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b"..");
        if hidden && entry.file_type().is_ok_and(|it| it.is_dir()) && current != Some(Path::new(&name)) {
            fs::remove_dir_all(entry.path()).map_err(io_error("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn current(directory: &Path) -> Result<Option<PathBuf>, HostError> {
    let link = directory.join(DATA);
    match fs::read_link(&link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read link", &link)(error)),
    }
}

/// Whether every file is there as it should be, and no other.
fn holds(directory: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let same = |(path, entry): (&String, &Entry)| {
        let file = directory.join(path);
        let as_wanted = |metadata: fs::Metadata| {
            let mode = entry.mode | group.map_or(0, |_| ownership::READABLE);
            metadata.mode() & 0o7777 == mode
                && entry.user.is_none_or(|user| user == metadata.uid())
                && group.is_none_or(|group| group == metadata.gid())
        };
        fs::symlink_metadata(&file).is_ok_and(as_wanted) && fs::read(&file).is_ok_and(|data| data == entry.data)
    };
    payload.iter().all(same) && count_files(directory).is_ok_and(|count| count == payload.len())
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn write_entry(directory: &Path, path: &str, entry: &Entry) -> Result<(), HostError> {
    let file = directory.join(path);
    if let Some(parent) = file.parent().filter(|parent| *parent != directory) {
        make_dir(parent, 0o755)?;
    }
    fs::write(&file, &entry.data).map_err(io_error("write", &file))?;
    if entry.user.is_some() {
        std::os::unix::fs::lchown(&file, entry.user, None).map_err(io_error("change the owner of", &file))?;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(entry.mode)).map_err(io_error("set the mode of", &file))
}

fn show(directory: &Path, wanted: &BTreeSet<&str>) -> Result<(), HostError> {
    for name in wanted {
        let link = directory.join(name);
        match symlink(Path::new(DATA).join(name), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("make link", &link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn hide(directory: &Path, wanted: &BTreeSet<&str>) -> Result<(), HostError> {
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && !name.starts_with("..")
            && !wanted.contains(name)
        {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let entry = |data: &str| Entry { data: data.into(), mode: 0o640, user: None };
        files.iter().map(|(path, data)| ((*path).to_owned(), entry(data))).collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with("..2"));
        names.sort();
        names
    }

    #[test]
    fn files_are_seen_through_one_link() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_link(dir.path().join("sub")).unwrap(), Path::new("..data/sub"));
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), ["..data", "a", "sub"]);
    }

    #[test]
    fn an_update_replaces_everything_and_leaves_nothing_of_the_old() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &payload(&[("a", "1"), ("b", "2")]), None).unwrap();
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("b", "2")]), None).unwrap(), "nothing to do");
        assert!(write(dir.path(), &payload(&[("b", "3"), ("c", "4")]), None).unwrap());
        assert_eq!(names(dir.path()), ["..data", "b", "c"]);
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "3");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "one data directory");
        let mut other = payload(&[("b", "3"), ("c", "4")]);
        other.values_mut().for_each(|entry| entry.mode = 0o600);
        assert!(write(dir.path(), &other, None).unwrap(), "another mode is a change");
        assert_eq!(fs::metadata(dir.path().join("b")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
