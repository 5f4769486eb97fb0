//! Volumes.

use super::container::confined;
use super::{Context, names, projected, resources};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::suggest::clip;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, PodSpec, Volume};
use std::collections::{BTreeMap, BTreeSet};

/// The bits that `chmod` takes for a file of a volume.
const MODES: i32 = 0o777;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let containers: BTreeSet<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|container| container.name.as_str())
        .collect();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.index(index);
        let name = path.field("name");
        context.check(&name, names::dns_label(&volume.name));
        if let Some(first) = seen.insert(&volume.name, index) {
            let message = format!("the volume name `{}` is used twice", clip(&volume.name));
            context.error_help(&name, message, format!("the first is spec.volumes[{first}]"));
        }
        source(context, &path, volume, &containers);
    }
}

/// A volume that says nothing is one as well.
pub(super) fn is_empty_dir(volume: &Volume) -> bool {
    volume.empty_dir.is_some() || *volume == (Volume { name: volume.name.clone(), ..Volume::default() })
}

fn source(context: &mut Context<'_, '_>, path: &Path, volume: &Volume, containers: &BTreeSet<&str>) {
    let mut sources = Vec::new();
    if let Some(empty) = &volume.empty_dir {
        sources.push("emptyDir");
        empty_dir(context, &path.field("emptyDir"), empty);
    }
    if let Some(host) = &volume.host_path {
        sources.push("hostPath");
        host_path(context, &path.field("hostPath"), host);
    }
    if let Some(map) = &volume.config_map {
        sources.push("configMap");
        let path = path.field("configMap");
        context.check(&path.field("name"), names::dns_subdomain(&map.name));
        owner(context, &path.field("defaultUser"), map.default_user);
        files(context, &path, map.default_mode, map.items.as_deref());
    }
    if let Some(secret) = &volume.secret {
        sources.push("secret");
        let path = path.field("secret");
        match &secret.secret_name {
            Some(name) => context.check(&path.field("secretName"), names::dns_subdomain(name)),
            None => context.missing(&path, "secretName"),
        }
        owner(context, &path.field("defaultUser"), secret.default_user);
        files(context, &path, secret.default_mode, secret.items.as_deref());
    }
    if let Some(downward) = &volume.downward_api {
        sources.push("downwardAPI");
        let path = path.field("downwardAPI");
        owner(context, &path.field("defaultUser"), downward.default_user);
        file_mode(context, &path.field("defaultMode"), downward.default_mode);
        projected::downward(context, &path.field("items"), downward.items.as_deref(), containers);
    }
    if let Some(all) = &volume.projected {
        sources.push("projected");
        projected::validate(context, &path.field("projected"), all, containers);
    }
    if let Some(image) = &volume.image {
        sources.push("image");
        let at = path.field("image");
        match image.reference.as_deref() {
            None | Some("") => context.missing(&at, "reference"),
            Some(image) => super::container::image(context, &at.field("reference"), image),
        }
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        sources.push("persistentVolumeClaim");
        let path = path.field("persistentVolumeClaim").field("claimName");
        context.check(&path, names::dns_subdomain(&claim.claim_name));
    }
    if let [first, second, ..] = sources[..] {
        let message = format!("a volume is of one kind, and this one has `{first}` and `{second}`");
        context.key_error(&path.field(second), message, None);
    }
}

fn empty_dir(context: &mut Context<'_, '_>, path: &Path, empty: &EmptyDirVolumeSource) {
    let medium = empty.medium.as_deref().unwrap_or_default();
    let huge = medium
        .strip_prefix("HugePages-")
        .is_some_and(|size| resources::page_size(&format!("hugepages-{size}")).is_some());
    if !matches!(medium, "" | "Memory" | "HugePages") && !huge {
        let message = format!("`{}` is not one of `Memory`, `HugePages` or `HugePages-SIZE`", clip(medium));
        let help = crate::suggest::nearest(medium, ["Memory", "HugePages"]).unwrap_or("nothing, for the disk");
        context.error_help(&path.field("medium"), message, format!("did you mean `{help}`?"));
    }
    if let Some(mode) = empty.mode.filter(|mode| !(0..=0o1777).contains(mode)) {
        context.error(&path.field("mode"), format!("`{mode}` is not between 0 and 01777 (1023)"));
    }
    let limit = empty.size_limit.as_ref().and_then(|limit| Quantity::try_from(limit).ok());
    if let Some(limit) = limit.filter(|limit| limit.nano() < 0) {
        context.error(&path.field("sizeLimit"), format!("`{limit}` is less than 0"));
    }
}

fn host_path(context: &mut Context<'_, '_>, path: &Path, host: &HostPathVolumeSource) {
    let at = path.field("path");
    if !host.path.starts_with('/') {
        context.error(&at, format!("`{}` is not an absolute path", clip(&host.path)));
    } else if host.path.split('/').any(|part| part == "..") {
        context.error(&at, format!("`{}` must not contain `..`", clip(&host.path)));
    }
}

fn files(context: &mut Context<'_, '_>, path: &Path, mode: Option<i32>, items: Option<&[KeyToPath]>) {
    file_mode(context, &path.field("defaultMode"), mode);
    keys(context, path, items);
}

pub(super) fn keys(context: &mut Context<'_, '_>, path: &Path, items: Option<&[KeyToPath]>) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.field("items").index(index);
        context.check(&path.field("key"), names::config_key(&item.key));
        file_path(context, &path, &item.path);
        owner(context, &path.field("user"), item.user);
        file_mode(context, &path.field("mode"), item.mode);
    }
}

/// Where a file lies in its volume.
pub(super) fn file_path(context: &mut Context<'_, '_>, item: &Path, file: &str) {
    let at = item.field("path");
    match file {
        "" => context.missing(item, "path"),
        // The names of the hidden directories in which such a volume is exchanged as a whole begin so.
        file if file.starts_with("..") => {
            context.error(&at, format!("`{}` must not begin with `..`", clip(file)));
        }
        file => confined(context, &at, file),
    }
}

pub(super) fn owner(context: &mut Context<'_, '_>, path: &Path, user: Option<i64>) {
    context.within(path, user, 0, super::security::LARGEST_ID);
}

pub(super) fn file_mode(context: &mut Context<'_, '_>, path: &Path, mode: Option<i32>) {
    let Some(mode) = mode.filter(|mode| !(0..=MODES).contains(mode)) else { return };
    // 0644 without its zero: the decimal digits look like a mode.
    let octal = u32::from_str_radix(&mode.to_string(), 8).is_ok_and(|octal| octal <= MODES as u32);
    let message = format!("`{mode}` is not between 0 and 0777 (511)");
    match octal {
        true => context.error_help(path, message, format!("octal begins with a zero: `0{mode}`")),
        false => context.error(path, message),
    }
}
