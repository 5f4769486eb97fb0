//! Requests and limits.

use super::{Context, names};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::ResourceRequirements;
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// The size in `hugepages-2Mi`.
pub(super) fn page_size(resource: &str) -> Option<Quantity> {
    resource.strip_prefix("hugepages-")?.parse().ok().filter(|size: &Quantity| size.nano() > 0)
}

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, resources: Option<&ResourceRequirements>) {
    let Some(resources) = resources else { return };
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
        "cpu" | "memory" => {}
        "ephemeral-storage" => {
            context.key_warning(path, "`ephemeral-storage` has no effect", "disk use is not counted yet");
        }
        _ if page_size(name).is_some() => {}
        _ if name.contains('/') => match names::qualified(name) {
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
