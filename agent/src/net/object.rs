//! Links as objects, `coracle.dev/v1alpha1`: what they say, how they are, how often they are used; and the board that
//! shows them, and networks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cri_proto::node::{GetNetworkRequest, LinkState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::links::{Port, Resolved, State};
use super::networks::object::{Network, TERMINATING};
use super::{Picture, pod_ref};
use crate::channel::Cri;
use crate::node::desired::Name;
use crate::store::Store;

/// How often connections are counted for whoever watches.
const COUNT: Duration = Duration::from_secs(5);

/// A link of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// `coracle.dev/v1alpha1`
    pub api_version: String,
    /// `Link`
    pub kind: String,
    /// Its name is `POD.ALIAS`.
    pub metadata: ObjectMeta,
    /// What the annotation says.
    pub spec: LinkSpec,
    /// What became of it.
    pub status: LinkStatus,
}

/// What the annotation says of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkSpec {
    /// The pod that has it.
    pub pod: String,
    /// What it calls the target.
    pub alias: String,
    /// `pod/NAMESPACE/NAME` or `service/NAMESPACE/NAME`.
    pub target: String,
    /// The pod begins when the target is ready.
    pub gated: bool,
    /// The pod has the target's variables.
    pub environment: bool,
}

/// What became of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// `Ready`, `NotReady`, `Missing` or `NotInForce`.
    pub state: String,
    /// What is the matter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `6379/tcp`
    pub ports: Vec<String>,
    /// Where the alias leads.
    pub addresses: Vec<String>,
    /// New connections since the link is in force; unknown where nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
}

/// The links of a picture, by namespace and name.
pub fn links_of(picture: &Picture) -> BTreeMap<Name, Link> {
    picture.every_link().map(|link| (key(link), object(picture, link))).collect()
}

fn key(link: &Resolved) -> Name {
    (link.from.0.clone(), format!("{}.{}", link.from.1, link.link.alias))
}

fn object(picture: &Picture, link: &Resolved) -> Link {
    let (namespace, name) = key(link);
    let pod = picture.inputs().pod(&link.from);
    let message = match (&link.state, link.ports.is_empty()) {
        (State::Ready, true) => format!("{} declares no port: the link opens none", link.target()),
        (state, _) => state.message().to_owned(),
    };
    Link {
        api_version: "coracle.dev/v1alpha1".into(),
        kind: "Link".into(),
        metadata: ObjectMeta {
            namespace: Some(namespace),
            name: Some(name),
            creation_timestamp: pod.and_then(|pod| pod.metadata.creation_timestamp.clone()),
            ..ObjectMeta::default()
        },
        spec: LinkSpec {
            pod: link.from.1.clone(),
            alias: link.link.alias.clone(),
            target: link.target(),
            gated: link.link.gated,
            environment: link.link.environment,
        },
        status: LinkStatus {
            state: link.state.as_str().into(),
            message,
            ports: link.ports.iter().map(Port::to_string).collect(),
            addresses: link.addresses.clone(),
            connections: None,
        },
    }
}

impl Link {
    /// What the runtime says of it, among all that it says.
    pub fn find<'a>(&self, states: &'a [LinkState]) -> Option<&'a LinkState> {
        let namespace = self.metadata.namespace.clone().unwrap_or_default();
        let from = Some(pod_ref(&(namespace, self.spec.pod.clone())));
        states.iter().find(|state| state.from == from && state.alias == self.spec.alias)
    }
}

/// Shows links and networks in a store, for whoever asks the API.
#[derive(Debug)]
pub struct Board {
    shown: Arc<Shown>,
    counting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shown {
    store: Store,
    links: Mutex<BTreeMap<Name, Link>>,
    networks: Mutex<BTreeMap<String, Network>>,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

impl Board {
    /// Shows in `store`, and counts through `cri`.
    pub fn new(store: Store, cri: Cri) -> Self {
        let shown = Arc::new(Shown { store, links: Mutex::default(), networks: Mutex::default() });
        let counting = tokio::spawn(count(shown.clone(), cri));
        Board { shown, counting }
    }

    /// Shows these links and no others.
    pub fn show(&self, links: BTreeMap<Name, Link>, trouble: Option<&str>) {
        let mut shown = self.shown.lock();
        for (namespace, name) in shown.keys().filter(|name| !links.contains_key(*name)) {
            self.shown.store.remove::<Link>(namespace, name);
        }
        let counted = std::mem::take(&mut *shown);
        for (name, mut link) in links {
            link.status.connections = counted.get(&name).and_then(|link| link.status.connections);
            if let Some(trouble) = trouble {
                link.status.state = NOT_IN_FORCE.into();
                link.status.message = trouble.to_owned();
            }
            self.shown.store.put(link.clone());
            shown.insert(name, link);
        }
    }

    /// Whether networks are shown.
    pub fn has_networks(&self) -> bool {
        !self.shown.networks().is_empty()
    }

    /// Shows these networks and no others.
    pub fn show_networks(&self, networks: BTreeMap<String, Network>, trouble: Option<&str>) {
        let mut shown = self.shown.networks();
        for name in shown.keys().filter(|name| !networks.contains_key(*name)) {
            self.shown.store.remove::<Network>("", name);
        }
        let before = std::mem::take(&mut *shown);
        for (name, mut network) in networks {
            let known = before.get(&name);
            let now = || Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
            network.metadata.creation_timestamp =
                known.and_then(|it| it.metadata.creation_timestamp.clone()).or_else(now);
            let status = &mut network.status;
            if status.state == TERMINATING && known.is_none_or(|it| it.status.state != TERMINATING) {
                tracing::warn!(network = name, "{}", status.message);
            }
            if let Some(trouble) = trouble.filter(|_| status.state != TERMINATING) {
                (status.state, status.message) = (NOT_IN_FORCE.into(), trouble.to_owned());
            }
            self.shown.store.put(network.clone());
            shown.insert(name, network);
        }
    }
}

/// The state of a link that the runtime does not have.
pub const NOT_IN_FORCE: &str = "NotInForce";

impl Shown {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn networks(&self) -> MutexGuard<'_, BTreeMap<String, Network>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, states: &[LinkState]) {
        for link in self.lock().values_mut() {
            link.status.connections = link.find(states).map(|state| state.connections);
            self.store.put(link.clone());
        }
    }
}

async fn count(shown: Arc<Shown>, cri: Cri) {
    loop {
        tokio::time::sleep(COUNT).await;
        if shown.lock().is_empty() {
            continue;
        }
        match cri.node.clone().get_network(GetNetworkRequest {}).await {
            Ok(answer) => shown.count(&answer.into_inner().links),
            Err(status) => tracing::debug!(error = status.message(), "connections over links cannot be counted"),
        }
    }
}
