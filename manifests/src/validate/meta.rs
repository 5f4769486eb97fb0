//! Names, labels and annotations.

use super::{Context, links, names, network};
use crate::Object;
use crate::annotations::{self, AFTER, After, BANDWIDTH, Broken, LINKS, NETWORK, RESTART_BACKOFF, RESTART_ON_CHANGE};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// All annotations of an object together.
const ANNOTATION_BYTES: usize = 256 * 1024;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, object: &Object) {
    let meta = object.metadata();
    match (&meta.name, &meta.generate_name) {
        // It is a part of a longer DNS name.
        (Some(name), _) if matches!(object, Object::Service(_)) => {
            context.check(&path.field("name"), names::dns_label(name));
        }
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
            (NETWORK, Object::Pod(pod)) => network::chosen(context, &path, value, pod),
            (key, Object::Pod(_)) if BANDWIDTH.contains(&key) => network::bandwidth(context, &path, value),
            (LINKS, Object::Pod(pod)) => {
                if let Some(read) = parsed(context, &path, annotations::links(value)) {
                    links::validate(context, &path, &read, pod);
                }
            }
            (AFTER, Object::Pod(_) | Object::Ambassador(_)) => {
                if let Some(waits) = parsed(context, &path, annotations::after(value)) {
                    after(context, &path, &waits, meta);
                }
            }
            (RESTART_BACKOFF, Object::Pod(_) | Object::Ambassador(_)) => {
                let _ = parsed(context, &path, value.parse::<annotations::Backoff>());
            }
            (RESTART_ON_CHANGE, Object::Pod(_)) => drop(parsed(context, &path, annotations::boolean(value))),
            // They are the pod's that it becomes, and are checked there.
            (NETWORK | LINKS, Object::Ambassador(_)) => {}
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

fn is_ours(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == "coracle.dev" || prefix.ends_with(".coracle.dev")
}
