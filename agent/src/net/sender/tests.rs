//! The sender against a scripted runtime, on paused time.
#![allow(clippy::unwrap_used)]

use cri_proto::node::{Link, LinkEndpoint};
use tokio::time::sleep;

use super::*;
use crate::engine::fake::Fake;

fn name(pod: &str) -> Name {
    ("default".into(), pod.into())
}

fn linked(pods: &[(&str, &str)]) -> SetNetworkRequest {
    let link = |(from, to): &(&str, &str)| Link {
        from: Some(pod_ref(&name(from))),
        alias: (*to).into(),
        target: format!("pod/default/{to}"),
        endpoints: vec![LinkEndpoint { pod: Some(pod_ref(&name(to))), ports: vec![] }],
    };
    SetNetworkRequest { links: pods.iter().map(link).collect(), ..SetNetworkRequest::default() }
}

fn sender(fake: &Fake) -> Sender {
    Sender::new(Cri::new(fake.channel()))
}

#[tokio::test(start_paused = true)]
async fn the_first_is_sent_even_when_it_is_nothing_and_an_equal_one_is_not() {
    let fake = Fake::new();
    let sender = sender(&fake);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.calls(), Vec::<String>::new(), "nothing is sent before somebody knows what");
    for _ in 0..3 {
        sender.set(SetNetworkRequest::default());
        sender.settled().await;
    }
    sender.set(linked(&[("web", "db")]));
    sender.settled().await;
    sender.set(linked(&[("web", "db")]));
    sender.settled().await;
    assert_eq!(fake.calls(), ["1 set-network 0", "1 set-network 1"]);
}

#[tokio::test(start_paused = true)]
async fn of_many_changes_the_last_is_sent() {
    let fake = Fake::new();
    fake.world().networks.takes = Duration::from_secs(10);
    let sender = sender(&fake);
    sender.set(linked(&[("a", "b")]));
    sleep(Duration::from_secs(1)).await;
    let pods: Vec<String> = (0..5).map(|number| format!("p{number}")).collect();
    for count in 1..=5 {
        sender.set(linked(&pods[..count].iter().map(|pod| (pod.as_str(), "db")).collect::<Vec<_>>()));
    }
    sender.settled().await;
    assert_eq!(fake.calls(), ["0 set-network 1", "10 set-network 5"]);
    assert_eq!(fake.world().networks.set.links.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn whom_it_concerns_waits_and_nobody_else() {
    let fake = Fake::new();
    fake.world().networks.takes = Duration::from_secs(10);
    let sender = sender(&fake);
    sender.set(linked(&[("web", "db")]));
    sleep(Duration::from_secs(1)).await;
    let begin = tokio::time::Instant::now();
    sender.in_force(&name("other"), None).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 0);
    sender.in_force(&name("db"), None).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 9, "the source waits as well");
    sender.in_force(&name("web"), None).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 9);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_and_sent_again() {
    let fake = Fake::new();
    let failures = [Status::unavailable("busy"), Status::invalid_argument("links[0]: bad")];
    fake.world().networks.failures.extend(failures);
    let sender = sender(&fake);
    sender.set(linked(&[("web", "db")]));
    assert_eq!(sender.in_force(&name("web"), None).await, Err(Trouble::Failed("busy".into())));
    sleep(RETRY + Duration::from_secs(1)).await;
    assert_eq!(sender.in_force(&name("web"), None).await, Err(Trouble::Refused("links[0]: bad".into())));
    sleep(RETRY + Duration::from_secs(1)).await;
    assert_eq!(sender.in_force(&name("web"), None).await, Ok(()));
    assert_eq!(fake.calls(), ["0 set-network 1", "2 set-network 1", "4 set-network 1"]);
}

#[tokio::test(start_paused = true)]
async fn another_runtime_is_asked_for_nothing() {
    let sender = Sender::without(Trouble::Foreign);
    sender.set(SetNetworkRequest::default());
    assert_eq!(sender.unsupported(), Some(Trouble::Foreign));
    assert_eq!(sender.in_force(&name("web"), None).await, Ok(()), "a pod without links has nothing to do with it");
    sender.set(linked(&[("web", "db")]));
    sender.settled().await;
    assert_eq!(sender.in_force(&name("web"), None).await, Err(Trouble::Foreign));
}

#[tokio::test(start_paused = true)]
async fn a_pod_begins_when_its_network_is_known() {
    let fake = Fake::new();
    fake.world().networks.takes = Duration::from_secs(10);
    let sender = sender(&fake);
    let back = cri_proto::node::Network { name: "back".into(), ..Default::default() };
    sender.set(SetNetworkRequest { networks: vec![back], ..SetNetworkRequest::default() });
    let begin = tokio::time::Instant::now();
    sender.in_force(&name("web"), Some("other".into())).await.unwrap();
    sender.in_force(&name("web"), None).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 0);
    sender.in_force(&name("web"), Some("back".into())).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 10);
}
