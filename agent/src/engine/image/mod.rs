//! Images: whether one is there by `imagePullPolicy`, and where from if not.

mod keyring;
mod limits;
mod progress;
mod providers;

use std::time::Instant;

use cri_proto::{cri, node};
use k8s_openapi::api::core::v1::{Container, Pod};
use tonic::{Code, Status};

use self::keyring::{Auth, Keyring};
pub use self::limits::PullLimits;
use self::progress::Tally;
pub use self::providers::Providers;
use super::Engine;
use super::config::names::PodKey;
use super::config::security::ImageUser;
use super::notice::{Event, Notice, Pull};
use crate::channel::Cri;

/// An image that a container can be made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id or digest.
    pub reference: String,
    /// The user that it names.
    pub user: ImageUser,
}

/// Why there is none, in kubelet's word and in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageProblem {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName` or `ImageInspectError`.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
    /// It may pass without anybody doing something about it.
    pub transient: bool,
}

/// Who wants an image.
pub(super) struct Wish<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The pod.
    pub pod: &'a Pod,
    /// The pod's names.
    pub key: &'a PodKey,
    /// The container that it is for.
    pub container: &'a Container,
    /// What a foreign runtime may want to know of the pod.
    pub sandbox: cri::PodSandboxConfig,
}

/// The policy of a container; by its image's tag where it has none.
fn policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    match container.image_pull_policy.as_deref().filter(|policy| !policy.is_empty()) {
        Some(policy) => policy,
        None if latest => "Always",
        None => "IfNotPresent",
    }
}

/// Makes sure that a container's image is there, and says which it is. Dropping this gives the pull up.
pub(super) async fn ensure(wish: &Wish<'_>) -> Result<Image, ImageProblem> {
    let cri = wish.engine.cri();
    let name = wish.container.image.clone().unwrap_or_default();
    let spec = cri::ImageSpec { image: name.clone(), user_specified_image: name.clone(), ..Default::default() };
    let present = status(cri, &spec).await?;
    match (policy(wish.container), &present) {
        ("IfNotPresent" | "Never", Some(image)) => return Ok(image.clone()),
        ("Never", None) => {
            let message = format!("image \"{name}\" is not present and its pull policy is Never");
            return Err(ImageProblem { reason: "ErrImageNeverPull", message, transient: false });
        }
        _ => {}
    }
    let mut keyring = Keyring::of(wish.pod, &wish.engine.objects_of(&wish.key.uid));
    wish.engine.settings().credential_providers.add_to(&mut keyring, &name).await;
    let permit = wish.engine.settings().pull_limits.enter(&name).await;
    let pulled = wish.pull(&spec, &keyring, present.is_some()).await;
    drop(permit);
    let reference = pulled.map_err(|status| pull_problem(&name, &status, &keyring, present.is_some()))?;
    match status(cri, &spec).await? {
        Some(image) => Ok(image),
        None => Ok(Image { reference, user: ImageUser::default() }),
    }
}

impl Wish<'_> {
    /// Pulls with each of the pod's credentials for this registry until one is taken, then with the host's own.
    async fn pull(&self, spec: &cri::ImageSpec, keyring: &Keyring, present: bool) -> Result<String, Status> {
        let mut refusal = None;
        for auth in keyring.lookup(&spec.image).into_iter().map(Some).chain([None]) {
            match self.pull_with(spec, auth, present).await {
                Err(status) if is_refusal(&status) => drop(refusal.get_or_insert(status)),
                outcome => return outcome,
            }
        }
        Err(refusal.unwrap_or_else(|| Status::unauthenticated("the registry wants credentials")))
    }

    async fn pull_with(&self, spec: &cri::ImageSpec, auth: Option<&Auth>, present: bool) -> Result<String, Status> {
        let request = node::PullImageRequest {
            reference: spec.image.clone(),
            auth: auth.map(Auth::node),
            ..node::PullImageRequest::default()
        };
        match self.engine.cri().node.clone().pull_image(request).await {
            Ok(stream) => self.follow(&spec.image, stream.into_inner(), present).await,
            Err(status) if status.code() == Code::Unimplemented => self.pull_by_cri(spec, auth, present).await,
            Err(status) => Err(status),
        }
    }

    /// Tells how the pull goes until it is over. One that brings nothing new is not worth a word.
    async fn follow(
        &self,
        name: &str,
        mut stream: tonic::Streaming<node::PullImageProgress>,
        present: bool,
    ) -> Result<String, Status> {
        use node::pull_image_progress::Event as Progress;
        let begun = Instant::now();
        let mut tally = Tally::default();
        let mut told = false;
        if !present {
            self.tell(Pull::Begun { image: name.to_owned() }).await;
            told = true;
        }
        while let Some(message) = stream.message().await? {
            match message.event {
                Some(Progress::Layers(layers)) => tally.layers(&layers),
                Some(Progress::Layer(layer)) => {
                    tally.layer(&layer);
                    if !told && tally.transfers() {
                        self.tell(Pull::Begun { image: name.to_owned() }).await;
                        told = true;
                    }
                    if let Some((bytes, total)) = tally.due(Instant::now()) {
                        self.tell(Pull::Going { image: name.to_owned(), bytes, total }).await;
                    }
                }
                Some(Progress::Notice(text)) => self.tell(Pull::Note(text)).await,
                Some(Progress::Done(image)) => {
                    if told {
                        let (image, bytes, resumed) = (name.to_owned(), tally.fetched(), tally.resumed());
                        self.tell(Pull::Done { image, bytes, resumed, took: begun.elapsed() }).await;
                    }
                    return Ok(image.id);
                }
                None => {}
            }
        }
        Err(Status::internal("the runtime ended the pull without naming an image"))
    }

    async fn pull_by_cri(&self, spec: &cri::ImageSpec, auth: Option<&Auth>, present: bool) -> Result<String, Status> {
        if !present {
            self.tell(Pull::Begun { image: spec.image.clone() }).await;
        }
        let request = cri::PullImageRequest {
            image: Some(spec.clone()),
            auth: auth.map(Auth::cri),
            sandbox_config: Some(self.sandbox.clone()),
        };
        Ok(self.engine.cri().images.clone().pull_image(request).await?.into_inner().image_ref)
    }

    async fn tell(&self, pull: Pull) {
        let event = Event::Pull { container: self.container.name.clone(), pull };
        self.engine.tell(Notice { pod: self.key.clone(), event }).await;
    }
}

/// Whether other credentials could do better.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
}

async fn status(cri: &Cri, spec: &cri::ImageSpec) -> Result<Option<Image>, ImageProblem> {
    let request = cri::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
    let answer = cri.images.clone().image_status(request).await.map_err(|status| {
        let reason = if status.code() == Code::InvalidArgument { "InvalidImageName" } else { "ImageInspectError" };
        ImageProblem { reason, message: status.message().to_owned(), transient: false }
    })?;
    Ok(answer.into_inner().image.map(|image| Image {
        reference: image.id,
        user: ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username },
    }))
}

fn pull_problem(name: &str, status: &Status, keyring: &Keyring, present: bool) -> ImageProblem {
    let mut message = status.message().to_owned();
    if !message.contains(name) {
        message = format!("cannot get image \"{name}\": {message}");
    }
    if is_refusal(status) {
        for problem in &keyring.problems {
            message.push_str(&format!("; {problem}"));
        }
    }
    let transient = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::Cancelled
    );
    if transient && present {
        message.push_str("; an image of this name is here: imagePullPolicy IfNotPresent would run it");
    }
    ImageProblem { reason: "ErrImagePull", message, transient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_follows_the_tag_where_none_is_given() {
        for (image, given, expected) in [
            ("nginx", None, "Always"),
            ("nginx:latest", None, "Always"),
            ("nginx:1", None, "IfNotPresent"),
            ("host:5000/nginx", None, "Always"),
            ("host:5000/nginx:1", None, "IfNotPresent"),
            ("nginx@sha256:00", None, "IfNotPresent"),
            ("nginx", Some("Never"), "Never"),
        ] {
            let container = Container {
                image: Some(image.to_owned()),
                image_pull_policy: given.map(str::to_owned),
                ..Container::default()
            };
            assert_eq!(policy(&container), expected, "{image}");
        }
    }

    #[test]
    fn a_registry_that_is_down_is_waited_for_and_a_missing_image_is_not() {
        let mut keyring = Keyring::default();
        keyring.problems.push("Secret \"s\" is not there".into());
        for (code, transient) in [
            (Code::Unavailable, true),
            (Code::ResourceExhausted, true),
            (Code::NotFound, false),
            (Code::Unauthenticated, false),
            (Code::InvalidArgument, false),
            (Code::Internal, false),
        ] {
            let problem = pull_problem("nginx", &Status::new(code, "no"), &keyring, true);
            assert_eq!((problem.reason, problem.transient), ("ErrImagePull", transient), "{code:?}");
            assert!(problem.message.starts_with("cannot get image \"nginx\": no"), "{}", problem.message);
            assert_eq!(problem.message.contains("Secret \"s\""), code == Code::Unauthenticated);
            assert_eq!(problem.message.contains("IfNotPresent"), transient);
        }
    }
}
