//! Which machine images must be for.

use std::fmt;

use super::record::{ConfigFile, Platform};

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

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// The platform to choose from an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    os: String,
    architecture: String,
    /// Variants that run, the best first; the empty one is what says nothing.
    variants: Vec<&'static str>,
}

impl Wanted {
    /// `os/architecture[/variant]`; empty is this host.
    pub(super) fn parse(text: &str) -> Result<Wanted, String> {
        let host = host();
        let text = if text.is_empty() { &host } else { text };
        let (os, architecture, variant) = match text.split('/').collect::<Vec<_>>()[..] {
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(format!("platform {text:?} is not os/architecture[/variant]")),
        };
        let variants: &[&'static str] = match (architecture, variant) {
            ("arm64", "" | "v8") => &["v8", ""],
            ("arm", "" | "v7") => &["v7", "", "v6", "v5"],
            ("arm", "v6") => &["v6", "", "v5"],
            ("arm", "v5") => &["v5", ""],
            ("amd64", "" | "v1") => &["", "v1"],
            ("amd64", "v2") => &["v2", "", "v1"],
            ("amd64", "v3") => &["v3", "v2", "", "v1"],
            (_, "") => &[""],
            _ => return Err(format!("variant {variant:?} of {architecture} is not known")),
        };
        Ok(Wanted { os: os.to_owned(), architecture: architecture.to_owned(), variants: variants.to_vec() })
    }

    /// How well an entry of an index fits, 0 best; `None` when it does not run.
    pub(super) fn rank(&self, platform: &Platform) -> Option<usize> {
        if platform.os != self.os || platform.architecture != self.architecture {
            return None;
        }
        self.variants.iter().position(|variant| *variant == platform.variant)
    }

    /// Whether an image's own word agrees. Nothing said is taken for yes: old images say nothing.
    pub(super) fn runs(&self, config: &ConfigFile) -> bool {
        (config.os.is_empty() || config.os == self.os)
            && (config.architecture.is_empty() || config.architecture == self.architecture)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rank(wanted: &str, os: &str, architecture: &str, variant: &str) -> Option<usize> {
        let platform =
            Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() };
        Wanted::parse(wanted).unwrap().rank(&platform)
    }

    #[test]
    fn the_nearest_variant_that_runs_is_the_best() {
        assert_eq!(rank("linux/arm64", "linux", "arm64", "v8"), Some(0));
        assert_eq!(rank("linux/arm64", "linux", "arm64", ""), Some(1));
        assert_eq!(rank("linux/arm/v7", "linux", "arm", "v6"), Some(2));
        assert_eq!(rank("linux/arm/v6", "linux", "arm", "v7"), None);
        assert_eq!(rank("linux/amd64", "linux", "amd64", "v3"), None);
        assert_eq!(rank("linux/amd64", "windows", "amd64", ""), None);
        assert_eq!(rank("linux/amd64", "linux", "arm64", ""), None);
        assert_eq!(rank("linux/s390x", "linux", "s390x", ""), Some(0));
        assert!(Wanted::parse("linux").is_err());
        assert!(Wanted::parse("linux/arm/v99").is_err());
    }
}
