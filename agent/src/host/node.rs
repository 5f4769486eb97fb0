//! Facts of this node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

use crate::engine::config::{Hugepages, Node};

/// Reads them. What cannot be read is left empty: it only shows where a pod asks for it.
pub fn facts() -> Node {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Node {
        name,
        ips: ips().iter().map(IpAddr::to_string).collect(),
        cpu_milli: i64::try_from(cpus).unwrap_or(1) * 1000,
        memory_bytes: memory_of(&meminfo).unwrap_or(0),
        hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
        ..Node::default()
    }
}

/// The domains that a resolv.conf(5) has names looked for in; of several lists the last counts.
pub fn search_list(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let list = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.map(str::to_owned).collect())
    };
    text.lines().filter_map(list).next_back().unwrap_or_default()
}

/// The sizes of huge pages that the kernel has (`hugepages-2048kB`), and how many of each.
fn hugepages(sysfs: &Path) -> Vec<Hugepages> {
    let entries = std::fs::read_dir(sysfs).into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()? << 10;
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some(Hugepages { size, count })
    };
    let mut found: Vec<Hugepages> = entries.filter_map(read).collect();
    found.sort();
    found
}

fn memory_of(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

/// The node's address of each family, IPv4 first: the one from which it reaches the world, else any that is not its
/// alone. A host with neither is at least reachable from itself.
fn ips() -> Vec<IpAddr> {
    let families = [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1))),
    ];
    let found: Vec<IpAddr> =
        families.into_iter().filter_map(|(any, world)| source(any, world).or_else(|| first(any.is_ipv4()))).collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { found }
}

/// The address that packets to `world` would leave with. Connecting a datagram socket sends nothing.
fn source(any: IpAddr, world: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(world, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| is_for_others(*ip))
}

/// The first address of an interface that is up.
fn first(v4: bool) -> Option<IpAddr> {
    let address = |it: InterfaceAddress| -> Option<IpAddr> {
        let (up, address) = (it.flags.contains(InterfaceFlags::IFF_UP), it.address?);
        // The addresses on the pods' own links are there for the pods alone.
        let ours = it.interface_name.starts_with("cor") && it.interface_name.len() == 14;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))?;
        (up && !ours).then_some(ip)
    };
    getifaddrs().ok()?.filter_map(address).find(|ip| ip.is_ipv4() == v4 && is_for_others(*ip))
}

/// Whether other machines may use it.
fn is_for_others(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn huge_pages_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-1048576kB", "1"), ("hugepages-2048kB", "16"), ("else", "7")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("nr_hugepages"), format!("{count}\n")).unwrap();
        }
        let found = hugepages(dir.path());
        let names: Vec<_> = found.iter().map(|pages| (pages.resource(), pages.count)).collect();
        assert_eq!(names, [("hugepages-2Mi".to_owned(), 16), ("hugepages-1Gi".to_owned(), 1)]);
        assert!(hugepages(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn the_last_search_list_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        assert!(search_list(&path).is_empty());
        std::fs::write(&path, "domain a\nnameserver 1.1.1.1\nsearch b c\noptions ndots:1\n").unwrap();
        assert_eq!(search_list(&path), ["b", "c"]);
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(memory_of("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16 * 1024));
        let facts = facts();
        assert!(facts.memory_bytes > 1 << 20 && facts.cpu_milli >= 1000 && !facts.name.is_empty());
    }

    #[test]
    fn a_node_has_an_address_and_at_most_one_of_each_family() {
        let ips = ips();
        let families: Vec<bool> = ips.iter().map(IpAddr::is_ipv4).collect();
        assert!([&[true][..], &[false], &[true, false]].contains(&families.as_slice()), "{ips:?}");
        assert!(ips == [IpAddr::V4(Ipv4Addr::LOCALHOST)] || ips.iter().all(|ip| is_for_others(*ip)), "{ips:?}");
    }
}
