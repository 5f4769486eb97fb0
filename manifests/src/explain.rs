//! One field, explained from the tables that the checks use.

use std::fmt::Write as _;

use crate::kinds;
use crate::schema::support::{self, Support};
use crate::schema::{Field, OBJECTS, Type, values};
use crate::suggest::nearest;
use crate::support_table::{describe, name};

/// There is nothing of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`{}", near.as_deref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct Unknown {
    what: String,
    name: String,
    near: Option<String>,
}

/// The kinds that can be asked for, each with the names that it has on a command line.
const KINDS: [(&str, &[&str]); 9] = [
    ("Pod", &["pod", "pods", "po"]),
    ("ConfigMap", &["configmap", "configmaps", "cm"]),
    ("Secret", &["secret", "secrets"]),
    ("PersistentVolumeClaim", &["persistentvolumeclaim", "persistentvolumeclaims", "pvc"]),
    ("Service", &["service", "services", "svc"]),
    ("NetworkPolicy", &["networkpolicy", "networkpolicies", "netpol"]),
    ("Network", &["network", "networks"]),
    ("Ambassador", &["ambassador", "ambassadors"]),
    ("KubeletConfiguration", &["kubeletconfiguration"]),
];

/// What `pod.spec.containers.image` or the like is: its type, whether it runs here, and what is in it. Without a path,
/// what can be asked for.
pub fn explain(path: &str) -> Result<String, Unknown> {
    let mut segments = path.split('.').filter(|segment| !segment.is_empty());
    let Some(first) = segments.next() else { return Ok(overview()) };
    let asked = first.to_lowercase();
    let Some((kind, _)) = KINDS.iter().find(|(_, names)| names.contains(&asked.as_str())) else {
        let near = nearest(&asked, KINDS.iter().flat_map(|(_, names)| names.iter().copied())).map(str::to_owned);
        return Err(Unknown { what: "kind".into(), name: first.into(), near });
    };
    let (mut object, mut found) = (*kind, None);
    for segment in segments {
        let asked = segment.trim_end_matches("[]");
        let fields = OBJECTS.fields(object);
        let Some(field) = OBJECTS.field(object, asked) else {
            let near = nearest(asked, fields.iter().map(|field| field.name)).map(str::to_owned);
            let place = if object.is_empty() { "that value" } else { object };
            return Err(Unknown { what: format!("field in {place}"), name: asked.into(), near });
        };
        found = Some((object, field));
        object = held(&field.ty).unwrap_or_default();
    }
    Ok(match found {
        None => page(kind, None, object),
        Some((parent, field)) => page(kind, Some((parent, field)), object),
    })
}

fn overview() -> String {
    let mut out = String::from("Kinds, each with its other names:\n");
    for (kind, names) in KINDS {
        let _ = writeln!(out, "  {kind:<24}{}", names.join(", "));
    }
    out.push_str("\nAsk for one, or for a field of it: coracle explain pod.spec.containers.livenessProbe\n");
    out
}

fn page(kind: &str, field: Option<(&str, &Field)>, object: &str) -> String {
    let runs = kinds::RUN.iter().find(|(_, name)| *name == kind);
    let version = runs.map_or("kubelet.config.k8s.io/v1beta1", |(version, _)| *version);
    let mut out = format!("KIND:     {kind}\nVERSION:  {version}\n");
    if let Some((parent, field)) = field {
        let required = if field.required { ", required" } else { "" };
        let _ = writeln!(out, "FIELD:    {} <{}>{required}", field.name, name(&field.ty));
        let support = support::of(parent, field.name);
        let _ = writeln!(out, "HERE:     {}", describe(support));
        if let Some(values) = values::of(parent, field.name).filter(|_| support == Some(Support::Runs)) {
            let values: Vec<&str> = values.iter().copied().filter(|value| !value.is_empty()).collect();
            let _ = writeln!(out, "VALUES:   {}", values.join(", "));
        }
    }
    let fields = OBJECTS.fields(object);
    if !fields.is_empty() {
        out.push_str("\nFIELDS:\n");
        for field in fields {
            let required = if field.required { ", required" } else { "" };
            let left = format!("{} <{}>{required}", field.name, name(&field.ty));
            let _ = writeln!(out, "  {left:<56} {}", describe(support::of(object, field.name)));
        }
    }
    out
}

/// The object type that a field holds, or a list or map of.
fn held(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::Object(name) => Some(name),
        Type::List(item) | Type::Map(item) => held(item),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_that_runs_is_explained() {
        for kind in kinds::run() {
            let page = explain(&kind.to_lowercase()).unwrap();
            assert!(page.contains("  metadata <ObjectMeta>"), "{page}");
        }
    }

    #[test]
    fn a_field_is_explained_with_what_becomes_of_it_here() {
        for (path, words) in [
            ("pod", &["KIND:     Pod", "VERSION:  v1", "  spec <PodSpec>", "  status <PodStatus>"][..]),
            ("po.spec.containers[].image", &["FIELD:    image <string>", "HERE:     runs"]),
            ("Pod.spec.restartPolicy", &["VALUES:   Always, OnFailure, Never"]),
            ("pods.spec.containers", &["containers <list of Container>", "  livenessProbe <Probe>"]),
            ("pod.spec.nodeSelector", &["HERE:     warning: there is only this node"]),
            ("pod.spec.priorityClassName", &["runs: `system-cluster-critical`, `system-node-critical`; otherwise"]),
            ("cm.data", &["FIELD:    data <map of string>"]),
            ("kubeletconfiguration.shutdownGracePeriod", &["kubelet.config.k8s.io/v1beta1", "HERE:     runs"]),
            ("", &["persistentvolumeclaims"]),
        ] {
            let page = explain(path).unwrap();
            for word in words {
                assert!(page.contains(word), "{path}: {word}\n{page}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_what_comes_near() {
        for (path, said) in [
            ("pdo", "there is no kind `pdo`; did you mean `pod`?"),
            ("pod.spec.containers.imag", "there is no field in Container `imag`; did you mean `image`?"),
            ("pod.spec.restartPolicy.x", "there is no field in that value `x`"),
        ] {
            assert_eq!(explain(path).unwrap_err().to_string(), said);
        }
    }
}
