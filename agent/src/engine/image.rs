//! Images: whether one is there, by `imagePullPolicy`.

use cri_proto::cri;
use k8s_openapi::api::core::v1::Container;
use tonic::{Code, Status};

use super::config::security::ImageUser;
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

/// Makes sure that a container's image is there, and says which it is.
pub async fn ensure(
    cri: &Cri,
    container: &Container,
    sandbox: Option<cri::PodSandboxConfig>,
) -> Result<Image, ImageProblem> {
    let name = container.image.clone().unwrap_or_default();
    let spec = cri::ImageSpec { image: name.clone(), user_specified_image: name.clone(), ..Default::default() };
    let present = status(cri, &spec).await?;
    match (policy(container), present) {
        ("IfNotPresent" | "Never", Some(image)) => return Ok(image),
        ("Never", None) => {
            let message = format!("image \"{name}\" is not present and its pull policy is Never");
            return Err(ImageProblem { reason: "ErrImageNeverPull", message });
        }
        _ => {}
    }
    let request = cri::PullImageRequest { image: Some(spec.clone()), auth: None, sandbox_config: sandbox };
    let pulled = cri.images.clone().pull_image(request).await.map_err(|status| pull_problem(&name, &status))?;
    let reference = pulled.into_inner().image_ref;
    match status(cri, &spec).await? {
        Some(image) => Ok(image),
        None => Ok(Image { reference, user: ImageUser::default() }),
    }
}

async fn status(cri: &Cri, spec: &cri::ImageSpec) -> Result<Option<Image>, ImageProblem> {
    let request = cri::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
    let answer = cri.images.clone().image_status(request).await.map_err(|status| {
        let reason = if status.code() == Code::InvalidArgument { "InvalidImageName" } else { "ImageInspectError" };
        ImageProblem { reason, message: status.message().to_owned() }
    })?;
    Ok(answer.into_inner().image.map(|image| Image {
        reference: image.id,
        user: ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username },
    }))
}

fn pull_problem(name: &str, status: &Status) -> ImageProblem {
    let reason = if status.code() == Code::InvalidArgument { "InvalidImageName" } else { "ErrImagePull" };
    let message = status.message();
    let message =
        if message.contains(name) { message.to_owned() } else { format!("cannot get image \"{name}\": {message}") };
    ImageProblem { reason, message }
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
}
