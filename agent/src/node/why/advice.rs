//! What to do about a pod: whoever has written its manifest mends that; a pod of a cluster is mended at the API server.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use crate::engine::orders::Eviction;

/// Whom to advise about a pod.
#[derive(Clone, Copy, Debug)]
pub struct Advice<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// It is an API server's.
    pub clusters: bool,
}

impl Advice<'_> {
    /// The pod's name.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// How the pod is asked for again.
    fn anew(&self) -> String {
        if !self.clusters {
            return format!("coracle restart {}", self.name());
        }
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        format!("kubectl -n {namespace} delete pod {} (its controller, if it has one, makes another)", self.name())
    }

    /// About a pod that was ended.
    pub fn on_end(&self, reason: &str) -> String {
        let anew = self.anew();
        match reason {
            Eviction::EVICTED => format!("free what ran short, then {anew}"),
            Eviction::DEADLINE_EXCEEDED => format!("raise spec.activeDeadlineSeconds, or {anew}"),
            _ if self.clusters => anew,
            _ => format!("{anew} starts it again"),
        }
    }

    /// About a container that waits.
    pub fn on_wait(&self, container: &str, reason: &str, last: Option<&ContainerStateTerminated>) -> Option<String> {
        let name = self.name();
        let oom = last.is_some_and(|last| last.reason.as_deref() == Some("OOMKilled"));
        let manifest = if self.clusters { "pod, at whoever makes it" } else { "manifest" };
        let text = match reason {
            "CrashLoopBackOff" if oom => "raise its memory limit: it was killed for want of memory".to_owned(),
            "CrashLoopBackOff" => {
                format!("coracle logs {name} -c {container} --previous; coracle restart {name} tries again at once")
            }
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                "check the image's name, its registry and the pull secrets".to_owned()
            }
            "CreateContainerConfigError" if self.clusters => {
                let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
                format!("create what is missing in the namespace {namespace}; it goes on by itself then")
            }
            "CreateContainerConfigError" => "put what is missing into a manifest; it goes on by itself then".to_owned(),
            "CreateContainerError" | "RunContainerError" | "CreatePodSandboxError" | "FailedMount" => {
                format!("correct the {manifest}, or the node; coracle doctor says what the node lacks")
            }
            "Unsupported" => format!("{}; have it placed on another node, or made without what is said", self.anew()),
            _ => return None,
        };
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_clusters_pod_is_mended_at_its_server() {
        let pod = serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "web"}})).unwrap();
        let (here, there) = (Advice { pod: &pod, clusters: false }, Advice { pod: &pod, clusters: true });
        for reason in ["Evicted", "DeadlineExceeded", "Preempting", "Terminated"] {
            assert!(here.on_end(reason).contains("coracle restart web"), "{}", here.on_end(reason));
            let said = there.on_end(reason);
            assert!(said.contains("kubectl -n shop delete pod web") && !said.contains("coracle restart"), "{said}");
        }
        for reason in ["CreateContainerConfigError", "RunContainerError"] {
            assert!(here.on_wait("c", reason, None).unwrap().contains("manifest"));
            let said = there.on_wait("c", reason, None).unwrap();
            assert!(!said.contains("manifest"), "{said}");
        }
        assert!(there.on_wait("c", "Unsupported", None).unwrap().starts_with("kubectl -n shop delete pod web"));
        assert_eq!(there.on_wait("c", "ContainerCreating", None), None);
    }
}
