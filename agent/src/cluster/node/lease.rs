//! The sign of life: a Lease that is renewed four times before it ends.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};

use super::{Failed, Telling};
use crate::cluster::client::chain;
use crate::cluster::pace::{Pauses, chance};

/// The namespace of such leases.
const NAMESPACE: &str = "kube-node-lease";

/// How often one renewal is tried, as kubelet does.
const TRIES: u32 = 5;

/// Renews it for ever.
pub(super) async fn keep(telling: Telling) {
    let mut latest: Option<Lease> = None;
    // A lease belongs to its node: without one there is none.
    let mut node = telling.link.node();
    loop {
        let Ok(Some(owner)) = node.wait_for(Option::is_some).await.map(|node| node.clone()) else { return };
        let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_secs(7));
        for _ in 0..TRIES {
            match renew(&telling, latest.take(), &owner).await {
                Ok(lease) => {
                    latest = Some(lease);
                    break;
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), "the node's lease is not renewed; it is tried again");
                    if error.code() == Some(404) {
                        // It goes with its node: whether that is there has to be known before another one is made.
                        telling.doubt.notify_one();
                        break;
                    }
                }
            }
            pauses.wait().await;
        }
        // A quarter of its time, and a little by chance.
        tokio::time::sleep(telling.wish.lease.mul_f64(0.25 * (1.0 + 0.04 * chance()))).await;
    }
}

/// Renews it from `latest`; without that, from what the API server has, if anything.
async fn renew(telling: &Telling, latest: Option<Lease>, owner: &Node) -> Result<Lease, Failed> {
    let leases: Api<Lease> = Api::namespaced(telling.link.clients().await.heartbeat, NAMESPACE);
    let name = telling.wish.name.as_str();
    let base = match latest {
        Some(lease) => Some(lease),
        None => telling.answer("get lease", name, leases.get_opt(name)).await?,
    };
    let params = PostParams::default();
    let lease = renewed(base.as_ref(), owner, telling.wish.lease, Timestamp::now());
    match base {
        Some(_) => telling.answer("renew lease", name, leases.replace(name, &params, &lease)).await,
        None => telling.answer("make lease", name, leases.create(&params, &lease)).await,
    }
}

/// The lease, renewed. Pure.
fn renewed(base: Option<&Lease>, owner: &Node, duration: Duration, now: Timestamp) -> Lease {
    let name = owner.metadata.name.clone().unwrap_or_default();
    let mut lease = base.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec::default()),
    });
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity.get_or_insert_with(|| name.clone());
    spec.lease_duration_seconds.get_or_insert(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
    // With the node it goes.
    let uid = owner.metadata.uid.clone().unwrap_or_default();
    if lease.metadata.owner_references.as_ref().is_none_or(|it| it.iter().all(|it| it.uid != uid)) {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name,
            uid,
            ..OwnerReference::default()
        }]);
    }
    lease
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(uid: &str) -> Node {
        let metadata = ObjectMeta { name: Some("n".into()), uid: Some(uid.into()), ..ObjectMeta::default() };
        Node { metadata, ..Node::default() }
    }

    #[test]
    fn a_lease_is_the_node_s_and_keeps_what_is_in_it() {
        let (first, later): (Timestamp, Timestamp) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:10Z".parse().unwrap());
        let made = renewed(None, &node("u1"), Duration::from_secs(40), first);
        let spec = made.spec.as_ref().unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("n"), Some(40)));
        assert_eq!(made.metadata.owner_references.as_ref().unwrap()[0].uid, "u1");
        let mut theirs = made.clone();
        theirs.metadata.resource_version = Some("7".into());
        theirs.spec.as_mut().unwrap().lease_duration_seconds = Some(60);
        let again = renewed(Some(&theirs), &node("u1"), Duration::from_secs(40), later);
        assert_eq!(again.metadata, theirs.metadata);
        assert_eq!(again.spec.as_ref().unwrap().lease_duration_seconds, Some(60), "what others have set stays");
        assert_eq!(again.spec.unwrap().renew_time, Some(MicroTime(later)));
        let other = renewed(Some(&theirs), &node("u2"), Duration::from_secs(40), later);
        assert_eq!(other.metadata.owner_references.unwrap()[0].uid, "u2", "of the node that is there now");
    }
}
