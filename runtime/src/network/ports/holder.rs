//! Which process has a port, from procfs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::taken::{Holder, overlap};
use super::{PortMapping, Protocol};

/// The process that has the port, if it can be found.
pub fn of(port: &PortMapping) -> Holder {
    // Of the calling thread's network namespace, not of the process's first thread's.
    let files = match port.protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return Holder::Unknown,
    };
    let mut sockets: Vec<Socket> = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(parse).collect::<Vec<_>>())
        .filter(|it| it.port == port.host_port && it.inode != 0 && it.overlaps(port.host_ip))
        .collect();
    // A listener first: it is what people know.
    sockets.sort_by_key(|it| !it.listens);
    sockets.iter().find_map(|it| process_with(it.inode)).unwrap_or(Holder::Unknown)
}

/// A line of /proc/net/tcp (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: IpAddr,
    port: u16,
    listens: bool,
    inode: u64,
}

impl Socket {
    /// The wildcard of IPv6 takes IPv4 as well, unless it was told not to, which is not shown.
    fn overlaps(&self, wanted: Option<IpAddr>) -> bool {
        self.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || overlap(Some(self.address), wanted)
    }
}

fn parse(line: &str) -> Option<Socket> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Socket { address: parse_address(address)?, port, listens: state == LISTEN, inode })
}

/// 32-bit words as the host has them in memory.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            let address = Ipv6Addr::from(octets);
            Some(address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4))
        }
        _ => None,
    }
}

fn process_with(inode: u64) -> Option<Holder> {
    let link = format!("socket:[{inode}]");
    let has = |pid: i32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        fds.flatten().find(|fd| std::fs::read_link(fd.path()).is_ok_and(|it| it.as_os_str() == link.as_str()))
    };
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    let pid = pids.into_iter().find(|&pid| has(pid).is_some())?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder::Process { pid, name: name.trim_end().to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_procfs_are_read() {
        let four =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100";
        let expected = Socket { address: "127.0.0.1".parse().unwrap(), port: 8080, listens: true, inode: 4711 };
        assert_eq!(parse(four), Some(expected));
        let six =
            "  1: 0000000000000000FFFF00000100007F:0035 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 12 2";
        let expected = Socket { address: "127.0.0.1".parse().unwrap(), port: 53, listens: false, inode: 12 };
        assert_eq!(parse(six), Some(expected));
        for broken in ["", "  sl  local_address rem_address", "0: 01:02 03", "0: 0100007F:XX 0:0 0A 0 0 0 0 0 1"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
