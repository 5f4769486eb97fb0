//! What becomes of each field: the one table behind the diagnostics and the support document.
//!
//! Every field of every object that a running pod can reach is in it; a test holds that, so a new Kubernetes version
//! cannot bring a field that nobody has thought about.

mod network;
mod volumes;

/// What Coracle does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// It means here what it means in Kubernetes.
    Runs,
    /// It has no meaning on one node, or is written by a server: a warning, with the reason.
    Ignored(&'static str),
    /// Of these values the same; any other has no effect: a warning, with the reason.
    RunsFor(&'static [&'static str], &'static str),
    /// Without it something else would run than what is written: an error. Only these values change nothing.
    NotYet { harmless: &'static [&'static str] },
    /// The same, of what will not come: with what to do instead.
    Never(&'static str),
    /// It runs where an API server asks for it, who has checked it; in a manifest it is as [`Support::Never`].
    InCluster(&'static str),
}

use Support::{Ignored, InCluster, Never, Runs};

const NOT_YET: Support = Support::NotYet { harmless: &["", "false", "0"] };
pub(crate) const fn not_yet_unless(harmless: &'static [&'static str]) -> Support {
    Support::NotYet { harmless }
}

/// Fields of an object, by what becomes of them.
pub(crate) type Fields = &'static [(Support, &'static [&'static str])];

const ONE_NODE: Support = Ignored("there is only this node");
const SERVER: Support = Ignored("the API server writes it");
const NO_API_SERVER: Support = Ignored("there is no API server for a service account to talk to");
const CLASSES: Support = Support::RunsFor(
    &["system-cluster-critical", "system-node-critical"],
    "there are no other classes on a node; write their `priority`",
);
const ON_THE_HOST: Support = Never("mount it on the host, and mount that as a `hostPath`");
const DEBUG_ONLY: Support = Never("a container for debugging is no part of what the pod is for: leave it out");

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
                    "activeDeadlineSeconds",
                    "containers",
                    "dnsConfig",
                    "dnsPolicy",
                    "enableServiceLinks",
                    "ephemeralContainers",
                    "hostAliases",
                    "hostIPC",
                    "hostNetwork",
                    "hostPID",
                    "hostUsers",
                    "hostname",
                    "hostnameOverride",
                    "imagePullSecrets",
                    "initContainers",
                    "os",
                    "overhead",
                    "priority",
                    "resources",
                    "restartPolicy",
                    "runtimeClassName",
                    "securityContext",
                    "setHostnameAsFQDN",
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
                    "schedulerName",
                    "schedulingGates",
                    "schedulingGroup",
                    "tolerations",
                    "topologySpreadConstraints",
                ],
            ),
            (CLASSES, &["priorityClassName"]),
            (NO_API_SERVER, &["automountServiceAccountToken", "serviceAccount", "serviceAccountName"]),
            (Ignored("no API server asks for evictions"), &["evictionResponders"]),
            (Ignored("nothing sets the conditions it waits for"), &["readinessGates"]),
            (NOT_YET, &["resourceClaims"]),
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
                    "lifecycle",
                    "livenessProbe",
                    "name",
                    "ports",
                    "readinessProbe",
                    "resizePolicy",
                    "resources",
                    "restartPolicy",
                    "restartPolicyRules",
                    "securityContext",
                    "startupProbe",
                    "stdin",
                    "stdinOnce",
                    "terminationMessagePath",
                    "terminationMessagePolicy",
                    "tty",
                    "volumeMounts",
                    "workingDir",
                ],
            ),
            (Never("mount a `hostPath` of type `BlockDevice` into a privileged container"), &["volumeDevices"]),
        ],
    ),
    (
        "EphemeralContainer",
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
                    "securityContext",
                    "stdin",
                    "stdinOnce",
                    "targetContainerName",
                    "terminationMessagePath",
                    "terminationMessagePolicy",
                    "tty",
                    "volumeMounts",
                    "workingDir",
                ],
            ),
            // An API server writes it into each, and takes none that says more.
            (not_yet_unless(&["{}"]), &["resources"]),
            (
                DEBUG_ONLY,
                &[
                    "lifecycle",
                    "livenessProbe",
                    "ports",
                    "readinessProbe",
                    "resizePolicy",
                    "restartPolicy",
                    "restartPolicyRules",
                    "startupProbe",
                    "volumeDevices",
                ],
            ),
        ],
    ),
    (
        "Probe",
        &[(
            Runs,
            &[
                "exec",
                "failureThreshold",
                "grpc",
                "httpGet",
                "initialDelaySeconds",
                "periodSeconds",
                "successThreshold",
                "tcpSocket",
                "terminationGracePeriodSeconds",
                "timeoutSeconds",
            ],
        )],
    ),
    ("Lifecycle", &[(Runs, &["postStart", "preStop", "stopSignal"])]),
    ("LifecycleHandler", &[(Runs, &["exec", "httpGet", "sleep", "tcpSocket"])]),
    ("ExecAction", &[(Runs, &["command"])]),
    (
        "HTTPGetAction",
        &[(Runs, &["host", "httpHeaders", "path", "port", "scheme"]), (not_yet_unless(&["", "HTTP1"]), &["protocol"])],
    ),
    ("HTTPHeader", &[(Runs, &["name", "value"])]),
    ("TCPSocketAction", &[(Runs, &["host", "port"])]),
    ("GRPCAction", &[(Runs, &["port", "service"]), (not_yet_unless(&["", "Plaintext"]), &["mode"])]),
    ("SleepAction", &[(Runs, &["seconds"])]),
    ("ContainerRestartRule", &[(Runs, &["action", "exitCodes"])]),
    ("ContainerRestartRuleOnExitCodes", &[(Runs, &["operator", "values"])]),
    ("ContainerResizePolicy", &[(Runs, &["resourceName", "restartPolicy"])]),
    ("ContainerPort", &[(Runs, &["containerPort", "hostIP", "hostPort", "name", "protocol"])]),
    ("EnvVar", &[(Runs, &["name", "value", "valueFrom"])]),
    ("EnvVarSource", &[(Runs, &["configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"])]),
    ("FileKeySelector", &[(Runs, &["key", "optional", "path", "volumeName"])]),
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
            (
                Runs,
                &["mountPath", "mountPropagation", "name", "readOnly", "recursiveReadOnly", "subPath", "subPathExpr"],
            ),
            (NOT_YET, &["bindMountOptions"]),
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
                    "fsGroupChangePolicy",
                    "runAsGroup",
                    "runAsNonRoot",
                    "runAsUser",
                    "seLinuxOptions",
                    "seccompProfile",
                    "supplementalGroups",
                    "supplementalGroupsPolicy",
                    "sysctls",
                ],
            ),
            (Ignored("volumes are labelled by the runtime, if at all"), &["seLinuxChangePolicy"]),
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
            (
                Runs,
                &[
                    "configMap",
                    "downwardAPI",
                    "emptyDir",
                    "hostPath",
                    "image",
                    "name",
                    "persistentVolumeClaim",
                    "projected",
                    "secret",
                ],
            ),
            (InCluster("use a `persistentVolumeClaim`, or an `emptyDir`"), &["csi", "ephemeral"]),
            (Never("fetch it in an init container, into an `emptyDir`"), &["gitRepo"]),
            (
                ON_THE_HOST,
                &[
                    "awsElasticBlockStore",
                    "azureDisk",
                    "azureFile",
                    "cephfs",
                    "cinder",
                    "fc",
                    "flexVolume",
                    "flocker",
                    "gcePersistentDisk",
                    "glusterfs",
                    "iscsi",
                    "nfs",
                    "photonPersistentDisk",
                    "portworxVolume",
                    "quobyte",
                    "rbd",
                    "scaleIO",
                    "storageos",
                    "vsphereVolume",
                ],
            ),
        ],
    ),
    ("ConfigMap", &[(Runs, &["apiVersion", "binaryData", "data", "immutable", "kind", "metadata"])]),
    ("Secret", &[(Runs, &["apiVersion", "data", "immutable", "kind", "metadata", "stringData", "type"])]),
];

fn rows() -> impl Iterator<Item = &'static (&'static str, Fields)> {
    ALL.iter().chain(volumes::ROWS).chain(network::ROWS).chain(crate::kubelet::table::ROWS)
}

/// What becomes of a field. `None` for one that the table does not name: nothing that runs can reach it.
pub(crate) fn of(object: &str, field: &str) -> Option<Support> {
    let (_, fields) = rows().find(|(name, _)| *name == object)?;
    fields.iter().find(|(_, names)| names.contains(&field)).map(|(support, _)| *support)
}

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str, Support)> {
    rows().flat_map(|(object, fields)| {
        fields.iter().flat_map(move |(support, names)| names.iter().map(move |name| (*object, *name, *support)))
    })
}
