//! What can go wrong with images, said so that an operator can act on it.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::registry::Failure;
use super::unpack::Problem;

/// The class of an [`Error`], for exit codes and gRPC statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for does not exist.
    NotFound,
    /// It exists and something stands in the way.
    Conflict,
    /// The input is wrong; trying again cannot help.
    Invalid,
    /// A registry does not let us in.
    Unauthenticated,
    /// The host lacks something now; trying again later can help.
    Transient,
    /// The store or the host is broken.
    Internal,
}

/// An operation on the image store that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no image reference.
    #[error("invalid image reference {text:?}: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text is no digest that this store understands.
    #[error("invalid digest {0:?}: expected sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
    /// No image of that name or id.
    #[error("image {looked_for} not found; {}", present(.exist, *.more))]
    NotFound {
        /// The reference in full, or the id, that was looked for.
        looked_for: String,
        /// Names that do exist, the most similar first.
        exist: Vec<String>,
        /// How many more exist.
        more: usize,
    },
    /// Several images begin with this id.
    #[error("image id {prefix} is ambiguous: {}; give more digits", .ids.join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// The ids that begin so.
        ids: Vec<String>,
    },
    /// A container uses the image.
    #[error("image {image} is in use by a container; remove the container first")]
    InUse {
        /// The image as the caller named it.
        image: String,
    },
    /// The built-in image is part of Coracle.
    #[error("image {image} is built in and cannot be removed or replaced")]
    Pinned {
        /// The image as the caller named it.
        image: String,
    },
    /// A call to the kernel failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "no space left for images in {}: {available} bytes are free{}; free some space or choose another --root-dir",
        .path.display(), .needed.map(|n| format!(", {n} are needed")).unwrap_or_default()
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes free for us.
        available: u64,
        /// Bytes needed, where that is known.
        needed: Option<u64>,
    },
    /// The disk has bytes, but no inodes.
    #[error(
        "no inodes left for images in {}: {available} are free although {bytes} bytes are; remove files or choose another --root-dir",
        .path.display()
    )]
    NoInodes {
        /// Where.
        path: PathBuf,
        /// Inodes free for us.
        available: u64,
        /// Bytes free for us.
        bytes: u64,
    },
    /// A record of the store cannot be understood.
    #[error("cannot read the record {}: {reason}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The archive is not one, or lacks a part.
    #[error("{}: {reason}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// One reference was given for an archive of several images.
    #[error("{}: holds {count} images, so one reference cannot name them all; import it without", .path.display())]
    ManyImages {
        /// The archive.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// The image is for another machine.
    #[error("the image is for {found}; this host runs {wanted}")]
    Platform {
        /// What the image is for.
        found: String,
        /// What would run here.
        wanted: String,
    },
    /// A blob is shorter or longer than its descriptor says.
    #[error("{what} is {}: {actual} bytes of {expected}", if .actual < .expected { "truncated" } else { "oversized" })]
    Size {
        /// The blob.
        what: String,
        /// As the descriptor says.
        expected: u64,
        /// As found.
        actual: u64,
    },
    /// A blob's content is not what its digest says.
    #[error("{what} is damaged: its content has the digest {actual}, not {expected}")]
    DigestMismatch {
        /// The blob.
        what: String,
        /// As the descriptor says.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// A layer's unpacked content is not what the image's configuration says.
    #[error("layer {layer} unpacks to {actual}, but the image's configuration says diff id {expected}")]
    DiffIdMismatch {
        /// The layer.
        layer: String,
        /// As the configuration says.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// A layer cannot be decompressed or is no tar.
    #[error("layer {layer} cannot be read: {source}")]
    Layer {
        /// The layer.
        layer: String,
        /// Why.
        source: io::Error,
    },
    /// An entry of a layer is refused or cannot be made.
    #[error("layer {layer}, entry {entry:?}: {problem}")]
    Entry {
        /// The layer.
        layer: String,
        /// The entry's path as the layer has it.
        entry: String,
        /// Why.
        problem: Problem,
    },
    /// The image has more layers than overlay mounts.
    #[error("the image has {count} layers; more than {limit} cannot be mounted")]
    TooManyLayers {
        /// Its layers.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A layer or image is larger than allowed.
    #[error("{what} has more than {limit} {unit}; raise {flag} if that is meant")]
    Limit {
        /// What is too large.
        what: String,
        /// What is counted.
        unit: &'static str,
        /// How many are allowed.
        limit: u64,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// A registry does not give what was asked for.
    #[error("cannot pull {image}: {what}: {failure}")]
    Registry {
        /// The image's name.
        image: String,
        /// What was asked for.
        what: String,
        /// What each host answered.
        failure: Failure,
    },
    /// A file that says how to reach registries, or who we are to them, is wrong.
    #[error("{}{}: {reason}", .path.display(), .line.map(|line| format!(":{line}")).unwrap_or_default())]
    RegistryConfig {
        /// The file.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// What a registry has under the image's name cannot be run.
    #[error("cannot pull {image}: {reason}")]
    Unsuitable {
        /// The image's name.
        image: String,
        /// Why.
        reason: String,
    },
    /// A layer's blob is not in the store, so the image cannot be written as it came.
    #[error(
        "cannot export {image}: the compressed form of its layer {layer} is not kept here; remove the image, and pull or import it again"
    )]
    BlobMissing {
        /// The image's name.
        image: String,
        /// The layer's digest.
        layer: Digest,
    },
    /// Nobody wants the pull any more.
    #[error("the pull was given up")]
    Cancelled,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound { .. } => Kind::NotFound,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Error::InUse { .. } | Error::Pinned { .. } => Kind::Conflict,
            Error::NoSpace { .. } | Error::NoInodes { .. } | Error::Cancelled => Kind::Transient,
            Error::BlobMissing { .. } => Kind::Conflict,
            Error::Registry { failure, .. } => failure.kind(),
            Error::Io { .. } | Error::Record { .. } => Kind::Internal,
            Error::Entry { problem: Problem::Os { .. }, .. } => Kind::Internal,
            Error::Reference { .. }
            | Error::Digest(_)
            | Error::Ambiguous { .. }
            | Error::Archive { .. }
            | Error::ManyImages { .. }
            | Error::Platform { .. }
            | Error::Size { .. }
            | Error::DigestMismatch { .. }
            | Error::DiffIdMismatch { .. }
            | Error::Layer { .. }
            | Error::Entry { .. }
            | Error::TooManyLayers { .. }
            | Error::RegistryConfig { .. }
            | Error::Unsuitable { .. }
            | Error::Limit { .. } => Kind::Invalid,
        }
    }

    /// A failed call on `path`; a full disk becomes the error that says so.
    pub(super) fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        if super::space::is_full(&source) {
            return super::space::full(path, None);
        }
        Error::Io { operation, path: path.to_owned(), source }
    }
}

fn present(exist: &[String], more: usize) -> String {
    if exist.is_empty() {
        return "no image is present; import one with `coracle image import FILE`".to_owned();
    }
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("present: {}{more}; import it with `coracle image import FILE`", exist.join(", "))
}
