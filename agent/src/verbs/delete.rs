//! `coracle delete`

use std::process::ExitCode;

use hyper::Method;
use serde_json::json;

use crate::api::client::{Client, pod};
use crate::cli::Global;

/// Flags of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of object
    #[arg(value_name = "KIND", value_parser = ["pods", "pod", "po"])]
    kind: String,
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Seconds that the containers have to end; the pod's own by default
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
}

/// Stops pods; those whose manifests are still there start anew.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let client = Client::of(&global.state_dir);
    super::block_on(async {
        for name in &args.names {
            let body = args.grace_period.map(|seconds| json!({"gracePeriodSeconds": seconds}));
            let said = client.ask(Method::DELETE, &pod(&args.namespace, name, ""), body.as_ref()).await?;
            for warning in said.warnings {
                anstream::eprintln!("warning: {warning}");
            }
            anstream::println!("pod \"{name}\" deleted");
        }
        Ok(ExitCode::SUCCESS)
    })
}
