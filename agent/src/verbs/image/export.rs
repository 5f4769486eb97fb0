//! `coracle image export`

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use cri_proto::node::{ArchiveFormat, ExportImageProgress, ExportImageRequest};

use super::interrupt::Interrupts;
use crate::channel::Cri;
use crate::printer::{Bars, OutputError, Printer, Stage, Step, human};

/// Flags of `image export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// References or ids
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
    /// Archive to write; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Form of the archive
    #[arg(long, value_enum, default_value_t = Format::OciArchive)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The layers as the registry has them: every digest stays
    OciArchive,
    /// As `docker save` writes it: the id stays, layers are stored uncompressed
    DockerArchive,
}

impl Format {
    fn proto(self) -> ArchiveFormat {
        match self {
            Self::OciArchive => ArchiveFormat::Oci,
            Self::DockerArchive => ArchiveFormat::Docker,
        }
    }
}

/// Writes the images to one archive.
pub async fn main(args: Args, cri: Cri) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::new()?;
    let work =
        async { if args.output == Path::new("-") { to_stdout(&args, cri).await } else { to_file(&args, cri).await } };
    let what = || format!("export image {}", args.references.join(", "));
    tokio::select! {
        done = work => done.with_context(what).map(|()| ExitCode::SUCCESS),
        interrupted = interrupts.next() => {
            anstream::eprintln!("stopped exporting; no archive was written");
            Ok(interrupted.exit_code())
        }
    }
}

async fn to_file(args: &Args, cri: Cri) -> anyhow::Result<()> {
    let path = std::path::absolute(&args.output)?;
    let size = export(args, &path, cri).await?;
    let names = args.references.join(", ");
    Printer::stdout().line(format_args!("exported {names} to {} ({})", args.output.display(), human::bytes(size)))?;
    Ok(())
}

/// The runtime writes files; what goes to standard output goes through one.
async fn to_stdout(args: &Args, cri: Cri) -> anyhow::Result<()> {
    let refused = "standard output is a terminal, which an archive would only disturb; redirect it, or use -o FILE";
    anyhow::ensure!(!io::stdout().is_terminal(), refused);
    let scratch = Scratch::new()?;
    let path = scratch.0.join("archive.tar");
    export(args, &path, cri).await?;
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        io::copy(&mut file, &mut io::stdout().lock()).map_err(OutputError::from)?;
        drop(scratch);
        Ok(())
    })
    .await?
}

/// A directory of our own for large files, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let parent = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let template = std::path::absolute(parent)?.join("coracle-export-XXXXXX");
        let dir = nix::unistd::mkdtemp(&template).with_context(|| format!("make directory {}", template.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            anstream::eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Has the runtime write the archive; its size.
async fn export(args: &Args, path: &Path, cri: Cri) -> anyhow::Result<u64> {
    let text = path.to_str().context("the path is not UTF-8; choose another")?;
    let request = ExportImageRequest {
        images: args.references.clone(),
        path: text.to_owned(),
        format: args.format.proto().into(),
    };
    let mut progress = cri.node.clone().export_image(request).await?.into_inner();
    let mut bars = Bars::stderr();
    let label = args.references.join(", ");
    let mut total = 0;
    loop {
        match progress.message().await {
            Ok(Some(message)) => {
                total = message.total_bytes.max(message.bytes).max(total);
                if message.done {
                    // The verb's last line says it.
                    bars.abandon();
                    return Ok(total);
                }
                bars.update(step(&label, &message), Instant::now());
            }
            Ok(None) => {
                bars.abandon();
                anyhow::bail!("the runtime ended the export without saying that it is done");
            }
            Err(status) => {
                bars.abandon();
                return Err(status.into());
            }
        }
    }
}

fn step(label: &str, message: &ExportImageProgress) -> Step {
    let (bytes, total) = (message.bytes, message.total_bytes);
    Step { label: label.to_owned(), stage: Stage::Moving, bytes, resumed: 0, total }
}
