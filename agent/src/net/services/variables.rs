//! The variables that tell a container of Services, as kubelet makes them: they are what Docker's links made, too.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};

use super::{Addressed, OfCluster, addressed};
use crate::engine::config::names::PodKey;
use crate::engine::plan::spec_of;
use crate::net::Inputs;
use crate::node::desired::Name;

/// The Service that every pod is told of, wherever it is: that of an API server.
const EVERYBODYS: (&str, &str) = ("default", "kubernetes");

/// The variables of the Services of a pod's namespace; none where it says `enableServiceLinks: false`.
pub fn of_pod(inputs: &Inputs, pod: &Name) -> Vec<(String, String)> {
    let told = inputs.pod(pod).is_none_or(|pod| is_told(pod));
    all(told.then(|| addressed(inputs, &pod.0)), &addressed(inputs, EVERYBODYS.0))
}

/// The same of a cluster's Services, whose addresses the cluster gives.
pub fn of_cluster(services: &OfCluster, pod: &Pod) -> Vec<(String, String)> {
    let namespace = PodKey::of(pod).namespace;
    let addressed = |namespace: &str| -> Addressed<'_> {
        let services = services.iter().filter(|((its, _), _)| its == namespace);
        services.filter_map(|(name, service)| Some((name.1.as_str(), (service, cluster_ip(service)?)))).collect()
    };
    all(is_told(pod).then(|| addressed(&namespace)), &addressed(EVERYBODYS.0))
}

/// The address that a cluster gave a Service.
pub fn cluster_ip(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None"))
}

fn is_told(pod: &Pod) -> bool {
    spec_of(pod).enable_service_links != Some(false)
}

fn all<'a>(own: Option<Addressed<'a>>, everybodys: &Addressed<'a>) -> Vec<(String, String)> {
    let mut services = own.unwrap_or_default();
    if let Some(it) = everybodys.get(EVERYBODYS.1) {
        services.insert(EVERYBODYS.1, *it);
    }
    services.into_iter().flat_map(|(name, (service, address))| of(name, service, address)).collect()
}

fn of(name: &str, service: &Service, address: &str) -> Vec<(String, String)> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let prefix = variable(name);
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(name) = &port.name {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", variable(name)), port.port.to_string()));
        }
    }
    variables.push((format!("{prefix}_PORT"), url(first, address)));
    for port in ports {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let prefix = format!("{prefix}_PORT_{}_{protocol}", port.port);
        variables.extend([
            (prefix.clone(), url(port, address)),
            (format!("{prefix}_PROTO"), protocol.to_lowercase()),
            (format!("{prefix}_PORT"), port.port.to_string()),
            (format!("{prefix}_ADDR"), address.to_owned()),
        ]);
    }
    variables
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn url(port: &ServicePort, address: &str) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
    match address.parse() {
        Ok(IpAddr::V6(address)) => format!("{protocol}://[{address}]:{}", port.port),
        _ => format!("{protocol}://{address}:{}", port.port),
    }
}
