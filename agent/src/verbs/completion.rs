//! `coracle completion SHELL`

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, Global};
use crate::printer::Printer;

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For bash: coracle completion bash > /etc/bash_completion.d/coracle")]
pub struct Args {
    /// The shell that will read the script
    shell: Shell,
}

/// Prints the script.
pub fn main(args: Args, _global: &Global) -> anyhow::Result<ExitCode> {
    // The generator panics when it cannot write: give it memory, and let the printer meet the closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "coracle", &mut script);
    Printer::stdout().text(&script)?;
    Ok(ExitCode::SUCCESS)
}
