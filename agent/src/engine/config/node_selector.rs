//! Whether a node is one of those that a selector means: pure, by Kubernetes' rules.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

/// Whether any term means the node of these labels and this name.
pub fn matches(selector: &NodeSelector, labels: &BTreeMap<String, String>, name: &str) -> bool {
    selector.node_selector_terms.iter().any(|term| term_fits(term, labels, name))
}

/// Whether a node is one of a term's; a term that says nothing is no node's.
fn term_fits(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let of_name = |it: &NodeSelectorRequirement| fits(it, (it.key == "metadata.name").then_some(name));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|it| fits(it, labels.get(&it.key).map(String::as_str)))
        && fields.iter().all(of_name)
}

fn fits(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|it| it == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(has, than)| has > than),
        "Lt" => numbers().is_some_and(|(has, than)| has < than),
        _ => false,
    }
}
