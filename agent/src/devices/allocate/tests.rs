#![allow(clippy::unwrap_used)]
//! Devices are given by a plug-in that answers in this process.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use cri_proto::device_plugin as api;
use cri_proto::device_plugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use futures_util::Stream;
use serde_json::json;
use tonic::{Request, Response};

use super::*;

const UNIT: &str = "unit.example/u";

/// What it was asked, and whether it answers.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<String>>>,
    silent: bool,
}

impl Fake {
    fn note(&self, what: &str, mut ids: Vec<String>) {
        ids.sort();
        self.asked.lock().unwrap().push(format!("{what} {}", ids.join(",")));
    }
}

#[tonic::async_trait]
impl DevicePlugin for Fake {
    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        let options = api::DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true };
        Ok(Response::new(options))
    }

    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<api::ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(&self, _: Request<api::Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        Ok(Response::new(Box::pin(futures_util::stream::pending())))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let one = request.into_inner().container_requests.remove(0);
        self.note("prefer", one.must_include_device_i_ds);
        let preferred = api::ContainerPreferredAllocationResponse { device_i_ds: vec!["c".into()] };
        Ok(Response::new(api::PreferredAllocationResponse { container_responses: vec![preferred] }))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests.remove(0).devices_ids;
        self.note("allocate", ids.clone());
        if self.silent {
            std::future::pending::<()>().await;
        }
        let envs = [("UNITS".to_owned(), ids.join(","))].into();
        let one = api::ContainerAllocateResponse { envs, ..Default::default() };
        Ok(Response::new(api::AllocateResponse { container_responses: vec![one] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        self.note("ready", request.into_inner().devices_ids);
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

/// The devices of a node where `fake` serves `a`, `b` and `c`.
async fn devices(dir: &tempfile::TempDir, fake: Fake) -> Devices {
    let listener = tokio::net::UnixListener::bind(dir.path().join("unit.sock")).unwrap();
    let server = tonic::transport::Server::builder().add_service(DevicePluginServer::new(fake));
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener)));
    let opened = runtime::store::open_dir(dir.path()).unwrap();
    let plugin = Plugin::dial(super::super::directory::socket(&opened, "unit.sock").unwrap()).await.unwrap();
    let devices = open(dir);
    let serial = devices.serve_resource(UNIT, plugin).await.unwrap();
    assert!(devices.listed(UNIT, serial, ["a", "b", "c"].map(|id| (id.to_owned(), true)).into()));
    devices
}

fn open(dir: &tempfile::TempDir) -> Devices {
    Devices::open(dir.path().to_owned(), dir.path().to_owned(), "boot", true).unwrap()
}

fn pod(uid: &str, needed: usize) -> Pod {
    let container = |name: &str, needed: usize| {
        let limits = json!({UNIT: needed.to_string(), "cpu": "1", "other.example/unknown": "7"});
        json!({"name": name, "image": "i", "resources": {"limits": limits}})
    };
    let spec = json!({"initContainers": [container("init", 1)], "containers": [container("c", needed)]});
    serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "n", "uid": uid}, "spec": spec})).unwrap()
}

fn given(devices: &Devices, uid: &str, container: &str) -> Vec<String> {
    let state = devices.lock();
    let given = state.pool.given(uid, container, UNIT).unwrap();
    given.devices.iter().cloned().collect()
}

#[tokio::test]
async fn a_container_has_what_it_asks_for_and_the_next_agent_knows() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    let devices = devices(&dir, fake.clone()).await;
    let one = pod("one", 2);
    devices.give_pod(&one).await.unwrap();
    assert_eq!(given(&devices, "one", "init"), ["c"], "as it is preferred");
    assert_eq!(given(&devices, "one", "c"), ["a", "c"], "what the init container had comes first");
    let spec = spec_of(&one);
    let ready = devices.ready(&one, &spec.containers[0]).await.unwrap();
    let mut environment = crate::engine::config::env::Environment::default();
    ready.iter().for_each(|it| it.surround(&mut environment));
    assert_eq!(environment.get(b"UNITS"), Some(&b"a,c"[..]));
    let asked = ["prefer ", "allocate c", "prefer c", "allocate a,c", "ready a,c"];
    assert_eq!(*fake.asked.lock().unwrap(), asked);

    // Nobody else has them, whoever runs the node.
    let few = devices.give_pod(&pod("two", 2)).await.unwrap_err();
    assert_eq!(
        few.to_string(),
        "requested number of devices unavailable for unit.example/u. Requested: 1, Available: 0",
        "its init container has the last one, and that is its own"
    );
    assert!(!few.passes());
    let next = open(&dir);
    assert_eq!(given(&next, "one", "c"), ["a", "c"]);
    let unserved = next.give_pod(&pod("three", 1)).await.unwrap_err();
    assert!(unserved.passes() && unserved.to_string().contains("no device plug-in serves"), "{unserved}");
    assert_eq!(next.ready(&one, &spec.containers[0]).await.unwrap(), ready, "it starts again without its plug-in");
    next.keep(&["two".to_owned()].into());
    assert!(next.lock().pool.of_pod("one").is_none());
    assert!(open(&dir).lock().pool.of_pod("one").is_none());
    let another = Devices::open(dir.path().to_owned(), dir.path().to_owned(), "another boot", false).unwrap();
    assert!(another.lock().pool.of_pod("two").is_none());
    assert!(another.counts().contains_key(UNIT));
    let unserved = another.give_pod(&pod("three", 1)).await.unwrap_err();
    assert!(unserved.passes() && unserved.to_string().contains("without --kubelet-compat-dir"), "{unserved}");
}

#[tokio::test]
async fn who_waits_is_woken_by_the_first_list_and_the_node_by_what_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir, Fake::default()).await;
    let (bell, mut arrivals) = (devices.bell(), devices.arrivals());
    let rung = || async { tokio::time::timeout(std::time::Duration::ZERO, bell.notified()).await.is_ok() };
    assert!(rung().await, "by the first list");
    let list = || BTreeMap::from(["a", "b", "c"].map(|id| (id.to_owned(), true)));
    assert!(devices.listed(UNIT, 1, list()));
    assert!(!rung().await && !arrivals.has_changed().unwrap());
    let plugin = devices.plugin(UNIT).unwrap();
    let serial = devices.serve_resource(UNIT, plugin).await.unwrap();
    assert!(!devices.listed(UNIT, 1, list()), "another one serves it");
    let early = devices.give_pod(&pod("one", 1)).await.unwrap_err();
    assert!(early.passes(), "{early}");
    assert!(!arrivals.has_changed().unwrap());
    assert!(devices.listed(UNIT, serial, list()));
    assert!(rung().await && arrivals.has_changed().unwrap());
    arrivals.mark_unchanged();
    devices.give_pod(&pod("one", 1)).await.unwrap();
}

#[tokio::test]
async fn a_resource_that_cannot_be_written_down_is_not_known_and_may_be_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir, Fake::default()).await;
    let (plugin, other) = (devices.plugin(UNIT).unwrap(), "unit.example/other");
    let path = dir.path().join("devices.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let failed = devices.serve_resource(other, plugin.clone()).await.unwrap_err().to_string();
    assert!(failed.starts_with(&format!("cannot write {}", path.display())), "{failed}");
    assert!(!devices.counts().contains_key(other));
    std::fs::remove_dir(&path).unwrap();
    devices.serve_resource(other, plugin).await.unwrap();
    assert!(open(&dir).counts().keys().eq([other, UNIT]));
    std::fs::write(&path, "{").unwrap();
    let broken = Devices::open(dir.path().to_owned(), dir.path().to_owned(), "boot", true).unwrap_err().to_string();
    assert!(broken.contains("devices.json") && broken.contains("remove it"), "{broken}");
}

#[tokio::test]
async fn what_a_sidecar_has_nobody_else_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir, Fake::default()).await;
    let mut one = pod("one", 2);
    one.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].restart_policy = Some("Always".into());
    devices.give_pod(&one).await.unwrap();
    assert_eq!(
        (given(&devices, "one", "init"), given(&devices, "one", "c")),
        (vec!["c".into()], vec!["a".into(), "b".into()])
    );
    devices.release("one");
    let three = pod("", 3).spec.unwrap().containers[0].resources.clone();
    one.spec.as_mut().unwrap().containers[0].resources = three;
    let refused = devices.give_pod(&one).await.unwrap_err();
    assert!(refused.to_string().ends_with("Requested: 3, Available: 2"), "{refused}");
}

#[tokio::test]
async fn a_plug_in_that_says_nothing_is_waited_for_so_long_and_has_nothing_taken() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake { silent: true, ..Fake::default() });
    let devices = devices(&dir, fake.clone()).await;
    let giving = tokio::spawn({
        let devices = devices.clone();
        async move { devices.give_pod(&pod("one", 2)).await }
    });
    while !fake.asked.lock().unwrap().iter().any(|it| it.starts_with("allocate")) {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let refused = giving.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("Allocate: there was no answer within 30 s"), "{refused}");
    assert!(devices.lock().pool.of_pod("one").is_none());
    let free = devices.lock().pool.choice(UNIT, 3, &BTreeSet::new());
    assert!(free.is_ok(), "{free:?}");
}
