//! The node agent with a directory of manifests: how fast it follows, what it takes at rest, and how fast it takes over
//! from the one before.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::agent::{Agent, container_id, restarts};
use e2e::manifest::{command, pod};
use e2e::netns::HostCommand;
use e2e::{BUSYBOX, Node, inspect, loopfs, patience};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::coracle::since;
use crate::network::proportional;
use crate::report::{Report, Row};

/// How much is measured.
pub struct Scale {
    /// Times that one pod is started.
    pub runs: usize,
    /// Pods at once.
    pub pods: usize,
    /// Pods that the machine shall hold.
    pub many: usize,
    /// How long they shall stay.
    pub stay: Duration,
    /// How long processor time is counted while nothing happens.
    pub rest: Duration,
}

/// What the agent says of each container that runs.
const STARTED: &str = "Started {";
/// What it says when every pod of the agent before it is known again.
const KNOWN: &str = "every pod of before is known again";
/// Times that several pods are started at once, and that agents follow each other.
const ROUNDS: usize = 5;
/// When what has happened is over: until then its changes are kept for those who watch.
const OVER: Duration = Duration::from_secs(180);
/// How long many pods may take, where the usual time is for one thing.
const LONG: Duration = Duration::from_secs(600);

/// Measures all of it. An interrupt takes away what runs.
pub fn measure(scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let node = Node::with_disks(8 << 10).map_err(anyhow::Error::msg)?;
    clean_when_interrupted(&node)?;
    let mut bench = Bench { agent: Agent::start(&node), started: 0, rest: scale.rest };
    report.extend(bench.at_rest(0)?);
    let one = (0..=scale.runs).map(|_| bench.start_and_remove(1)).collect::<anyhow::Result<Vec<f64>>>()?;
    report.add(Row::new("a manifest written, to its pod running", "ms", "coracle", one[1..].to_vec()));
    let what = format!("{} manifests written at once, to all pods running", scale.pods);
    let several = (0..=ROUNDS).map(|_| bench.start_and_remove(scale.pods)).collect::<anyhow::Result<Vec<f64>>>()?;
    report.add(Row::new(&what, "ms", "coracle", several[1..].to_vec()));
    bench.start(0..scale.pods)?;
    report.extend(bench.at_rest(scale.pods)?);
    bench.take_over(scale.pods, report)?;
    if scale.many > 0 {
        bench.many(scale, report)?;
    }
    bench.remove(0..scale.many.max(scale.pods))
}

/// What an interrupt takes away: the newest node of those that are measured one after another.
struct Started {
    clean: HostCommand,
    dir: PathBuf,
    disks: Vec<PathBuf>,
}

/// Has an interrupt of this program take away what it has started on this node, instead of leaving it.
pub fn clean_when_interrupted(node: &Node) -> anyhow::Result<()> {
    static NEWEST: Mutex<Option<Started>> = Mutex::new(None);
    let newest = || NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    let started = Started { clean: node.command(["gc", "--all"]), dir: node.dir().to_owned(), disks: node.disks() };
    if newest().replace(started).is_some() {
        return Ok(());
    }
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        rt.block_on(interrupted());
        eprintln!("interrupted: what runs is taken away");
        if let Some(started) = newest().take() {
            started.take_away();
        }
        std::process::exit(130);
    })?;
    Ok(())
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

impl Started {
    fn take_away(mut self) {
        if let Err(error) = self.clean.output() {
            eprintln!("gc: {error}");
        }
        for disk in self.disks {
            if let Err(error) = loopfs::tool("umount", &["--lazy", &disk.to_string_lossy()]) {
                eprintln!("{error}");
            }
        }
        let _ = std::fs::remove_dir_all(self.dir);
    }
}

struct Bench<'n> {
    agent: Agent<'n>,
    /// How often this agent has said [`STARTED`].
    started: usize,
    /// How long a processor's time is counted.
    rest: Duration,
}

fn name(number: usize) -> String {
    format!("bench-{number}")
}

/// One that stays, and ends at once when it is told to.
fn manifest(number: usize) -> Value {
    let container = json!({"image": BUSYBOX, "imagePullPolicy": "Never"});
    let container = e2e::manifest::with(command("c", &["sleep", "1000000"]), container);
    pod(&name(number), json!({"terminationGracePeriodSeconds": 0, "containers": [container]}))
}

impl Bench<'_> {
    /// Writes manifests and waits until each has said that its container runs.
    fn start(&mut self, numbers: std::ops::Range<usize>) -> anyhow::Result<f64> {
        let texts: Vec<(String, String)> =
            numbers.map(|number| (format!("{}.yaml", name(number)), manifest(number).to_string())).collect();
        self.started += texts.len();
        let begun = Instant::now();
        for (file, text) in &texts {
            self.agent.write(file, text);
        }
        self.agent.run().wait_for_lines(STARTED, self.started, patience(LONG));
        Ok(since(begun))
    }

    fn remove(&mut self, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
        for number in numbers {
            self.agent.remove(&format!("{}.yaml", name(number)));
        }
        let end = Instant::now() + patience(LONG);
        while !self.agent.node().pods().is_empty() {
            ensure!(Instant::now() < end, "pods are left:\n{}", self.agent.said());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn start_and_remove(&mut self, pods: usize) -> anyhow::Result<f64> {
        let took = self.start(0..pods)?;
        self.remove(0..pods)?;
        Ok(took)
    }

    /// As many as the machine shall hold, for a time.
    fn many(&mut self, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
        let took = self.start(scale.pods..scale.many)?;
        let what = format!("{} more manifests written at once, to all pods running", scale.many - scale.pods);
        report.add(Row::new(&what, "ms", "coracle", vec![took]));
        let before = self.containers(scale.many)?;
        let begun = Instant::now();
        report.extend(self.at_rest(scale.many)?);
        std::thread::sleep(scale.stay.saturating_sub(begun.elapsed()));
        let changed = self.changed(&before, scale.many)?;
        let what = format!("containers of {} that did not stay for {} s", scale.many, begun.elapsed().as_secs());
        report.add(Row::new(&what, "", "coracle", vec![changed]));
        self.take_over(scale.many, report)
    }

    /// What everything takes while nothing happens.
    fn at_rest(&mut self, pods: usize) -> anyhow::Result<Vec<Row>> {
        std::thread::sleep(OVER);
        let agent = self.agent.run().pid();
        let shims: Vec<Pid> = self.of_pods().into_iter().filter(|pid| is_shim(*pid)).collect();
        let before = (processor(agent)?, sum(&shims, processor)?);
        let begun = Instant::now();
        std::thread::sleep(self.rest);
        let seconds = begun.elapsed().as_secs_f64();
        let after = (processor(agent)?, sum(&shims, processor)?);
        let idle = |before: f64, after: f64| vec![(after - before) / seconds];
        let row = |what: &str, unit, samples| Row::new(&format!("{what}, {pods} pods"), unit, "coracle", samples);
        let mut rows = vec![
            row("memory of the agent (PSS)", "KiB", vec![memory(agent)?]),
            row("processor time of the agent at rest", "ms/s", idle(before.0, after.0)),
        ];
        if pods > 0 {
            let each = pods as f64;
            rows.push(row("memory of the shims, a pod (PSS)", "KiB", vec![sum(&shims, memory)? / each]));
            let all = self.of_pods();
            rows.push(row("memory of shims and containers, a pod (PSS)", "KiB", vec![sum(&all, memory)? / each]));
            rows.push(row("processor time of the shims at rest", "ms/s", idle(before.1, after.1)));
        }
        Ok(rows)
    }

    fn of_pods(&self) -> Vec<Pid> {
        inspect::processes(self.agent.node())
    }

    /// Kills the agent and starts another, several times.
    fn take_over(&mut self, pods: usize, report: &mut Report) -> anyhow::Result<()> {
        let before = self.containers(pods)?;
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            self.agent.kill();
            let begun = Instant::now();
            self.agent.launch().wait_for_lines(KNOWN, 1, patience(LONG));
            samples.push(since(begun));
        }
        self.started = 0;
        let changed = self.changed(&before, pods)?;
        let what = format!("restart of the agent, to all {pods} pods known again");
        let lost = format!("containers of {pods} that changed meanwhile");
        report.add(Row::new(&what, "ms", "coracle", samples));
        report.add(Row::new(&lost, "", "coracle", vec![changed]));
        Ok(())
    }

    /// The containers' ids, with how often each was restarted.
    fn containers(&self, pods: usize) -> anyhow::Result<Vec<(String, u64)>> {
        let listed = self.agent.node().pods();
        let of = |pod: &Value| {
            ensure!(pod["status"]["phase"] == "Running", "a pod does not run: {pod:#}");
            let id = container_id(pod, "c").context("a container without an id")?;
            Ok((id, restarts(pod, "c").unwrap_or_default()))
        };
        let mut all = listed.iter().map(of).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(all.len() == pods, "{} pods are listed, not {pods}", all.len());
        all.sort();
        Ok(all)
    }

    /// How many containers are not what they were.
    fn changed(&self, before: &[(String, u64)], pods: usize) -> anyhow::Result<f64> {
        let now = self.containers(pods)?;
        Ok(before.iter().filter(|container| !now.contains(container)).count() as f64)
    }
}

fn is_shim(pid: Pid) -> bool {
    inspect::command_line(pid).starts_with("coracle-shim")
}

pub fn sum(pids: &[Pid], of: impl Fn(Pid) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    pids.iter().map(|pid| of(*pid)).sum()
}

/// Proportional set size, in KiB.
pub fn memory(pid: Pid) -> anyhow::Result<f64> {
    let raw = pid.as_raw_nonzero().get();
    proportional(raw).with_context(|| format!("process {raw} has no smaps_rollup"))
}

/// Processor time in milliseconds, of all its threads, those that have ended included.
pub fn processor(pid: Pid) -> anyhow::Result<f64> {
    /// proc(5): the kernel shows a hundred ticks a second.
    const TICK: f64 = 10.0;
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The fields 14 and 15; the name in field 2 may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Ok(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * TICK)
}
