//! The fake runtime's images.

use cri_proto::cri::image_service_server::ImageService;

use super::*;

#[tonic::async_trait]
impl ImageService for Fake {
    async fn image_status(&self, request: Request<cri::ImageStatusRequest>) -> Answer<cri::ImageStatusResponse> {
        let name = request.into_inner().image.unwrap().image;
        let world = self.world();
        let image = world.images.contains(&name).then(|| cri::Image {
            id: format!("sha256:{name}"),
            uid: world.image_user.0.map(|value| cri::Int64Value { value }),
            username: world.image_user.1.clone(),
            ..Default::default()
        });
        Ok(Response::new(cri::ImageStatusResponse { image, ..Default::default() }))
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Answer<cri::PullImageResponse> {
        let request = request.into_inner();
        let image_ref = self.pull(request.image.unwrap().image, request.auth.unwrap_or_default().username).await?;
        Ok(Response::new(cri::PullImageResponse { image_ref }))
    }

    type StreamImagesStream = Never<cri::StreamImagesResponse>;
    async fn list_images(&self, _: Request<cri::ListImagesRequest>) -> Answer<cri::ListImagesResponse> {
        absent()
    }
    async fn stream_images(&self, _: Request<cri::StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        absent()
    }
    async fn remove_image(&self, _: Request<cri::RemoveImageRequest>) -> Answer<cri::RemoveImageResponse> {
        absent()
    }
    async fn image_fs_info(&self, _: Request<cri::ImageFsInfoRequest>) -> Answer<cri::ImageFsInfoResponse> {
        absent()
    }
}
