//! What a container's processes hold.

use std::fs;

/// What processes hold, as far as it can be read before they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Open descriptors.
    pub descriptors: u64,
    /// Sockets among them.
    pub sockets: u64,
    /// The first process's limit of open files.
    pub open_files_limit: Option<u64>,
}

/// What the processes `pids` hold, the first of which is `first`.
pub fn read(pids: &[i32], first: i32) -> Processes {
    let mut sum = Processes::default();
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            sum.descriptors += 1;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sum.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    let limits = fs::read_to_string(format!("/proc/{first}/limits")).unwrap_or_default();
    Processes { open_files_limit: open_files(&limits), ..sum }
}

/// The soft limit in `/proc/PID/limits`; none where it is unlimited.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_descriptors_and_a_limit() {
        let own = std::process::id() as i32;
        let before = read(&[own], own);
        let sockets = std::os::unix::net::UnixStream::pair();
        assert!(sockets.is_ok());
        let after = read(&[own], own);
        assert!(before.descriptors > 2 && before.open_files_limit.is_some());
        assert!(after.sockets >= 2, "{before:?} {after:?}");
        assert_eq!(read(&[0], 0), Processes::default(), "one that is gone");
    }

    #[test]
    fn the_limit_of_open_files() {
        let line = "Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(&format!("Limit  Soft Limit\n{line}Max locked memory 8388608\n")), Some(1024));
        assert_eq!(open_files("Max open files unlimited unlimited files\n"), None);
    }
}
