//! Labels, annotations and paths by which kubelet, crictl and log collectors know pods and containers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{ClusterDomain, ConfigError};

/// What the kernel takes of a full name.
const LONGEST_NAME: usize = 64;

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: the number of restarts.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: where the container writes its last words.
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: whether its log stands in for them.
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the pod's grace.
pub const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Name, namespace and uid of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl PodKey {
    /// The key of a pod.
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        PodKey {
            namespace: meta.namespace.clone().unwrap_or_else(|| "default".into()),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// The directory of its logs, below `log_dir`.
    pub fn log_directory(&self, log_dir: &Path) -> PathBuf {
        log_dir.join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }

    /// The pod's own labels and those that say which pod it is.
    pub fn sandbox_labels(&self, pod: &Pod) -> HashMap<String, String> {
        let mut labels: HashMap<_, _> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
        labels.extend(self.labels());
        labels
    }

    /// The labels that every container carries.
    pub fn container_labels(&self, container: &str) -> HashMap<String, String> {
        let mut labels = self.labels();
        labels.insert(CONTAINER_NAME.into(), container.to_owned());
        labels
    }

    fn labels(&self) -> HashMap<String, String> {
        HashMap::from([
            (POD_NAME.into(), self.name.clone()),
            (POD_NAMESPACE.into(), self.namespace.clone()),
            (POD_UID.into(), self.uid.clone()),
        ])
    }
}

/// `CONTAINER/N.log`, below the pod's log directory.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// The annotations that a container carries.
pub fn container_annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let mut annotations = HashMap::from([(RESTART_COUNT.into(), attempt.to_string())]);
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    annotations.insert(TERMINATION_PATH.into(), path.to_owned());
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    annotations.insert(TERMINATION_POLICY.into(), policy.to_owned());
    if let Some(grace) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        annotations.insert(POD_GRACE.into(), grace.to_string());
    }
    annotations
}

/// The pod's host name: its own field or its name, cut to what the kernel takes.
pub fn hostname(pod: &Pod) -> String {
    let own = pod.spec.as_ref().and_then(|spec| spec.hostname_override.clone().or_else(|| spec.hostname.clone()));
    let given = own.filter(|name| !name.is_empty());
    let name = given.unwrap_or_else(|| pod.metadata.name.clone().unwrap_or_default());
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The pod's name in the cluster's DNS, where it has a subdomain: `HOSTNAME.SUBDOMAIN.NAMESPACE.svc.cluster.local`.
pub fn fqdn(pod: &Pod, domain: &ClusterDomain) -> Option<String> {
    let subdomain = subdomain(pod)?;
    Some(format!("{}.{subdomain}.{}.svc.{}", hostname(pod), PodKey::of(pod).namespace, domain.0))
}

/// The pod's subdomain, if its host name is below it.
pub fn subdomain(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref().filter(|spec| spec.hostname_override.is_none())?;
    spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())
}

/// What the kernel calls the pod: its host name, or its full one where the pod wants that.
pub fn kernel_hostname(pod: &Pod, domain: &ClusterDomain) -> Result<String, ConfigError> {
    let full = pod.spec.as_ref().is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true));
    match fqdn(pod, domain).filter(|_| full) {
        Some(name) if name.len() > LONGEST_NAME => Err(ConfigError::Value {
            field: "setHostnameAsFQDN",
            value: name,
            expected: "the kernel takes at most 64 characters: choose a shorter hostname or subdomain",
        }),
        Some(name) => Ok(name),
        None => Ok(hostname(pod)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pod_is_called_as_it_asks_for() {
        let named = |spec: serde_json::Value| {
            let pod = serde_json::json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec});
            kernel_hostname(&serde_json::from_value(pod).unwrap(), &ClusterDomain::default())
                .map_err(|error| error.to_string())
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (spec, name) in [
            (r#"{"containers": [], "setHostnameAsFQDN": true}"#, "web"),
            (r#"{"containers": [], "setHostnameAsFQDN": true, "subdomain": "s"}"#, "web.s.ns.svc.cluster.local"),
            (r#"{"containers": [], "hostname": "h", "subdomain": "s"}"#, "h"),
            (
                r#"{"containers": [], "hostname": "h", "subdomain": "s", "hostnameOverride": "a.example.com"}"#,
                "a.example.com",
            ),
        ] {
            assert_eq!(named(json(spec)).as_deref(), Ok(name), "{spec}");
        }
        let long = "a".repeat(50);
        let spec = serde_json::json!({"containers": [], "setHostnameAsFQDN": true, "subdomain": long});
        assert!(named(spec).unwrap_err().contains("at most 64 characters"));
    }

    #[test]
    fn host_names_are_cut_as_kubelet_cuts_them() {
        let named = |name: &str, host: Option<&str>| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.to_owned());
            pod.spec.get_or_insert_default().hostname = host.map(str::to_owned);
            hostname(&pod)
        };
        assert_eq!(named("web", None), "web");
        assert_eq!(named("web", Some("box")), "box");
        assert_eq!(named(&format!("{}-.tail", "a".repeat(61)), None), "a".repeat(61));
    }
}
