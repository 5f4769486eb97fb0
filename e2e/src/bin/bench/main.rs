//! What Coracle takes, beside the peers that are installed: a table, or JSON.
//!
//! `cargo build --release && cargo run --release -p e2e --bin bench -- --runs 30`
//!
//! In a real cluster, beside a kubelet, where a directory has Kubernetes' programs:
//! `cargo run --release -p e2e --bin bench -- --only-cluster --kubernetes DIR`

mod agent;
mod ambassador;
mod cluster;
mod coracle;
mod cri;
mod dns;
mod network;
mod peers;
mod pull;
mod report;
mod rules;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;

use crate::report::{Report, Row};

/// Measures Coracle and what else is installed, on this machine, now.
#[derive(Parser)]
struct Args {
    /// Times that each quick thing is measured
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Times that an image is imported
    #[arg(long, default_value_t = 3)]
    imports: usize,
    /// Size of that image before compression, in MiB
    #[arg(long, default_value_t = 120)]
    megabytes: usize,
    /// Files in that image
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Measure the pod network alone
    #[arg(long, conflicts_with = "only_pull")]
    only_network: bool,
    /// Measure changes of links alone
    #[arg(long, conflicts_with_all = ["only_network", "only_pull", "only_cri", "only_agent"])]
    only_rules: bool,
    /// Times that an image is pulled, by Coracle and by containerd
    #[arg(long, default_value_t = 5)]
    pulls: usize,
    /// Size of that image before compression, in MiB
    #[arg(long, default_value_t = 300)]
    pull_megabytes: usize,
    /// Files in that image
    #[arg(long, default_value_t = 14_000)]
    pull_files: usize,
    /// Measure pulling alone
    #[arg(long)]
    only_pull: bool,
    /// Times that each quick call of the container runtime interface is measured
    #[arg(long, default_value_t = 100)]
    cri_runs: usize,
    /// Sandboxes that are started at once
    #[arg(long, default_value_t = 100)]
    cri_parallel: usize,
    /// Pods that stand while they are listed
    #[arg(long, default_value_t = 500)]
    cri_listed: usize,
    /// MiB that a container writes to its log, and a command to its client
    #[arg(long, default_value_t = 128)]
    cri_megabytes: usize,
    /// Measure the container runtime interface alone
    #[arg(long, conflicts_with_all = ["only_network", "only_pull"])]
    only_cri: bool,
    /// Times that the agent starts one pod
    #[arg(long, default_value_t = 30)]
    agent_runs: usize,
    /// Pods whose manifests are written at once
    #[arg(long, default_value_t = 50)]
    agent_pods: usize,
    /// Pods that the agent shall hold after that; 0 leaves it at those
    #[arg(long, default_value_t = 500)]
    agent_many: usize,
    /// Seconds for which those shall stay
    #[arg(long, default_value_t = 60)]
    agent_stay: u64,
    /// Seconds for which processor time is counted while nothing happens
    #[arg(long, default_value_t = 30)]
    agent_rest: u64,
    /// Measure the agent alone
    #[arg(long, conflicts_with_all = ["only_network", "only_pull", "only_cri"])]
    only_agent: bool,
    /// Times that one pod is bound to the agent by an API server
    #[arg(long, default_value_t = 30)]
    cluster_runs: usize,
    /// Times that several are at once, and that a Deployment is made and scaled
    #[arg(long, default_value_t = 5)]
    cluster_rounds: usize,
    /// Pods at once
    #[arg(long, default_value_t = 50)]
    cluster_pods: usize,
    /// Seconds of quiet before anything is counted at rest
    #[arg(long, default_value_t = 180)]
    cluster_settle: u64,
    /// Seconds for which processor time and requests are counted while nothing happens; a node tells of itself every five minutes
    #[arg(long, default_value_t = 300)]
    cluster_rest: u64,
    /// A directory with kube-apiserver, kube-controller-manager and kube-scheduler, for a real cluster, and kubelet, to be
    /// measured in it beside the agent with Debian's containerd and runc; etcd is taken from there or from Debian
    #[arg(long, value_name = "DIR")]
    kubernetes: Option<std::path::PathBuf>,
    /// Measure the agent as a node of a cluster alone
    #[arg(long, conflicts_with_all = ["only_network", "only_pull", "only_cri", "only_agent"])]
    only_cluster: bool,
    /// Times that each figure of the name server is measured
    #[arg(long, default_value_t = 5)]
    dns_runs: usize,
    /// Pods that stand while it is
    #[arg(long, default_value_t = 200)]
    dns_pods: usize,
    /// Measure the name server alone
    #[arg(long, conflicts_with_all = ["only_network", "only_pull", "only_cri", "only_agent"])]
    only_dns: bool,
    /// Measure the ambassador alone
    #[arg(long, conflicts_with_all = ["only_network", "only_pull", "only_cri", "only_agent"])]
    only_ambassador: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    ensure!(rustix::process::geteuid().is_root(), "needs root: sudo {}", std::env::current_exe()?.display());
    ensure!(args.runs > 0 && args.imports > 0 && args.pulls > 0, "nothing to measure");
    let mut report = Report::new(args.json);
    measure(&args, &mut report)?;
    report.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn cri(args: &Args) -> anyhow::Result<Vec<Row>> {
    let Args { cri_runs: runs, cri_parallel: parallel, cri_listed: listed, cri_megabytes: megabytes, .. } = *args;
    cri::rows(&cri::Scale { runs, parallel, listed, megabytes })
}

fn agent(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let Args { agent_runs: runs, agent_pods: pods, agent_many: many, .. } = *args;
    ensure!(many == 0 || many >= pods, "--agent-many {many} are fewer than --agent-pods {pods}");
    let (rest, stay) = (Duration::from_secs(args.agent_rest), Duration::from_secs(args.agent_stay));
    agent::measure(&agent::Scale { runs, pods, many, rest, stay }, report)
}

fn cluster(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let Args { cluster_runs: runs, cluster_rounds: rounds, cluster_pods: pods, .. } = *args;
    ensure!(runs > 0 && rounds > 0 && pods > 0, "nothing to measure");
    let (settle, rest) = (Duration::from_secs(args.cluster_settle), Duration::from_secs(args.cluster_rest));
    let kubernetes = args.kubernetes.clone();
    cluster::measure(&cluster::Scale { runs, rounds, pods, settle, rest, kubernetes }, report)
}

fn measure(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    if args.only_cluster {
        return cluster(args, report);
    }
    if args.only_dns {
        report.extend(dns::rows(args.dns_runs, args.dns_pods)?);
        return Ok(());
    }
    if args.only_agent {
        return agent(args, report);
    }
    if args.only_ambassador {
        report.extend(ambassador::rows(args.runs)?);
        return Ok(());
    }
    if args.only_cri {
        report.extend(cri(args)?);
        return Ok(());
    }
    if args.only_rules {
        report.extend(rules::rows(args.runs)?);
        return Ok(());
    }
    if args.only_network {
        report.extend(network::rows(args.runs)?);
        return Ok(());
    }
    if args.only_pull {
        report.extend(pull::rows(args.pull_megabytes, args.pull_files, args.pulls)?);
        return Ok(());
    }
    everything(args, report)
}

fn everything(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    report.extend([
        Row::new("run to exit of a one-container pod (`true`)", "ms", "coracle", coracle::run_to_exit(args.runs)?),
        Row::absent("create and start alone", "ms", "coracle", "no verb shows it apart from the rest of a run"),
        Row::new("exec of `true`, the client's own start included", "ms", "coracle", coracle::exec(args.runs)?),
    ]);
    report.extend(network::rows(args.runs)?);
    report.extend(rules::rows(args.runs)?);
    report.extend(dns::rows(args.dns_runs, args.dns_pods)?);
    for runtime in ["runc", "crun"] {
        let what = "run to exit of a ready bundle (`true`)";
        report.add(Row::of(what, "ms", runtime, peers::run(runtime, args.runs)));
        let what = "exec of `true`, the client's own start included";
        report.add(Row::of(what, "ms", runtime, peers::exec(runtime, args.runs)));
    }
    let archive = e2e::fixtures::big(args.megabytes, args.files).map_err(anyhow::Error::msg)?;
    let what = format!("import and unpack of {} MiB, {} files, 2 gzip layers", args.megabytes, args.files);
    report.add(Row::new(&what, "ms", "coracle", coracle::import(&archive, args.imports)?));
    let what = format!("unpack alone of {} MiB, {} files, 2 gzip layers", args.megabytes, args.files);
    report.add(Row::of(&what, "ms", "umoci", peers::umoci_unpack(&archive, args.imports)));
    report.extend(pull::rows(args.pull_megabytes, args.pull_files, args.pulls)?);
    report.extend(ambassador::rows(args.runs)?);
    report.extend(cri(args)?);
    agent(args, report)?;
    cluster(args, report)?;
    let memory = coracle::memory()?;
    report.add(Row::new("private memory of a shim", "KiB", "coracle", memory.shim));
    report.add(Row::new("of it dirty", "KiB", "coracle", memory.shim_dirty));
    report.add(Row::new("private memory of an idle `serve`", "KiB", "coracle", memory.serve));
    let size = std::fs::metadata(e2e::binary::coracle())?.len();
    report.add(Row::new("size of the binary", "MiB", "coracle", vec![size as f64 / f64::from(1 << 20)]));
    Ok(())
}
