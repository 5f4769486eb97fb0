//! ExportImage: images of the store into an archive on the runtime's host.

use std::path::PathBuf;

use cri_proto::node::{ArchiveFormat, ExportImageProgress, ExportImageRequest};
use tonic::Status;

use crate::images::Format;

/// What to write, validated.
pub(super) struct Export {
    pub images: Vec<String>,
    pub path: PathBuf,
    pub format: Format,
}

pub(super) fn request(asked: ExportImageRequest) -> Result<Export, Status> {
    let format = match asked.format() {
        ArchiveFormat::Unspecified | ArchiveFormat::Oci => Format::Oci,
        ArchiveFormat::Docker => Format::Docker,
    };
    if asked.images.is_empty() || asked.images.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("images: name one or more"));
    }
    let path = PathBuf::from(&asked.path);
    if !path.is_absolute() {
        return Err(Status::invalid_argument(format!("path {:?} is not absolute", asked.path)));
    }
    Ok(Export { images: asked.images, path, format })
}

pub(super) fn message(bytes: u64, total_bytes: u64) -> ExportImageProgress {
    ExportImageProgress { bytes, total_bytes, done: false }
}
