//! `coracle gc`

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::{CollectReport, Owner};

use crate::cli::Global;
use crate::failure;
use crate::leftovers;
use crate::local;
use crate::printer::{OutputError, Printer};
use crate::privilege::require_root;

/// Flags of `gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop and remove everything that the state directory knows, running pods included; images and claims stay
    #[arg(long)]
    all: bool,
    /// Remove the data of PersistentVolumeClaims, too, unless a pod that stays mounts them or a manifest of the agent has them
    #[arg(long)]
    claims: bool,
}

/// Removes what belongs to runs that are gone, and says what was spared and why.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("removing pods")?;
    let (runtime, _) = local::open(global, Owner::Agent, None)?;
    // Until the sweep is done: what a run has made before it says so looks like something left behind.
    let held = runtime.hold_runs().context("wait for others that collect")?;
    let mut report = runtime.collect(args.all, &held).context("collect what runs have left")?;
    let swept = leftovers::sweep(global, args.all, args.claims)?;
    drop(held);
    report.removed.extend(swept.removed);
    report.spared.extend(swept.spared);
    show(&report)?;
    let failed =
        report.failed.into_iter().map(|(what, why)| anyhow::anyhow!("{why}").context(format!("remove {what}")));
    let mut code = ExitCode::SUCCESS;
    for error in failed.chain(swept.failed) {
        code = failure::report(Err(error));
    }
    Ok(code)
}

fn show(report: &CollectReport) -> Result<(), OutputError> {
    let mut printer = Printer::stdout();
    for what in &report.removed {
        printer.line(format_args!("removed {what}"))?;
    }
    for (what, why) in &report.spared {
        printer.line(format_args!("spared {what}: {why}"))?;
    }
    if report.removed.is_empty() && report.failed.is_empty() {
        printer.line("nothing to remove")?;
    }
    Ok(())
}
