//! What the agent's own process uses, under the names that Prometheus' clients give it.

use super::text::{Kind, Page};

/// What the kernel counts start times in, for every program on every architecture that Coracle runs on.
const USER_HZ: f64 = 100.0;

/// Writes it; what cannot be read is left out.
pub fn write(page: &mut Page) {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let name = "process_cpu_seconds_total";
    page.single(name, Kind::Counter, "CPU time of the agent.", cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    if let Some(kibibytes) = resident() {
        let name = "process_resident_memory_bytes";
        page.single(name, Kind::Gauge, "Resident memory of the agent.", kibibytes * 1024.0);
    }
    write_start(page);
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.single("process_open_fds", Kind::Gauge, "Files that the agent has open.", open.count() as f64);
    }
    if let Some(threads) = field(20) {
        page.single("process_threads", Kind::Gauge, "Threads of the agent.", threads);
    }
}

/// Writes when it was started.
pub fn write_start(page: &mut Page) {
    if let (Some(since_boot), Some(boot)) = (field(22), boot_time()) {
        let name = "process_start_time_seconds";
        page.single(name, Kind::Gauge, "When the agent was started, since 1970.", boot + since_boot / USER_HZ);
    }
}

/// A field of `/proc/self/stat`, by its number in proc(5).
fn field(number: usize) -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, in parentheses, may hold anything.
    stat.rsplit(')').next()?.split_whitespace().nth(number - 3)?.parse().ok()
}

fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_described() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.finish();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
            "process_open_fds ",
            "process_threads ",
        ] {
            assert!(text.contains(&format!("\n{name}")), "{name}\n{text}");
        }
    }
}
