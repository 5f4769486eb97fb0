//! Volumes, and the claims that some are of.

use super::Support::{Ignored, InCluster, Never, Runs};
use super::{Fields, NOT_YET, SERVER, Support, not_yet_unless};

const FROM_A_SERVER: Support = InCluster("it comes from an API server; put what you have into a `secret`");

pub(super) const ROWS: &[(&str, Fields)] = &[
    ("ConfigMapVolumeSource", &[(Runs, &["defaultMode", "defaultUser", "items", "name", "optional"])]),
    ("SecretVolumeSource", &[(Runs, &["defaultMode", "defaultUser", "items", "optional", "secretName"])]),
    ("KeyToPath", &[(Runs, &["key", "mode", "path", "user"])]),
    ("DownwardAPIVolumeSource", &[(Runs, &["defaultMode", "defaultUser", "items"])]),
    ("DownwardAPIVolumeFile", &[(Runs, &["fieldRef", "mode", "path", "resourceFieldRef", "user"])]),
    ("ProjectedVolumeSource", &[(Runs, &["defaultMode", "defaultUser", "sources"])]),
    (
        "VolumeProjection",
        &[
            (Runs, &["configMap", "downwardAPI", "secret"]),
            (FROM_A_SERVER, &["serviceAccountToken"]),
            (
                Never("it comes from an API server; put what you have into a `secret`"),
                &["clusterTrustBundle", "podCertificate"],
            ),
        ],
    ),
    ("ConfigMapProjection", &[(Runs, &["items", "name", "optional"])]),
    ("SecretProjection", &[(Runs, &["items", "name", "optional"])]),
    ("DownwardAPIProjection", &[(Runs, &["items"])]),
    ("ImageVolumeSource", &[(Runs, &["pullPolicy", "reference"])]),
    ("PersistentVolumeClaimVolumeSource", &[(Runs, &["claimName", "readOnly"])]),
    ("EmptyDirVolumeSource", &[(Runs, &["medium", "mode", "sizeLimit"])]),
    (
        "CSIVolumeSource",
        &[(
            InCluster("it is asked for in a cluster alone"),
            &["driver", "fsType", "nodePublishSecretRef", "readOnly", "volumeAttributes"],
        )],
    ),
    ("HostPathVolumeSource", &[(Runs, &["path", "type"])]),
    ("PersistentVolumeClaim", &[(Runs, &["apiVersion", "kind", "metadata", "spec"]), (SERVER, &["status"])]),
    (
        "PersistentVolumeClaimSpec",
        &[
            (Runs, &["accessModes", "resources"]),
            (not_yet_unless(&["", "Filesystem"]), &["volumeMode"]),
            (Ignored("a claim is a directory of this node"), &["storageClassName", "volumeAttributesClassName"]),
            (NOT_YET, &["dataSource", "dataSourceRef", "selector", "volumeName"]),
        ],
    ),
    (
        "VolumeResourceRequirements",
        &[(Runs, &["requests"]), (Ignored("nothing stops a directory from growing"), &["limits"])],
    ),
];
