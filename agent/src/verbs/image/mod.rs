//! `coracle image`: one module a verb.

mod credentials;
mod export;
mod import;
mod inspect;
mod interrupt;
mod ls;
mod pull;
mod rm;

use std::process::ExitCode;

use clap::Subcommand;
use runtime::Owner;

use crate::channel::Cri;
use crate::cli::Global;
use crate::local;
use crate::privilege::require_root;

/// Flags of `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Pull images from registries
    Pull(pull::Args),
    /// Import the images of oci-archive and docker-archive files
    Import(import::Args),
    /// Write images to an archive
    Export(export::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Show an image as JSON
    Inspect(inspect::Args),
}

/// Carries out the verb over the image services.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("reading and changing the image store")?;
    super::block_on(async {
        // Images have no owner; any name will do.
        let (_runtime, channel) = local::open(global, Owner::Agent, None)?;
        match args.verb {
            Verb::Pull(args) => pull::main(args, Cri::new(channel)).await,
            Verb::Import(args) => import::main(args, channel).await,
            Verb::Export(args) => export::main(args, Cri::new(channel)).await,
            Verb::Ls(args) => ls::main(args, Cri::new(channel).images).await,
            Verb::Rm(args) => rm::main(args, Cri::new(channel).images).await,
            Verb::Inspect(args) => inspect::main(args, Cri::new(channel).images).await,
        }
    })
}
