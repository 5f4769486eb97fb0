//! What version this is, as Kubernetes' tools read it.

/// That of the kubelet whose behaviour this node has; whose it really is comes after the plus sign, as build metadata of
/// a semantic version (decision 0017).
pub const KUBELET: &str = concat!("v1.36.0+coracle.", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_read_a_minor_version_and_skip_the_rest() {
        let (release, metadata) = KUBELET.split_once('+').unwrap_or_default();
        let numbers: Vec<u32> =
            release.trim_start_matches('v').split('.').filter_map(|number| number.parse().ok()).collect();
        assert_eq!(numbers, [1, 36, 0], "{KUBELET}");
        // https://semver.org/#spec-item-10
        let fits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
        assert!(metadata.split('.').all(fits), "{KUBELET}");
    }
}
