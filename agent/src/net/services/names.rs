//! The names of Services, as cluster DNS has them.

use cri_proto::node::{Name as Record, SrvTarget};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::is_headless;
use super::members::Member;
use crate::engine::plan::spec_of;
use crate::net::pod_ref;
use crate::node::desired::Name;

/// `NAME.NAMESPACE.svc`, which is the Service's address, or of a headless one its pods'; a name for each of these pods;
/// and where the named ports are.
pub fn of(name: &Name, spec: &ServiceSpec, members: &[Member<'_>], addresses: &[String]) -> Vec<Record> {
    let service = format!("{}.{}.svc", name.1, name.0);
    if !is_headless(spec) {
        let own = Record { name: service.clone(), addresses: addresses.to_vec(), ..Record::default() };
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let target = SrvTarget { port: u32::try_from(port.port).ok()?, target: service.clone() };
            Some(srv(nameable(port)?, port.protocol.as_deref(), &service, vec![target]))
        });
        return if addresses.is_empty() { Vec::new() } else { [own].into_iter().chain(ports).collect() };
    }
    let ready: Vec<&Member<'_>> = members.iter().filter(|member| member.ready).collect();
    let pods = ready.iter().map(|member| pod_ref(&member.name)).collect();
    let mut records = vec![Record { name: service.clone(), pods, ..Record::default() }];
    let host_of = |member: &Member<'_>| format!("{}.{service}", host(member, &name.1));
    records.extend(ready.iter().map(|member| Record {
        name: host_of(member),
        pods: vec![pod_ref(&member.name)],
        ..Record::default()
    }));
    for port in spec.ports.iter().flatten() {
        let Some(port_name) = nameable(port) else { continue };
        let targets = ready
            .iter()
            .filter_map(|member| Some(SrvTarget { port: u32::from(member.target(port)?), target: host_of(member) }));
        records.push(srv(port_name, port.protocol.as_deref(), &service, targets.collect()));
    }
    records
}

/// The name of a port, if it has one that a label of DNS has room for, with what goes before it.
fn nameable(port: &ServicePort) -> Option<&str> {
    port.name.as_deref().filter(|name| name.len() < 63)
}

fn srv(port: &str, protocol: Option<&str>, service: &str, targets: Vec<SrvTarget>) -> Record {
    let protocol = protocol.unwrap_or("TCP").to_lowercase();
    Record { name: format!("_{port}._{protocol}.{service}"), srv: targets, ..Record::default() }
}

/// What a pod is called below its Service: its host name, if it says that it is this Service's; else its address.
pub fn host(member: &Member<'_>, service: &str) -> String {
    let spec = spec_of(member.pod);
    match &spec.hostname {
        Some(hostname) if spec.subdomain.as_deref() == Some(service) => hostname.clone(),
        _ => member.addresses.first().map(|it| it.replace(['.', ':'], "-")).unwrap_or_default(),
    }
}
