//! What pulling an image costs: time, processor time, memory.
//!
//! ```text
//! PULL=127.0.0.1:5000/team/app:1 cargo bench -p runtime --bench pull
//! ```
//! The image is pulled into a new directory below `PULL_DIR` (default: the temporary directory) each time.

use std::path::PathBuf;
use std::time::Instant;

use runtime::images::{ImageStore, Limits, PullRequest, Puller, RegistryOptions};

fn main() {
    let Ok(reference) = std::env::var("PULL") else {
        println!("skipped: PULL names no image");
        return;
    };
    let base = std::env::var_os("PULL_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let runs = std::env::var("PULL_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let roots: Vec<PathBuf> =
        (0..runs).map(|run: u32| base.join(format!("coracle-pull-{}-{run}", std::process::id()))).collect();
    for root in &roots {
        let store = ImageStore::open(root).unwrap_or_else(|error| panic!("{error}"));
        let puller = Puller::new(store, RegistryOptions::of_host());
        let limits = Limits::default();
        let request = PullRequest { reference: reference.clone(), auth: None, platform: String::new(), limits };
        let (begin, cpu) = (Instant::now(), cpu());
        let subscription = puller.pull(request).unwrap_or_else(|error| panic!("{error}"));
        let image = runtime.block_on(subscription.image()).unwrap_or_else(|error| panic!("{error}"));
        let (wall, (user, system)) = (begin.elapsed(), self::cpu());
        println!(
            "{}: {:.2} s, {:.2} s of processor time ({:.2} of it the kernel's), {} MiB resident at most",
            image.references[0],
            wall.as_secs_f64(),
            user + system - cpu.0 - cpu.1,
            system - cpu.1,
            peak_kib() / 1024
        );
    }
    // Not between the runs: ext4 searches long for inodes that were not freed in the last half minute.
    for root in &roots {
        std::fs::remove_dir_all(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    }
}

/// Processor time of this process so far, in seconds: its own and the kernel's.
fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|it| it.parse().ok()).collect();
    // After the name and the state, which are no numbers: utime and stime are the 14th and 15th of all, in 1/100 s.
    (fields.get(10).copied().unwrap_or(0.0) / 100.0, fields.get(11).copied().unwrap_or(0.0) / 100.0)
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
