//! Strings of which Kubernetes knows only a few.

const ALL: &[(&str, &str, &[&str])] = &[
    ("AmbassadorHealthCheck", "type", &["TCP", "HTTP", "None"]),
    ("AmbassadorPort", "protocol", &["TCP", "UDP"]),
    ("AmbassadorSpec", "balance", &["FirstHealthy", "RoundRobin"]),
    ("AmbassadorSpec", "proxyProtocol", &["v1", "v2"]),
    ("AppArmorProfile", "type", &["RuntimeDefault", "Localhost", "Unconfined"]),
    ("Container", "imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("Container", "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
    ("Container", "restartPolicy", &["Always", "OnFailure", "Never"]),
    ("ContainerPort", "protocol", &["TCP", "UDP", "SCTP"]),
    ("ContainerResizePolicy", "resourceName", &["cpu", "memory"]),
    ("ContainerResizePolicy", "restartPolicy", &["NotRequired", "RestartContainer"]),
    ("ContainerRestartRule", "action", &["Restart", "RestartAllContainers"]),
    ("ContainerRestartRuleOnExitCodes", "operator", &["In", "NotIn"]),
    ("EphemeralContainer", "imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("EphemeralContainer", "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
    ("GRPCAction", "mode", &["Plaintext", "TLS"]),
    ("HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    (
        "HostPathVolumeSource",
        "type",
        &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"],
    ),
    ("ImageVolumeSource", "pullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("LabelSelectorRequirement", "operator", &["In", "NotIn", "Exists", "DoesNotExist"]),
    ("NetworkPolicyPort", "protocol", &["TCP", "UDP", "SCTP"]),
    ("PersistentVolumeClaimSpec", "volumeMode", &["Filesystem", "Block"]),
    ("NetworkSpec", "type", &["ptp", "bridge"]),
    ("PodOS", "name", &["linux"]),
    ("PodSecurityContext", "fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
    ("PodSecurityContext", "supplementalGroupsPolicy", &["Merge", "Strict"]),
    ("PodSpec", "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    ("PodSpec", "preemptionPolicy", &["PreemptLowerPriority", "Never"]),
    ("PodSpec", "restartPolicy", &["Always", "OnFailure", "Never"]),
    ("SeccompProfile", "type", &["RuntimeDefault", "Localhost", "Unconfined"]),
    ("SecurityContext", "procMount", &["Default", "Unmasked"]),
    ("ServicePort", "protocol", &["TCP", "UDP", "SCTP"]),
    ("ServiceSpec", "internalTrafficPolicy", &["Cluster", "Local"]),
    ("ServiceSpec", "ipFamilyPolicy", &["SingleStack", "PreferDualStack", "RequireDualStack"]),
    ("ServiceSpec", "sessionAffinity", &["None", "ClientIP"]),
    ("VolumeMount", "mountPropagation", &["None", "HostToContainer", "Bidirectional"]),
    ("VolumeMount", "recursiveReadOnly", &["Disabled", "IfPossible", "Enabled"]),
];

/// The values that a field may have, if they are few.
pub(crate) fn of(object: &str, field: &str) -> Option<&'static [&'static str]> {
    ALL.iter().find(|(o, f, _)| *o == object && *f == field).map(|(_, _, values)| *values)
}

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|(object, field, _)| (*object, *field))
}
