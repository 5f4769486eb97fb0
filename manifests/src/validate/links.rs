//! Links that are well written and cannot be.

use k8s_openapi::api::core::v1::Pod;

use super::Context;
use crate::annotations::{Kind, Link};
use crate::path::Path;
use crate::suggest::clip;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, links: &[Link], pod: &Pod) {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        let help = "remove them, or remove `hostNetwork`";
        context.key_error(path, "a pod in the host's network has no links", Some(help.to_owned()));
        return;
    }
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let home = pod.metadata.namespace.as_deref().unwrap_or("default");
    let hostname = spec.and_then(|spec| spec.hostname_override.as_deref().or(spec.hostname.as_deref()));
    let host_aliases = spec.and_then(|spec| spec.host_aliases.as_ref()).into_iter().flatten();
    let host_names: Vec<&str> = host_aliases.flat_map(|it| it.hostnames.iter().flatten()).map(String::as_str).collect();
    for Link { kind, namespace, name, alias, environment, .. } in links {
        let namespace = namespace.as_deref().unwrap_or(home);
        let help = || format!("give the link another alias: `{}:ALIAS`", clip(name));
        if *kind == Kind::Pod && (namespace, name.as_str()) == (home, own) {
            context.error(path, "a link from a pod to itself");
        } else if alias == own || Some(alias.as_str()) == hostname {
            context.error_help(path, format!("the alias `{alias}` is the pod's own name"), help());
        } else if host_names.contains(&alias.as_str()) {
            context.error_help(path, format!("the alias `{alias}` is a name of `hostAliases`, too"), help());
        }
        if *environment && namespace != home {
            let help =
                "a pod gives its variables to pods of its own namespace alone; put what is shared into a ConfigMap";
            context.error_help(
                path,
                format!("`{}` is in the namespace `{}`: `env` does not reach there", clip(name), clip(namespace)),
                help,
            );
        }
    }
}
