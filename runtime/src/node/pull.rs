//! PullImage: a wish for an image as a stream of what becomes of it.

use cri_proto::node::pull_image_progress::Event as Answer;
use cri_proto::node::{PullImageLayers, PullImageProgress, PullImageRequest, PullLayer, PullLayerProgress, PullPhase};
use futures_util::Stream;
use tonic::Status;

use crate::cri::image_status;
use crate::images::{Phase, PullEvent, PullRequest, RegistryAuth, Subscription};

pub(super) fn request(asked: PullImageRequest) -> PullRequest {
    let auth = asked.auth.map(|auth| RegistryAuth {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
        server: String::new(),
    });
    PullRequest {
        reference: asked.reference,
        auth: auth.filter(|auth| !auth.is_empty()),
        platform: asked.platform,
        limits: super::limits(asked.limits),
    }
}

/// What happens to the pull. Dropping it takes the wish back.
pub(super) fn stream(subscription: Subscription) -> impl Stream<Item = Result<PullImageProgress, Status>> {
    futures_util::stream::unfold(subscription, |mut subscription| async {
        let event = subscription.next().await?;
        Some((answer(event).map(|event| PullImageProgress { event: Some(event) }), subscription))
    })
}

fn answer(event: PullEvent) -> Result<Answer, Status> {
    Ok(match event {
        PullEvent::Notice(text) => Answer::Notice(text),
        PullEvent::Layers(manifest, layers) => Answer::Layers(PullImageLayers {
            manifest_digest: manifest.to_string(),
            layers: layers.iter().map(|it| PullLayer { digest: it.digest.to_string(), size: it.size }).collect(),
        }),
        PullEvent::Layer(position, layer) => Answer::Layer(PullLayerProgress {
            layer: u32::try_from(position).unwrap_or(u32::MAX),
            phase: phase(layer.phase).into(),
            bytes: layer.bytes,
            resumed_bytes: layer.resumed,
        }),
        PullEvent::Done(Ok(image)) => Answer::Done(super::imported(image)),
        PullEvent::Done(Err(error)) => return Err(image_status(&error)),
    })
}

fn phase(phase: Phase) -> PullPhase {
    match phase {
        Phase::Waiting => PullPhase::Waiting,
        Phase::Downloading => PullPhase::Downloading,
        Phase::Unpacking => PullPhase::Unpacking,
        Phase::Done => PullPhase::Done,
        Phase::Exists => PullPhase::Exists,
    }
}
