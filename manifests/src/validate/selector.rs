//! Selectors: what chooses objects by their labels.

use super::{Context, names};
use crate::path::Path;
use crate::suggest::clip;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

/// Labels that have to have these values.
pub(super) fn labels(context: &mut Context<'_, '_>, path: &Path, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let path = path.key(key);
        context.check_key(&path, names::qualified(key));
        context.check(&path, names::label_value(value));
    }
}

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, selector: &LabelSelector) {
    labels(context, &path.field("matchLabels"), selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        expression(context, &path.field("matchExpressions").index(index), requirement);
    }
}

fn expression(context: &mut Context<'_, '_>, path: &Path, requirement: &LabelSelectorRequirement) {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    context.check(&path.field("key"), names::qualified(key));
    let values = values.as_deref().unwrap_or_default();
    let at = path.field("values");
    match operator.as_str() {
        "In" | "NotIn" if values.is_empty() => context.error(&at, format!("`{operator}` needs `values`")),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            context.key_error(&at, format!("`{operator}` asks for no values"), Some("use `In` or `NotIn`".to_owned()));
        }
        _ => {}
    }
    for (index, value) in values.iter().enumerate() {
        context.check(&at.index(index), names::label_value(value));
    }
}

/// The same of namespaces, which have one label here: others choose none, or all.
pub(super) fn of_namespaces(context: &mut Context<'_, '_>, path: &Path, selector: &LabelSelector) {
    validate(context, path, selector);
    let labels = selector.match_labels.iter().flatten().map(|(key, _)| (path.field("matchLabels").key(key), key));
    let expressions = selector.match_expressions.iter().flatten().enumerate();
    let expressions =
        expressions.map(|(index, it)| (path.field("matchExpressions").index(index).field("key"), &it.key));
    let unknown: Vec<_> = labels.chain(expressions).filter(|(_, key)| *key != crate::NAMESPACE_LABEL).collect();
    for (path, key) in unknown {
        let message = format!("no namespace has the label `{}` here", clip(key));
        context.key_warning(&path, message, format!("choose namespaces by `{}`, their name", crate::NAMESPACE_LABEL));
    }
}
