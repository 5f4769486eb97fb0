//! Giving devices to containers: chosen, allocated by the plug-in, recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use k8s_openapi::api::core::v1::{Container, Pod};
use tonic::Status;

use super::plugin::Plugin;
use super::pool::{Given, Lack, Pool};
use super::{Answer, Devices};
use crate::engine::config::names::PodKey;
use crate::engine::config::quantity;
use crate::engine::plan::{init_of, is_sidecar, spec_of};

#[cfg(test)]
mod tests;

/// What to do about a plug-in that is not there.
const RUNS: &str = "see whether its pod runs";

/// And where none can be.
const DEAF: &str = "the agent runs without --kubelet-compat-dir, so that none can register: start it with that";

/// Why a container has not the devices that it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody serves the resource now.
    #[error("container {container}: no device plug-in serves {resource} now; {help}")]
    Absent {
        /// Who asks.
        container: String,
        /// What for.
        resource: String,
        /// What to do.
        help: &'static str,
    },
    /// None that is there can be given, in kubelet's words.
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    Unhealthy(String),
    /// Too few are left, in kubelet's words.
    #[error("requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}")]
    Few {
        /// Of which resource.
        resource: String,
        /// How many it takes.
        requested: usize,
        /// How many there are.
        available: usize,
    },
    /// The plug-in refused, failed, or said nothing in time.
    #[error("the device plug-in of {resource}: {}", status.message())]
    Plugin {
        /// What it serves.
        resource: String,
        /// Its word.
        status: Status,
    },
    /// It could not be written down who has them.
    #[error("record the devices of pod {pod}: {source}")]
    Record {
        /// Whose.
        pod: String,
        /// Why.
        source: io::Error,
    },
}

impl Refused {
    /// Whether it may pass without anybody's doing anything about the pod: then the pod waits.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Record { .. })
    }
}

/// Devices that are chosen and not given yet: until then nobody else has them.
struct Reserved<'a> {
    devices: &'a Devices,
    resource: &'a str,
    ids: BTreeSet<String>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.devices.lock().pool.unreserve(self.resource, &self.ids);
    }
}

/// Who asks for how many of which resource.
struct Asked<'a> {
    pod: &'a Pod,
    key: &'a PodKey,
    container: &'a str,
    resource: &'a str,
    needed: usize,
}

impl Devices {
    /// Sees to it that each container of a pod has the devices that it asks for. What it has stays.
    pub async fn give_pod(&self, pod: &Pod) -> Result<(), Refused> {
        let spec = spec_of(pod);
        for container in init_of(spec).iter().chain(&spec.containers) {
            self.give(pod, container).await?;
        }
        Ok(())
    }

    /// What a container needs for its devices, which are made ready for its start.
    pub async fn ready(&self, pod: &Pod, container: &Container) -> Result<Vec<Answer>, Refused> {
        self.give(pod, container).await?;
        let uid = PodKey::of(pod).uid;
        let of_pod = self.lock().pool.of_pod(&uid).cloned();
        let given = of_pod.and_then(|mut it| it.remove(&container.name)).unwrap_or_default();
        for (resource, Given { devices, .. }) in &given {
            // As kubelet has it, one that is gone for a while keeps no container from starting again.
            if let Some(plugin) = self.plugin(resource) {
                let ready = plugin.pre_start(devices.iter().cloned().collect()).await;
                ready.map_err(|status| Refused::Plugin { resource: resource.clone(), status })?;
            }
        }
        Ok(given.into_values().map(|it| it.answer).collect())
    }

    async fn give(&self, pod: &Pod, container: &Container) -> Result<(), Refused> {
        let key = PodKey::of(pod);
        for (resource, needed) in asked(container) {
            let asked = Asked { pod, key: &key, container: &container.name, resource, needed };
            if self.lacks(&asked) {
                self.allocate(&asked).await?;
            }
        }
        Ok(())
    }

    fn refused(&self, asked: &Asked<'_>, lack: Lack) -> Refused {
        let resource = asked.resource.to_owned();
        match lack {
            Lack::Plugin => {
                let help = if self.inner.hears { RUNS } else { DEAF };
                Refused::Absent { container: asked.container.to_owned(), resource, help }
            }
            Lack::Healthy => Refused::Unhealthy(resource),
            Lack::Free { lacking, free } => Refused::Few { resource, requested: lacking, available: free },
        }
    }

    /// Whether a container has not what it asks for. What plug-ins never served they have nothing to do with.
    fn lacks(&self, asked: &Asked<'_>) -> bool {
        let pool = &self.lock().pool;
        pool.knows(asked.resource) && pool.given(&asked.key.uid, asked.container, asked.resource).is_none()
    }

    async fn allocate(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let Asked { key, container, resource, .. } = *asked;
        let failed = |status| Refused::Plugin { resource: resource.to_owned(), status };
        let (plugin, preferred) = self.preferred(asked).await?;
        let reserved = self.reserve(asked, &preferred)?;
        let ids: Vec<String> = reserved.ids.iter().cloned().collect();
        let answer = plugin.allocate(ids).await.map_err(failed)?;
        let given = Given { devices: reserved.ids.clone(), answer };
        let of_pod = {
            let mut state = self.lock();
            state.pool.give(&key.uid, container, resource, Some(given));
            state.pool.of_pod(&key.uid).cloned().unwrap_or_default()
        };
        let (records, uid) = (self.inner.records.clone(), key.uid.clone());
        let written = tokio::task::spawn_blocking(move || records.write(&uid, of_pod)).await;
        if let Err(source) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            self.lock().pool.give(&key.uid, container, resource, None);
            return Err(Refused::Record { pod: key.name.clone(), source });
        }
        tracing::info!(pod = key.name, container, resource, devices = ?reserved.ids, "devices are given");
        Ok(())
    }

    /// Who serves the resource, and which devices it would take.
    async fn preferred(&self, asked: &Asked<'_>) -> Result<(Plugin, BTreeSet<String>), Refused> {
        let choice = {
            let pool = &self.lock().pool;
            let choice = pool.choice(asked.resource, asked.needed, &reusable(pool, asked));
            choice.map_err(|lack| self.refused(asked, lack))?
        };
        let plugin = self.plugin(asked.resource).ok_or_else(|| self.refused(asked, Lack::Plugin))?;
        if choice.taken.len() == asked.needed {
            return Ok((plugin, choice.taken));
        }
        let available = choice.free.union(&choice.taken).cloned().collect();
        let preferred = plugin.prefers(available, choice.taken.into_iter().collect(), asked.needed).await;
        let preferred = preferred.map_err(|status| Refused::Plugin { resource: asked.resource.to_owned(), status })?;
        Ok((plugin, preferred.into_iter().collect()))
    }

    fn reserve<'a>(&'a self, asked: &Asked<'a>, preferred: &BTreeSet<String>) -> Result<Reserved<'a>, Refused> {
        let mut state = self.lock();
        let pool = &mut state.pool;
        let choice = pool.choice(asked.resource, asked.needed, &reusable(pool, asked));
        let ids = choice.map_err(|lack| self.refused(asked, lack))?.pick(asked.needed, preferred);
        pool.reserve(asked.resource, &ids);
        Ok(Reserved { devices: self, resource: asked.resource, ids })
    }
}

/// What a container asks for: its limits, to which its requests are equal.
fn asked(container: &Container) -> BTreeMap<&str, usize> {
    let limits = container.resources.iter().filter_map(|it| it.limits.as_ref()).flatten();
    let whole = |amount| quantity::value(amount).and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0);
    let asked = limits.filter_map(|(name, amount)| Some((name.as_str(), whole(amount)?)));
    asked.filter(|(name, _)| manifests::is_extended_resource(name)).collect()
}

/// The devices of a resource that init containers before this one have, which are over when it starts, as far as nobody after
/// them has taken them.
fn reusable(pool: &Pool, asked: &Asked<'_>) -> BTreeSet<String> {
    let spec = spec_of(asked.pod);
    let (mut reusable, mut before) = (BTreeSet::new(), true);
    let init = init_of(spec).iter().map(|it| (it, !is_sidecar(it)));
    for (container, ends) in init.chain(spec.containers.iter().map(|it| (it, false))) {
        before &= container.name != asked.container;
        let given = pool.given(&asked.key.uid, &container.name, asked.resource);
        for id in given.iter().flat_map(|it| &it.devices) {
            match ends {
                true if before => drop(reusable.insert(id.clone())),
                true => {}
                false => drop(reusable.remove(id)),
            }
        }
    }
    reusable
}
