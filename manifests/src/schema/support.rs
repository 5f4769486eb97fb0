//! What becomes of each field: the one table behind the diagnostics and the support document.
//!
//! Every field of every object that a running pod can reach is in it; a test holds that, so a new Kubernetes version
//! cannot bring a field that nobody has thought about.

/// What Coracle does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// It means here what it means in Kubernetes.
    Runs,
    /// It has no meaning on one node, or is written by a server: a warning, with the reason.
    Ignored(&'static str),
    /// Without it something else would run than what is written: an error. Only these values change nothing.
    NotYet { harmless: &'static [&'static str] },
}

use Support::{Ignored, Runs};

const NOT_YET: Support = Support::NotYet { harmless: &["", "false", "0"] };
const fn not_yet_unless(harmless: &'static [&'static str]) -> Support {
    Support::NotYet { harmless }
}

type Fields = &'static [(Support, &'static [&'static str])];

const ONE_NODE: Support = Ignored("there is only this node");
const SERVER: Support = Ignored("the API server writes it");
const NO_API_SERVER: Support = Ignored("there is no API server for a service account to talk to");

const ALL: &[(&str, Fields)] = &[
    ("Pod", &[(Runs, &["apiVersion", "kind", "metadata", "spec"]), (SERVER, &["status"])]),
    (
        "ObjectMeta",
        &[
            (Runs, &["annotations", "labels", "name", "namespace", "uid"]),
            (NOT_YET, &["generateName"]),
            (
                SERVER,
                &[
                    "creationTimestamp",
                    "deletionGracePeriodSeconds",
                    "deletionTimestamp",
                    "finalizers",
                    "generation",
                    "managedFields",
                    "ownerReferences",
                    "resourceVersion",
                    "selfLink",
                ],
            ),
        ],
    ),
    (
        "PodSpec",
        &[
            (
                Runs,
                &[
                    "containers",
                    "dnsConfig",
                    "dnsPolicy",
                    "hostAliases",
                    "hostIPC",
                    "hostNetwork",
                    "hostPID",
                    "hostUsers",
                    "hostname",
                    "imagePullSecrets",
                    "initContainers",
                    "os",
                    "restartPolicy",
                    "securityContext",
                    "shareProcessNamespace",
                    "subdomain",
                    "terminationGracePeriodSeconds",
                    "volumes",
                ],
            ),
            (
                ONE_NODE,
                &[
                    "affinity",
                    "nodeName",
                    "nodeSelector",
                    "preemptionPolicy",
                    "priority",
                    "priorityClassName",
                    "schedulerName",
                    "schedulingGates",
                    "schedulingGroup",
                    "tolerations",
                    "topologySpreadConstraints",
                ],
            ),
            (NO_API_SERVER, &["automountServiceAccountToken", "serviceAccount", "serviceAccountName"]),
            (Ignored("there are no Services yet"), &["enableServiceLinks"]),
            (Ignored("nothing evicts pods here"), &["evictionResponders"]),
            (Ignored("there are no runtime classes to account for"), &["overhead"]),
            (Ignored("nothing sets the conditions it waits for"), &["readinessGates"]),
            (
                NOT_YET,
                &[
                    "activeDeadlineSeconds",
                    "ephemeralContainers",
                    "hostnameOverride",
                    "resourceClaims",
                    "resources",
                    "runtimeClassName",
                    "setHostnameAsFQDN",
                ],
            ),
        ],
    ),
    (
        "Container",
        &[
            (
                Runs,
                &[
                    "args",
                    "command",
                    "env",
                    "envFrom",
                    "image",
                    "imagePullPolicy",
                    "name",
                    "ports",
                    "resources",
                    "securityContext",
                    "stdin",
                    "stdinOnce",
                    "terminationMessagePath",
                    "terminationMessagePolicy",
                    "tty",
                    "volumeMounts",
                    "workingDir",
                ],
            ),
            (Ignored("resources of a running container are not changed"), &["resizePolicy"]),
            (
                NOT_YET,
                &[
                    "lifecycle",
                    "livenessProbe",
                    "readinessProbe",
                    "restartPolicy",
                    "restartPolicyRules",
                    "startupProbe",
                    "volumeDevices",
                ],
            ),
        ],
    ),
    ("ContainerPort", &[(Runs, &["containerPort", "hostIP", "hostPort", "name", "protocol"])]),
    ("EnvVar", &[(Runs, &["name", "value", "valueFrom"])]),
    (
        "EnvVarSource",
        &[(Runs, &["configMapKeyRef", "fieldRef", "resourceFieldRef", "secretKeyRef"]), (NOT_YET, &["fileKeyRef"])],
    ),
    ("ConfigMapKeySelector", &[(Runs, &["key", "name", "optional"])]),
    ("SecretKeySelector", &[(Runs, &["key", "name", "optional"])]),
    ("ObjectFieldSelector", &[(Runs, &["apiVersion", "fieldPath"])]),
    ("ResourceFieldSelector", &[(Runs, &["containerName", "divisor", "resource"])]),
    ("EnvFromSource", &[(Runs, &["configMapRef", "prefix", "secretRef"])]),
    ("ConfigMapEnvSource", &[(Runs, &["name", "optional"])]),
    ("SecretEnvSource", &[(Runs, &["name", "optional"])]),
    ("ResourceRequirements", &[(Runs, &["limits", "requests"]), (NOT_YET, &["claims"])]),
    (
        "VolumeMount",
        &[
            (Runs, &["mountPath", "mountPropagation", "name", "readOnly", "recursiveReadOnly", "subPath"]),
            (NOT_YET, &["bindMountOptions", "subPathExpr"]),
        ],
    ),
    (
        "SecurityContext",
        &[
            (
                Runs,
                &[
                    "allowPrivilegeEscalation",
                    "appArmorProfile",
                    "capabilities",
                    "privileged",
                    "procMount",
                    "readOnlyRootFilesystem",
                    "runAsGroup",
                    "runAsNonRoot",
                    "runAsUser",
                    "seLinuxOptions",
                    "seccompProfile",
                ],
            ),
            (NOT_YET, &["windowsOptions"]),
        ],
    ),
    (
        "PodSecurityContext",
        &[
            (
                Runs,
                &[
                    "appArmorProfile",
                    "fsGroup",
                    "runAsGroup",
                    "runAsNonRoot",
                    "runAsUser",
                    "seLinuxOptions",
                    "seccompProfile",
                    "supplementalGroups",
                    "sysctls",
                ],
            ),
            (Ignored("no volume here outlives its pod with its own owners"), &["fsGroupChangePolicy"]),
            (Ignored("volumes are labelled by the runtime, if at all"), &["seLinuxChangePolicy"]),
            (not_yet_unless(&["", "Merge"]), &["supplementalGroupsPolicy"]),
            (NOT_YET, &["windowsOptions"]),
        ],
    ),
    ("AppArmorProfile", &[(Runs, &["localhostProfile", "type"])]),
    ("Capabilities", &[(Runs, &["add", "drop"])]),
    ("SELinuxOptions", &[(Runs, &["level", "role", "type", "user"])]),
    ("SeccompProfile", &[(Runs, &["localhostProfile", "type"])]),
    ("Sysctl", &[(Runs, &["name", "value"])]),
    ("LocalObjectReference", &[(Runs, &["name"])]),
    ("HostAlias", &[(Runs, &["hostnames", "ip"])]),
    ("PodDNSConfig", &[(Runs, &["nameservers", "options", "searches"])]),
    ("PodDNSConfigOption", &[(Runs, &["name", "value"])]),
    ("PodOS", &[(Runs, &["name"])]),
    (
        "Volume",
        &[
            (Runs, &["configMap", "emptyDir", "hostPath", "name", "secret"]),
            (
                // Even an empty one makes a volume: nothing about it is harmless.
                not_yet_unless(&[]),
                &[
                    "awsElasticBlockStore",
                    "azureDisk",
                    "azureFile",
                    "cephfs",
                    "cinder",
                    "csi",
                    "downwardAPI",
                    "ephemeral",
                    "fc",
                    "flexVolume",
                    "flocker",
                    "gcePersistentDisk",
                    "gitRepo",
                    "glusterfs",
                    "image",
                    "iscsi",
                    "nfs",
                    "persistentVolumeClaim",
                    "photonPersistentDisk",
                    "portworxVolume",
                    "projected",
                    "quobyte",
                    "rbd",
                    "scaleIO",
                    "storageos",
                    "vsphereVolume",
                ],
            ),
        ],
    ),
    (
        "ConfigMapVolumeSource",
        &[(Runs, &["defaultMode", "items", "name", "optional"]), (not_yet_unless(&[]), &["defaultUser"])],
    ),
    (
        "SecretVolumeSource",
        &[(Runs, &["defaultMode", "items", "optional", "secretName"]), (not_yet_unless(&[]), &["defaultUser"])],
    ),
    ("KeyToPath", &[(Runs, &["key", "mode", "path"]), (not_yet_unless(&[]), &["user"])]),
    ("EmptyDirVolumeSource", &[(Runs, &["medium", "sizeLimit"]), (not_yet_unless(&[]), &["mode"])]),
    ("HostPathVolumeSource", &[(Runs, &["path", "type"])]),
    ("ConfigMap", &[(Runs, &["apiVersion", "binaryData", "data", "immutable", "kind", "metadata"])]),
    ("Secret", &[(Runs, &["apiVersion", "data", "immutable", "kind", "metadata", "stringData", "type"])]),
];

/// What becomes of a field. `None` for one that the table does not name: nothing that runs can reach it.
pub(crate) fn of(object: &str, field: &str) -> Option<Support> {
    let (_, fields) = ALL.iter().find(|(name, _)| *name == object)?;
    fields.iter().find(|(_, names)| names.contains(&field)).map(|(support, _)| *support)
}

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str, Support)> {
    ALL.iter().flat_map(|(object, fields)| {
        fields.iter().flat_map(move |(support, names)| names.iter().map(move |name| (*object, *name, *support)))
    })
}
