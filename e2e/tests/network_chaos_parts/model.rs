//! What the manifests say, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use e2e::manifest::pod;
use serde_json::{Value, json};

/// What a pod listens on, and says so.
pub const DECLARED: u16 = 7000;

/// What a pod listens on without a word in its manifest.
pub const HIDDEN: u16 = 7001;

/// Networks that pods are in: two that are always there, and two objects, the second one with a bridge.
pub const NETWORKS: [&str; 4] = ["flat", "private", "ring", "span"];

/// A pod, by its number, as its manifest has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub network: usize,
    /// To whom, and whether it waits for that one.
    pub links: BTreeMap<usize, bool>,
    /// What makes another container of it.
    pub version: u64,
}

/// All pods that have a manifest.
pub type Pods = BTreeMap<usize, Declared>;

pub fn name(number: usize) -> String {
    format!("pod-{number}")
}

/// The objects that are there before the pods.
pub fn networks() -> String {
    let network = |name, kind| json!({"apiVersion": "coracle.dev/v1alpha1", "kind": "Network", "metadata": {"name": name}, "spec": {"type": kind}});
    e2e::manifest::several(&[network("ring", "ptp"), network("span", "bridge")])
}

impl Declared {
    pub fn annotations(&self) -> Value {
        let link = |(to, gated): (&usize, &bool)| name(*to) + if *gated { "" } else { "(ungated)" };
        let links: Vec<String> = self.links.iter().map(link).collect();
        let mut annotations = json!({"coracle.dev/network": NETWORKS[self.network]});
        if !links.is_empty() {
            annotations["coracle.dev/links"] = json!(links.join(", "));
        }
        annotations
    }

    pub fn manifest(&self, number: usize) -> Value {
        let name = name(number);
        let ports = ["TCP", "UDP"].map(|protocol| json!({"containerPort": DECLARED, "protocol": protocol}));
        let container = json!({
            "name": "c",
            "image": "coracle.local/tools",
            "args": ["serve", "--port", DECLARED.to_string()],
            "env": [{"name": "E2E_POD", "value": name}, {"name": "VERSION", "value": self.version.to_string()}],
            "ports": ports,
        });
        let mut pod = pod(&name, json!({"restartPolicy": "Always", "containers": [container]}));
        pod["metadata"]["annotations"] = self.annotations();
        pod
    }
}

/// Pods that somebody waits for and that have no manifest.
pub fn awaited(pods: &Pods) -> BTreeSet<usize> {
    let gates = pods.values().flat_map(|it| it.links.iter().filter(|(_, gated)| **gated).map(|(to, _)| *to));
    gates.filter(|to| !pods.contains_key(to)).collect()
}

/// Whether one pod reaches a port of another.
pub fn reaches(pods: &Pods, from: usize, to: usize, port: u16) -> bool {
    let together = NETWORKS[pods[&from].network] != "private" && pods[&from].network == pods[&to].network;
    together || (port == DECLARED && pods[&from].links.contains_key(&to))
}

/// Links whose two ends are there.
pub fn links(pods: &Pods) -> Vec<(usize, usize)> {
    let of = |(from, pod): (&usize, &Declared)| pod.links.keys().map(|to| (*from, *to)).collect::<Vec<_>>();
    pods.iter().flat_map(of).filter(|(_, to)| pods.contains_key(to)).collect()
}
