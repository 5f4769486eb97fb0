//! What a manifest may say, and what becomes of it here.

pub(crate) mod support;
mod trace;
pub(crate) mod values;

use std::sync::LazyLock;
pub(crate) use trace::{Field, Objects, Type};

/// The object types behind the kinds that run, and behind a node's configuration.
pub(crate) static OBJECTS: LazyLock<Objects> = LazyLock::new(|| {
    let mut objects = Objects::default();
    // The probe answers whatever these types ask; `every_type_can_be_traced` holds that.
    let traced = objects
        .trace::<k8s_openapi::api::core::v1::Pod>()
        .and_then(|()| objects.trace::<k8s_openapi::api::core::v1::ConfigMap>())
        .and_then(|()| objects.trace::<k8s_openapi::api::core::v1::Secret>())
        .and_then(|()| objects.trace::<k8s_openapi::api::core::v1::PersistentVolumeClaim>())
        .and_then(|()| objects.trace::<k8s_openapi::api::core::v1::Service>())
        .and_then(|()| objects.trace::<k8s_openapi::api::networking::v1::NetworkPolicy>())
        .and_then(|()| objects.trace_optional::<crate::Network>())
        .and_then(|()| objects.trace_optional::<crate::Ambassador>())
        .and_then(|()| objects.trace_optional::<crate::kubelet::types::KubeletConfiguration>());
    debug_assert!(traced.is_ok(), "{traced:?}");
    objects
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use super::support::Support;
    use std::collections::BTreeSet;

    #[test]
    fn every_type_can_be_traced_and_a_container_needs_a_name() {
        let mut objects = Objects::default();
        objects.trace::<k8s_openapi::api::core::v1::Pod>().unwrap();
        objects.trace::<k8s_openapi::api::core::v1::ConfigMap>().unwrap();
        objects.trace::<k8s_openapi::api::core::v1::Secret>().unwrap();
        objects.trace::<k8s_openapi::api::core::v1::PersistentVolumeClaim>().unwrap();
        objects.trace::<k8s_openapi::api::core::v1::Service>().unwrap();
        objects.trace::<k8s_openapi::api::networking::v1::NetworkPolicy>().unwrap();
        let field = |object, name| objects.field(object, name).unwrap();
        assert!(field("Container", "name").required);
        assert!(!field("Container", "image").required);
        assert_eq!(field("PodSpec", "hostNetwork").ty, Type::Bool);
        assert_eq!(field("Secret", "data").ty, Type::Map(Box::new(Type::Bytes)));
        assert_eq!(field("ResourceRequirements", "limits").ty, Type::Map(Box::new(Type::Quantity)));
        assert_eq!(field("HTTPGetAction", "port").ty, Type::IntOrString);
        assert_eq!(field("ObjectMeta", "creationTimestamp").ty, Type::Time);
    }

    /// Object types that a kind which runs reaches through fields that run.
    fn reached() -> BTreeSet<&'static str> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = crate::kinds::run().chain(["KubeletConfiguration"]).collect();
        while let Some(object) = open.pop() {
            if !reached.insert(object) {
                continue;
            }
            for field in OBJECTS.fields(object) {
                if support::of(object, field.name) != Some(Support::Runs) {
                    continue;
                }
                let held = match &field.ty {
                    Type::List(item) | Type::Map(item) => item,
                    ty => ty,
                };
                if let Type::Object(name) = held {
                    open.push(name);
                }
            }
        }
        reached
    }

    #[test]
    fn every_field_that_a_running_pod_can_reach_is_classified_once_and_exists() {
        let mut wrong = Vec::new();
        for object in reached() {
            for field in OBJECTS.fields(object) {
                let times = support::all().filter(|(o, f, _)| *o == object && *f == field.name).count();
                if times != 1 {
                    wrong.push(format!("{object}.{} is in the table {times} times", field.name));
                }
            }
        }
        for (object, field, _) in support::all() {
            if OBJECTS.field(object, field).is_none() {
                wrong.push(format!("{object}.{field} is in the table and does not exist"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_list_of_values_belongs_to_a_string_that_exists() {
        for (object, field) in values::all() {
            assert_eq!(OBJECTS.field(object, field).unwrap().ty, Type::Str, "{object}.{field}");
        }
    }
}
