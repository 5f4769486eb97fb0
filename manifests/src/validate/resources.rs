//! Requests and limits.

use super::{Context, names};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// The size in `hugepages-2Mi`.
pub(super) fn page_size(resource: &str) -> Option<Quantity> {
    resource.strip_prefix("hugepages-")?.parse().ok().filter(|size: &Quantity| size.nano() > 0)
}

/// Whether a resource is one that device plug-ins, or who manages a cluster, may bring (`IsExtendedResourceName` in
/// Kubernetes' pkg/apis/core/v1/helper): of a domain that is not Kubernetes' own, and short enough to have a quota.
pub fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && names::qualified(&format!("requests.{name}")).is_ok()
}

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, resources: Option<&ResourceRequirements>) {
    if let Some(resources) = resources {
        amounts(context, path, resources, resource);
    }
}

/// The pod's own, which its containers share.
pub(super) fn pod(context: &mut Context<'_, '_>, path: &Path, spec: &PodSpec) {
    let Some(resources) = &spec.resources else { return };
    amounts(context, path, resources, pod_resource);
    for (list, own, huge_only) in [("requests", &resources.requests, false), ("limits", &resources.limits, true)] {
        let sums = crate::resources::total(spec, list);
        for (name, amount) in own.iter().flatten().filter(|(name, _)| !huge_only || page_size(name).is_some()) {
            let (Ok(amount), Some(sum)) = (Quantity::try_from(amount), sums.get(name.as_str())) else { continue };
            if amount < *sum {
                let message = format!("`{amount}` is less than the {list} of its containers together, {sum}");
                context.error(&path.field(list).key(name), message);
            }
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let whole = resources.limits.as_ref().and_then(|limits| limits.get(name));
            let (Some(Ok(whole)), Ok(limit)) = (whole.map(Quantity::try_from), Quantity::try_from(limit)) else {
                continue;
            };
            if limit > whole {
                let containers = Path::default().field("spec").field("containers").index(index);
                let at = containers.field("resources").field("limits").key(name);
                context.error(&at, format!("`{limit}` is more than the limit of the pod, {whole}"));
            }
        }
    }
}

fn pod_resource(context: &mut Context<'_, '_>, path: &Path, name: &str) {
    if !matches!(name, "cpu" | "memory") && page_size(name).is_none() {
        let help = "a pod as a whole has cpu, memory and hugepages-SIZE".to_owned();
        context.key_error(path, format!("`{}` is not a resource of a pod", clip(name)), Some(help));
    }
}

type Name = fn(&mut Context<'_, '_>, &Path, &str);

fn amounts(context: &mut Context<'_, '_>, path: &Path, resources: &ResourceRequirements, resource: Name) {
    let none = Amounts::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    for (list, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, amount) in amounts {
            let path = path.field(list).key(name);
            resource(context, &path, name);
            if let Ok(amount) = Quantity::try_from(amount) {
                value(context, &path, name, amount);
            }
        }
    }
    for (name, request) in requests {
        let (Ok(request), at) = (Quantity::try_from(request), path.field("requests").key(name)) else { continue };
        let limit = limits.get(name).and_then(|limit| Quantity::try_from(limit).ok());
        let huge = page_size(name).is_some();
        match limit {
            Some(limit) if request > limit => {
                context.error(&at, format!("a request of {request} is more than the limit of {limit}"));
            }
            Some(limit) if huge && request != limit => {
                context.error(&at, format!("huge pages are not overcommitted: request the limit, {limit}"));
            }
            Some(limit) if is_extended(name) && request != limit => {
                context.error(&at, format!("devices are not overcommitted: request the limit, {limit}"));
            }
            None if huge => context.error(&at, format!("huge pages need a limit: add `{name}` to `limits`")),
            _ => {}
        }
    }
    let any = |name: &str| limits.contains_key(name) || requests.contains_key(name);
    if let Some(huge) = limits.keys().find(|name| page_size(name).is_some())
        && !any("cpu")
        && !any("memory")
    {
        context.key_error(&path.field("limits").key(huge), "huge pages need a `cpu` or `memory` amount beside", None);
    }
}

fn resource(context: &mut Context<'_, '_>, path: &Path, name: &str) {
    const KNOWN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    match name {
        "cpu" | "memory" | "ephemeral-storage" => {}
        _ if page_size(name).is_some() => {}
        _ if name.contains('/') => match names::qualified(name) {
            // Devices are counted by whoever places pods.
            Ok(()) if context.report.is_of_cluster() && is_extended(name) => {}
            Ok(()) => context.key_error(path, format!("the resource `{}` is not run yet", clip(name)), None),
            broken => context.check_key(path, broken),
        },
        _ => {
            let help = match nearest(name, KNOWN) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "there are cpu, memory, ephemeral-storage and hugepages-SIZE".to_owned(),
            };
            context.key_error(path, format!("unknown resource `{}`", clip(name)), Some(help));
        }
    }
}

fn value(context: &mut Context<'_, '_>, path: &Path, name: &str, amount: Quantity) {
    if amount.nano() < 0 {
        context.error(path, format!("`{amount}` is less than 0"));
        return;
    }
    let whole = amount.nano() % 1_000_000_000 == 0;
    if !whole && name != "cpu" {
        let help = "`m` is a thousandth; `M` and `Mi` are millions".to_owned();
        context.key_warning(path, format!("`{amount}` is not a whole number of bytes and is rounded up"), help);
    }
    if let Some(size) = page_size(name)
        && amount.nano() % size.nano() != 0
    {
        context.error(path, format!("`{amount}` is not a multiple of the page size, {size}"));
    }
}
