//! The host's resolv.conf(5): which servers it asks, and what it appends to short names.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::PORT;

/// Where systemd-resolved keeps the real name servers when resolv.conf names its own stub.
const REAL_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// More servers than this are not asked, whatever the file says.
const MOST_SERVERS: usize = 8;

/// The address in a `nameserver` line.
pub fn server(line: &str) -> Option<IpAddr> {
    scoped(line).map(|(address, _)| address)
}

/// The same, with the interface that goes with a link-local one.
fn scoped(line: &str) -> Option<(IpAddr, Option<&str>)> {
    let mut words = line.split_ascii_whitespace();
    let word = words.next().filter(|it| *it == "nameserver").and(words.next())?;
    let (address, zone) = word.split_once('%').map_or((word, None), |(address, zone)| (address, Some(zone)));
    Some((address.parse().ok()?, zone))
}

fn is_loopback(line: &str) -> bool {
    server(line).is_some_and(|address| address.to_canonical().is_loopback())
}

/// Whether it names servers, and all of them are on the host's loopback.
fn only_loopback(text: &str) -> bool {
    let mut servers = text.lines().filter(|it| server(it).is_some());
    servers.clone().next().is_some() && servers.all(is_loopback)
}

/// The host's file as a pod sees it; one with a network of its own without what it cannot reach. Every line of it is ended:
/// more lines may follow.
pub fn host_text(path: &Path, own_network: bool) -> String {
    if own_network {
        return without_loopback(&read(path));
    }
    let mut text = std::fs::read_to_string(path).unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A resolv.conf without the servers that are on the host's loopback.
fn without_loopback(text: &str) -> String {
    text.lines().filter(|line| !is_loopback(line)).map(|line| format!("{line}\n")).collect()
}

/// The host's file, or the one with the real servers where it names but a stub of systemd's.
fn read(path: &Path) -> String {
    let own = std::fs::read_to_string(path).unwrap_or_default();
    let behind = if only_loopback(&own) { std::fs::read_to_string(REAL_RESOLV_CONF).ok() } else { None };
    behind.filter(|it| it.lines().any(|line| server(line).is_some())).unwrap_or(own)
}

/// What the host appends to short names: the last of several lines counts.
pub fn host_search(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lists = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|it| ["search", "domain"].contains(it)).map(|_| words.collect::<Vec<_>>())
    });
    // A lone dot is the root: nothing to append.
    let last = lists.next_back().unwrap_or_default();
    last.into_iter().filter(|it| *it != ".").map(str::to_owned).collect()
}

/// The host's name servers, read again when the file changes.
pub struct Servers {
    path: PathBuf,
    seen: Option<Stamp>,
    servers: Vec<SocketAddr>,
}

/// What both files looked like.
type Stamp = [Option<(u64, u64, SystemTime)>; 2];

impl Servers {
    /// Those of this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, servers: Vec::new() }
    }

    /// The servers as they are, but those at `own`, and whether they have changed.
    pub fn get(&mut self, own: &dyn Fn(IpAddr) -> bool) -> (Vec<SocketAddr>, bool) {
        let stamp = [stamp(&self.path), stamp(Path::new(REAL_RESOLV_CONF))];
        let mut changed = false;
        if self.seen != Some(stamp) {
            let servers = parse(&read(&self.path));
            changed = self.seen.is_some() && servers != self.servers;
            (self.servers, self.seen) = (servers, Some(stamp));
        }
        // Asking oneself would never end.
        (self.servers.iter().copied().filter(|it| !own(it.ip())).collect(), changed)
    }
}

fn stamp(path: &Path) -> Option<(u64, u64, SystemTime)> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()?))
}

/// The servers of a file, in its order. As with the C library one without any means the host's own.
fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |(address, zone): (IpAddr, Option<&str>)| match address {
        IpAddr::V4(address) => SocketAddr::from((address, PORT)),
        IpAddr::V6(address) => SocketAddrV6::new(address, PORT, 0, zone.map_or(0, interface)).into(),
    };
    let mut servers: Vec<SocketAddr> = Vec::new();
    for server in text.lines().filter_map(scoped).map(address) {
        if !servers.contains(&server) && servers.len() < MOST_SERVERS {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
    }
    servers
}

/// An interface's number, by its name or as it is.
fn interface(zone: &str) -> u32 {
    let by_name = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", zone.replace('/', "_")));
    by_name.ok().and_then(|it| it.trim().parse().ok()).or_else(|| zone.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_resolver_is_dropped_and_everything_else_kept() {
        let text = "# made\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\noptions edns0\nsearch lan\n";
        assert!(!only_loopback(text));
        assert_eq!(without_loopback(text), "# made\nnameserver 192.0.2.1\noptions edns0\nsearch lan\n");
        assert!(only_loopback("nameserver 127.0.0.53\nnameserver ::ffff:127.0.0.1\n"));
        assert!(!only_loopback("search lan\n"));
    }

    #[test]
    fn the_last_line_is_ended_whether_the_host_ends_it_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        for (own, text) in [("nameserver 192.0.2.1", "nameserver 192.0.2.1\n"), ("search a\n", "search a\n"), ("", "")]
        {
            std::fs::write(&path, own).unwrap();
            assert_eq!([host_text(&path, true), host_text(&path, false)], [text, text]);
        }
    }

    #[test]
    fn servers_are_read_as_the_c_library_reads_them() {
        let text = "#nameserver 1.1.1.1\nnameserver\t192.0.2.1\nnameserver 192.0.2.1\n nameserver fe80::1%7 x\nnameservers 1.1.1.1\n";
        assert_eq!(
            parse(text),
            ["192.0.2.1:53".parse().unwrap(), SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 7).into()]
        );
        assert_eq!(parse("nameserver nonsense\n"), ["127.0.0.1:53".parse().unwrap()]);
        let many: String = (0..20).map(|it| format!("nameserver 192.0.2.{it}\n")).collect();
        assert_eq!(parse(&many).len(), MOST_SERVERS);
    }

    #[test]
    fn a_change_is_seen_and_what_is_the_servers_own_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\nnameserver 10.201.0.1\nsearch a\nsearch b c .\n").unwrap();
        assert_eq!(host_search(&path), ["b", "c"]);
        let own: IpAddr = "10.201.0.1".parse().unwrap();
        let mut servers = Servers::new(path.clone());
        let of = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        assert_eq!(servers.get(&|it| it == own), (of("192.0.2.1:53"), false));
        assert_eq!(servers.get(&|it| it == own), (of("192.0.2.1:53"), false));
        std::fs::write(&path, "nameserver 192.0.2.22\n").unwrap();
        assert_eq!(servers.get(&|it| it == own), (of("192.0.2.22:53"), true));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(servers.get(&|_| false).0.len(), 1);
    }
}
