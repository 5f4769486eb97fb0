//! Services as an API server shows them: with their addresses, and the slices of endpoints behind them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Service, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use super::members::{self, Member};
use super::{is_headless, names};
use crate::engine::plan::spec_of;
use crate::net::Inputs;
use crate::node::desired::Name;

/// Which Service a slice is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Who makes slices.
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "coracle");

/// On the slices of a Service without an address, as Kubernetes marks them.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The condition that tells why a Service has no address.
const ADDRESSED: &str = "coracle.dev/Addressed";

/// A Service with what it got. `since` is the time of the last change of that.
pub fn service(service: &Service, addresses: &[String], problem: Option<&str>, since: Timestamp) -> Service {
    let mut shown = service.clone();
    let spec = shown.spec.get_or_insert_default();
    if !is_headless(spec) {
        spec.cluster_ip = addresses.first().cloned();
        spec.cluster_ips = (!addresses.is_empty()).then(|| addresses.to_vec());
    }
    if !addresses.is_empty() {
        spec.ip_families = Some(addresses.iter().map(|it| family(it).to_owned()).collect());
        spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    }
    let condition = problem.map(|message| Condition {
        type_: ADDRESSED.to_owned(),
        status: "False".to_owned(),
        reason: "NoAddress".to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(since),
        observed_generation: None,
    });
    shown.status =
        Some(ServiceStatus { conditions: condition.map(|it| vec![it]), load_balancer: Some(Default::default()) });
    shown
}

/// Since when a Service has been without an address.
pub fn since(shown: &Service) -> Option<Timestamp> {
    let conditions = shown.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|it| it.type_ == ADDRESSED).map(|it| it.last_transition_time.0)
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

/// The slices of every Service: one for the addresses of each family, and for each set of ports where pods have different
/// ones of a name.
pub fn slices(inputs: &Inputs) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for (name, service) in &inputs.declared.services {
        let Some(spec) = &service.spec else { continue };
        let members = members::of(inputs, name, spec);
        let mut groups: BTreeMap<(&str, Vec<Option<u16>>), Vec<Endpoint>> = BTreeMap::new();
        for member in &members {
            let targets: Vec<Option<u16>> = spec.ports.iter().flatten().map(|port| member.target(port)).collect();
            for address in &member.addresses {
                let endpoint = endpoint(member, address, &name.1);
                groups.entry((family(address), targets.clone())).or_default().push(endpoint);
            }
        }
        let mut number: BTreeMap<&str, usize> = BTreeMap::new();
        for ((family, targets), endpoints) in groups {
            let number = number.entry(family).or_default();
            *number += 1;
            let ports = spec.ports.iter().flatten().zip(&targets).filter_map(|(port, target)| {
                Some(EndpointPort {
                    name: Some(port.name.clone().unwrap_or_default()),
                    port: Some(i32::from((*target)?)),
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            });
            slices.push(EndpointSlice {
                metadata: metadata(name, family, *number, is_headless(spec), service),
                address_type: family.to_owned(),
                endpoints: Some(endpoints),
                ports: Some(ports.collect()),
            });
        }
    }
    slices
}

fn metadata(service: &Name, family: &str, number: usize, headless: bool, of: &Service) -> ObjectMeta {
    let mut labels = of.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), service.1.clone());
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    if headless {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let further = if number > 1 { format!("-{number}") } else { String::new() };
    ObjectMeta {
        namespace: Some(service.0.clone()),
        name: Some(format!("{}-{}{further}", service.1, family.to_lowercase())),
        labels: Some(labels),
        creation_timestamp: of.metadata.creation_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

fn endpoint(member: &Member<'_>, address: &str, service: &str) -> Endpoint {
    let spec = spec_of(member.pod);
    let hostname = spec.hostname.as_ref().filter(|_| spec.subdomain.as_deref() == Some(service));
    let meta = &member.pod.metadata;
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(member.ready),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        hostname: hostname.map(|_| names::host(member, service)),
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
