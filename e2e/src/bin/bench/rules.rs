//! What one change of links costs, with more and more pods that are linked already.

use std::time::Instant;

use anyhow::Context;
use cri_proto::node::node_service_client::NodeServiceClient;
use cri_proto::node::{Link, LinkEndpoint, PodRef, PortRange, Protocol, SetNetworkRequest};
use e2e::cri::{Cri, Endpoint as _};
use e2e::{Node, Run};
use serde_json::json;

use crate::coracle::{since, stop};
use crate::network::{sleepers, start};
use crate::report::Row;

/// Pods that are linked in a ring.
const PODS: [usize; 3] = [10, 100, 500];

/// Pods of a run.
const AT_ONCE: usize = 50;

/// All rows.
pub fn rows(runs: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pods in PODS {
        let (more, less) = changes(pods, runs).with_context(|| format!("links of {pods} pods"))?;
        rows.push(Row::new(&format!("one link more, with {pods} linked pods"), "ms", "coracle", more));
        rows.push(Row::new(
            &format!("one link less, its connections ended, with {pods} linked pods"),
            "ms",
            "coracle",
            less,
        ));
    }
    Ok(rows)
}

/// How long it takes to add a link, and to take it away.
fn changes(pods: usize, runs: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let node = Node::with_busybox().map_err(anyhow::Error::msg)?;
    let cri = Cri::start(&node);
    let mut all = sleepers(0..pods, &json!({}));
    for pod in &mut all {
        pod["metadata"]["annotations"] = json!({"coracle.dev/network": "private"});
    }
    // A run of many takes longer than many runs.
    let runs_of_some: Vec<Run> = all.chunks(AT_ONCE).map(|some| start(&node, some).0).collect();
    let ring: Vec<Link> = (0..pods).map(|from| link(from, (from + 1) % pods)).collect();
    let more = [&ring[..], &[link(0, pods / 2)]].concat();
    let mut client = NodeServiceClient::new(cri.client().channel());
    let mut set = |links: &[Link]| {
        let wanted = SetNetworkRequest { links: links.to_vec(), ..SetNetworkRequest::default() };
        let begun = Instant::now();
        cri.client().block_on(client.set_network(wanted)).context("set what is wanted of the network")?;
        Ok::<_, anyhow::Error>(since(begun))
    };
    set(&ring)?;
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        added.push(set(&more)?);
        removed.push(set(&ring)?);
    }
    runs_of_some.into_iter().for_each(stop);
    Ok((added, removed))
}

fn link(from: usize, to: usize) -> Link {
    let pod = |number: usize| Some(PodRef { namespace: "default".into(), name: format!("bench-{number}") });
    let ports = vec![PortRange { protocol: Protocol::Tcp as i32, first: 7000, last: 7000 }];
    Link {
        from: pod(from),
        alias: format!("to-{to}"),
        target: format!("pod/default/bench-{to}"),
        endpoints: vec![LinkEndpoint { pod: pod(to), ports }],
    }
}
