//! What owners want of pods, made into what the table knows: names into addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::attach;
use super::nft::{Allow, Block, LinkRules, PolicyRules, Relations, ServiceRules};
use super::wanted::{Link, Peer, PodRef, Policy, PolicyRule, Service, WantedSet};
use crate::core::Core;
use crate::error::Result;
use crate::ids::Owner;
use crate::records;
use crate::sandbox::Record;

/// What owners want, in one order.
pub type Sets = [(Owner, Arc<WantedSet>)];

/// The addresses of pods, by name. Two pods of one name have those of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(HashMap<PodRef, Vec<IpAddr>>);

/// Which of all that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// What these pods are an end of, and these services, by namespace and name. It is all that can put the same elements
    /// into a set as they.
    Only(BTreeSet<PodRef>, BTreeSet<(String, String)>),
}

impl Scope {
    /// What is about a pod.
    pub fn pod(pod: &PodRef) -> Self {
        Self::Only(BTreeSet::from([pod.clone()]), BTreeSet::new())
    }

    fn has(&self, pod: &PodRef) -> bool {
        match self {
            Self::All => true,
            Self::Only(pods, _) => pods.contains(pod),
        }
    }

    fn has_link(&self, link: &Link) -> bool {
        self.has(&link.from) || link.endpoints.iter().any(|it| self.has(&it.pod))
    }

    fn has_policy(&self, policy: &Policy) -> bool {
        let peers = |rules: &Option<Vec<PolicyRule>>| {
            rules.iter().flatten().flat_map(|it| &it.peers).any(|it| matches!(it, Peer::Pod(pod) if self.has(pod)))
        };
        self.has(&policy.pod) || peers(&policy.ingress) || peers(&policy.egress)
    }

    fn has_service(&self, service: &Service) -> bool {
        let named = match self {
            Self::All => true,
            Self::Only(_, services) => services.contains(&(service.namespace.clone(), service.name.clone())),
        };
        named || service.ports.iter().flat_map(|it| &it.endpoints).any(|it| self.has(&it.pod))
    }
}

/// What is not the same in two lists of sets.
pub fn changed(old: &Sets, new: &Sets) -> Scope {
    let (mut pods, mut services) = (BTreeSet::new(), BTreeSet::new());
    for (sets, others) in [(old, new), (new, old)] {
        for (owner, set) in sets {
            let other = others.iter().find(|(it, _)| it == owner).map(|(_, it)| Arc::clone(it)).unwrap_or_default();
            let links = lacks(&set.links, &other.links, |it| (it.from.clone(), it.alias.clone()));
            pods.extend(links.into_iter().map(|it| it.from.clone()));
            let policies = lacks(&set.policies, &other.policies, |it| it.pod.clone());
            pods.extend(policies.into_iter().map(|it| it.pod.clone()));
            let of = |it: &Service| (it.namespace.clone(), it.name.clone());
            services.extend(lacks(&set.services, &other.services, of).into_iter().map(of));
        }
    }
    Scope::Only(pods, services)
}

/// The items that are not the same in another list, where each is known by a key.
fn lacks<'a, T: PartialEq, K: std::hash::Hash + Eq>(items: &'a [T], other: &[T], key: impl Fn(&T) -> K) -> Vec<&'a T> {
    // Most often nothing has changed but one item.
    if items == other {
        return Vec::new();
    }
    let known: HashMap<K, &T> = other.iter().map(|it| (key(it), it)).collect();
    items.iter().filter(|it| known.get(&key(it)).is_none_or(|same| same != it)).collect()
}

impl Addresses {
    /// Those of the pods that what is wanted names, as far as `scope` goes; `without` leaves a sandbox out.
    pub fn read(core: &Core, sets: &Sets, scope: &Scope) -> Result<Self> {
        let names = names(sets, scope);
        let mut addresses = Self::default();
        if names.is_empty() {
            return Ok(addresses);
        }
        let named = |it: &Record| names.contains(&(it.request.namespace.as_str(), it.request.name.as_str()));
        for record in records::select(core, named)? {
            // One that stops is in the table until it is taken out of it, which goes by what is wanted then.
            let there = !record.stopped || attach::held(core, &record).is_some();
            if record.boot_id == core.boot_id && there {
                addresses.add(&record);
            }
        }
        Ok(addresses)
    }

    /// With a pod's.
    pub fn add(&mut self, record: &Record) {
        let Some(attachment) = &record.attachment else { return };
        let all = self.0.entry(name(record)).or_default();
        all.extend(&attachment.addresses);
        all.sort_unstable();
        all.dedup();
    }

    /// Without a pod's.
    pub fn remove(&mut self, record: &Record) {
        let gone = record.attachment.iter().flat_map(|it| &it.addresses).collect::<Vec<_>>();
        if let Some(all) = self.0.get_mut(&name(record)) {
            all.retain(|it| !gone.contains(&it));
        }
    }

    /// A pod's.
    pub fn of(&self, pod: &PodRef) -> &[IpAddr] {
        self.0.get(pod).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A sandbox's pod.
pub fn name(record: &Record) -> PodRef {
    PodRef::new(&record.request.namespace, &record.request.name)
}

/// Whether anything is wanted of what a scope has.
pub fn concerns(sets: &Sets, scope: &Scope) -> bool {
    sets.iter().any(|(_, set)| {
        set.links.iter().any(|it| scope.has_link(it))
            || set.policies.iter().any(|it| scope.has_policy(it))
            || set.services.iter().any(|it| scope.has_service(it))
    })
}

fn names<'a>(sets: &'a Sets, scope: &Scope) -> BTreeSet<(&'a str, &'a str)> {
    let mut names = BTreeSet::new();
    let mut add = |pod: &'a PodRef| {
        names.insert((pod.namespace.as_str(), pod.name.as_str()));
    };
    for (_, set) in sets {
        for link in set.links.iter().filter(|it| scope.has_link(it)) {
            add(&link.from);
            link.endpoints.iter().for_each(|it| add(&it.pod));
        }
        for policy in set.policies.iter().filter(|it| scope.has_policy(it)) {
            add(&policy.pod);
            let rules = [&policy.ingress, &policy.egress].into_iter().flatten().flatten();
            for peer in rules.flat_map(|it| &it.peers) {
                if let Peer::Pod(pod) = peer {
                    add(pod);
                }
            }
        }
        let services = set.services.iter().filter(|it| scope.has_service(it));
        services.flat_map(|it| &it.ports).flat_map(|it| &it.endpoints).for_each(|it| add(&it.pod));
    }
    names
}

/// What the table is to know of it.
pub fn resolve(sets: &Sets, addresses: &Addresses, scope: &Scope) -> Relations {
    let mut relations = Relations::default();
    let mut policies: BTreeMap<&PodRef, PolicyRules> = BTreeMap::new();
    for (_, set) in sets {
        for link in set.links.iter().filter(|it| scope.has_link(it)) {
            relations.links.extend(of_link(link, addresses));
        }
        for policy in set.policies.iter().filter(|it| scope.has_policy(it)) {
            // What one owner allows adds to what another one does.
            let rules = policies.entry(&policy.pod).or_default();
            rules.addresses = addresses.of(&policy.pod).to_vec();
            for (mine, wanted) in [(&mut rules.ingress, &policy.ingress), (&mut rules.egress, &policy.egress)] {
                if let Some(wanted) = wanted {
                    mine.get_or_insert_default().extend(wanted.iter().map(|it| allow(it, addresses)));
                }
            }
        }
        for service in set.services.iter().filter(|it| scope.has_service(it)) {
            relations.services.extend(of_service(service, addresses));
        }
    }
    relations.policies = policies.into_values().filter(|it| !it.addresses.is_empty()).collect();
    relations
}

/// The pairs of addresses that a link allows.
pub fn of_link(link: &Link, addresses: &Addresses) -> Vec<LinkRules> {
    let from = addresses.of(&link.from);
    let of_endpoint = |endpoint: &super::wanted::LinkEndpoint| {
        let to = addresses.of(&endpoint.pod);
        let rules = |&ports: &_| LinkRules { from: from.to_vec(), to: to.to_vec(), ports };
        if from.is_empty() || to.is_empty() { vec![] } else { endpoint.ports.iter().map(rules).collect::<Vec<_>>() }
    };
    link.endpoints.iter().flat_map(of_endpoint).collect()
}

fn allow(rule: &PolicyRule, addresses: &Addresses) -> Allow {
    let peer = |peer: &Peer| match peer {
        Peer::Pod(pod) => {
            addresses.of(pod).iter().map(|it| Block { cidr: IpNet::from(*it), except: Vec::new() }).collect()
        }
        Peer::Block { cidr, except } => vec![Block { cidr: *cidr, except: except.clone() }],
    };
    let peers = (!rule.peers.is_empty()).then(|| rule.peers.iter().flat_map(peer).collect());
    Allow { peers, ports: rule.ports.clone() }
}

fn of_service(service: &Service, addresses: &Addresses) -> Vec<ServiceRules> {
    let of_port = |port: &super::wanted::ServicePort| ServiceRules {
        addresses: service.addresses.clone(),
        protocol: port.protocol,
        port: port.port,
        endpoints: port.endpoints.iter().map(|it| (addresses.of(&it.pod).to_vec(), it.port)).collect(),
        affinity: service.affinity_seconds,
    };
    service.ports.iter().map(of_port).collect()
}
