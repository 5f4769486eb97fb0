//! ImageService.

use std::collections::HashMap;

use cri_proto::cri::{self, image_service_server::ImageService};
use tonic::{Request, Response, Status};

use super::events::Answers;
use super::{Services, convert};
use crate::Kind;
use crate::container::{self, find_image};
use crate::core::Core;
use crate::error::Result;
use crate::images::{Image, Limits, PullRequest, RegistryAuth};

/// An image as a client sees it.
fn show(image: &Image) -> cri::Image {
    let user = image.config.user.split(':').next().unwrap_or("");
    let uid = user.parse::<u32>().ok().map(|uid| cri::Int64Value { value: uid.into() });
    cri::Image {
        id: image.id.to_string(),
        repo_tags: image.references.iter().map(ToString::to_string).filter(|it| !it.contains('@')).collect(),
        repo_digests: image.digests.clone(),
        size: image.size,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        uid,
        spec: None,
        pinned: image.pinned,
    }
}

/// Everything about an image that `verbose` asks for: its configuration as it came, and where it is unpacked.
fn info(core: &Core, image: &Image) -> Result<HashMap<String, String>> {
    let text = serde_json::json!({
        "chainID": image.chain_id,
        "imageSpec": core.images.document(&image.id)?,
        "layers": image.layers,
    });
    Ok(HashMap::from([("info".to_owned(), text.to_string())]))
}

fn name(image: Option<cri::ImageSpec>) -> Result<String> {
    let image = convert::required(image, "image")?;
    if image.image.is_empty() { Err(crate::Error::Invalid("image.image is empty".into())) } else { Ok(image.image) }
}

/// Credentials as kubelet hands them over.
fn auth(config: cri::AuthConfig) -> Result<RegistryAuth> {
    let encoded = (!config.auth.is_empty()).then(|| RegistryAuth::from_encoded(&config.auth));
    let decoded =
        encoded.map(|it| it.ok_or_else(|| crate::Error::Invalid("auth.auth is not user:password in base64".into())));
    let decoded = decoded.transpose()?.unwrap_or_default();
    let or = |given: String, decoded: String| if given.is_empty() { decoded } else { given };
    Ok(RegistryAuth {
        username: or(config.username, decoded.username),
        password: or(config.password, decoded.password),
        identity_token: config.identity_token,
        registry_token: config.registry_token,
        server: config.server_address,
    })
}

fn find(core: &Core, name: &str) -> Result<Option<Image>> {
    match find_image(core, name) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Services {
    async fn images(&self, filter: Option<cri::ImageFilter>) -> std::result::Result<Vec<cri::Image>, Status> {
        self.run(move |core, _| {
            let wanted = filter.and_then(|it| it.image).map(|it| it.image).filter(|it| !it.is_empty());
            let images = match wanted {
                Some(name) => find(core, &name)?.into_iter().collect(),
                None => core.images.list()?,
            };
            Ok(images.iter().map(show).collect())
        })
        .await
    }
}

#[tonic::async_trait]
impl ImageService for Services {
    async fn list_images(
        &self,
        request: Request<cri::ListImagesRequest>,
    ) -> std::result::Result<Response<cri::ListImagesResponse>, Status> {
        let images = self.images(request.into_inner().filter).await?;
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    type StreamImagesStream = Answers<cri::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> std::result::Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.images(request.into_inner().filter).await?;
        Ok(super::runtime::chunks(images, |images| cri::StreamImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> std::result::Result<Response<cri::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let answer = self.run(move |core, _| {
            let image = find(core, &name(request.image)?)?;
            let info = image.as_ref().filter(|_| request.verbose).map(|it| info(core, it)).transpose()?;
            Ok(cri::ImageStatusResponse { image: image.as_ref().map(show), info: info.unwrap_or_default() })
        });
        answer.await.map(Response::new)
    }

    /// Answers with the image's id. Asked while another asks for the same image it waits for that one's.
    async fn pull_image(
        &self,
        request: Request<cri::PullImageRequest>,
    ) -> std::result::Result<Response<cri::PullImageResponse>, Status> {
        let request = request.into_inner();
        let reference = name(request.image).map_err(|error| super::status(&error))?;
        let auth = request.auth.map(auth).transpose().map_err(|error| super::status(&error))?;
        let auth = auth.filter(|auth| !auth.is_empty());
        let wish = PullRequest { reference, auth, platform: String::new(), limits: Limits::default() };
        match self.begin_pull(wish)?.image().await {
            Ok(image) => Ok(Response::new(cri::PullImageResponse { image_ref: image.id.to_string() })),
            Err(error) => Err(super::image_status(&error)),
        }
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> std::result::Result<Response<cri::RemoveImageResponse>, Status> {
        let request = request.into_inner();
        let answer = self.run(move |core, _| {
            match core.images.remove(&name(request.image)?, &|id| container::uses_image(core, id)) {
                Ok(_) => {}
                Err(error) if error.kind() == crate::images::Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            Ok(cri::RemoveImageResponse {})
        });
        answer.await.map(Response::new)
    }

    async fn image_fs_info(
        &self,
        _request: Request<cri::ImageFsInfoRequest>,
    ) -> std::result::Result<Response<cri::ImageFsInfoResponse>, Status> {
        let meter = self.meter.clone();
        let answer = self.run(move |core, _| super::filesystem::info(core, &meter));
        answer.await.map(Response::new)
    }
}
