//! The container runtimes that this agent worked with before: what it runs there still, nobody looks after.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri_proto::cri;

use super::AGENT;
use super::desired::disk::Disk;
use crate::channel::{self, Channel, Cri};

/// What Coracle's own runtime is called among the others.
const OWN: &str = "coracle";

/// How long a runtime may take to say what runs there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes note of the runtime that is used now (its socket, or Coracle's own), and says what the others still have. One
/// that has nothing any more is forgotten.
pub async fn leftovers(disk: &Disk, endpoint: Option<&Path>, own: Channel) -> io::Result<Vec<String>> {
    let now = endpoint.map_or_else(|| OWN.to_owned(), |socket| socket.display().to_string());
    let mut known = disk.runtimes()?;
    // First of all: pods are being started there already, and the others may take their time to answer.
    if known.insert(now.clone()) {
        disk.write_runtimes(&known)?;
    }
    let mut kept = BTreeSet::from([now.clone()]);
    let mut said = Vec::new();
    for place in known.iter().filter(|place| **place != now) {
        let (cri, label) = if place == OWN {
            (Cri::new(own.clone()), HashMap::new())
        } else {
            let label = HashMap::from([(AGENT.to_owned(), disk.id()?)]);
            (Cri::new(channel::unix(PathBuf::from(place))), label)
        };
        match pods(cri, label).await {
            Ok(pods) if pods.is_empty() => continue,
            Ok(pods) => said.push(format!(
                "nobody looks after what this agent still runs in the runtime that it used before: {}; {}",
                pods.join(", "),
                way_out(place)
            )),
            Err(why) => said.push(format!(
                "the runtime that this agent used before, {place}, does not say what still runs there: {why}"
            )),
        }
        kept.insert(place.clone());
    }
    if kept != known {
        disk.write_runtimes(&kept)?;
    }
    Ok(said)
}

fn way_out(place: &str) -> String {
    if place == OWN {
        "to stop them, stop the agent and run: coracle gc --all".to_owned()
    } else {
        format!(
            "to stop them, run the agent with --container-runtime-endpoint unix://{place} and an empty directory of \
             manifests, or remove them there with crictl"
        )
    }
}

/// The pods that run there, by namespace and name.
async fn pods(cri: Cri, label_selector: HashMap<String, String>) -> Result<Vec<String>, String> {
    let state = Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() });
    let filter = Some(cri::PodSandboxFilter { label_selector, state, ..Default::default() });
    let mut runtime = cri.runtime;
    let listed = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter });
    let listed = match tokio::time::timeout(PATIENCE, listed).await {
        Ok(listed) => listed.map_err(|status| status.message().to_owned())?,
        Err(_) => return Err(format!("it has not answered for {PATIENCE:?}")),
    };
    let names = listed.into_inner().items.into_iter().filter_map(|sandbox| sandbox.metadata);
    let mut names: Vec<String> = names.map(|it| format!("{}/{}", it.namespace, it.name)).collect();
    names.sort();
    Ok(names)
}
