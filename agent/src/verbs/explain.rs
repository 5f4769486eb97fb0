//! `coracle explain`

use std::process::ExitCode;

use crate::cli::Global;
use crate::printer::Printer;

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind, and a field of it, such as pod.spec.containers.image; without it, what can be asked for
    #[arg(value_name = "KIND[.FIELD...]", default_value = "", hide_default_value = true)]
    path: String,
}

/// Says what a field is, and what becomes of it here.
pub fn main(args: Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let page = manifests::explain(&args.path)?;
    Printer::stdout().text(page.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
