//! `coracle agent`: keeps the node equal to its manifests, until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use runtime::zygote::Zygote;

use crate::cli::Global;
use crate::engine::backoff::Policy;
use crate::engine::config::Settings;
use crate::host::node::facts;
use crate::node::sources::{Pace, Place};
use crate::node::{self, Listen, Wish};
use crate::privilege::require_root;

/// How long work that nobody waits for any more may take at the end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Flags of `agent`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of manifests, or a single one
    #[arg(long, value_name = "DIR|FILE")]
    pod_manifest_path: Option<PathBuf>,
    /// File with a KubeletConfiguration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How often memory, disks and process ids are looked at
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    housekeeping_interval: Duration,
    /// Stop the pods when the agent is stopped
    #[arg(long)]
    shutdown_pods: bool,
    /// How long to wait between restarts, such as initial=1s,max=1m,reset=10m
    #[arg(long, value_name = "POLICY", default_value = "initial=10s,max=5m,reset=10m")]
    restart_backoff: Policy,
    /// Serve the API to kubectl, too: TLS on this address, such as 127.0.0.1:6443
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<SocketAddr>,
    /// Write a kubeconfig for that, with a token
    #[arg(long, value_name = "FILE", requires = "api_listen")]
    write_kubeconfig: Option<PathBuf>,
}

/// Runs the agent until it is told to stop. What runs goes on running.
pub fn main(args: Args, global: &Global, zygote: Option<std::io::Result<Zygote>>) -> anyhow::Result<ExitCode> {
    let mut places = Vec::new();
    if let Some(path) = &args.pod_manifest_path {
        let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
        places.push(Place::Path(path));
    }
    if places.is_empty() {
        bail!("there is nothing to run pods from; give a directory of manifests with --pod-manifest-path");
    }
    require_root("running pods")?;
    let zygote = zygote.transpose().context("prepare to start containers")?;
    let wish = Wish {
        global: global.clone(),
        settings: Settings::of(global, facts())?,
        places,
        pace: Pace::default(),
        backoff: args.restart_backoff,
        shutdown_pods: args.shutdown_pods,
        api: Listen { address: args.api_listen, kubeconfig: args.write_kubeconfig },
        config: Arc::new(args.config.as_deref().map(configuration).transpose()?.unwrap_or_default()),
        housekeeping: args.housekeeping_interval,
    };
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let outcome = rt.block_on(node::run(wish, zygote));
    // What is half done is brought to an end, if that is near: what is cut off the next agent takes away.
    rt.shutdown_timeout(LAST_WORK);
    outcome.map(|held| {
        // Its threads may still be at work: who comes next has to wait until this process is gone.
        std::mem::forget(held);
        ExitCode::SUCCESS
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = crate::engine::time::parse_duration(text).filter(|duration| !duration.is_zero());
    read.ok_or_else(|| "not a duration such as 10s or 1m30s".into())
}

fn configuration(path: &Path) -> anyhow::Result<manifests::kubelet::Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let source = manifests::Source { name: path.display().to_string(), text };
    let (config, diagnostics) = manifests::kubelet::read(&source);
    let said: Vec<String> = diagnostics.iter().map(|it| it.render(false)).collect();
    match config {
        Some(config) => Ok(config),
        None => bail!("the configuration cannot be used\n{}", said.join("\n")),
    }
}
