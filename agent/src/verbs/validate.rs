//! `coracle validate`

use std::path::PathBuf;
use std::process::ExitCode;

use manifests::{Manifest, Severity};

use crate::cli::Global;
use crate::failure::BAD_INPUT;
use crate::printer::Printer;
use crate::sources;

/// Flags of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Manifests: files, directories, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
}

/// Shows every diagnostic of every manifest, and what they come to.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let sources = sources::load(&args.paths)?;
    let mut manifest = manifests::read(&sources);
    let objects = manifest.objects.len();
    crate::net::ambassador::expand(&mut manifest);
    let color = global.color.wanted(&std::io::stdout());
    let mut printer = Printer::stdout();
    for diagnostic in &manifest.diagnostics {
        printer.line(diagnostic.render(color).trim_end_matches('\n'))?;
        printer.line("")?;
    }
    let fatal = args.strict && manifest.diagnostics.iter().any(|it| it.severity == Severity::Warning);
    let note = if fatal { " (as bad as errors: --strict)" } else { "" };
    printer.line(format_args!("{}{note}", summary(&manifest, sources.len(), objects)))?;
    Ok(if manifest.has_errors(args.strict) { ExitCode::from(BAD_INPUT) } else { ExitCode::SUCCESS })
}

fn summary(manifest: &Manifest, files: usize, objects: usize) -> String {
    let of = |severity| manifest.diagnostics.iter().filter(|it| it.severity == severity).count();
    format!(
        "{}, {}: {}, {}",
        count(files, "file"),
        count(objects, "object"),
        count(of(Severity::Error), "error"),
        count(of(Severity::Warning), "warning")
    )
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
