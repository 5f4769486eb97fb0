//! Containers that have ended: so many of each are kept, for their logs, and the rest is removed.

use std::collections::BTreeMap;
use std::time::Duration;

use cri_proto::cri;
use tonic::Status;

use crate::channel::Cri;
use crate::engine::config::names::{CONTAINER_NAME, POD_UID};

#[cfg(test)]
mod tests;

/// How many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of one container of a pod, beside the one that runs; a pod's worker never keeps more than one.
    pub per_container: usize,
    /// In all; none is no limit.
    pub total: Option<usize>,
    /// Younger ones are kept.
    pub minimum_age: Duration,
}

impl Default for Policy {
    /// kubelet's.
    fn default() -> Self {
        Policy { per_container: 1, total: None, minimum_age: Duration::ZERO }
    }
}

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs, or will.
    Live,
    /// The node ended it, and that is written down elsewhere.
    Over,
    /// It is none of ours, or not known to be.
    Unknown,
}

/// One instance of a container, dead or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// The pod's uid.
    pub pod: String,
    /// The name in the pod.
    pub name: String,
    /// Counts the instances of the name.
    pub attempt: u32,
    /// Wall clock, nanoseconds.
    pub created_at: i64,
    /// Whether it has ended.
    pub dead: bool,
}

impl Instance {
    /// As the runtime lists it.
    pub fn of(container: &cri::Container) -> Self {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        Instance {
            id: container.id.clone(),
            pod: label(POD_UID),
            name: label(CONTAINER_NAME),
            attempt: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            created_at: container.created_at,
            dead: container.state() == cri::ContainerState::ContainerExited,
        }
    }
}

/// What is removed: kubelet's rules, but that the newest instance of a pod that lives always stays, for how it ended is
/// the pod's state. `pressed` says that the disk is needed: then nothing of a pod that is over stays either.
pub fn surplus(
    instances: &[Instance],
    standing: impl Fn(&str) -> Standing,
    policy: &Policy,
    pressed: bool,
    now: i64,
) -> Vec<Instance> {
    let age = i64::try_from(policy.minimum_age.as_nanos()).unwrap_or(i64::MAX);
    let mut units: BTreeMap<(&str, &str), Vec<&Instance>> = BTreeMap::new();
    let mut removed = Vec::new();
    for instance in instances {
        match standing(&instance.pod) {
            Standing::Unknown => {}
            Standing::Over if instance.dead && pressed => removed.push(instance.clone()),
            _ => units.entry((&instance.pod, &instance.name)).or_default().push(instance),
        }
    }
    let mut kept: Vec<Vec<&Instance>> = Vec::new();
    for mut unit in units.into_values() {
        unit.sort_by_key(|instance| std::cmp::Reverse(instance.attempt));
        // The newest is what the pod is now.
        let older = unit.split_off(1);
        kept.push(older.into_iter().filter(|it| it.dead && now.saturating_sub(it.created_at) >= age).collect());
    }
    let most = if pressed { 0 } else { policy.per_container };
    removed.extend(beyond(&mut kept, most));
    if let Some(total) = policy.total {
        let count = |kept: &[Vec<&Instance>]| kept.iter().map(Vec::len).sum::<usize>();
        if count(&kept) > total {
            let most = (total / kept.len().max(1)).max(1);
            removed.extend(beyond(&mut kept, most));
        }
        let over = count(&kept).saturating_sub(total);
        let mut flat: Vec<&Instance> = kept.into_iter().flatten().collect();
        flat.sort_by_key(|instance| instance.created_at);
        removed.extend(flat.into_iter().take(over).cloned());
    }
    removed
}

/// Takes away all but the first `most` of each.
fn beyond(kept: &mut [Vec<&Instance>], most: usize) -> Vec<Instance> {
    let too_many = kept.iter_mut().filter(|unit| unit.len() > most);
    too_many.flat_map(|unit| unit.split_off(most)).cloned().collect()
}

/// Lists every container that is there, and what has become of the pods' sandboxes.
pub async fn list(cri: &Cri) -> Result<Vec<Instance>, Status> {
    let listed = cri.runtime.clone().list_containers(cri::ListContainersRequest::default()).await?;
    Ok(listed.into_inner().containers.iter().map(Instance::of).collect())
}

/// Removes containers; those that could not be, with the reason.
pub async fn remove(cri: &Cri, surplus: &[Instance]) -> Vec<String> {
    let mut problems = Vec::new();
    for instance in surplus {
        let request = cri::RemoveContainerRequest { container_id: instance.id.clone() };
        match cri.runtime.clone().remove_container(request).await {
            Ok(_) => tracing::debug!(id = instance.id, container = instance.name, "a dead container was removed"),
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => problems.push(format!("container {}: {}", instance.id, status.message())),
        }
    }
    problems
}
