//! `coracle image pull`

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use cri_proto::cri::{ImageSpec, ImageStatusRequest};
use cri_proto::node::pull_image_progress::Event;
use cri_proto::node::{ImportedImage, PullImageRequest, PullLayer, PullLayerProgress, PullPhase, RegistryAuth};

use super::credentials::{Credentials, CredentialsFlag};
use super::interrupt::{Interrupted, Interrupts};
use super::ls::short_id;
use crate::channel::Cri;
use crate::failure;
use crate::printer::{Bars, Printer, Stage, Step, human};

/// Flags of `image pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// References: nginx, registry.example:5000/team/app:1.2, NAME@sha256:…
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
    /// Platform to take of an image for several, such as linux/arm64; the host's unless given
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    platform: Option<String>,
    /// User and password for the registry; what is left out is asked for on the terminal, or read from standard input
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<CredentialsFlag>,
    /// Print the images' ids alone
    #[arg(short, long)]
    quiet: bool,
}

fn platform(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let well_formed = matches!(parts.len(), 2 | 3) && parts.iter().all(|part| !part.is_empty());
    if well_formed { Ok(text.to_owned()) } else { Err("write it as OS/ARCH or OS/ARCH/VARIANT: linux/arm64".into()) }
}

/// Pulls each image in turn; one that cannot be had does not keep the others.
pub async fn main(args: Args, cri: Cri) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::new()?;
    let credentials = match &args.creds {
        None => None,
        Some(flag) => match flag.complete(&mut interrupts).await? {
            Ok(credentials) => Some(credentials),
            Err(interrupted) => return Ok(interrupted.exit_code()),
        },
    };
    let mut printer = Printer::stdout();
    let mut worst = ExitCode::SUCCESS;
    for reference in &args.references {
        let what = || format!("pull image {reference}");
        let pulled = tokio::select! {
            pulled = pull(reference, &args, credentials.as_ref(), &cri) => pulled.with_context(what),
            interrupted = interrupts.next() => return Ok(stopped(reference, interrupted)),
        };
        match pulled {
            Ok(pulled) => pulled.print(reference, args.quiet, &mut printer)?,
            Err(error) => worst = failure::report(Err(error)),
        }
    }
    Ok(worst)
}

fn stopped(reference: &str, interrupted: Interrupted) -> ExitCode {
    anstream::eprintln!("stopped pulling {reference}; the next pull goes on from there");
    interrupted.exit_code()
}

/// An image that is here now.
struct Pulled {
    image: ImportedImage,
    digest: String,
}

impl Pulled {
    fn print(&self, asked: &str, quiet: bool, printer: &mut Printer<anstream::Stdout>) -> anyhow::Result<()> {
        if quiet {
            printer.line(&self.image.id)?;
            return Ok(());
        }
        let name = self.image.references.first().map_or(asked, String::as_str);
        printer.line(name)?;
        printer.line(format_args!("  id:     {}", self.image.id))?;
        printer.line(format_args!("  digest: {}", self.digest))?;
        printer.line(format_args!("  size:   {}", human::bytes(self.image.size)))?;
        Ok(())
    }
}

async fn pull(reference: &str, args: &Args, credentials: Option<&Credentials>, cri: &Cri) -> anyhow::Result<Pulled> {
    let request = PullImageRequest {
        reference: reference.to_owned(),
        auth: credentials.map(|Credentials { username, password }| RegistryAuth {
            username: username.clone(),
            password: password.clone(),
            ..RegistryAuth::default()
        }),
        platform: args.platform.clone().unwrap_or_default(),
        limits: None,
    };
    let mut progress = cri.node.clone().pull_image(request).await?.into_inner();
    let mut view = View { bars: (!args.quiet).then(Bars::stderr), layers: Vec::new() };
    let mut manifest_digest = String::new();
    let image = loop {
        match progress.message().await {
            Ok(Some(message)) => match message.event {
                Some(Event::Layers(layers)) => {
                    manifest_digest = layers.manifest_digest;
                    view.layers(layers.layers);
                }
                Some(Event::Layer(at)) => view.layer(&at),
                Some(Event::Notice(text)) => view.note(&text),
                Some(Event::Done(image)) => break image,
                None => {}
            },
            Ok(None) => anyhow::bail!("the runtime ended the pull without naming an image"),
            Err(status) => return Err(status.into()),
        }
    };
    view.finish();
    let digest = repository_digest(cri, &image).await?.unwrap_or(manifest_digest);
    Ok(Pulled { image, digest })
}

/// The digest by which the registry names what was asked for: of an index, where the image is for several platforms.
async fn repository_digest(cri: &Cri, image: &ImportedImage) -> anyhow::Result<Option<String>> {
    let spec = Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() });
    let answer =
        cri.images.clone().image_status(ImageStatusRequest { image: spec, verbose: false }).await?.into_inner();
    let digests = answer.image.unwrap_or_default().repo_digests;
    let repository = image.references.first().map(|name| repository(name)).unwrap_or_default();
    let found = digests.iter().filter_map(|digest| digest.split_once('@')).find(|(name, _)| *name == repository);
    Ok(found.map(|(_, digest)| digest.to_owned()))
}

/// A reference without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// What the terminal shows of a pull. Dropping it takes unfinished bars away.
struct View {
    bars: Option<Bars<std::io::Stderr>>,
    layers: Vec<PullLayer>,
}

impl View {
    fn layers(&mut self, layers: Vec<PullLayer>) {
        self.layers = layers;
        for layer in 0..self.layers.len() {
            let layer = u32::try_from(layer).unwrap_or(u32::MAX);
            self.layer(&PullLayerProgress { layer, phase: PullPhase::Waiting.into(), ..Default::default() });
        }
    }

    fn layer(&mut self, at: &PullLayerProgress) {
        let layer = usize::try_from(at.layer).ok().and_then(|index| self.layers.get(index));
        if let (Some(bars), Some(layer)) = (&mut self.bars, layer) {
            bars.update(step(at, layer, self.layers.len()), Instant::now());
        }
    }

    fn note(&mut self, text: &str) {
        if let Some(bars) = &mut self.bars {
            bars.note(text, Instant::now());
        }
    }

    fn finish(mut self) {
        if let Some(bars) = self.bars.take() {
            bars.finish();
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.abandon();
        }
    }
}

fn step(at: &PullLayerProgress, layer: &PullLayer, layers: usize) -> Step {
    let stage = match at.phase() {
        PullPhase::Unspecified | PullPhase::Waiting => Stage::Waiting,
        PullPhase::Downloading => Stage::Moving,
        PullPhase::Unpacking => Stage::Unpacking,
        PullPhase::Done => Stage::Done,
        PullPhase::Exists => Stage::Exists,
    };
    Step {
        label: format!("layer {}/{layers} {}", at.layer + 1, short_id(&layer.digest)),
        stage,
        bytes: at.bytes,
        resumed: at.resumed_bytes,
        total: layer.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_two_or_three_parts() {
        for (text, fine) in
            [("linux/arm64", true), ("linux/arm/v7", true), ("arm64", false), ("linux/", false), ("a/b/c/d", false)]
        {
            assert_eq!(platform(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn a_repository_is_a_reference_without_tag_and_digest() {
        for (reference, expected) in [
            ("docker.io/library/nginx:latest", "docker.io/library/nginx"),
            ("localhost:5000/nginx", "localhost:5000/nginx"),
            ("localhost:5000/nginx:1@sha256:77", "localhost:5000/nginx"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }

    #[test]
    fn a_layer_is_shown_with_its_place_and_its_phase() {
        let layer = PullLayer { digest: "sha256:0123456789abcdef".into(), size: 1000 };
        let at = PullLayerProgress { layer: 1, phase: PullPhase::Downloading.into(), bytes: 300, resumed_bytes: 200 };
        let expected = Step {
            label: "layer 2/3 0123456789ab".into(),
            stage: Stage::Moving,
            bytes: 300,
            resumed: 200,
            total: 1000,
        };
        assert_eq!(step(&at, &layer, 3), expected);
    }
}
