//! Which machine images must be for.

use super::record::Platform;

/// This host's architecture as images name it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// This host, for messages.
pub(super) fn host() -> String {
    format!("linux/{}", architecture())
}

/// Whether an image for this platform runs here. Nothing said is taken for yes: old images say nothing.
pub(super) fn matches(os: &str, arch: &str) -> bool {
    (os.is_empty() || os == "linux") && (arch.is_empty() || arch == architecture())
}

impl Platform {
    /// Whether an image for this platform runs here.
    pub(super) fn runs_here(&self) -> bool {
        matches(&self.os, &self.architecture)
    }
}
