//! One owner's part of the network: what its pods want of it, looked at whenever that may have changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cri_proto::node::SetNetworkRequest;
use k8s_openapi::api::core::v1::Service;
use runtime::network::overview;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::abroad::{self, Abroad, Pods};
use super::networks::object::networks_of;
use super::object::Board;
use super::sender::{Sender, Trouble};
use super::services::addresses::Allocation;
use super::services::ledger::Ledger;
use super::{Inputs, Picture, networks, object};
use crate::engine::Gate;
use crate::engine::config::Settings;
use crate::engine::record::RecordError;
use crate::node::desired::Name;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The same for Services that got no address: they may belong to another owner's, who gives them back.
const AGAIN: Duration = Duration::from_secs(15);

/// What is wanted of the network, and the way to the runtime.
#[derive(Debug)]
pub struct Network {
    sender: Sender,
    settings: Settings,
    owner: String,
    bell: Arc<Notify>,
    /// Nothing was asked for in this owner's name, by nobody before either.
    fresh: bool,
    /// This owner's pods as their records have them, for those that nobody has looked at yet.
    former: Pods,
    /// Other owners' pods, from when somebody has to do with them.
    abroad: Option<Abroad>,
    picture: Arc<Picture>,
    ledger: Ledger,
    /// The Services that have their addresses, with these.
    addressed: Option<(BTreeMap<Name, Service>, Allocation)>,
    /// When Services are to be given addresses again, though they are the same.
    again: Option<Instant>,
    retrying: Option<AbortHandle>,
    board: Option<Board>,
    /// Whether the node is one of a cluster.
    in_cluster: bool,
}

impl Network {
    /// Knows of nothing yet.
    pub fn new(sender: Sender, settings: Settings, owner: String) -> Self {
        let ranges = settings.service_ranges.clone();
        let ledger = Ledger::new(&settings.root_dir, &settings.state_dir, owner.clone(), ranges);
        Network {
            sender,
            settings,
            owner,
            bell: Arc::default(),
            fresh: true,
            former: Pods::new(),
            abroad: None,
            picture: Arc::default(),
            ledger,
            addressed: None,
            again: None,
            retrying: None,
            board: None,
            in_cluster: false,
        }
    }

    /// Goes by what an agent before this one has recorded until the pods are looked at: else its Services would lead
    /// nowhere meanwhile.
    pub fn recall(mut self) -> Result<Self, RecordError> {
        self.fresh = false;
        self.former = abroad::read(&self.settings, |owner| owner == self.owner)?;
        Ok(self)
    }

    /// Shows links on a board as well.
    pub fn shown_on(self, board: Board) -> Self {
        Network { board: Some(board), ..self }
    }

    /// Has the pods reach the node, as those of a cluster do.
    pub fn in_cluster(self, is: bool) -> Self {
        Network { in_cluster: is, ..self }
    }

    /// Rings when there is reason to look again.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// Why links and the like mean nothing here, where they do.
    pub fn unsupported(&self) -> Option<Trouble> {
        self.sender.unsupported()
    }

    /// What these inputs come to, with other owners' pods; and asks the runtime for it.
    pub fn look(&mut self, mut inputs: Inputs) -> Arc<Picture> {
        self.former.retain(|name, pod| {
            let same = inputs.pods.get(name).is_some_and(|it| it.metadata.uid == pod.metadata.uid);
            same && !inputs.seen.contains_key(name)
        });
        inputs.seen.extend(self.former.clone());
        if let Some(abroad) = &self.abroad {
            let others = abroad.others();
            inputs.networks_abroad.clone_from(&others.networks);
            for (name, pod) in others.pods.iter().filter(|(name, _)| !inputs.pods.contains_key(*name)) {
                inputs.seen.insert(name.clone(), pod.clone());
            }
        }
        self.address(&mut inputs);
        inputs.default_network = self.settings.default_network.clone();
        inputs.reach_node = self.in_cluster;
        self.picture = Arc::new(Picture::of(inputs));
        if self.abroad.is_none() && self.picture.looks_abroad() {
            self.abroad = Some(Abroad::follow(&self.settings, &self.owner, self.bell.clone()));
        }
        let request = self.picture.request();
        // Most runs want nothing, and need not wait for that. Where nothing can be had the gates say so, and who is only
        // reached by others begins.
        let sent = self.unsupported().is_none();
        if sent && (!self.fresh || request != SetNetworkRequest::default()) {
            self.fresh = false;
            self.sender.set(request);
        }
        if let Some(board) = &self.board {
            let trouble = self.sender.trouble().map(|trouble| trouble.to_string());
            board.show(object::links_of(&self.picture), trouble.as_deref());
            self.show_networks(board, trouble.as_deref());
        }
        self.picture.clone()
    }

    fn show_networks(&self, board: &Board, trouble: Option<&str>) {
        let inputs = self.picture.inputs();
        let some = !inputs.declared.networks.is_empty() || networks::members(inputs).next().is_some();
        if !some && !board.has_networks() {
            return;
        }
        let known = overview(&self.settings.state_dir, &self.settings.boot_id).unwrap_or_else(|error| {
            tracing::warn!(%error, "who is in which network cannot be read");
            BTreeMap::default()
        });
        board.show_networks(networks_of(&self.picture, &known), trouble);
    }

    /// Gives Services their addresses, when there are others than before.
    fn address(&mut self, inputs: &mut Inputs) {
        let services = &inputs.declared.services;
        if let Some(why) = self.unsupported() {
            inputs.service_problems = services.keys().map(|name| (name.clone(), why.to_string())).collect();
            return;
        }
        let due = self.again.is_some_and(|at| at <= Instant::now());
        if due || self.addressed.as_ref().is_none_or(|(before, _)| before != services) {
            match self.ledger.allocate(services, runtime::network::surroundings) {
                Ok(allocation) => {
                    let told = self.addressed.take().map(|(_, allocation)| allocation.problems).unwrap_or_default();
                    for (name, problem) in allocation.problems.iter().filter(|(name, it)| told.get(*name) != Some(it)) {
                        let service = format!("{}/{}", name.0, name.1);
                        tracing::warn!(service, problem, "a Service has no address; it is tried again");
                    }
                    self.again = (!allocation.problems.is_empty()).then(|| Instant::now() + AGAIN);
                    self.addressed = Some((services.clone(), allocation));
                    if self.again.is_some() {
                        self.retry(AGAIN);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "who has which Service's address cannot be recorded; it is tried again");
                    let why = || format!("who has which address cannot be recorded: {error}");
                    inputs.service_problems = services.keys().map(|name| (name.clone(), why())).collect();
                    self.retry(RETRY);
                }
            }
        }
        let Some((_, allocation)) = &self.addressed else { return };
        let known = allocation.addresses.iter().filter(|(name, _)| services.contains_key(*name));
        let text = |addresses: &Vec<IpAddr>| addresses.iter().map(IpAddr::to_string).collect();
        inputs.service_addresses = known.map(|(name, addresses)| (name.clone(), text(addresses))).collect();
        inputs.service_problems.extend(allocation.problems.clone());
    }

    /// Looks again after a while.
    fn retry(&mut self, after: Duration) {
        let bell = self.bell.clone();
        let later = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            bell.notify_one();
        });
        if let Some(before) = self.retrying.replace(later.abort_handle()) {
            before.abort();
        }
    }

    /// Why links keep a pod from beginning, as of the last look.
    pub fn gate(&self, name: &Name) -> Option<Gate> {
        self.picture.gate(name, self.unsupported().as_ref())
    }

    /// Wants nothing any more, and waits until the runtime knows.
    pub async fn end(&self) {
        self.sender.set(SetNetworkRequest::default());
        self.sender.settled().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::channel::Cri;
    use crate::engine::fake::Fake;
    use crate::engine::record::PodRecord;

    fn pod(name: &str, links: Option<&str>) -> (Name, Arc<Pod>) {
        let annotations = links.map(|links| json!({"coracle.dev/links": links}));
        let object = json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "annotations": annotations},
            "spec": {"containers": []},
        });
        (("default".into(), name.into()), Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn inputs(pods: [(Name, Arc<Pod>); 2]) -> Inputs {
        Inputs { pods: pods.into(), seen: BTreeMap::new(), ..Inputs::default() }
    }

    fn network(fake: &Fake, state: &tempfile::TempDir) -> Network {
        let settings = Settings { state_dir: state.path().to_owned(), boot_id: "b".into(), ..Settings::default() };
        Network::new(Sender::new(Cri::new(fake.channel())), settings, "agent".into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_wanted_anything_asks_for_nothing() {
        let (fake, state) = (Fake::new(), tempfile::tempdir().unwrap());
        let mut network = network(&fake, &state);
        network.look(inputs([pod("web", None), pod("db", None)]));
        network.sender.settled().await;
        assert_eq!(fake.calls(), Vec::<String>::new());
        network.look(inputs([pod("web", Some("db")), pod("db", None)]));
        network.sender.settled().await;
        network.end().await;
        assert_eq!(fake.calls(), ["0 set-network 1", "0 set-network 0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_has_its_address_when_there_is_one_again() {
        let (fake, state, root) = (Fake::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let service = |name: &str| -> (Name, Service) {
            let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
            (("default".into(), name.into()), serde_json::from_value(object).unwrap())
        };
        // Two addresses, and a run that has both.
        let ranges = vec!["10.9.0.0/30".parse().unwrap()];
        std::fs::create_dir(state.path().join("runs")).unwrap();
        std::fs::write(state.path().join("runs/other.json"), "{}").unwrap();
        let others = Ledger::new(root.path(), state.path(), "run:other".into(), ranges.clone());
        let both = [service("a"), service("b")].into();
        assert_eq!(others.allocate(&both, || unreachable!()).unwrap().addresses.len(), 2);

        let settings = Settings {
            state_dir: state.path().to_owned(),
            root_dir: root.path().to_owned(),
            boot_id: "b".into(),
            service_ranges: ranges,
            ..Settings::default()
        };
        let mut network = Network::new(Sender::new(Cri::new(fake.channel())), settings, "agent".into());
        let bell = network.bell();
        let look = |network: &mut Network| {
            let declared = super::super::Declared { services: [service("web")].into(), ..Default::default() };
            let picture = network.look(Inputs { declared, ..Inputs::default() });
            let inputs = picture.inputs();
            (inputs.service_addresses.len(), inputs.service_problems.len())
        };
        assert_eq!(look(&mut network), (0, 1));
        others.release().unwrap();
        assert_eq!(look(&mut network), (0, 1), "it is not tried at each look");
        bell.notified().await;
        assert_eq!(look(&mut network), (1, 0));
        assert!(tokio::time::timeout(Duration::from_secs(3600), bell.notified()).await.is_err(), "and then no more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_agent_before_this_one_knew_counts_until_somebody_looks() {
        let (fake, state) = (Fake::new(), tempfile::tempdir().unwrap());
        let ((name, db), web) = (pod("db", None), pod("web", Some("db")));
        let mut recorded = Pod::clone(&db);
        recorded.status = serde_json::from_value(json!({
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIPs": [{"ip": "10.1.0.2"}],
        }))
        .unwrap();
        let record = PodRecord { pod: recorded, owner: "agent".into(), boot_id: "b".into(), log_directory: "/".into() };
        record.write(state.path()).unwrap();
        let mut network = network(&fake, &state).recall().unwrap();
        let picture = network.look(inputs([(name.clone(), db.clone()), web.clone()]));
        assert_eq!(network.gate(&web.0), None);
        assert_eq!(picture.surroundings(&web.0).hosts(), [("10.1.0.2".to_owned(), "db".to_owned())]);
        network.sender.settled().await;
        assert_eq!(fake.calls(), ["0 set-network 1"]);
        let seen = BTreeMap::from([(name.clone(), db.clone())]);
        network.look(Inputs { seen, ..inputs([(name.clone(), db.clone()), web.clone()]) });
        assert!(network.gate(&web.0).is_some(), "its worker knows better");
        network.look(inputs([(name, db), web.clone()]));
        assert!(network.gate(&web.0).is_some(), "from then on");
    }
}
