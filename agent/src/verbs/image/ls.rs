//! `coracle image ls`

use std::process::ExitCode;

use cri_proto::cri::image_service_client::ImageServiceClient;
use cri_proto::cri::{Image, ListImagesRequest};
use serde_json::{Value, json};

use crate::channel::Channel;
use crate::printer::{Printer, Table, human};
use crate::verbs::Format;

/// Flags of `image ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Lists images, one line a tag.
pub async fn main(args: Args, mut images: ImageServiceClient<Channel>) -> anyhow::Result<ExitCode> {
    let mut found = images.list_images(ListImagesRequest::default()).await?.into_inner().images;
    found.sort_by(|a, b| (&a.repo_tags, &a.id).cmp(&(&b.repo_tags, &b.id)));
    let mut printer = Printer::stdout();
    let all = || json!({ "images": found.iter().map(describe).collect::<Vec<_>>() });
    match args.output {
        Some(Format::Json) => printer.json(&all())?,
        Some(Format::Yaml) => printer.yaml(&all())?,
        Some(Format::Name) => {
            for name in found.iter().flat_map(names) {
                printer.line(name)?;
            }
        }
        Some(Format::Wide) => printer.table(&table(&found, true))?,
        None => printer.table(&table(&found, false))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An image as crictl shows it.
pub fn describe(image: &Image) -> Value {
    json!({
        "id": image.id,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "size": image.size.to_string(),
        "uid": image.uid.as_ref().map(|uid| json!({ "value": uid.value.to_string() })),
        "username": image.username,
        "pinned": image.pinned,
    })
}

/// The first twelve digits of a digest.
pub fn short_id(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

fn names(image: &Image) -> Vec<String> {
    if image.repo_tags.is_empty() { vec![image.id.clone()] } else { image.repo_tags.clone() }
}

fn table(images: &[Image], wide: bool) -> Table {
    let mut table = match wide {
        true => Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "SIZE", "PINNED", "DIGEST"]),
        false => Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "SIZE"]),
    };
    for image in images {
        let digest = image.repo_digests.first().and_then(|it| it.split_once('@'));
        let untagged = (digest.map_or("", |(repository, _)| repository), "");
        let tagged: Vec<_> = image.repo_tags.iter().map(|tag| split_tag(tag)).collect();
        for (repository, tag) in if tagged.is_empty() { vec![untagged] } else { tagged } {
            let id = if wide { image.id.clone() } else { short_id(&image.id).to_owned() };
            let mut cells = vec![repository.to_owned(), tag.to_owned(), id, human::bytes(image.size)];
            if wide {
                cells.push(if image.pinned { "yes" } else { "no" }.to_owned());
                cells.push(digest.map_or(String::new(), |(_, digest)| digest.to_owned()));
            }
            table.row(cells);
        }
    }
    table
}

/// Repository and tag; a registry's port is no tag.
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> Image {
        Image {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: tags.iter().map(|&it| it.into()).collect(),
            repo_digests: digests.iter().map(|&it| it.into()).collect(),
            size: 4_630_000,
            ..Image::default()
        }
    }

    #[test]
    fn every_tag_has_a_line() {
        let images = [
            image(&["docker.io/library/nginx:latest", "localhost:5000/nginx:1.2"], &[]),
            image(&[], &["docker.io/library/nginx@sha256:77"]),
        ];
        assert_eq!(
            table(&images, false).render(),
            "REPOSITORY                TAG      IMAGE ID       SIZE\n\
             docker.io/library/nginx   latest   0123456789ab   4.63MB\n\
             localhost:5000/nginx      1.2      0123456789ab   4.63MB\n\
             docker.io/library/nginx   <none>   0123456789ab   4.63MB\n"
        );
        assert!(table(&images, true).render().contains("no       sha256:77\n"));
    }

    #[test]
    fn an_untagged_image_goes_by_its_id() {
        assert_eq!(names(&image(&[], &[])), ["sha256:0123456789abcdef"]);
        assert_eq!(split_tag("localhost:5000/nginx"), ("localhost:5000/nginx", ""));
    }
}
