//! ConfigMaps and Secrets.

use super::{Context, names};
use crate::path::Path;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use std::collections::BTreeSet;

/// All values of an object together.
const DATA_BYTES: usize = 1024 * 1024;

pub(super) fn config_map(context: &mut Context<'_, '_>, path: &Path, map: &ConfigMap) {
    let (mut bytes, data, binary) = (0, path.field("data"), path.field("binaryData"));
    for (key, text) in map.data.iter().flatten() {
        bytes += text.len();
        context.check_key(&data.key(key), names::config_key(key));
    }
    for (key, value) in map.binary_data.iter().flatten() {
        bytes += value.0.len();
        let path = binary.key(key);
        context.check_key(&path, names::config_key(key));
        if map.data.iter().any(|data| data.contains_key(key)) {
            context.key_error(&path, format!("`{key}` is in `data` too"), None);
        }
    }
    size(context, &data, bytes);
}

pub(super) fn secret(context: &mut Context<'_, '_>, path: &Path, secret: &Secret) {
    let mut keys = BTreeSet::new();
    let (mut bytes, data, strings) = (0, path.field("data"), path.field("stringData"));
    for (key, value) in secret.data.iter().flatten() {
        bytes += value.0.len();
        context.check_key(&data.key(key), names::config_key(key));
        keys.insert(key.as_str());
    }
    for (key, text) in secret.string_data.iter().flatten() {
        bytes += text.len();
        context.check_key(&strings.key(key), names::config_key(key));
        keys.insert(key.as_str());
    }
    size(context, &data, bytes);
    let ty = secret.type_.as_deref().unwrap_or_default();
    let needed: &[&str] = match ty {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| !keys.contains(**key)) {
        context.error(&data.key(key), format!("a Secret of type `{ty}` needs the key `{key}`"));
    }
    if ty == "kubernetes.io/basic-auth" && !keys.contains("username") && !keys.contains("password") {
        context.error(&data.key("username"), format!("a Secret of type `{ty}` needs `username` or `password`"));
    }
}

fn size(context: &mut Context<'_, '_>, path: &Path, bytes: usize) {
    if bytes > DATA_BYTES {
        context.error(path, format!("values of {bytes} bytes, and at most {DATA_BYTES} are allowed"));
    }
}
