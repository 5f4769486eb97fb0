//! Failures on the way to a running process.

use std::io;

use super::spec::LaunchFailure;

/// The result of a step.
pub type Result<T> = std::result::Result<T, LaunchFailure>;

/// The code of a failure that is not the program's fault.
const SETUP_FAILED: i32 = 128;

/// Names the operation that an error belongs to.
pub trait During<T> {
    /// Turns an error into a failure of `operation`, which is only written when there is one.
    fn during(self, operation: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, operation: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| failure(operation(), &error.into()))
    }
}

/// A failure with the kernel's word, or the error's own where there is none.
pub fn failure(operation: String, error: &io::Error) -> LaunchFailure {
    match error.raw_os_error() {
        Some(errno) => LaunchFailure { operation, errno, code: SETUP_FAILED },
        None => refused(format!("{operation}: {error}")),
    }
}

/// A failure that the kernel has no word for.
pub fn refused(operation: String) -> LaunchFailure {
    LaunchFailure { operation, errno: 0, code: SETUP_FAILED }
}
