//! Every metric: its name, what it is, and where its value comes from.

use cri_proto::cri::MetricType;

use super::{Detail, Space};
use crate::cgroup::{IoDevice, Pressure};
use crate::cri::stats::reading::{Pod, Used};
use crate::network::counters::Interface;

/// A metric.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// The labels that it has beside those that all have.
    pub labels: &'static [&'static str],
    /// Whether it only grows.
    pub kind: MetricType,
    /// Where it is read.
    pub of: Of,
}

/// Where a metric is read. What has no value is left out.
pub enum Of {
    /// In a pod.
    Pod(fn(&Pod, &mut Values)),
    /// In a running container.
    Container(fn(&Detail<'_>, &mut Values)),
}

/// The values of one metric, each with the labels that the metric has for itself.
#[derive(Default)]
pub struct Values(pub Vec<(Vec<String>, u64)>);

impl Values {
    fn put(&mut self, value: impl Into<Option<u64>>) {
        self.0.extend(value.into().map(|value| (Vec::new(), value)));
    }

    fn put_for<const N: usize>(&mut self, labels: [&str; N], value: impl Into<Option<u64>>) {
        self.0.extend(value.into().map(|value| (labels.map(str::to_owned).to_vec(), value)));
    }

    fn devices(&mut self, it: &Detail<'_>, value: fn(&IoDevice) -> u64) {
        it.io.iter().for_each(|device| self.put_for([&device_name(device)], value(device)));
    }

    fn interfaces(&mut self, pod: &Pod, value: fn(&Interface) -> u64) {
        pod.interfaces.iter().flatten().for_each(|it| self.put_for([&it.name], value(it)));
    }

    fn space(&mut self, it: &Detail<'_>, value: impl Fn(&Space) -> Option<u64>) {
        self.put_for([&it.filesystem.source], value(it.filesystem));
    }

    /// In whole seconds, which is all that a message can hold.
    fn pressure(&mut self, it: &Detail<'_>, of: fn(&Used) -> Option<Pressure>, micros: fn(&Pressure) -> u64) {
        self.put(it.it.used.as_ref().and_then(of).map(|pressure| micros(&pressure) / 1_000_000));
    }
}

/// A device as its node is called, or by its numbers where it has none.
fn device_name(device: &IoDevice) -> String {
    let numbers = format!("{}:{}", device.major, device.minor);
    let link = std::fs::read_link(format!("/sys/dev/block/{numbers}"));
    match link.as_ref().ok().and_then(|link| link.file_name()) {
        Some(name) => format!("/dev/{}", name.to_string_lossy()),
        None => numbers,
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// A limit as messages of metrics have it: 0 is none.
fn limit(value: Option<i64>) -> u64 {
    value.and_then(|it| u64::try_from(it).ok()).unwrap_or(0)
}

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str], of: Of) -> Row {
    Row { name, help, labels, kind: MetricType::Counter, of }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str], of: Of) -> Row {
    Row { name, help, labels, kind: MetricType::Gauge, of }
}

use Of::{Container, Pod as InPod};

const DEVICE: &[&str] = &["device"];
const INTERFACE: &[&str] = &["interface"];

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // CPU
    counter("container_cpu_user_seconds_total", "CPU time used by programs, in seconds.", &[],
        Container(|it, out| out.put(it.it.cpu().map(|cpu| cpu.user_ns / SECOND_NS)))),
    counter("container_cpu_system_seconds_total", "CPU time used by the kernel for programs, in seconds.", &[],
        Container(|it, out| out.put(it.it.cpu().map(|cpu| cpu.system_ns / SECOND_NS)))),
    counter("container_cpu_usage_seconds_total", "CPU time used, in seconds.", &[],
        Container(|it, out| out.put(it.it.cpu().map(|cpu| cpu.usage_ns / SECOND_NS)))),
    counter("container_cpu_cfs_periods_total", "Periods of the CPU quota that have passed.", &[],
        Container(|it, out| out.put(it.it.cpu().map(|cpu| cpu.periods)))),
    counter("container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota was used up.", &[],
        Container(|it, out| out.put(it.it.cpu().map(|cpu| cpu.throttled_periods)))),
    counter("container_cpu_cfs_throttled_seconds_total", "Time spent waiting for the next period, in seconds.", &[],
        Container(|it, out| out.put(it.it.cpu().map(|cpu| cpu.throttled_ns / SECOND_NS)))),

    // Memory
    gauge("container_memory_cache", "Memory that holds pages of files, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.cache)))),
    gauge("container_memory_rss", "Anonymous memory, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.rss)))),
    gauge("container_memory_kernel_usage", "Memory that the kernel uses for the container, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.kernel)))),
    gauge("container_memory_mapped_file", "Memory that holds mapped pages of files, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.mapped_file)))),
    gauge("container_memory_swap", "Swap in use, in bytes; 0 where the kernel does not account for it.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.swap.unwrap_or(0))))),
    counter("container_memory_failcnt", "How often the memory limit was met.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.limit_hits)))),
    gauge("container_memory_usage_bytes", "All memory in use, pages of files among it, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.usage)))),
    gauge("container_memory_max_usage_bytes", "The most memory that was in use so far, in bytes.", &[],
        // A kernel that does not keep the peak knows no more than what is in use now.
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.peak.unwrap_or(memory.usage))))),
    gauge("container_memory_working_set_bytes", "Memory in use without inactive pages of files, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.working_set)))),
    gauge("container_memory_total_active_file_bytes", "Pages of files that were used of late, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.active_file)))),
    gauge("container_memory_total_inactive_file_bytes", "Pages of files that were not used of late, in bytes.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.inactive_file)))),
    counter("container_memory_failures_total", "Page faults, by whether they read from a disk.", &["failure_type", "scope"],
        Container(|it, out| for scope in ["container", "hierarchy"] {
            out.put_for(["pgfault", scope], it.it.memory().map(|memory| memory.page_faults));
            out.put_for(["pgmajfault", scope], it.it.memory().map(|memory| memory.major_page_faults));
        })),
    counter("container_oom_events_total", "Processes that were killed for want of memory.", &[],
        Container(|it, out| out.put(it.it.memory().map(|memory| memory.oom_kills)))),
    gauge("container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", &["pagesize"],
        Container(|it, out| it.hugepages.iter().for_each(|page| out.put_for([&page.size], page.usage)))),
    gauge("container_hugetlb_max_usage_bytes", "The most of huge pages that was in use so far, in bytes.", &["pagesize"],
        Container(|it, out| it.hugepages.iter().for_each(|page| out.put_for([&page.size], page.peak)))),

    // Pressure
    counter("container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU, in seconds.", &[],
        Container(|it, out| out.pressure(it, |used| used.cpu_pressure, |it| it.some.total_us))),
    counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU, in seconds.", &[],
        Container(|it, out| out.pressure(it, |used| used.cpu_pressure, |it| it.full.total_us))),
    counter("container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory, in seconds.", &[],
        Container(|it, out| out.pressure(it, |used| used.memory_pressure, |it| it.some.total_us))),
    counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory, in seconds.", &[],
        Container(|it, out| out.pressure(it, |used| used.memory_pressure, |it| it.full.total_us))),
    counter("container_pressure_io_waiting_seconds_total", "Time in which some task waited for a disk, in seconds.", &[],
        Container(|it, out| out.pressure(it, |used| used.io_pressure, |it| it.some.total_us))),
    counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for a disk, in seconds.", &[],
        Container(|it, out| out.pressure(it, |used| used.io_pressure, |it| it.full.total_us))),

    // Network
    counter("container_network_receive_bytes_total", "Bytes received.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.received.bytes))),
    counter("container_network_receive_packets_total", "Packets received.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.received.packets))),
    counter("container_network_receive_packets_dropped_total", "Packets dropped on the way in.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.received.dropped))),
    counter("container_network_receive_errors_total", "Errors on the way in.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.received.errors))),
    counter("container_network_transmit_bytes_total", "Bytes sent.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.sent.bytes))),
    counter("container_network_transmit_packets_total", "Packets sent.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.sent.packets))),
    counter("container_network_transmit_packets_dropped_total", "Packets dropped on the way out.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.sent.dropped))),
    counter("container_network_transmit_errors_total", "Errors on the way out.", INTERFACE,
        InPod(|pod, out| out.interfaces(pod, |it| it.sent.errors))),

    // Disk
    gauge("container_fs_inodes_free", "Inodes that are free on the filesystem of the container's own files.", DEVICE,
        Container(|it, out| out.space(it, |space| Some(space.free_inodes)))),
    gauge("container_fs_inodes_total", "Inodes of the filesystem of the container's own files.", DEVICE,
        Container(|it, out| out.space(it, |space| Some(space.inodes)))),
    gauge("container_fs_limit_bytes", "Size of the filesystem of the container's own files, in bytes.", DEVICE,
        Container(|it, out| out.space(it, |space| Some(space.bytes)))),
    gauge("container_fs_usage_bytes", "What the container's own files take of it, in bytes.", DEVICE,
        Container(|it, out| out.space(it, |_| it.it.disk.map(|disk| disk.bytes)))),
    counter("container_fs_reads_bytes_total", "Bytes read from a device.", DEVICE,
        Container(|it, out| out.devices(it, |device| device.read_bytes))),
    counter("container_fs_reads_total", "Reads from a device.", DEVICE,
        Container(|it, out| out.devices(it, |device| device.reads))),
    counter("container_fs_writes_bytes_total", "Bytes written to a device.", DEVICE,
        Container(|it, out| out.devices(it, |device| device.write_bytes))),
    counter("container_fs_writes_total", "Writes to a device.", DEVICE,
        Container(|it, out| out.devices(it, |device| device.writes))),
    counter("container_blkio_device_usage_total", "Bytes read from or written to a device.",
        &["device", "major", "minor", "operation"],
        Container(|it, out| for device in &it.io {
            let (name, major, minor) = (device_name(device), device.major.to_string(), device.minor.to_string());
            out.put_for([&name, &major, &minor, "Read"], device.read_bytes);
            out.put_for([&name, &major, &minor, "Write"], device.write_bytes);
        })),

    // Processes
    gauge("container_processes", "Processes.", &[],
        Container(|it, out| out.put(it.it.used.as_ref().map(|used| used.pids.len() as u64)))),
    gauge("container_file_descriptors", "Open file descriptors.", &[],
        Container(|it, out| out.put(it.processes.descriptors))),
    gauge("container_sockets", "Open sockets.", &[],
        Container(|it, out| out.put(it.processes.sockets))),
    gauge("container_threads_max", "The most tasks that there may be; 0 is without limit.", &[],
        Container(|it, out| out.put(it.it.used.as_ref().and_then(|used| used.stats.pids).map(|pids| pids.limit.unwrap_or(0))))),
    gauge("container_threads", "Processes and threads.", &[],
        Container(|it, out| out.put(it.it.used.as_ref().and_then(|used| used.stats.pids).map(|pids| pids.current)))),
    gauge("container_ulimits_soft", "Soft limits of the first process.", &["ulimit"],
        Container(|it, out| out.put_for(["max_open_files"], it.processes.open_files_limit))),

    // Times
    gauge("container_last_seen", "When these metrics were read, in seconds since 1970.", &[],
        Container(|it, out| out.put(u64::try_from(it.at).map_or(0, |at| at / SECOND_NS)))),
    gauge("container_start_time_seconds", "When the container started, in seconds since 1970; 0 before.", &[],
        Container(|it, out| {
            let started = it.it.view.as_ref().and_then(|view| u64::try_from(view.started_at).ok());
            out.put(started.unwrap_or(0) / SECOND_NS);
        })),

    // What was asked for
    gauge("container_spec_cpu_period", "Period of the CPU quota, in microseconds.", &[],
        Container(|it, out| out.put(it.it.record.request.resources.cpu_period))),
    gauge("container_spec_cpu_quota", "CPU time in a period, in microseconds; 0 is without limit.", &[],
        Container(|it, out| out.put(limit(it.it.record.request.resources.cpu_quota)))),
    gauge("container_spec_cpu_shares", "Weight among others who want the CPU.", &[],
        Container(|it, out| out.put(it.it.record.request.resources.cpu_shares))),
    gauge("container_spec_memory_limit_bytes", "Memory limit, in bytes; 0 is none.", &[],
        Container(|it, out| out.put(limit(it.it.record.request.resources.memory_limit)))),
    gauge("container_spec_memory_reservation_limit_bytes", "Memory kept for the container, in bytes; 0 is none.", &[],
        Container(|it, out| {
            let low = it.it.record.request.resources.unified.get("memory.low");
            out.put(low.and_then(|low| low.parse().ok()).unwrap_or(0));
        })),
    gauge("container_spec_memory_swap_limit_bytes", "Limit of memory and swap together, in bytes; 0 is none.", &[],
        Container(|it, out| out.put(limit(it.it.record.request.resources.memory_swap)))),
];
