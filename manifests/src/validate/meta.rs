//! Names, labels and annotations.

use super::{Context, names};
use crate::Object;
use crate::annotations::{self, AFTER, After, Broken, LINKS, NETWORK, RESTART_BACKOFF, RESTART_ON_CHANGE};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// All annotations of an object together.
const ANNOTATION_BYTES: usize = 256 * 1024;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, object: &Object) {
    let meta = object.metadata();
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
    annotations(context, &path.field("annotations"), object, meta);
}

fn annotations(context: &mut Context<'_, '_>, path: &Path, object: &Object, meta: &ObjectMeta) {
    let mut bytes = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        bytes += key.len() + value.len();
        let path = path.key(key);
        // Unlike labels, the keys of annotations may have upper-case prefixes.
        context.check_key(&path, names::qualified(&key.to_lowercase()));
        match (key.as_str(), object) {
            (NETWORK, Object::Pod(pod)) => network(context, &path, value, pod),
            (LINKS, Object::Pod(_)) => context.key_error(&path, format!("`{key}` is not run yet"), None),
            (AFTER, Object::Pod(_)) => {
                if let Some(waits) = parsed(context, &path, annotations::after(value)) {
                    after(context, &path, &waits, meta);
                }
            }
            (RESTART_BACKOFF, Object::Pod(_)) => drop(parsed(context, &path, value.parse::<annotations::Backoff>())),
            (RESTART_ON_CHANGE, Object::Pod(_)) => drop(parsed(context, &path, annotations::boolean(value))),
            (known, _) if annotations::ALL.contains(&known) => {
                context.key_error(&path, format!("`{key}` is an annotation of pods"), None);
            }
            _ if is_ours(key) => {
                let help = nearest(key, annotations::ALL).map(|near| format!("did you mean `{near}`?"));
                context.key_error(&path, format!("unknown annotation `{}`", clip(key)), help);
            }
            _ => {}
        }
    }
    if bytes > ANNOTATION_BYTES {
        context.error(path, format!("annotations of {bytes} bytes, and at most {ANNOTATION_BYTES} are allowed"));
    }
}

fn parsed<T>(context: &mut Context<'_, '_>, path: &Path, result: Result<T, Broken>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Broken { message, help }) => {
            context.check(path, Err(names::Broken { message, help }));
            None
        }
    }
}

fn after(context: &mut Context<'_, '_>, path: &Path, waits: &[After], meta: &ObjectMeta) {
    let here = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| "default".to_owned());
    let itself = waits.iter().any(|wait| {
        let namespace = wait.namespace.clone().or_else(|| meta.namespace.clone());
        Some(&wait.pod) == meta.name.as_ref() && here(&namespace) == here(&meta.namespace)
    });
    if itself {
        context.error(path, "a pod that waits for itself never starts");
    }
}

fn network(context: &mut Context<'_, '_>, path: &Path, value: &str, pod: &Pod) {
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        let help = "remove it, or remove `hostNetwork`";
        context.key_error(path, "a pod in the host's network has no other one", Some(help.to_owned()));
    } else if value != "flat" {
        let help = "there is `flat`, in which pods reach each other";
        if value == "private" || names::dns_label(value).is_ok() && nearest(value, ["flat", "private"]).is_none() {
            context.error_help(path, format!("the network `{}` is not run yet", clip(value)), help);
        } else {
            let help =
                nearest(value, ["flat", "private"]).map_or(help.to_owned(), |near| format!("did you mean `{near}`?"));
            context.error_help(path, format!("`{}` is not a network", clip(value)), help);
        }
    }
}

fn is_ours(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == "coracle.dev" || prefix.ends_with(".coracle.dev")
}
