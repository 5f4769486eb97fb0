//! `coracle restart`

use std::process::ExitCode;

use anyhow::bail;
use hyper::Method;

use crate::api::client::{Client, Options, pod};
use crate::cli::Global;
use crate::printer::Printer;
use crate::record::{find, name_of, namespace_of};

/// Flags of `restart`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This container alone; by default the whole pod, in a new sandbox, its init containers first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Namespace of the pod, where its name alone does not tell
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Pod
    #[arg(value_name = "POD")]
    pod: String,
}

/// Asks the agent to restart a pod, or one container, within its grace and without back-off.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let record = find(&global.state_dir, &global.this_boot()?, &args.pod, args.namespace.as_deref())?;
    let (namespace, name) = (namespace_of(&record), name_of(&record));
    if record.owner != "agent" {
        bail!("pod {name} belongs to {}, not to an agent; end that and start it again", record.owner);
    }
    let options = Options::default().and("container", args.container.as_deref());
    let address = options.of(&pod(namespace, name, "restart"));
    super::block_on(Client::of(&global.state_dir).ask(Method::POST, &address, None))?;
    let what = args.container.map(|container| format!("container {container} of ")).unwrap_or_default();
    Printer::stdout().line(format_args!("{what}pod {name} is restarted"))?;
    Ok(ExitCode::SUCCESS)
}
