//! Many pods: started and stopped at once, and listed where they stand.

use std::time::Instant;

use e2e::BUSYBOX;
use e2e::cri::proto::{
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest, ListPodSandboxStatsRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StopPodSandboxRequest,
};
use e2e::cri::{Client, Endpoint};
use tonic::Status;

use super::lifecycle::{lives, new_pod};
use super::{Pair, Sides};
use crate::coracle::since;
use crate::report::Row;

/// Calls at once while the pods to be listed are made: not what is measured.
const AT_ONCE: usize = 8;

/// All rows.
pub fn rows(sides: &Sides<'_>, parallel: usize, listed: usize) -> anyhow::Result<Vec<Row>> {
    let names = [
        format!("RunPodSandbox {parallel} times at once, to the last answer"),
        format!("StopPodSandbox {parallel} times at once, to the last answer"),
    ];
    let pairs = sides.turns(3, |side| at_once(side, parallel))?;
    let mut rows: Vec<Row> = pairs.into_iter().zip(names).flat_map(|(pair, what)| pair.rows(&what, "ms")).collect();
    for side in sides.all() {
        fill(side, listed)?;
    }
    for (what, pair) in lists(sides, listed)? {
        rows.extend(pair.rows(&what, "ms"));
    }
    rows.extend(lives(sides, &format!(", beside {listed} pods"), 20)?);
    for side in sides.all() {
        empty(side)?;
    }
    Ok(rows)
}

/// Waits for all of what was begun; the first failure counts.
fn finish<T: Send + 'static>(
    client: &Client,
    calls: Vec<tokio::task::JoinHandle<Result<T, Status>>>,
) -> anyhow::Result<Vec<T>> {
    client.block_on(async {
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await??);
        }
        Ok(answers)
    })
}

fn at_once(side: &dyn Endpoint, count: usize) -> anyhow::Result<[f64; 2]> {
    let client = side.client();
    let pods: Vec<_> = (0..count).map(|_| new_pod(side)).collect();
    let begun = Instant::now();
    let calls = pods.into_iter().map(|pod| {
        let mut runtime = client.runtime();
        let request = RunPodSandboxRequest { config: Some(pod), runtime_handler: String::new() };
        client.spawn(async move { runtime.run_pod_sandbox(request).await.map(|answer| answer.into_inner()) })
    });
    let answers = finish(client, calls.collect())?;
    let started = since(begun);
    let ids: Vec<String> = answers.into_iter().map(|answer| answer.pod_sandbox_id).collect();
    let begun = Instant::now();
    let calls = ids.iter().cloned().map(|pod_sandbox_id| {
        let mut runtime = client.runtime();
        client.spawn(async move { runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }).await })
    });
    finish(client, calls.collect())?;
    let stopped = since(begun);
    for pod_sandbox_id in ids {
        client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })?;
    }
    Ok([started, stopped])
}

/// Calls `one` `count` times, on a few threads.
fn several(count: usize, one: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|thread| {
                scope.spawn({
                    let one = &one;
                    move || (thread..count).step_by(AT_ONCE).try_for_each(one)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a call panicked"))?)
    })
}

/// Pods with one running container each.
fn fill(side: &dyn Endpoint, count: usize) -> anyhow::Result<()> {
    several(count, |_| {
        let pod = new_pod(side);
        let sandbox = side.try_run_pod(&pod)?;
        let id = side.try_create_container(&sandbox, &pod, &side.container("c", BUSYBOX, &["sleep", "100000"]))?;
        Ok(side.try_start_container(&id)?)
    })
}

fn empty(side: &dyn Endpoint) -> anyhow::Result<()> {
    let pods = side.client().list_pod_sandbox(ListPodSandboxRequest::default())?.items;
    several(pods.len(), |number| {
        let pod_sandbox_id = pods[number].id.clone();
        side.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })?;
        side.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })?;
        Ok(())
    })
}

/// The lists that a kubelet asks for all the time.
fn lists(sides: &Sides<'_>, listed: usize) -> anyhow::Result<Vec<(String, Pair)>> {
    type List = fn(&Client) -> Result<usize, Status>;
    let lists: [(&str, List); 4] = [
        ("ListPodSandbox", |client| Ok(client.list_pod_sandbox(ListPodSandboxRequest::default())?.items.len())),
        ("ListContainers", |client| Ok(client.list_containers(ListContainersRequest::default())?.containers.len())),
        ("ListContainerStats", |client| {
            Ok(client.list_container_stats(ListContainerStatsRequest::default())?.stats.len())
        }),
        ("ListPodSandboxStats", |client| {
            Ok(client.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())?.stats.len())
        }),
    ];
    let mut pairs = Vec::new();
    for (name, list) in lists {
        let [pair] = sides.turns(10, |side| {
            let begun = Instant::now();
            let found = list(side.client())?;
            let took = since(begun);
            anyhow::ensure!(found == listed, "{name} on {}: {found} of {listed}", side.name());
            Ok([took])
        })?;
        pairs.push((format!("{name} of {listed}"), pair));
    }
    Ok(pairs)
}
