//! What this owner's pods want of the network beyond themselves: links, policies, Services, names. Pure; the runtime
//! makes rules and names of it, and [`sender`] brings it there.
//!
//! ```text
//!  manifests ──> Declared ┐
//!  pods' definitions ─────┼─> Inputs ──> Picture ──request()──────> SetNetworkRequest ──sender──> runtime
//!  pods' status ──────────┘                 ├─────gate()─────────> which pods have to wait
//!                                           └─────surroundings()─> variables and hosts lines of each pod
//! ```

pub mod abroad;
pub mod ambassador;
pub mod env;
pub mod links;
pub mod network;
pub mod networks;
pub mod object;
pub mod policy;
pub mod selector;
pub mod sender;
pub mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cri_proto::node;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use manifests::annotations::{Kind, LINKS, NETWORK};
use manifests::{Network, Object};
use runtime::network::Kind as NetworkKind;

use self::links::{Port, Resolved};
use self::sender::Trouble;
use self::services::Services;
use crate::engine::Gate;
use crate::node::desired::{Name, name_of};
use crate::node::order::State;

/// Why a pod waits for what it is linked to.
const WAITING: &str = "WaitingForLinks";

/// Why a pod with links does not begin on another container runtime.
const UNSUPPORTED: &str = "LinksUnsupported";

/// Why a pod waits for its network.
const WAITING_FOR_NETWORK: &str = "WaitingForNetwork";

/// Why a pod that is not for every other pod does not begin on another container runtime.
const NETWORK_UNSUPPORTED: &str = "NetworkUnsupported";

/// Why a pod that a policy chooses does not begin there.
const POLICY_UNSUPPORTED: &str = "NetworkPolicyUnsupported";

/// What manifests say of the network besides the pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// Services.
    pub services: BTreeMap<Name, Service>,
    /// NetworkPolicies.
    pub policies: BTreeMap<Name, NetworkPolicy>,
    /// Networks.
    pub networks: BTreeMap<Name, Network>,
}

impl Declared {
    /// What these objects say; of two with one name the last counts.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut declared = Declared::default();
        for object in objects {
            let name = name_of(object);
            match object {
                Object::Service(service) => drop(declared.services.insert(name, Service::clone(service))),
                Object::NetworkPolicy(policy) => drop(declared.policies.insert(name, NetworkPolicy::clone(policy))),
                Object::Network(network) => drop(declared.networks.insert(name, Network::clone(network))),
                // The pod that an ambassador means stands in its place.
                Object::Pod(_)
                | Object::ConfigMap(_)
                | Object::Secret(_)
                | Object::PersistentVolumeClaim(_)
                | Object::Ambassador(_) => {}
            }
        }
        declared
    }
}

/// Everything that the network is computed from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The pods that this owner shall run.
    pub pods: BTreeMap<Name, Arc<Pod>>,
    /// The pods of all owners with their status, this one's as their workers saw them last. One that never began is not
    /// here.
    pub seen: BTreeMap<Name, Arc<Pod>>,
    /// What manifests say besides.
    pub declared: Declared,
    /// The addresses that Services have, the one that clients are told first.
    pub service_addresses: BTreeMap<Name, Vec<String>>,
    /// Why others have none, or not all that they ask for.
    pub service_problems: BTreeMap<Name, String>,
    /// The network of pods that name none.
    pub default_network: NetworkKind,
    /// The networks that other owners want.
    pub networks_abroad: BTreeSet<String>,
    /// The node is one of a cluster, whose pods reach it.
    pub reach_node: bool,
}

impl Inputs {
    /// A pod's definition: this owner's as it shall run, another's as it runs.
    pub fn pod(&self, name: &Name) -> Option<&Arc<Pod>> {
        self.pods.get(name).or_else(|| self.seen.get(name))
    }

    /// How a pod is, as far as anybody has seen it.
    pub fn state(&self, name: &Name) -> State {
        self.seen.get(name).map(|pod| State::of(pod)).unwrap_or_default()
    }

    /// A pod's addresses, IPv4 first; none before it was somewhere.
    pub fn addresses(&self, name: &Name) -> Vec<String> {
        let status = self.seen.get(name).and_then(|pod| pod.status.as_ref());
        status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|it| it.ip.clone()).collect()
    }
}

/// What the inputs come to.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    inputs: Inputs,
    services: Services,
    links: BTreeMap<Name, Vec<Resolved>>,
}

impl Picture {
    /// What these come to.
    pub fn of(inputs: Inputs) -> Self {
        let services = services::wanted(&inputs);
        let mut links: BTreeMap<Name, Vec<Resolved>> = BTreeMap::new();
        for link in links::resolve(&inputs, &services) {
            links.entry(link.from.clone()).or_default().push(link);
        }
        Picture { inputs, services, links }
    }

    /// What it was made from.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The links of a pod.
    pub fn links(&self, pod: &Name) -> &[Resolved] {
        self.links.get(pod).map(Vec::as_slice).unwrap_or_default()
    }

    /// Everybody's links.
    pub fn every_link(&self) -> impl Iterator<Item = &Resolved> {
        self.links.values().flatten()
    }

    /// The pods whose state decides about links, Services and networks, and those of ambassadors, which are shown: all of
    /// them as soon as there are Services, for whichever pods these choose.
    pub fn watched(&self) -> BTreeSet<Name> {
        if !self.inputs.declared.services.is_empty() {
            return self.inputs.pods.keys().cloned().collect();
        }
        let members = networks::members(&self.inputs).map(|(pod, _)| pod.clone());
        let members = members.chain(ambassador::object::names(&self.inputs));
        self.links.values().flatten().map(|link| link.target.clone()).chain(members).collect()
    }

    /// Whether something here depends on pods or networks of other owners: those are to be looked at, too.
    pub fn looks_abroad(&self) -> bool {
        let abroad = |link: &Resolved| link.link.kind == Kind::Pod && !self.inputs.pods.contains_key(&link.target);
        self.links.values().flatten().any(abroad) || networks::look_abroad(&self.inputs)
    }

    /// Why a pod's links or its network keep it from beginning.
    pub fn gate(&self, pod: &Name, unsupported: Option<&Trouble>) -> Option<Gate> {
        let links = self.links(pod);
        if let Some(why) = unsupported {
            return self.refusal(pod, why);
        }
        let network = networks::missing(&self.inputs, pod);
        let network = network.map(|message| Gate { reason: WAITING_FOR_NETWORK.into(), message });
        let waits: Vec<String> = links.iter().filter_map(Resolved::waits).collect();
        let links = (!waits.is_empty()).then(|| Gate { reason: WAITING.into(), message: waits.join(", ") });
        Gate::both(network, links)
    }

    /// What keeps a pod from beginning where nothing of all this is to be had: it would run without what it asks for.
    fn refusal(&self, pod: &Name, why: &Trouble) -> Option<Gate> {
        let (reason, what) = if !self.links(pod).is_empty() {
            (UNSUPPORTED, LINKS)
        } else if policy::concerns(&self.inputs, pod) {
            (POLICY_UNSUPPORTED, "the NetworkPolicy that chooses this pod")
        } else if networks::asks(&self.inputs, pod) {
            (NETWORK_UNSUPPORTED, NETWORK)
        } else {
            return None;
        };
        Some(Gate { reason: reason.into(), message: format!("{why}; take {what} away") })
    }

    /// What the runtime is asked for.
    pub fn request(&self) -> node::SetNetworkRequest {
        let links: Vec<&Resolved> = self.links.values().flatten().filter(|link| link.leads()).collect();
        let mut names = self.services.names.clone();
        names.extend(links.iter().map(|link| link.name()));
        // One without an address is a name alone.
        let services = self.services.services.iter().filter(|service| !service.addresses.is_empty()).cloned();
        node::SetNetworkRequest {
            networks: networks::wanted(&self.inputs),
            links: links.iter().map(|link| link.wire()).collect(),
            policies: policy::wanted(&self.inputs),
            services: services.collect(),
            names,
            reach_node: self.inputs.reach_node,
        }
    }

    /// What a pod gets to know of the others.
    pub fn surroundings(&self, pod: &Name) -> Surroundings {
        Surroundings {
            links: self.links(pod).iter().map(|link| self.linked(link)).collect(),
            variables: services::variables(&self.inputs, pod),
        }
    }

    fn linked(&self, link: &Resolved) -> Linked {
        let source = self.inputs.pod(&link.target).filter(|_| link.link.kind == Kind::Pod);
        let network = source.and_then(|pod| pod.metadata.annotations.as_ref()?.get(NETWORK).cloned());
        Linked {
            alias: link.link.alias.clone(),
            addresses: link.addresses.clone(),
            ports: link.ports.clone(),
            // The address of a pod that is to be is known before it is.
            lease: source.filter(|_| link.leads()).map(|_| (link.target.clone(), network.unwrap_or_default())),
            source: source.filter(|_| link.link.environment).cloned(),
        }
    }
}

/// What one pod gets to know of the others, beyond what DNS tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Its links.
    pub links: Vec<Linked>,
    /// Variables of Services.
    pub variables: Vec<(String, String)>,
}

/// A link as its pod sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linked {
    /// What it is called.
    pub alias: String,
    /// Where that is.
    pub addresses: Vec<String>,
    /// The ports there.
    pub ports: BTreeSet<Port>,
    /// The pod whose address it is, with its network, for whoever asks before that pod has one.
    pub lease: Option<(Name, String)>,
    /// The pod whose variables are passed on.
    pub source: Option<Arc<Pod>>,
}

impl Surroundings {
    /// The lines of its hosts file: an address and a name.
    pub fn hosts(&self) -> Vec<(String, String)> {
        let line = |link: &Linked| {
            let alias = link.alias.clone();
            link.addresses.iter().map(move |address| (address.clone(), alias.clone())).collect::<Vec<_>>()
        };
        self.links.iter().flat_map(line).collect()
    }
}

/// What the runtime is asked for.
#[cfg(test)]
pub fn wanted(inputs: &Inputs) -> node::SetNetworkRequest {
    Picture::of(inputs.clone()).request()
}

/// A pod as the runtime is told of it.
pub fn pod_ref(name: &Name) -> node::PodRef {
    node::PodRef { namespace: name.0.clone(), name: name.1.clone() }
}
