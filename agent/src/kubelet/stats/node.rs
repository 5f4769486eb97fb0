//! The node's own figures.

use std::fs::read_to_string;
use std::sync::PoisonError;

use super::Inner;
use super::types::{
    ContainerStats, CpuStats, InterfaceStats, MemoryStats, Moment, NetworkStats, NodeStats, RlimitStats, SwapStats,
};

/// What the kernel counts times of `/proc/stat` in, for every program on every architecture that Coracle runs on.
const NANOSECONDS_OF_A_TICK: u64 = 10_000_000;

/// How far apart two samples are at least that a rate is made of.
const APART: i64 = 10_000_000_000;

/// Interfaces that stand for others, or for nobody: as cAdvisor leaves them out.
const NOT_OF_HOST: [&str; 5] = ["lo", "veth", "docker", "nerdctl", "ifb"];

/// CPU time at one moment, and the rate that it came to.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Moment,
    used: u64,
    rate: Option<u64>,
}

/// Reads them. What cannot be read is left out. Blocking.
pub fn stats(of: &Inner) -> NodeStats {
    let now = Moment::now();
    let stat = read_to_string("/proc/stat").unwrap_or_default();
    let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
    let cpu = cpu_time(&stat).map(|used| {
        let mut sample = of.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Sample::next(*sample, now, used);
        *sample = Some(next);
        CpuStats { time: now, usage_nano_cores: next.rate, usage_core_nano_seconds: Some(used), psi: None }
    });
    let mut memory = memory(&meminfo, now);
    if let Some(memory) = &mut memory {
        let vmstat = read_to_string("/proc/vmstat").unwrap_or_default();
        (memory.page_faults, memory.major_page_faults) = (word(&vmstat, "pgfault"), word(&vmstat, "pgmajfault"));
    }
    NodeStats {
        node_name: of.names.node.clone(),
        system_containers: system(of, now),
        start_time: word(&stat, "btime").and_then(|it| i64::try_from(it).ok()).map(|it| Moment(it * 1_000_000_000)),
        cpu,
        memory,
        network: Some(network(&read_to_string("/proc/self/net/dev").unwrap_or_default(), now)),
        rlimit: rlimit(now),
        swap: swap(&meminfo, now),
        fs: None,
        runtime: None,
    }
}

impl Sample {
    fn next(last: Option<Self>, at: Moment, used: u64) -> Self {
        match last {
            Some(last) if at.0 - last.at.0 < APART && last.rate.is_some() => last,
            Some(last) if used >= last.used && at > last.at => {
                let (used_since, passed) = (u128::from(used - last.used), (at.0 - last.at.0).unsigned_abs());
                let rate = u64::try_from(used_since * 1_000_000_000 / u128::from(passed)).ok();
                Self { at, used, rate }
            }
            _ => Self { at, used, rate: None },
        }
    }
}

/// User, nice, system, irq, softirq and steal: all but waiting.
fn cpu_time(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|it| it.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| ticks.get(*index)).sum::<u64>();
    Some(busy.saturating_mul(NANOSECONDS_OF_A_TICK))
}

/// `btime 1700000000`
fn word(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// `MemTotal:  1024 kB`
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// As cAdvisor counts for a whole machine.
fn memory(meminfo: &str, time: Moment) -> Option<MemoryStats> {
    let total = field(meminfo, "MemTotal")?;
    let usage = total.checked_sub(field(meminfo, "MemFree")?)?;
    let working_set = usage.saturating_sub(field(meminfo, "Inactive(file)").unwrap_or(0));
    Some(MemoryStats {
        time,
        available_bytes: Some(total - working_set),
        usage_bytes: Some(usage),
        working_set_bytes: Some(working_set),
        rss_bytes: field(meminfo, "AnonPages"),
        page_faults: None,
        major_page_faults: None,
        psi: None,
    })
}

fn swap(meminfo: &str, time: Moment) -> Option<SwapStats> {
    let (total, free) = (field(meminfo, "SwapTotal")?, field(meminfo, "SwapFree")?);
    Some(SwapStats { time, swap_available_bytes: Some(free), swap_usage_bytes: total.checked_sub(free) })
}

fn network(dev: &str, time: Moment) -> NetworkStats {
    let of_host = |name: &str| !NOT_OF_HOST.iter().any(|it| name.starts_with(it)) && !is_of_pod(name);
    let interfaces: Vec<InterfaceStats> = dev.lines().filter_map(interface).filter(|it| of_host(&it.name)).collect();
    let usual = interfaces.iter().find(|it| it.name == "eth0").cloned().unwrap_or_default();
    NetworkStats { time, usual, interfaces }
}

/// The host's end of a pod's own: `cor` and the first digits of its sandbox's id.
fn is_of_pod(name: &str) -> bool {
    name.strip_prefix("cor").is_some_and(|id| id.len() >= 8 && id.bytes().all(|it| it.is_ascii_hexdigit()))
}

/// `  eth0: 1 2 3 …`: eight numbers of what came, then of what went.
fn interface(line: &str) -> Option<InterfaceStats> {
    let (name, counts) = line.split_once(':')?;
    let counts: Vec<u64> = counts.split_whitespace().map_while(|it| it.parse().ok()).collect();
    let count = |index: usize| counts.get(index).copied();
    let name = name.trim().to_owned();
    Some(InterfaceStats {
        name,
        rx_bytes: Some(count(0)?),
        rx_errors: count(2),
        tx_bytes: count(8),
        tx_errors: count(10),
    })
}

fn rlimit(time: Moment) -> Option<RlimitStats> {
    let number = |path: &str| read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let maxpid = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max").unwrap_or(u64::MAX));
    let loadavg = read_to_string("/proc/loadavg").ok()?;
    let curproc = loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(RlimitStats { time, maxpid, curproc })
}

/// This agent, and all pods together.
fn system(of: &Inner, now: Moment) -> Vec<ContainerStats> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let used = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0);
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = |used| CpuStats { time: now, usage_nano_cores: None, usage_core_nano_seconds: Some(used), psi: None };
    let memory = |usage: Option<u64>, working_set, rss| MemoryStats {
        time: now,
        available_bytes: None,
        usage_bytes: usage,
        working_set_bytes: working_set,
        rss_bytes: rss,
        page_faults: None,
        major_page_faults: None,
        psi: None,
    };
    let (resident, anonymous) = (field(&status, "VmRSS"), field(&status, "RssAnon"));
    let mut all = vec![ContainerStats {
        name: "kubelet".into(),
        start_time: Some(of.began),
        cpu: Some(cpu(used)),
        memory: Some(memory(resident, resident, anonymous)),
        ..ContainerStats::default()
    }];
    if let Some(stats) = of.meter.of_all() {
        all.push(ContainerStats {
            name: "pods".into(),
            start_time: Some(of.began),
            cpu: stats.cpu.map(|it| cpu(it.usage_ns)),
            memory: stats.memory.map(|it| memory(Some(it.usage), Some(it.working_set), Some(it.rss))),
            ..ContainerStats::default()
        });
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_read_as_cadvisor_reads_them() {
        let stat = "cpu  100 10 50 9000 40 3 7 5 20 0\ncpu0 1 2 3\nbtime 1700000000\n";
        assert_eq!((cpu_time(stat), word(stat, "btime")), (Some(175 * 10_000_000), Some(1_700_000_000)));
        let meminfo = "MemTotal: 1000 kB\nMemFree:  300 kB\nInactive(file): 200 kB\nAnonPages: 100 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
        let memory = memory(meminfo, Moment(0)).unwrap();
        let got = [memory.usage_bytes, memory.working_set_bytes, memory.available_bytes, memory.rss_bytes];
        assert_eq!(got, [700, 500, 500, 100].map(|it| Some(it * 1024)));
        let swap = swap(meminfo, Moment(0)).unwrap();
        assert_eq!((swap.swap_usage_bytes, swap.swap_available_bytes), (Some(30 * 1024), Some(20 * 1024)));
        let dev = "Inter-|   Receive |  Transmit\n face |bytes packets errs|bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 1 2 0 0 0 0 0 30 1 4 0 0 0 0 0\ncor10952110c91: 8 8 8 8 8 8 8 8 8 8 8 8 8 8 8 8\n vethx: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n";
        let network = network(dev, Moment(0));
        assert_eq!(network.interfaces.len(), 1);
        let eth = network.usual;
        assert_eq!((eth.rx_bytes, eth.rx_errors, eth.tx_bytes, eth.tx_errors), (Some(10), Some(2), Some(30), Some(4)));
    }

    #[test]
    fn a_rate_is_of_samples_that_are_apart() {
        let second = 1_000_000_000;
        let first = Sample::next(None, Moment(second), 500);
        assert_eq!(first.rate, None);
        let soon = Sample::next(Some(first), Moment(2 * second), 500 + 250_000_000);
        assert_eq!(soon.rate, Some(250_000_000), "the first one is told at once");
        let sooner = Sample::next(Some(soon), Moment(3 * second), 900_000_000);
        assert_eq!((sooner.rate, sooner.at), (soon.rate, soon.at), "then it stands for a while");
        let later = Sample::next(Some(soon), Moment(22 * second), 500 + 250_000_000 + 20 * 500_000_000);
        assert_eq!(later.rate, Some(500_000_000));
        assert_eq!(Sample::next(Some(later), Moment(40 * second), 1).rate, None, "it never grows less");
    }

    #[test]
    fn a_moment_is_written_in_seconds() {
        assert_eq!(serde_json::to_string(&Moment(1_700_000_000_999_999_999)).unwrap(), "\"2023-11-14T22:13:20Z\"");
    }
}
