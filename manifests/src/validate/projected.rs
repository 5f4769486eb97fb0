//! Volumes made of several sources, and of fields of the pod.

use super::env::{self, Use};
use super::volume::{file_mode, file_path, keys, owner};
use super::{Context, names};
use crate::path::Path;
use crate::suggest::clip;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn validate(
    context: &mut Context<'_, '_>,
    path: &Path,
    projected: &ProjectedVolumeSource,
    containers: &BTreeSet<&str>,
) {
    file_mode(context, &path.field("defaultMode"), projected.default_mode);
    owner(context, &path.field("defaultUser"), projected.default_user);
    let mut taken = BTreeMap::new();
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let path = path.field("sources").index(index);
        let mut given = Vec::new();
        if let Some(map) = &source.config_map {
            given.push("configMap");
            let path = path.field("configMap");
            context.check(&path.field("name"), names::dns_subdomain(&map.name));
            keys(context, &path, map.items.as_deref());
            once(context, &mut taken, &path, paths(map.items.as_deref()));
        }
        if let Some(secret) = &source.secret {
            given.push("secret");
            let path = path.field("secret");
            context.check(&path.field("name"), names::dns_subdomain(&secret.name));
            keys(context, &path, secret.items.as_deref());
            once(context, &mut taken, &path, paths(secret.items.as_deref()));
        }
        if let Some(fields) = &source.downward_api {
            given.push("downwardAPI");
            let path = path.field("downwardAPI");
            downward(context, &path.field("items"), fields.items.as_deref(), containers);
            once(context, &mut taken, &path, fields.items.iter().flatten().map(|item| item.path.as_str()));
        }
        if let [first, second, ..] = given[..] {
            let message = format!("a source is of one kind, and this one has `{first}` and `{second}`");
            context.key_error(&path.field(second), message, None);
        }
    }
}

fn paths(items: Option<&[KeyToPath]>) -> impl Iterator<Item = &str> {
    items.unwrap_or_default().iter().map(|item| item.path.as_str())
}

/// A file comes from one source.
fn once<'a>(
    context: &mut Context<'_, '_>,
    taken: &mut BTreeMap<&'a str, Path>,
    source: &Path,
    paths: impl Iterator<Item = &'a str>,
) {
    for (index, file) in paths.enumerate().filter(|(_, file)| !file.is_empty()) {
        let at = source.field("items").index(index).field("path");
        if let Some(first) = taken.insert(file, at.clone()) {
            context.error_help(
                &at,
                format!("the file `{}` is there twice", clip(file)),
                format!("the first is {first}"),
            );
        }
    }
}

/// Files that hold fields of the pod.
pub(super) fn downward(
    context: &mut Context<'_, '_>,
    path: &Path,
    items: Option<&[DownwardAPIVolumeFile]>,
    containers: &BTreeSet<&str>,
) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        file_path(context, &path, &item.path);
        file_mode(context, &path.field("mode"), item.mode);
        owner(context, &path.field("user"), item.user);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => env::field_ref(context, &path.field("fieldRef"), field, Use::File),
            (None, Some(resource)) => {
                let path = path.field("resourceFieldRef");
                if resource.container_name.is_none() {
                    context.missing(&path, "containerName");
                }
                env::resource_ref(context, &path, resource, containers);
            }
            _ => context.error(&path, "exactly one of `fieldRef` and `resourceFieldRef` is needed"),
        }
    }
}
