//! The files that every container of a pod sees: hosts, hostname, resolv.conf.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::record::{Dns, NamespaceMode, Record};
use crate::error::{During as _, Result};

/// Where systemd-resolved keeps the real name servers when /etc/resolv.conf names its own stub.
const REAL_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// Writes the three files into `dir`.
pub fn write(dir: &Path, record: &Record, hostname: &str) -> Result<()> {
    let request = &record.request;
    let host_network = request.namespaces.net == NamespaceMode::Node;
    let hosts = if host_network {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        hosts(hostname, record.attachment.as_ref().map_or(&[], |it| &it.addresses))
    };
    let resolv_conf = match &request.dns {
        Some(dns) => resolv_conf(dns),
        None => host_resolv_conf(host_network),
    };
    for (name, text) in [("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv_conf)] {
        let path = dir.join(name);
        fs::write(&path, text).during(|| format!("write {}", path.display()))?;
        // What is mounted into containers of any user has to be readable there.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&path, mode).during(|| format!("open {} to its readers", path.display()))?;
        if let Some(user) = &request.user {
            let (uid, gid) = user.map.root()?;
            let given = std::os::unix::fs::chown(&path, Some(uid), Some(gid));
            given.during(|| format!("give {} to the pod's root", path.display()))?;
        }
    }
    Ok(())
}

fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for address in addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// The host's, where a resolver on the host's loopback, which a pod cannot reach, is replaced by the servers behind it.
fn host_resolv_conf(host_network: bool) -> String {
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if host_network {
        return own;
    }
    let behind = if only_loopback(&own) { fs::read_to_string(REAL_RESOLV_CONF).ok() } else { None };
    without_loopback(&behind.unwrap_or(own))
}

fn only_loopback(text: &str) -> bool {
    let mut servers = text.lines().filter_map(server);
    servers.clone().next().is_some() && servers.all(|it| it.is_loopback())
}

fn without_loopback(text: &str) -> String {
    text.lines()
        .filter(|line| !server(line).is_some_and(|it| it.is_loopback()))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The address in a `nameserver` line of resolv.conf.
pub fn server(line: &str) -> Option<IpAddr> {
    let address = line.trim().strip_prefix("nameserver")?.trim();
    // A link-local address may carry its interface: fe80::1%eth0.
    address.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_resolver_is_dropped_and_everything_else_kept() {
        let text = "# made\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\noptions edns0\nsearch lan\n";
        assert!(!only_loopback(text));
        assert_eq!(without_loopback(text), "# made\nnameserver 192.0.2.1\noptions edns0\nsearch lan\n");
        assert!(only_loopback("nameserver 127.0.0.53\n"));
        assert!(!only_loopback("search lan\n"));
    }

    #[test]
    fn a_pods_own_dns_is_written_in_resolv_confs_order() {
        let dns = Dns {
            servers: vec!["192.0.2.1".into(), "192.0.2.2".into()],
            searches: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:5".into()],
        };
        let expected = "search a.example b.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), expected);
        assert_eq!(resolv_conf(&Dns::default()), "");
    }
}
