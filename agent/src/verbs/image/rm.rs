//! `coracle image rm`

use std::process::ExitCode;

use anyhow::Context as _;
use cri_proto::cri::image_service_client::ImageServiceClient;
use cri_proto::cri::{ImageSpec, ImageStatusRequest, RemoveImageRequest};

use crate::channel::Channel;
use crate::failure;
use crate::printer::Printer;

/// Flags of `image rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// References or ids
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
}

/// Removes each image that can be removed; one that cannot does not keep the others.
pub async fn main(args: Args, mut images: ImageServiceClient<Channel>) -> anyhow::Result<ExitCode> {
    let mut printer = Printer::stdout();
    let mut worst = ExitCode::SUCCESS;
    for reference in &args.references {
        match remove(&mut images, reference).await.with_context(|| format!("remove image {reference}")) {
            Ok(()) => printer.line(format_args!("removed {reference}"))?,
            Err(error) => worst = failure::report(Err(error)),
        }
    }
    Ok(worst)
}

async fn remove(images: &mut ImageServiceClient<Channel>, reference: &str) -> anyhow::Result<()> {
    let image = Some(ImageSpec { image: reference.to_owned(), ..ImageSpec::default() });
    let status = images.image_status(ImageStatusRequest { image: image.clone(), verbose: false }).await?;
    // To the CRI, removing what is not there is a success; to who mistyped a name it is not.
    anyhow::ensure!(status.into_inner().image.is_some(), "no such image; `coracle image ls` lists them");
    images.remove_image(RemoveImageRequest { image }).await?;
    Ok(())
}
