//! What a node has left in the network of its host: links, rules, routes and sysctls. The namespace is the node's own,
//! so that whatever bears Coracle's names there is the node's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send, socket};

use super::{After, Kind, Leak};
use crate::netns::Host;

/// How the host's ends of pods' links are called.
const LINKS: &str = "cor";

/// How tables of rules are called.
const TABLES: &str = "coracle";

/// Where the sysctls are that forwarding changes, and everything that the kernel changes with them.
const SYSCTLS: [&str; 4] = ["net/ipv4", "net/ipv4/conf/*", "net/ipv6", "net/ipv6/conf/*"];

/// A host whose network is looked at, and how its sysctls were at first.
#[derive(Clone, Debug)]
pub struct Network {
    host: Host,
    sysctls: BTreeMap<String, String>,
}

impl Network {
    /// Remembers how the host is now.
    pub fn of(host: &Host) -> Self {
        Self { host: host.clone(), sysctls: host.within(sysctls) }
    }

    /// The kernel's number of the namespace.
    pub(super) fn inode(&self) -> u64 {
        self.host.inode()
    }

    pub(super) fn find(&self, after: After) -> Vec<Leak> {
        self.host.within(|| {
            let mut leaks = links();
            leaks.extend(tables().into_iter().map(|name| Leak::new(Kind::Rules, format!("the table {name}"))));
            leaks.extend(claims());
            if after == After::GcAll {
                leaks.extend(self.changed());
            }
            leaks
        })
    }

    /// Sysctls that are not what they were. An interface that came later brings its own.
    fn changed(&self) -> Vec<Leak> {
        let now = sysctls();
        let changed = self.sysctls.iter().filter_map(|(name, before)| {
            let now = now.get(name).filter(|now| *now != before)?;
            Some(Leak::new(Kind::Sysctl, format!("{name} was {before:?} and is {now:?}")))
        });
        changed.collect()
    }
}

fn links() -> Vec<Leak> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.filter(|name| name.starts_with(LINKS)).map(|name| Leak::new(Kind::Link, name)).collect()
}

/// Routes that lead nowhere: a claim of a range. The kernel has some for everything, with a prefix of no length.
fn claims() -> Vec<Leak> {
    const REJECT: u32 = 0x200;
    let read = |file: &str| fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
    let flags = |text: &str| u32::from_str_radix(text, 16).unwrap_or(0);
    let mut leaks = Vec::new();
    for line in read("route").lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, to, _, now, _, _, _, mask, ..] = fields[..]
            && flags(now) & REJECT != 0
        {
            let to = flags(to).swap_bytes();
            leaks.push(Leak::new(
                Kind::Route,
                format!("unreachable {}/{}", std::net::Ipv4Addr::from(to), flags(mask).count_ones()),
            ));
        }
    }
    for line in read("ipv6_route").lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [to, length, .., now, _] = fields[..]
            && flags(now) & REJECT != 0
            && length != "00"
        {
            let to = std::net::Ipv6Addr::from(u128::from_str_radix(to, 16).unwrap_or(0));
            leaks.push(Leak::new(Kind::Route, format!("unreachable {to}/{}", flags(length))));
        }
    }
    leaks
}

fn sysctls() -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for place in SYSCTLS {
        let dirs = match place.strip_suffix("/*") {
            Some(above) => entries(&Path::new("/proc/sys").join(above)),
            None => vec![Path::new("/proc/sys").join(place)],
        };
        for path in dirs.iter().flat_map(|dir| entries(dir)) {
            // Some are only for writing, or say nothing until they were written; a directory is neither.
            if let Ok(value) = fs::read_to_string(&path) {
                let name = path.to_string_lossy().trim_start_matches("/proc/sys/").replace('/', ".");
                values.insert(name, value.trim().to_owned());
            }
        }
    }
    values
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The names of Coracle's nftables tables, of any family; none where the kernel has no nftables.
pub fn tables() -> Vec<String> {
    dump_tables().unwrap_or_default().into_iter().filter(|name| name.starts_with(TABLES)).collect()
}

/// Asks the kernel for all tables (nfnetlink: NFT_MSG_GETTABLE).
fn dump_tables() -> io::Result<Vec<String>> {
    const GET_TABLE: u16 = 10 << 8 | 1;
    const REQUEST_DUMP: u16 = 0x301;
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER))?;
    let mut request = Vec::from(20u32.to_ne_bytes());
    request.extend(GET_TABLE.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence and port: nobody else speaks on this socket. Then family, version and resource: any.
    request.extend([0; 12]);
    send(&socket, &request, SendFlags::empty())?;
    let mut names = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if !read_tables(&buffer[..length], &mut names) {
            return Ok(names);
        }
    }
}

/// Reads one datagram; whether there are more.
fn read_tables(mut data: &[u8], names: &mut Vec<String>) -> bool {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const NEW_TABLE: u16 = 10 << 8;
    while data.len() >= 16 {
        let length = u32::from_ne_bytes([data[0], data[1], data[2], data[3]]) as usize;
        let kind = u16::from_ne_bytes([data[4], data[5]]);
        let message = &data[..length.clamp(16, data.len())];
        match kind {
            DONE | ERROR => return false,
            NEW_TABLE => names.extend(name_of(message.get(20..).unwrap_or_default())),
            _ => {}
        }
        data = data.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

/// The value of the attribute NFTA_TABLE_NAME.
fn name_of(mut attributes: &[u8]) -> Option<String> {
    const NAME: u16 = 1;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]) & 0x3fff;
        if kind == NAME {
            let value = attributes.get(4..length)?;
            return Some(String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned());
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}
