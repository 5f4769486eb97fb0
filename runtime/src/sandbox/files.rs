//! The files that every container of a pod sees: hosts, hostname, resolv.conf.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::record::{Dns, NamespaceMode, Record};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::network::cni::Connection;
use crate::resolver;

/// Writes the three files into the sandbox's directory.
pub fn write(core: &Core, record: &Record, hostname: &str) -> Result<()> {
    let dir = core.sandbox_dir(&record.id);
    let request = &record.request;
    let host_network = request.namespaces.net == NamespaceMode::Node;
    let hosts = if host_network {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        hosts(hostname, record.addresses())
    };
    let resolv_conf = of_resolver(core, record).text();
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

/// What a pod's resolv.conf says.
///
/// Where the agent names the cluster's domain the pod asks the server of this runtime, and everything that the client says
/// comes besides. Else what the client says is all there is; without a word it is the host's.
fn of_resolver(core: &Core, record: &Record) -> ResolvConf {
    let path = resolver::resolv_conf(core);
    let gateways =
        || record.attachment.as_ref().map_or_else(|| vec![resolver::loopback(core)], |it| it.gateways.clone());
    let said = record.request.dns.as_ref();
    if let Some(connection) = &record.cni {
        return of_plugins(connection, record, &path);
    }
    if let Some(domain) = resolver::domain(record) {
        let mut file = ResolvConf::of_cluster(&record.request.namespace, &domain, &resolver::host_search(&path));
        // All of them are the same server: the others would only be asked the same again.
        file.servers = gateways().iter().take(1).map(ToString::to_string).collect();
        file.add(said);
        return file;
    }
    if let Some(dns) = said.filter(|_| !resolver::adds_to_host(record)) {
        let mut file = ResolvConf::default();
        file.add(Some(dns));
        return file;
    }
    let mut file =
        ResolvConf { host: resolver::host_text(&path, record.attachment.is_some()), ..ResolvConf::default() };
    // A server of the host's loopback is not to be reached from here: it is asked in the pod's place.
    if record.attachment.is_some() && !file.host.lines().any(|it| it.starts_with("nameserver")) {
        file.servers = gateways().iter().take(1).map(ToString::to_string).collect();
    }
    file.add(said);
    file
}

/// The same for a pod that plug-ins have connected, which cannot ask the server of this runtime: what they say comes
/// before the host's.
fn of_plugins(connection: &Connection, record: &Record, path: &Path) -> ResolvConf {
    let said = record.request.dns.as_ref();
    let (of_host, of_cluster) = (resolver::adds_to_host(record), resolver::domain(record).is_some());
    let mut file = ResolvConf::default();
    if said.is_none() || of_host || of_cluster {
        match connection.dns.as_ref().filter(|_| !of_host) {
            Some(dns) => file.add(Some(dns)),
            None => file.host = resolver::host_text(path, true),
        }
    }
    file.add(said);
    file
}

/// The lines of a resolv.conf.
#[derive(Debug, Default, PartialEq, Eq)]
struct ResolvConf {
    /// The host's, as they are.
    host: String,
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl ResolvConf {
    /// As pods of a cluster have it: short names are looked for in the pod's namespace, then in the cluster.
    fn of_cluster(namespace: &str, domain: &str, host: &[String]) -> Self {
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        searches.extend_from_slice(host);
        Self { searches, options: vec!["ndots:5".into()], ..Self::default() }
    }

    /// Adds what a client says: its options take the place of those of the same name.
    fn add(&mut self, dns: Option<&Dns>) {
        let Some(dns) = dns else { return };
        for (list, words) in [(&mut self.servers, &dns.servers), (&mut self.searches, &dns.searches)] {
            list.extend(words.iter().cloned());
            let mut seen = BTreeSet::new();
            list.retain(|it| seen.insert(it.clone()));
        }
        let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
        self.options.retain(|it| !dns.options.iter().any(|new| name(new) == name(it)));
        self.options.extend(dns.options.iter().cloned());
    }

    fn text(&self) -> String {
        let mut text = self.host.clone();
        // Of several lines the last would count alone.
        let search = text.lines().rev().find(|it| it.starts_with("search") || it.starts_with("domain"));
        let before: Vec<&str> = search.into_iter().flat_map(|it| it.split_ascii_whitespace().skip(1)).collect();
        if !self.searches.is_empty() {
            let all = before.into_iter().chain(self.searches.iter().map(String::as_str)).collect::<Vec<_>>();
            text.push_str(&format!("search {}\n", all.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Dns {
        Dns {
            servers: vec!["192.0.2.1".into(), "192.0.2.2".into(), "192.0.2.1".into()],
            searches: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:2".into(), "edns0".into()],
        }
    }

    #[test]
    fn a_pods_own_resolver_is_written_in_resolv_confs_order() {
        let mut file = ResolvConf::default();
        assert_eq!(file.text(), "");
        file.add(Some(&said()));
        let expected =
            "search a.example b.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:2 edns0\n";
        assert_eq!(file.text(), expected);
    }

    #[test]
    fn what_a_pod_says_is_added_to_the_clusters() {
        let mut file = ResolvConf::of_cluster("shop", "cluster.local", &["lan".into()]);
        file.servers.push("10.201.0.1".into());
        let search = "search shop.svc.cluster.local svc.cluster.local cluster.local lan";
        assert_eq!(file.text(), format!("{search}\nnameserver 10.201.0.1\noptions ndots:5\n"));
        file.add(Some(&said()));
        let servers = "nameserver 10.201.0.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2";
        assert_eq!(file.text(), format!("{search} a.example b.example\n{servers}\noptions ndots:2 edns0\n"));
    }

    #[test]
    fn what_a_pod_says_is_added_to_the_hosts() {
        let mut file = ResolvConf { host: "nameserver 192.0.2.9\nsearch lan\n".into(), ..ResolvConf::default() };
        assert_eq!(file.text(), file.host);
        file.add(Some(&Dns { searches: vec!["x".into()], ..Dns::default() }));
        assert_eq!(file.text(), "nameserver 192.0.2.9\nsearch lan\nsearch lan x\n");
    }
}
