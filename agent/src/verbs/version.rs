//! `coracle version`

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::Global;
use crate::printer::Printer;
use crate::verbs::Encoding;

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print as JSON or YAML
    #[arg(short, long, value_enum)]
    output: Option<Encoding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    cri_version: &'static str,
    kubernetes_api: &'static str,
    platform: String,
}

/// Shows the version of this binary and of the interfaces that it speaks.
pub fn main(args: Args, _global: &Global) -> anyhow::Result<ExitCode> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        cri_version: "v1",
        kubernetes_api: "v1.37",
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    };
    let mut printer = Printer::stdout();
    match args.output {
        Some(Encoding::Json) => printer.json(&version)?,
        Some(Encoding::Yaml) => printer.yaml(&version)?,
        None => {
            printer.line(format_args!("coracle {}", version.version))?;
            let Version { cri_version: cri, kubernetes_api: kubernetes, platform, .. } = &version;
            printer.line(format_args!("CRI {cri}, Kubernetes API {kubernetes}, {platform}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
