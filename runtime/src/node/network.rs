//! What is wanted of the pods' network beyond the pods, and what is in force.

use std::sync::Arc;

use cri_proto::node::{
    GetNetworkResponse, LeaseAddressesRequest, LeaseAddressesResponse, LinkState, PodAddresses, PodRef,
    SetNetworkRequest, SetNetworkResponse,
};
use tonic::Status;

use crate::core::Core;
use crate::cri::Services;
use crate::error::Error;
use crate::network::{self, Kind, wanted};

pub async fn set(services: &Services, request: SetNetworkRequest) -> Result<SetNetworkResponse, Status> {
    services.run(move |core, owner| network::set(core, owner, &wanted::check(request)?)).await?;
    Ok(SetNetworkResponse {})
}

pub async fn get(services: &Services) -> Result<GetNetworkResponse, Status> {
    let state = services.run(|core, _| network::state_of_links(core)).await?;
    Ok(GetNetworkResponse {
        links: state.links.into_iter().map(link).collect(),
        repairs: state.repairs.count,
        last_repair_us: state.repairs.last_us,
    })
}

fn link(link: network::LinkState) -> LinkState {
    let network::LinkState { from, alias, target, connected, connections } = link;
    let from = Some(PodRef { namespace: from.namespace, name: from.name });
    LinkState { from, alias, target, connected, connections }
}

pub async fn lease(services: &Services, request: LeaseAddressesRequest) -> Result<LeaseAddressesResponse, Status> {
    let pods = services.run(move |core, _| leases(core, request)).await?;
    Ok(LeaseAddressesResponse { pods })
}

fn leases(core: &Arc<Core>, request: LeaseAddressesRequest) -> crate::error::Result<Vec<PodAddresses>> {
    let invalid = Error::Invalid;
    let (asked, named) = (request.pods.len(), request.networks.len());
    if asked != named && named != 0 {
        return Err(invalid(format!("networks: there are {named} of them, and {asked} pods")));
    }
    let networks = request.networks.into_iter().map(Some).chain(std::iter::repeat(None));
    let lease = |(index, (pod, network)): (usize, (PodRef, Option<String>))| {
        if pod.namespace.is_empty() || pod.name.is_empty() {
            return Err(invalid(format!("pods[{index}]: a pod needs a namespace and a name")));
        }
        let kind = network.filter(|it| !it.is_empty()).map(|it| it.parse::<Kind>());
        let kind = kind.transpose().map_err(|why| invalid(format!("networks[{index}]: {why}")))?;
        let addresses = network::lease_for(core, &pod.namespace, &pod.name, kind)?;
        Ok(PodAddresses { addresses: addresses.iter().map(ToString::to_string).collect() })
    };
    request.pods.into_iter().zip(networks).enumerate().map(lease).collect()
}
