//! What a pod gets to know of others, and when it may begin for that.

use super::*;
use crate::net::links::{Port, Protocol};
use crate::net::{Linked, pod_ref};
use cri_proto::node::{Link, SetNetworkRequest};

fn around(address: Option<&str>) -> Surroundings {
    let link = Linked {
        alias: "my-db".into(),
        addresses: address.map(str::to_owned).into_iter().collect(),
        ports: [Port { protocol: Protocol::Tcp, number: 80 }].into(),
        lease: Some((("default".into(), "db".into()), String::new())),
        source: Some(pod(
            "db",
            json!({"containers": [{"name": "a", "env": [
                {"name": "HOME", "value": "/x"}, {"name": "USER", "value": "me=you"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
            ]}]}),
        )),
    };
    Surroundings { links: vec![link], variables: vec![("MY_DB_NAME".into(), "of a Service".into())] }
}

fn linked(env: Value) -> Arc<Pod> {
    pod("p", json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a", "env": env}]}))
}

impl Bench {
    fn hosts(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("root/pods/uid-p/etc-hosts")).unwrap()
    }

    fn variables(&self) -> Vec<(String, String)> {
        let world = self.fake.world();
        let envs = &world.containers.last().unwrap().config.envs;
        envs.iter().map(|env| (env.key.clone(), String::from_utf8(env.value.clone()).unwrap())).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn links_are_variables_before_the_containers_own() {
    let bench = agent().await;
    let own =
        json!([{"name": "URL", "value": "http://$(MY_DB_PORT_80_TCP_ADDR)"}, {"name": "MY_DB_PORT", "value": "x"}]);
    let handle = bench.engine.start_among(linked(own), None, around(Some("10.1.0.2"))).unwrap();
    at(1).await;
    let variables = bench.variables();
    let get = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
    assert_eq!(get("MY_DB_PORT_80_TCP"), Some("tcp://10.1.0.2:80"));
    assert_eq!(get("MY_DB_NAME"), Some("/p/my-db"));
    assert_eq!(get("URL"), Some("http://10.1.0.2"), "its own may use them");
    assert_eq!(get("MY_DB_PORT"), Some("x"), "and replace them");
    assert_eq!((get("MY_DB_ENV_USER"), get("MY_DB_ENV_HOME")), (Some("me=you"), None));
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_there_yet_is_leased_for_the_variables() {
    let bench = agent().await;
    let handle = bench.engine.start_among(linked(json!([])), None, around(None)).unwrap();
    at(1).await;
    let variables = bench.variables();
    assert!(variables.contains(&("MY_DB_PORT".into(), "tcp://10.9.0.9:80".into())), "{variables:?}");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn the_hosts_file_follows_and_nothing_restarts() {
    let bench = agent().await;
    let handle = bench.engine.start_among(linked(json!([])), None, around(Some("10.1.0.2"))).unwrap();
    at(1).await;
    assert!(bench.hosts().contains("\n10.1.0.2\tmy-db\n"), "{}", bench.hosts());
    bench.new_calls();
    handle.guide().surround(around(Some("10.1.0.7")));
    at(1).await;
    assert!(bench.hosts().contains("\n10.1.0.7\tmy-db\n"), "{}", bench.hosts());
    assert!(!bench.hosts().contains("10.1.0.2"), "{}", bench.hosts());
    assert_eq!(bench.new_calls(), Vec::<String>::new());
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

/// One whose network is asked for, with a link of the pod `p`.
async fn networked(failures: Vec<Status>) -> Bench {
    let mut bench = agent().await;
    bench.fake.world().networks.takes = Duration::from_secs(10);
    bench.fake.world().networks.failures.extend(failures);
    let sender = Sender::new(bench.engine.cri().clone());
    let from = Some(pod_ref(&("default".into(), "p".into())));
    let links = vec![Link { from, alias: "db".into(), ..Link::default() }];
    sender.set(SetNetworkRequest { links, ..SetNetworkRequest::default() });
    let mut options = bench.engine.inner.options.clone();
    options.network = Some(sender);
    let (notices, received) = mpsc::channel(1024);
    bench.engine = Engine::at(bench.engine.clock(), bench.engine.cri().clone(), options, notices).await.unwrap();
    bench.notices = received;
    bench
}

#[tokio::test(start_paused = true)]
async fn a_pod_begins_when_its_links_are_in_force() {
    let bench = networked(vec![]).await;
    let handle = bench.engine.start(linked(json!([]))).unwrap();
    at(20).await;
    assert_eq!(bench.fake.calls(), ["0 set-network 1", "10 sandbox p 0", "10 create a 0"]);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_links_are_refused_says_so_and_can_be_stopped_while_it_waits() {
    let mut bench = networked(vec![Status::invalid_argument("no")]).await;
    let handle = bench.engine.start(linked(json!([]))).unwrap();
    at(5).await;
    assert_eq!(bench.fake.calls(), ["0 set-network 1"]);
    at(6).await;
    let waiting = bench.container(0)["state"]["waiting"].clone();
    let why = "the network cannot be as the manifests want it: no";
    assert_eq!((&waiting["reason"], &waiting["message"]), (&json!("ContainerCreating"), &json!(why)));
    let failed = |event: &Event| matches!(event, Event::Failed { reason, .. } if reason == "NetworkNotReady");
    assert!(bench.events().iter().any(failed));
    handle.stop(Duration::ZERO);
    handle.outcome().await;
    assert!(!bench.fake.calls().iter().any(|call| call.contains("sandbox")), "{:?}", bench.fake.calls());
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_waits_for_is_told_once_and_stands_in_its_conditions() {
    let mut bench = agent().await;
    let gate = Gate { reason: "WaitingForLinks".into(), message: "link db: there is no pod default/db".into() };
    let handle = bench.engine.start_among(linked(json!([])), Some(gate.clone()), Surroundings::default()).unwrap();
    at(60).await;
    let condition = bench.record()["status"]["conditions"][0].clone();
    assert_eq!(
        (&condition["type"], &condition["reason"], &condition["message"]),
        (&json!("PodReadyToStartContainers"), &json!(gate.reason), &json!(gate.message))
    );
    let held = Event::Held { reason: gate.reason, message: gate.message };
    assert_eq!(bench.events(), [held]);
    handle.gate(None);
    at(1).await;
    assert_eq!(bench.record()["status"]["conditions"][0]["reason"], Value::Null);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}
