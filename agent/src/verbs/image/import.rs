//! `coracle image import`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use cri_proto::node::node_service_client::NodeServiceClient;
use cri_proto::node::{ImportImageProgress, ImportImageRequest, ImportedImage, UnpackLimits};

use super::ls::short_id;
use crate::channel::Channel;
use crate::printer::{Bars, Printer, Stage, Step, human};
use crate::size;

/// Flags of `image import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Archives, as `podman save` and `skopeo copy` write them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Reference to give the image, instead of the archive's own
    #[arg(long, value_name = "REF")]
    reference: Option<String>,
    /// Most entries that one layer may have; 0 for the default
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    max_entries: u64,
    /// Most bytes that one layer may unpack to (64Mi, 10G); 0 for the default
    #[arg(long, value_name = "BYTES", value_parser = size::flag, default_value = "0", hide_default_value = true)]
    max_bytes: u64,
    /// Longest path that a layer may hold, in bytes; 0 for the default
    #[arg(long, value_name = "BYTES", value_parser = size::flag, default_value = "0", hide_default_value = true)]
    max_path_bytes: u64,
}

/// Imports each archive in turn; the first that fails ends the verb.
pub async fn main(args: Args, channel: Channel) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.reference.is_none() || args.files.len() == 1, "--reference goes with one archive only");
    let mut printer = Printer::stdout();
    for file in &args.files {
        let what = || format!("import image {}", file.display());
        for image in import(file, &args, channel.clone()).await.with_context(what)? {
            let named = if image.references.is_empty() { "<none>".into() } else { image.references.join(", ") };
            printer.line(format_args!("imported {named} ({}, {})", short_id(&image.id), human::bytes(image.size)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(file: &Path, args: &Args, channel: Channel) -> anyhow::Result<Vec<ImportedImage>> {
    let path = std::path::absolute(file)?;
    let path = path.into_os_string().into_string().map_err(|_| anyhow::anyhow!("the path is not UTF-8; rename it"))?;
    let request = ImportImageRequest {
        path,
        reference: args.reference.clone().unwrap_or_default(),
        limits: Some(UnpackLimits {
            max_entries: args.max_entries,
            max_bytes: args.max_bytes,
            max_path_bytes: args.max_path_bytes,
        }),
    };
    let mut progress = NodeServiceClient::new(channel).import_image(request).await?.into_inner();
    let mut bars = Bars::stderr();
    let mut done = Vec::new();
    loop {
        match progress.message().await {
            Ok(Some(message)) if message.done.is_empty() => bars.update(step(&message), Instant::now()),
            Ok(Some(message)) => done = message.done,
            Ok(None) => break bars.finish(),
            Err(status) => {
                bars.abandon();
                return Err(status.into());
            }
        }
    }
    anyhow::ensure!(!done.is_empty(), "the runtime ended the import without naming an image");
    Ok(done)
}

fn step(message: &ImportImageProgress) -> Step {
    let stage = match message.exists {
        true => Stage::Exists,
        false if message.bytes >= message.total_bytes => Stage::Done,
        false => Stage::Moving,
    };
    Step {
        label: format!("layer {}/{} {}", message.layer + 1, message.layers, short_id(&message.digest)),
        stage,
        bytes: message.bytes,
        resumed: 0,
        total: message.total_bytes,
    }
}
