//! The kinds that exist.

/// Kinds of Kubernetes (and Coracle's own) that are not run yet, with their group and versions.
const NOT_RUN_YET: &[(&str, &[&str])] = &[
    (
        "v1",
        &[
            "Binding",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "ServiceAccount",
        ],
    ),
    ("apps/v1", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch/v1", &["CronJob", "Job"]),
    ("autoscaling/v1", &["HorizontalPodAutoscaler"]),
    ("autoscaling/v2", &["HorizontalPodAutoscaler"]),
    ("networking.k8s.io/v1", &["IPAddress", "Ingress", "IngressClass", "ServiceCIDR"]),
    ("policy/v1", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io/v1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("storage.k8s.io/v1", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"]),
    ("scheduling.k8s.io/v1", &["PriorityClass"]),
    ("node.k8s.io/v1", &["RuntimeClass"]),
    ("discovery.k8s.io/v1", &["EndpointSlice"]),
    ("coordination.k8s.io/v1", &["Lease"]),
    ("certificates.k8s.io/v1", &["CertificateSigningRequest"]),
    ("resource.k8s.io/v1", &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io/v1", &["APIService"]),
    ("admissionregistration.k8s.io/v1", &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]),
];

/// The kinds that run, with their group and version.
pub(crate) const RUN: &[(&str, &str)] = &[
    ("v1", "Pod"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("coracle.dev/v1alpha1", "Network"),
    ("coracle.dev/v1alpha1", "Ambassador"),
];

/// The names of the kinds that run.
pub(crate) fn run() -> impl Iterator<Item = &'static str> {
    RUN.iter().map(|(_, kind)| *kind)
}

/// Kinds that exist and do not run, by group and version.
pub(crate) fn not_run_yet() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    NOT_RUN_YET.iter().copied()
}

/// What an `apiVersion` and a `kind` come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One of [`RUN`].
    Runs(&'static str),
    /// A list of objects, of any kinds.
    List,
    /// Exists, is not run.
    NotYet,
    /// The kind exists, in another version.
    WrongVersion(&'static str),
    /// No such kind; with the nearest that exists.
    Unknown(Option<&'static str>),
}

/// Looks a kind up.
pub(crate) fn classify(api_version: &str, kind: &str) -> Class {
    let all = || {
        let others = NOT_RUN_YET.iter().flat_map(|(version, kinds)| kinds.iter().map(move |kind| (*version, *kind)));
        RUN.iter().copied().chain([("v1", "List")]).chain(others)
    };
    let base = kind.strip_suffix("List").filter(|base| !base.is_empty());
    if base.is_some_and(|base| all().any(|(v, k)| v == api_version && k == base))
        || (api_version, kind) == ("v1", "List")
    {
        return Class::List;
    }
    if let Some((_, run)) = RUN.iter().find(|run| **run == (api_version, kind)) {
        return Class::Runs(run);
    }
    match all().find(|(_, k)| *k == kind) {
        Some(_) if all().any(|(v, k)| v == api_version && k == kind) => Class::NotYet,
        Some((version, _)) => Class::WrongVersion(version),
        None => Class::Unknown(crate::suggest::nearest(kind, all().map(|(_, kind)| kind))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        for (version, kind, class) in [
            ("v1", "Pod", Class::Runs("Pod")),
            ("v1", "List", Class::List),
            ("v1", "PodList", Class::List),
            ("apps/v1", "Deployment", Class::NotYet),
            ("apps/v1", "DeploymentList", Class::List),
            ("v1", "Deployment", Class::WrongVersion("apps/v1")),
            ("apps/v1", "Pod", Class::WrongVersion("v1")),
            ("v1", "Service", Class::Runs("Service")),
            ("networking.k8s.io/v1", "NetworkPolicy", Class::Runs("NetworkPolicy")),
            ("networking.k8s.io/v1", "NetworkPolicyList", Class::List),
            ("v1", "NetworkPolicy", Class::WrongVersion("networking.k8s.io/v1")),
            ("coracle.dev/v1alpha1", "Ambassador", Class::Runs("Ambassador")),
            ("v1", "Ambassador", Class::WrongVersion("coracle.dev/v1alpha1")),
            ("v1", "Pood", Class::Unknown(Some("Pod"))),
            ("v1", "Whatever", Class::Unknown(None)),
        ] {
            assert_eq!(classify(version, kind), class, "{version} {kind}");
        }
    }
}
