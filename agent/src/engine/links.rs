//! What a container gets to know of other pods by its environment. It is made anew with each container, and no reason to
//! restart one: addresses belong to names, not to instances.

use std::collections::BTreeSet;

use cri_proto::node::LeaseAddressesRequest;
use k8s_openapi::api::core::v1::Pod;

use super::Engine;
use super::config::env::{self, Environment};
use super::config::names::PodKey;
use super::plan::spec_of;
use crate::net::env as variables;
use crate::net::{Linked, Surroundings, pod_ref, services};

/// The variables that come before a container's own.
pub async fn environment(engine: &Engine, pod: &Pod, around: &Surroundings) -> Environment {
    let mut made = Environment::default();
    let of_cluster = services::variables_of_cluster(&engine.services(), pod);
    for (name, value) in of_cluster.iter().chain(&around.variables) {
        made.set(name, value.clone().into_bytes());
    }
    let pod = PodKey::of(pod);
    for link in &around.links {
        let address = match link.addresses.first() {
            Some(address) => Some(address.clone()),
            None => lease(engine, link, &mut made).await,
        };
        let source = variables::Source {
            recipient: &pod.name,
            alias: &link.alias,
            address: address.as_deref(),
            ports: &link.ports,
        };
        for (name, value) in variables::variables(&source) {
            made.set(&name, value.into_bytes());
        }
        if let Some(source) = &link.source {
            pass_on(engine, source, &link.alias, &mut made);
        }
    }
    made
}

/// The address that a pod will have which has none yet.
async fn lease(engine: &Engine, link: &Linked, made: &mut Environment) -> Option<String> {
    let (name, network) = link.lease.as_ref()?;
    let request = LeaseAddressesRequest { pods: vec![pod_ref(name)], networks: vec![network.clone()] };
    let why = match engine.cri().node.clone().lease_addresses(request).await {
        Ok(answer) => {
            let addresses = answer.into_inner().pods.into_iter().flat_map(|pod| pod.addresses);
            match addresses.into_iter().next() {
                Some(address) => return Some(address),
                None => "the runtime gives it none".to_owned(),
            }
        }
        Err(status) => status.message().to_owned(),
    };
    let warning = format!("link {}: no address is known yet for its variables: {why}", link.alias);
    made.warnings.push(warning);
    None
}

/// Passes on what the containers of a source have in their environment; of one name the first counts.
fn pass_on(engine: &Engine, source: &Pod, alias: &str, made: &mut Environment) {
    let (objects, node) = (engine.objects_of(&PodKey::of(source).uid), &engine.settings().node);
    let status = source.status.as_ref().and_then(|status| status.pod_ips.as_ref());
    let ips: Vec<String> = status.into_iter().flatten().map(|it| it.ip.clone()).collect();
    let sources = env::Sources { pod: source, objects: &objects, node, ips: &ips, dir: None };
    let mut seen = BTreeSet::new();
    for container in &spec_of(source).containers {
        match env::of_container(&sources, container) {
            Ok(own) => {
                let own: Vec<_> = own.variables.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect();
                for (name, value) in variables::passed_on(alias, &own) {
                    made.set(&name, value);
                }
            }
            Err(error) => {
                let container = &container.name;
                made.warnings.push(format!("link {alias}: the variables of container {container} there: {error}"));
            }
        }
    }
}
