//! docker-archive: `manifest.json` names configurations, layers and tags.

use serde_json::json;

use super::{Chosen, Documents};
use crate::images::Digest;
use crate::images::durable::json;
use crate::images::error::Error;

pub(super) fn documents(images: &[Chosen]) -> Result<Documents, Error> {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let saved = images.iter().map(|image| {
        // Docker tags only: a digest is no tag.
        let tags = image.names.iter().filter(|name| name.digest().is_none()).map(ToString::to_string);
        json!({
            "Config": path(&image.manifest.config.digest),
            "RepoTags": tags.collect::<Vec<_>>(),
            "Layers": image.manifest.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
        })
    });
    Ok(vec![("manifest.json".to_owned(), json(&saved.collect::<Vec<_>>())?)])
}
