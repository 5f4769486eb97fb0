//! Sysctls of the calling thread's network namespace.

use std::io;
use std::path::PathBuf;

/// The file of a sysctl. Interfaces may have dots in their names; `name` has them as slashes.
fn path(name: &str) -> PathBuf {
    // From the first to the last: "net.ipv4.conf.eth0/100.forwarding" is the directory eth0.100.
    let path: String = name
        .chars()
        .map(|it| match it {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    PathBuf::from("/proc/sys").join(path)
}

/// Its value; none where there is no such sysctl.
pub fn read(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(path(name)).ok()?.trim_end().to_owned())
}

/// Sets it.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(name), value)
        .map_err(|error| io::Error::new(error.kind(), format!("could not set the sysctl {name} to {value}: {error}")))
}
