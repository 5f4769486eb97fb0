//! hostPath, with kubelet's checks and creations, by type. Without a type a missing path becomes a directory, as the
//! runtimes make it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::super::{HostError, io_error};
use super::Ready;
use crate::engine::config::ConfigError;

pub(super) fn prepare(source: &HostPathVolumeSource) -> Result<Ready, HostError> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "" | "DirectoryOrCreate" if !path.exists() => create_dir(&path)?,
        "FileOrCreate" if !path.exists() => {
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create_new(true).mode(0o644);
            options.open(&path).map_err(io_error("make", &path))?;
        }
        _ => {}
    }
    let metadata = fs::metadata(&path).map_err(io_error("look at the hostPath", &path))?;
    let file = metadata.file_type();
    let (right, expected) = match kind {
        "" => (true, ""),
        "DirectoryOrCreate" | "Directory" => (file.is_dir(), "a directory"),
        "FileOrCreate" | "File" => (file.is_file(), "a file"),
        "Socket" => (file.is_socket(), "a socket"),
        "CharDevice" => (file.is_char_device(), "a character device"),
        "BlockDevice" => (file.is_block_device(), "a block device"),
        other => return Err(ConfigError::Unsupported(format!("hostPath of type {other}")).into()),
    };
    if right { Ok(Ready::Host { path, read_only: false }) } else { Err(HostError::HostPathType { path, expected }) }
}

fn create_dir(path: &Path) -> Result<(), HostError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io_error("make directory", path))
}
