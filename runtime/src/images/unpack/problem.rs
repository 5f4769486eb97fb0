//! Why an entry of a layer is refused.

use std::io;

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The path begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// The path leads out by `..`.
    #[error("the path climbs out of the layer by \"..\"")]
    ClimbsOut,
    /// A symbolic link on the way leads out.
    #[error("the path leads out of the layer through a symbolic link")]
    SymlinkOut,
    /// A hard link's target leads out.
    #[error("the hard link's target {target:?} leads out of the layer: {reason}")]
    HardLinkOut {
        /// As the layer has it.
        target: String,
        /// How it leads out.
        reason: Box<Problem>,
    },
    /// A hard link's target does not exist in this layer.
    #[error("the hard link's target {target:?} is not in this layer; a layer can link only to its own files")]
    HardLinkMissing {
        /// As the layer has it.
        target: String,
    },
    /// A hard link to a directory.
    #[error("the hard link's target {target:?} is a directory")]
    HardLinkDirectory {
        /// As the layer has it.
        target: String,
    },
    /// The path has a NUL byte.
    #[error("the path or the link's target holds a NUL byte or is empty")]
    BadName,
    /// The path is longer than allowed.
    #[error("the path has more than {limit} bytes")]
    PathTooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// The path is nested deeper than we walk.
    #[error("the path is nested deeper than {limit} directories")]
    TooDeep {
        /// Directories allowed.
        limit: usize,
    },
    /// Directories that no entry mentions are counted too, and there are too many.
    #[error("the layer has too many entries")]
    TooManyEntries,
    /// `.wh.` with nothing behind it, or with `.` or `..`.
    #[error("the whiteout names nothing")]
    BadWhiteout,
    /// A device that overlay would take for a whiteout.
    #[error("a device 0:0 would hide files of the layers below; a layer says that by a \".wh.\" name")]
    WhiteoutDevice,
    /// An attribute that overlay would obey.
    #[error("the attribute {name:?} belongs to overlay and cannot come from a layer")]
    ReservedXattr {
        /// The attribute.
        name: String,
    },
    /// An attribute that the filesystem has no room for.
    #[error("the attribute {name:?} is larger than this filesystem keeps")]
    LargeXattr {
        /// The attribute.
        name: String,
    },
    /// A user or group number that Linux does not have.
    #[error("the owner {id} does not fit a user or group id")]
    Owner {
        /// As the layer has it.
        id: u64,
    },
    /// A part of the path is no directory.
    #[error("a part of the path is not a directory")]
    NotADirectory,
    /// The layer's top is not a directory.
    #[error("the layer's root is not a directory")]
    RootNotDirectory,
    /// An entry type that images do not have.
    #[error("unknown entry type {:?}", char::from(*kind))]
    UnknownType {
        /// The type's byte in the header.
        kind: u8,
    },
    /// The kernel refused.
    #[error("cannot {operation} it: {source}")]
    Os {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The content could not be read.
    #[error("{0}")]
    Stream(io::Error),
}

impl Problem {
    pub(super) fn os(operation: &'static str, source: impl Into<io::Error>) -> Problem {
        Problem::Os { operation, source: source.into() }
    }
}
