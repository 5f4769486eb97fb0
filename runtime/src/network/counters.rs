//! What has gone over a pod's interfaces, as seen from inside it.

use std::io;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// An interface's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// What came in.
    pub received: Counters,
    /// What went out.
    pub sent: Counters,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that found no place.
    pub dropped: u64,
}

/// The interfaces of each of these network namespaces, without the loopback; none of one that is gone.
///
/// A thread visits them one after the other and is thrown away then: it never has to find its way home.
pub fn read(namespaces: Vec<PathBuf>) -> io::Result<Vec<Option<Vec<Interface>>>> {
    let visit = move || namespaces.into_iter().map(|path| visit(&path).ok()).collect();
    let thread = std::thread::Builder::new().name("net-counters".into()).spawn(visit)?;
    thread.join().map_err(|_| io::Error::other("the thread that visits network namespaces panicked"))
}

fn visit(namespace: &PathBuf) -> io::Result<Vec<Interface>> {
    let fd = rustix::fs::open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&fd), Some(LinkNameSpaceType::Network))?;
    Ok(parse(&std::fs::read_to_string("/proc/thread-self/net/dev")?))
}

/// `/proc/net/dev`: two lines of headings, then a line for each interface: eight numbers in, eight out.
fn parse(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|it| it.parse().ok()).collect();
        let direction = |at: usize| {
            let &[bytes, packets, errors, dropped] = numbers.get(at..at + 4)? else { return None };
            Some(Counters { bytes, packets, errors, dropped })
        };
        Some(Interface { name: name.trim().to_owned(), received: direction(0)?, sent: direction(8)? })
    };
    text.lines().filter_map(interface).filter(|it| it.name != "lo").collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     900       9    0    0    0     0          0         0      900       9    0    0    0     0       0          0
  eth0:18446744073709551615 12 1 2    0     0          0         3     1338      14    3    4    0     0       0          0
";

    #[test]
    fn counters_of_each_direction_and_no_loopback() {
        let eth0 = Interface {
            name: "eth0".into(),
            received: Counters { bytes: u64::MAX, packets: 12, errors: 1, dropped: 2 },
            sent: Counters { bytes: 1338, packets: 14, errors: 3, dropped: 4 },
        };
        assert_eq!(parse(DEV), [eth0]);
        assert_eq!(parse("eth0: 1 2 3\n eth1 4\n"), [], "a line that ends too soon is none");
    }

    #[test]
    fn a_namespace_that_is_gone_has_no_counters() {
        let own = PathBuf::from("/proc/thread-self/ns/net");
        let found = read(vec![PathBuf::from("/nowhere/net"), own]).unwrap();
        assert_eq!((found.len(), &found[0]), (2, &None));
    }
}
