//! What of a cluster's controllers and its scheduler a test needs that applies more than pods: in their place and no more.
//! Nothing is as fast or as careful as theirs; what a node sees of it is as theirs: owners, labels, bindings.
//!
//! - A Deployment has as many pods as it says, of the template that it has now; older ones go when these are ready.
//! - A Job has a pod until one has succeeded.
//! - A claim is bound to a volume of its class that nobody has.
//! - A pod is bound to the one node, if that is ready.
//! - What belongs to somebody who is gone goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::asked::User;
use super::handles::{kind, path_of};
use super::select::Selector;
use super::{ApiServer, Shared};
use crate::agent::condition;

/// How often they look again.
const TICK: Duration = Duration::from_millis(50);

/// The label by which the pods of a Deployment's templates are told apart.
const TEMPLATE: &str = "pod-template-hash";

/// They are at work until this is dropped.
pub struct Controllers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Controllers {
    /// Begins with the objects of a server, for a node.
    pub fn start(server: &ApiServer, node: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, round) = (stop.clone(), Round { shared: server.shared.clone(), node: node.to_owned() });
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                round.go();
                std::thread::sleep(TICK);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the controllers have panicked");
    }
}

struct Round {
    shared: Arc<Shared>,
    node: String,
}

impl Round {
    fn go(&self) {
        self.list("deployments").iter().for_each(|it| self.deployment(it));
        self.list("jobs").iter().for_each(|it| self.job(it));
        self.list("persistentvolumeclaims").iter().for_each(|it| self.claim(it));
        self.schedule();
        self.collect();
    }

    fn list(&self, plural: &str) -> Vec<Value> {
        let found = self.shared.lock().store.list(kind(plural), None, &Selector::default());
        found.iter().map(|object| Value::clone(object)).collect()
    }

    /// Writes something. What somebody else has changed or removed meanwhile is looked at again in the next round.
    fn write(&self, method: &str, plural: &str, object: &Value, part: &str, body: Value) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
        let name = format!("{}{part}", text("name"));
        let which = if kind(plural).namespaced { format!("{}/{name}", text("namespace")) } else { name };
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let url = path_of(kind(plural), &which);
        let _ = self.shared.ask(User::admin(), method, url.trim_end_matches('/'), media, body);
    }

    fn status(&self, plural: &str, object: &Value, status: Value) {
        self.write("PATCH", plural, object, "/status", json!({"status": status}));
    }

    fn delete(&self, pod: &Value) {
        if !is_ending(pod) {
            self.write("DELETE", "pods", pod, "", Value::Null);
        }
    }

    /// The pods of an owner, without those that end.
    fn pods_of(&self, owner: &Value) -> Vec<Value> {
        let uid = &owner["metadata"]["uid"];
        let mut pods = self.list("pods");
        pods.retain(|pod| owner_of(pod).is_some_and(|it| it["uid"] == *uid) && !is_ending(pod));
        pods
    }

    /// Makes a pod of an owner's template.
    fn make(&self, owner: &Value, labels: &[(&str, &str)]) {
        let (meta, template) = (&owner["metadata"], &owner["spec"]["template"]);
        let namespace = meta["namespace"].clone();
        let mut metadata = template["metadata"].clone();
        metadata["generateName"] = format!("{}-", meta["name"].as_str().unwrap_or_default()).into();
        metadata["namespace"] = namespace.clone();
        metadata["ownerReferences"] = json!([{
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }]);
        for (key, value) in labels {
            metadata["labels"][*key] = (*value).into();
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        self.write("POST", "pods", &json!({"metadata": {"namespace": namespace}}), "", pod);
    }

    fn deployment(&self, deployment: &Value) {
        let spec = &deployment["spec"];
        let wanted = spec["replicas"].as_u64().map_or(1, |it| usize::try_from(it).unwrap_or(usize::MAX));
        let hash = crate::archive::digest(spec["template"].to_string().as_bytes());
        let hash = &hash.trim_start_matches("sha256:")[..10];
        let is_new = |pod: &Value| pod["metadata"]["labels"][TEMPLATE] == hash;
        let (new, old): (Vec<Value>, Vec<Value>) = self.pods_of(deployment).into_iter().partition(is_new);
        (new.len()..wanted).for_each(|_| self.make(deployment, &[(TEMPLATE, hash)]));
        new.iter().skip(wanted).for_each(|pod| self.delete(pod));
        let ready = new.iter().filter(|pod| condition(pod, "Ready") == Some(true)).count();
        if ready >= wanted {
            old.iter().for_each(|pod| self.delete(pod));
        }
        let available = json!([{
            "type": "Available", "status": if ready >= wanted { "True" } else { "False" },
            "reason": "MinimumReplicas", "message": format!("{ready} of {wanted} pods are ready"),
        }]);
        self.status(
            "deployments",
            deployment,
            json!({
                "observedGeneration": deployment["metadata"]["generation"], "replicas": new.len() + old.len(),
                "updatedReplicas": new.len(), "readyReplicas": ready, "availableReplicas": ready,
                "conditions": available,
            }),
        );
    }

    fn job(&self, job: &Value) {
        if condition(job, "Complete") == Some(true) {
            return;
        }
        let pods = self.pods_of(job);
        let count = |phase: &str| pods.iter().filter(|pod| pod["status"]["phase"] == phase).count();
        let (succeeded, failed) = (count("Succeeded"), count("Failed"));
        let mut status = json!({"succeeded": succeeded, "failed": failed, "active": pods.len() - succeeded - failed});
        if succeeded > 0 {
            status["conditions"] = json!([{"type": "Complete", "status": "True", "reason": "CompletionsReached"}]);
        } else if failed == pods.len() {
            let name = job["metadata"]["name"].as_str().unwrap_or_default();
            self.make(job, &[("batch.kubernetes.io/job-name", name)]);
        }
        self.status("jobs", job, status);
    }

    fn claim(&self, claim: &Value) {
        let (meta, class) = (&claim["metadata"], &claim["spec"]["storageClassName"]);
        if claim["status"]["phase"] == "Bound" {
            return;
        }
        let is_ours = |volume: &Value| volume["spec"]["claimRef"]["uid"] == meta["uid"];
        let is_free =
            |volume: &Value| volume["spec"]["claimRef"].is_null() && volume["spec"]["storageClassName"] == *class;
        let volumes = self.list("persistentvolumes");
        let Some(volume) = volumes.iter().find(|it| is_ours(it)).or(volumes.iter().find(|it| is_free(it))) else {
            return;
        };
        let reference = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"], "name": meta["name"],
            "uid": meta["uid"],
        });
        self.write("PATCH", "persistentvolumes", volume, "", json!({"spec": {"claimRef": reference}}));
        self.status("persistentvolumes", volume, json!({"phase": "Bound"}));
        let name = json!({"spec": {"volumeName": volume["metadata"]["name"]}});
        self.write("PATCH", "persistentvolumeclaims", claim, "", name);
        self.status("persistentvolumeclaims", claim, json!({"phase": "Bound"}));
    }

    fn schedule(&self) {
        let nodes = self.list("nodes");
        let node = nodes.iter().find(|node| node["metadata"]["name"] == self.node.as_str());
        let takes = |node: &Value| condition(node, "Ready") == Some(true) && node["spec"]["unschedulable"] != true;
        if !node.is_some_and(takes) {
            return;
        }
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": self.node});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "target": target});
        for pod in self.list("pods").iter().filter(|pod| pod["spec"]["nodeName"].is_null()) {
            self.write("POST", "pods", pod, "/binding", binding.clone());
        }
    }

    fn collect(&self) {
        let owners = [self.list("deployments"), self.list("jobs")].concat();
        let is_there = |owner: &Value| owners.iter().any(|it| it["metadata"]["uid"] == owner["uid"]);
        for pod in self.list("pods") {
            let of_them = owner_of(&pod).filter(|owner| owner["kind"] == "Deployment" || owner["kind"] == "Job");
            if of_them.is_some_and(|owner| !is_there(owner)) {
                self.delete(&pod);
            }
        }
    }
}

fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// The controller that a pod belongs to.
fn owner_of(pod: &Value) -> Option<&Value> {
    pod["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}
