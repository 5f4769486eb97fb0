//! What a container's log files are called.
//!
//! ```text
//! 0.log                          being written
//! 0.log.20260102-030405          the one before, plain: who follows it may not be done with it
//! 0.log.20260102-030405-001      another one of the same second
//! 0.log.20260101-235959.gz       an older one
//! ```

mod names;
mod rotate;

pub use names::{Stamp, civil};
pub use rotate::{Kept, kept, remove_excess, rename_aside, rotate};
