//! The containers' /etc/hosts, as kubelet writes it.

use std::path::Path;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::{HostError, io_error};
use crate::engine::config::ClusterDomain;
use crate::engine::config::names::{fqdn, hostname};
use crate::engine::plan::spec_of;

/// The text of a pod's hosts file. `host` is the host's own file, for pods on its network.
/// `links` are addresses and names of other pods.
pub fn render(pod: &Pod, ips: &[String], links: &[(String, String)], domain: &ClusterDomain, host: &str) -> String {
    let spec = spec_of(pod);
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
                        ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n"
            .to_owned();
        let name = match fqdn(pod, domain) {
            Some(fqdn) => format!("{fqdn}\t{}", hostname(pod)),
            None => hostname(pod),
        };
        // A runtime may have given the pod no address: it knows its name all the same.
        let loopback = [String::from("127.0.0.1")];
        for ip in if ips.is_empty() { &loopback[..] } else { ips } {
            text.push_str(&format!("{ip}\t{name}\n"));
        }
        text
    };
    if !links.is_empty() {
        text.push_str("\n# Links.\n");
    }
    for (ip, name) in links {
        text.push_str(&format!("{ip}\t{name}\n"));
    }
    let aliases: Vec<&HostAlias> = spec.host_aliases.iter().flatten().collect();
    if !aliases.is_empty() {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    text
}

/// Writes a pod's hosts file to `path`, in place: containers that run have it mounted.
pub fn write(
    pod: &Pod,
    ips: &[String],
    links: &[(String, String)],
    domain: &ClusterDomain,
    path: &Path,
) -> Result<(), HostError> {
    let host = if spec_of(pod).host_network == Some(true) {
        std::fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        String::new()
    };
    let text = render(pod, ips, links, domain, &host);
    if std::fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    std::fs::write(path, text).map_err(io_error("write", path))?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).map_err(io_error("set the mode of", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_aliases_are_in_it() {
        let domain = ClusterDomain::default();
        let mut pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}
        }))
        .unwrap();
        let text = render(&pod, &["10.0.0.5".into(), "fd00::5".into()], &[], &domain, "");
        assert!(text.contains("\n10.0.0.5\tweb\nfd00::5\tweb\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        assert!(render(&pod, &[], &[], &domain, "").contains("\n127.0.0.1\tweb\n"));
        let links = [("10.0.0.6".to_owned(), "db".to_owned()), ("fd00::6".to_owned(), "db".to_owned())];
        let text = render(&pod, &["10.0.0.5".into()], &links, &domain, "");
        assert!(text.contains("\n10.0.0.5\tweb\n\n# Links.\n10.0.0.6\tdb\nfd00::6\tdb\n\n# Entries"), "{text}");
        pod.spec.as_mut().unwrap().subdomain = Some("sub".into());
        let text = render(&pod, &["10.0.0.5".into()], &[], &domain, "");
        assert!(text.contains("\n10.0.0.5\tweb.sub.default.svc.cluster.local\tweb\n"), "{text}");
        pod.spec.as_mut().unwrap().host_network = Some(true);
        let text = render(&pod, &[], &[], &domain, "9.9.9.9 x");
        assert!(text.contains("9.9.9.9 x\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
