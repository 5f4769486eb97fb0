//! The kinds of objects that are served, and what of each differs.

use serde_json::{Value, json};

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The version that is served, and the one that is stored.
    pub version: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Its name for kubectl.
    pub singular: &'static str,
    /// Its short names for kubectl.
    pub short: &'static [&'static str],
    /// Its name in objects.
    pub kind: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// The parts that are written by themselves, `status` for one.
    pub parts: &'static [&'static str],
    /// Whether a change of `spec` counts in `metadata.generation`.
    pub generation: bool,
}

impl Kind {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `leases.coordination.k8s.io`: as messages call it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether `status` is written by itself alone.
    pub fn has_status(&self) -> bool {
        self.parts.contains(&"status")
    }

    /// An empty list of it.
    pub fn list(&self, items: Vec<Value>, metadata: Value) -> Value {
        json!({"kind": format!("{}List", self.kind), "apiVersion": self.api_version(), "metadata": metadata, "items": items})
    }
}

const fn core(plural: &'static str, singular: &'static str, kind: &'static str) -> Kind {
    Kind {
        group: "",
        version: "v1",
        plural,
        singular,
        short: &[],
        kind,
        namespaced: true,
        parts: &[],
        generation: false,
    }
}

const fn grouped(group: &'static str, of_core: Kind) -> Kind {
    Kind { group, ..of_core }
}

/// Every kind that objects are stored of.
pub static KINDS: &[Kind] = &[
    Kind { short: &["cm"], ..core("configmaps", "configmap", "ConfigMap") },
    Kind { short: &["ep"], ..core("endpoints", "endpoints", "Endpoints") },
    Kind { short: &["ev"], ..core("events", "event", "Event") },
    Kind {
        short: &["ns"],
        namespaced: false,
        parts: &["status", "finalize"],
        ..core("namespaces", "namespace", "Namespace")
    },
    Kind { short: &["no"], namespaced: false, parts: &["status", "proxy"], ..core("nodes", "node", "Node") },
    Kind {
        short: &["pvc"],
        parts: &["status"],
        ..core("persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim")
    },
    Kind {
        short: &["pv"],
        namespaced: false,
        parts: &["status"],
        ..core("persistentvolumes", "persistentvolume", "PersistentVolume")
    },
    Kind {
        short: &["po"],
        parts: &[
            "status",
            "resize",
            "ephemeralcontainers",
            "binding",
            "eviction",
            "log",
            "exec",
            "attach",
            "portforward",
            "proxy",
        ],
        generation: true,
        ..core("pods", "pod", "Pod")
    },
    core("secrets", "secret", "Secret"),
    Kind { short: &["sa"], parts: &["token"], ..core("serviceaccounts", "serviceaccount", "ServiceAccount") },
    Kind { short: &["svc"], parts: &["status"], ..core("services", "service", "Service") },
    grouped(
        "apps",
        Kind {
            short: &["deploy"],
            parts: &["status"],
            generation: true,
            ..core("deployments", "deployment", "Deployment")
        },
    ),
    grouped("batch", Kind { parts: &["status"], generation: true, ..core("jobs", "job", "Job") }),
    grouped(
        "certificates.k8s.io",
        Kind {
            short: &["csr"],
            namespaced: false,
            parts: &["status", "approval"],
            ..core("certificatesigningrequests", "certificatesigningrequest", "CertificateSigningRequest")
        },
    ),
    grouped("coordination.k8s.io", core("leases", "lease", "Lease")),
    grouped("discovery.k8s.io", core("endpointslices", "endpointslice", "EndpointSlice")),
    grouped("node.k8s.io", Kind { namespaced: false, ..core("runtimeclasses", "runtimeclass", "RuntimeClass") }),
    grouped(
        "policy",
        Kind {
            short: &["pdb"],
            parts: &["status"],
            generation: true,
            ..core("poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget")
        },
    ),
    grouped(
        "scheduling.k8s.io",
        Kind { short: &["pc"], namespaced: false, ..core("priorityclasses", "priorityclass", "PriorityClass") },
    ),
    grouped("storage.k8s.io", Kind { namespaced: false, ..core("csidrivers", "csidriver", "CSIDriver") }),
    grouped("storage.k8s.io", Kind { namespaced: false, ..core("csinodes", "csinode", "CSINode") }),
    grouped(
        "storage.k8s.io",
        Kind { short: &["sc"], namespaced: false, ..core("storageclasses", "storageclass", "StorageClass") },
    ),
    grouped(
        "storage.k8s.io",
        Kind {
            namespaced: false,
            parts: &["status"],
            ..core("volumeattachments", "volumeattachment", "VolumeAttachment")
        },
    ),
];

/// Kinds that are asked and not stored: a request of them is created, and the answer is what it says.
pub static REVIEWS: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
];

/// The kind of a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The kind that an object says it is of.
pub fn of(object: &Value) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| object["kind"] == kind.kind && object["apiVersion"] == kind.api_version())
}
