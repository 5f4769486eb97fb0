//! Tells the API server which drivers are here, as kubelet does (pkg/volume/csi/nodeinfomanager): in the CSINode of the node's
//! name, and on the Node, in an annotation and the labels of where it is.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::drivers::Info;
use crate::cluster::Link;
use crate::cluster::client::chain;
use crate::cluster::pace::Pauses;

/// Where a Node says by what its drivers know it.
const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

type Infos = BTreeMap<String, Info>;

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Refused(#[from] kube::Error),
    #[error("there was no answer within {} s", ANSWER.as_secs())]
    Silence,
    #[error(
        "detected topology value collision: driver reported \"{key}\":\"{wanted}\" but existing label is \"{key}\":\"{there}\""
    )]
    Collision { key: String, wanted: String, there: String },
}

/// Tells it whenever there are others.
pub async fn report(link: Link, name: String, mut infos: watch::Receiver<Infos>) {
    let mut node = link.node();
    // What was told, of which node.
    let mut told: Option<(Option<String>, Infos)> = None;
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let uid = match node.wait_for(Option::is_some).await {
            Ok(node) => node.as_ref().and_then(|node| node.metadata.uid.clone()),
            Err(_) => return,
        };
        let now = infos.borrow_and_update().clone();
        let before = told.as_ref().filter(|(of, _)| *of == uid).map(|(_, infos)| infos.clone());
        if before.as_ref() != Some(&now) {
            match tell(&link, &name, before.unwrap_or_default(), &now).await {
                Ok(()) => {
                    told = Some((uid, now));
                    pauses.reset();
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the API server does not know this node's CSI drivers yet");
                    pauses.wait().await;
                    continue;
                }
            }
        }
        tokio::select! {
            Ok(()) = infos.changed() => {}
            Ok(()) = node.changed() => {}
            else => return,
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failed> {
    tokio::time::timeout(ANSWER, call).await.map_err(|_| Failed::Silence)?.map_err(Failed::from)
}

async fn tell(link: &Link, name: &str, before: Infos, now: &Infos) -> Result<(), Failed> {
    let client = link.client().await;
    let nodes = Api::<Node>::all(client.clone());
    let node = within(nodes.get(name)).await?;
    if let Some(patch) = of_node(&node, &before, now)? {
        within(nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))).await?;
    }
    let csi_nodes = Api::<CSINode>::all(client);
    let there = within(csi_nodes.get_opt(name)).await?;
    let wanted = of_csi_node(&node, there.as_ref(), &before, now);
    let params = PostParams::default();
    match there {
        None => within(csi_nodes.create(&params, &wanted)).await.map(drop),
        Some(there) if there == wanted => Ok(()),
        // With the version that it was made of: who else has changed it wins, and it is made anew.
        Some(_) => within(csi_nodes.replace(name, &params, &wanted)).await.map(drop),
    }
}

/// What is to change on the Node.
fn of_node(node: &Node, before: &Infos, now: &Infos) -> Result<Option<Value>, Failed> {
    let annotations = node.metadata.annotations.as_ref();
    let known = annotations.and_then(|it| it.get(NODE_ID)).and_then(|text| serde_json::from_str(text).ok());
    let known: BTreeMap<String, String> = known.unwrap_or_default();
    let mut ids = known.clone();
    ids.retain(|driver, _| now.contains_key(driver) || !before.contains_key(driver));
    ids.extend(now.iter().map(|(driver, info)| (driver.clone(), info.node_id.clone())));
    let mut labels = BTreeMap::new();
    for (key, wanted) in now.values().flat_map(|info| &info.topology) {
        match node.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
            Some(there) if there != wanted => {
                let (key, wanted, there) = (key.clone(), wanted.clone(), there.clone());
                return Err(Failed::Collision { key, wanted, there });
            }
            Some(_) => {}
            None => drop(labels.insert(key.clone(), wanted.clone())),
        }
    }
    let mut metadata = serde_json::Map::new();
    if ids != known {
        let text = if ids.is_empty() { Value::Null } else { json!(json!(ids).to_string()) };
        metadata.insert("annotations".to_owned(), json!({NODE_ID: text}));
    }
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(labels));
    }
    Ok((!metadata.is_empty()).then(|| json!({"metadata": metadata})))
}

/// The CSINode as it is to be. What drivers are in it that this node has not seen stay there.
fn of_csi_node(node: &Node, there: Option<&CSINode>, before: &Infos, now: &Infos) -> CSINode {
    let mut wanted = there.cloned().unwrap_or_else(|| CSINode {
        metadata: ObjectMeta {
            name: node.metadata.name.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.metadata.name.clone().unwrap_or_default(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        ..CSINode::default()
    });
    let drivers = &mut wanted.spec.drivers;
    drivers.retain(|it| now.contains_key(&it.name) || !before.contains_key(&it.name));
    for (name, info) in now {
        let keys: Vec<String> = info.topology.keys().cloned().collect();
        let driver = CSINodeDriver {
            name: name.clone(),
            node_id: info.node_id.clone(),
            topology_keys: Some(keys).filter(|keys| !keys.is_empty()),
            allocatable: info.most.map(|count| VolumeNodeResources { count: Some(count) }),
        };
        match drivers.iter_mut().find(|it| it.name == *name) {
            Some(known) => *known = driver,
            None => drivers.push(driver),
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(metadata: Value) -> Node {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn infos(name: &str) -> Infos {
        let topology = [("topology.d/node".to_owned(), "n".to_owned())].into();
        [(name.to_owned(), Info { node_id: "n-1".into(), most: Some(3), topology })].into()
    }

    #[test]
    fn the_node_gets_an_id_and_labels_and_loses_the_id_alone() {
        let bare = node(json!({"name": "n", "annotations": {NODE_ID: "{\"other\":\"o\"}"}}));
        let patch = of_node(&bare, &Infos::new(), &infos("d")).unwrap().unwrap();
        assert_eq!(patch["metadata"]["annotations"][NODE_ID], "{\"d\":\"n-1\",\"other\":\"o\"}");
        assert_eq!(patch["metadata"]["labels"], json!({"topology.d/node": "n"}));
        let full =
            node(json!({"name": "n", "annotations": {NODE_ID: "{\"d\":\"n-1\"}"}, "labels": {"topology.d/node": "n"}}));
        assert_eq!(of_node(&full, &Infos::new(), &infos("d")).unwrap(), None, "it is told once");
        let patch = of_node(&full, &infos("d"), &Infos::new()).unwrap().unwrap();
        assert_eq!(patch, json!({"metadata": {"annotations": {NODE_ID: null}}}));
        let other = node(json!({"name": "n", "labels": {"topology.d/node": "m"}}));
        let error = of_node(&other, &Infos::new(), &infos("d")).unwrap_err();
        assert!(error.to_string().contains("topology value collision"), "{error}");
    }

    #[test]
    fn the_object_has_the_drivers_that_are_here_and_those_of_others() {
        let node = node(json!({"name": "n", "uid": "u"}));
        let made = of_csi_node(&node, None, &Infos::new(), &infos("d"));
        let expected =
            json!({"name": "d", "nodeID": "n-1", "topologyKeys": ["topology.d/node"], "allocatable": {"count": 3}});
        assert_eq!(json!(made)["spec"]["drivers"], json!([expected]));
        assert_eq!(json!(made)["metadata"]["ownerReferences"][0]["uid"], "u");
        let both = of_csi_node(&node, Some(&made), &Infos::new(), &infos("e"));
        assert_eq!(both.spec.drivers.len(), 2);
        let left = of_csi_node(&node, Some(&both), &infos("d"), &Infos::new());
        assert_eq!(left.spec.drivers.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["e"]);
    }
}
