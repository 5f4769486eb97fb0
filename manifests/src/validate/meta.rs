//! Names, labels and annotations.

use super::{Context, names};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What Coracle itself reads from annotations, and does not run yet.
const OURS_NOT_YET: [&str; 2] = ["coracle.dev/links", "coracle.dev/network"];
/// All annotations of an object together.
const ANNOTATION_BYTES: usize = 256 * 1024;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, meta: &ObjectMeta) {
    match (&meta.name, &meta.generate_name) {
        (Some(name), _) => context.check(&path.field("name"), names::dns_subdomain(name)),
        // That it is not run yet is said already.
        (None, Some(_)) => {}
        (None, None) => context.missing(path, "name"),
    }
    if let Some(namespace) = &meta.namespace {
        context.check(&path.field("namespace"), names::dns_label(namespace));
    }
    if let Some(uid) = &meta.uid {
        // It names directories and cgroups.
        let safe = uid.len() <= 64 && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !safe {
            let message = format!("`{}` is not valid: a uid has at most 64 letters, digits and `-`", clip(uid));
            context.error_help(&path.field("uid"), message, "remove it to get one made");
        }
    }
    for (key, value) in meta.labels.iter().flatten() {
        let path = path.field("labels").key(key);
        context.check_key(&path, names::qualified(key));
        context.check(&path, names::label_value(value));
        if is_ours(key) {
            context.key_error(&path, format!("unknown label `{}`: `coracle.dev/` is Coracle's own", clip(key)), None);
        }
    }
    annotations(context, &path.field("annotations"), meta);
}

fn annotations(context: &mut Context<'_, '_>, path: &Path, meta: &ObjectMeta) {
    let mut bytes = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        bytes += key.len() + value.len();
        let path = path.key(key);
        // Unlike labels, the keys of annotations may have upper-case prefixes.
        context.check_key(&path, names::qualified(&key.to_lowercase()));
        if OURS_NOT_YET.contains(&key.as_str()) {
            context.key_error(&path, format!("`{key}` is not run yet"), None);
        } else if is_ours(key) {
            let help = nearest(key, OURS_NOT_YET).map(|near| format!("did you mean `{near}`?"));
            context.key_error(&path, format!("unknown annotation `{}`", clip(key)), help);
        }
    }
    if bytes > ANNOTATION_BYTES {
        context.error(path, format!("annotations of {bytes} bytes, and at most {ANNOTATION_BYTES} are allowed"));
    }
}

fn is_ours(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == "coracle.dev" || prefix.ends_with(".coracle.dev")
}
