//! Facts of this node.

use crate::engine::config::Node;

/// Reads them. What cannot be read is left empty: it only shows where a pod asks for it.
pub fn facts() -> Node {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Node {
        name,
        ips: vec![],
        cpu_milli: i64::try_from(cpus).unwrap_or(1) * 1000,
        memory_bytes: memory_of(&meminfo).unwrap_or(0),
    }
}

fn memory_of(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(memory_of("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16 * 1024));
        let facts = facts();
        assert!(facts.memory_bytes > 1 << 20 && facts.cpu_milli >= 1000 && !facts.name.is_empty());
    }
}
