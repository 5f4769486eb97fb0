//! Which pods and namespaces are chosen by their labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use manifests::NAMESPACE_LABEL;

type Labels = BTreeMap<String, String>;

/// Whether a selector chooses what has these labels. One that says nothing chooses everything.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    has_all(selector.match_labels.iter().flatten(), labels)
        && selector.match_expressions.iter().flatten().all(|requirement| holds(requirement, labels))
}

/// Whether a Service's selector chooses what has these labels. One that says nothing chooses nothing.
pub fn chooses(selector: Option<&Labels>, labels: Option<&Labels>) -> bool {
    let (Some(selector), Some(labels)) = (selector, labels) else { return false };
    !selector.is_empty() && has_all(selector.iter(), labels)
}

/// Whether a selector chooses a namespace.
pub fn matches_namespace(selector: &LabelSelector, namespace: &str) -> bool {
    matches(selector, Some(&Labels::from([(NAMESPACE_LABEL.to_owned(), namespace.to_owned())])))
}

fn has_all<'a>(mut wanted: impl Iterator<Item = (&'a String, &'a String)>, labels: &Labels) -> bool {
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

fn holds(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.iter().flatten().any(|it| it == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        // What is not there is not in any list.
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn labels(value: &Value) -> Labels {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn objects_are_chosen_by_all_that_is_said_of_their_labels() {
        let web = labels(&json!({"app": "web", "tier": "front"}));
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {}}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "tier": "back"}}), false),
            (json!({"matchLabels": {"app": "web", "x": ""}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api", "web"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api"]}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "In", "values": ["api"]}]}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}), true),
            (json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), true),
            (json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [
                    {"key": "tier", "operator": "Exists"}, {"key": "tier", "operator": "NotIn", "values": ["front"]}]}),
                false,
            ),
        ] {
            let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(matches(&parsed, Some(&web)), expected, "{selector}");
        }
        assert!(matches(&LabelSelector::default(), None));
    }

    #[test]
    fn a_service_without_a_selector_chooses_nothing() {
        let web = labels(&json!({"app": "web"}));
        assert!(chooses(Some(&web), Some(&labels(&json!({"app": "web", "x": "y"})))));
        assert!(!chooses(Some(&web), None));
        assert!(!chooses(Some(&Labels::new()), Some(&web)));
        assert!(!chooses(None, Some(&web)));
    }

    #[test]
    fn a_namespace_has_its_name_and_nothing_else() {
        let selector = |value: Value| -> LabelSelector { serde_json::from_value(value).unwrap() };
        let named = selector(json!({"matchLabels": {"kubernetes.io/metadata.name": "a"}}));
        assert!(matches_namespace(&named, "a") && !matches_namespace(&named, "b"));
        assert!(!matches_namespace(&selector(json!({"matchLabels": {"team": "x"}})), "a"));
        assert!(matches_namespace(&LabelSelector::default(), "a"));
    }
}
