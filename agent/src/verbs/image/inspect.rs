//! `coracle image inspect`

use std::process::ExitCode;

use anyhow::Context as _;
use cri_proto::cri::image_service_client::ImageServiceClient;
use cri_proto::cri::{ImageSpec, ImageStatusRequest};
use serde_json::{Map, Value, json};

use super::ls::describe;
use crate::channel::Channel;
use crate::printer::Printer;

/// Flags of `image inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reference or id
    #[arg(value_name = "REF")]
    reference: String,
}

/// Prints the image's status and everything else that the runtime tells of it.
pub async fn main(args: Args, mut images: ImageServiceClient<Channel>) -> anyhow::Result<ExitCode> {
    let image = Some(ImageSpec { image: args.reference.clone(), ..ImageSpec::default() });
    let what = || format!("inspect image {}", args.reference);
    let answer =
        images.image_status(ImageStatusRequest { image, verbose: true }).await.with_context(what)?.into_inner();
    let image = answer.image.context("no such image; `coracle image ls` lists them").with_context(what)?;
    // The CRI has strings only; what is JSON inside them is shown as such. Under "info" runtimes put all they know.
    let parse = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    let mut info: Map<String, Value> = answer.info.into_iter().map(|(key, text)| (key, parse(text))).collect();
    if let Some(Value::Object(all)) = info.remove("info") {
        info.extend(all);
    }
    Printer::stdout().json(&json!({ "status": describe(&image), "info": info }))?;
    Ok(ExitCode::SUCCESS)
}
