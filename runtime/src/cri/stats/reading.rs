//! Reading what a container or a pod uses: the one source of both statistics and metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::{Cgroup, Cpu, Hugepages, IoDevice, Memory, Pressure, Stats};
use crate::container::{self, Disk, Survey, View};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::network::counters::{self, Interface};
use crate::sandbox;
use crate::shim::now;
use crate::shim::protocol::State;

/// A container at one moment.
pub struct Container {
    /// Its record.
    pub record: Arc<container::Record>,
    /// How it is.
    pub view: Option<View>,
    /// What its cgroup counts; none of one that has ended.
    pub used: Option<Used>,
    /// Its writable layer; none while that was never measured.
    pub disk: Option<Disk>,
}

/// What a cgroup counts.
pub struct Used {
    /// When it was read, in nanoseconds since 1970.
    pub at: i64,
    /// CPU, memory, tasks.
    pub stats: Stats,
    /// Who waited for the CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Who waited for memory.
    pub memory_pressure: Option<Pressure>,
    /// Who waited for block devices.
    pub io_pressure: Option<Pressure>,
    /// Its processes.
    pub pids: Vec<i32>,
    cgroup: Cgroup,
}

/// A sandbox at one moment.
pub struct Pod {
    /// Its record.
    pub record: Arc<sandbox::Record>,
    /// When it was read, in nanoseconds since 1970.
    pub at: i64,
    /// What its containers' common cgroup counts.
    pub used: Option<Used>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Its interfaces; none on the host's network.
    pub interfaces: Option<Vec<Interface>>,
}

impl Container {
    /// A container, and its writable layer as far as `disks` has time for it.
    pub fn read(core: &Core, record: Arc<container::Record>, disks: &Survey<'_>) -> Result<Self> {
        let view = container::view(core, &record)?;
        let runs = view.as_ref().is_some_and(|it| it.state != State::Exited);
        let used = if runs { Used::read(core, &record.cgroup)? } else { None };
        let disk = disks.of(&layer(core, &record.id));
        Ok(Self { record, view, used, disk })
    }

    /// CPU time.
    pub fn cpu(&self) -> Option<Cpu> {
        self.used.as_ref()?.stats.cpu
    }

    /// Memory.
    pub fn memory(&self) -> Option<Memory> {
        self.used.as_ref()?.stats.memory
    }
}

/// Where a container's own files are.
fn layer(core: &Core, id: &str) -> PathBuf {
    core.container_root(id).join("upper")
}

impl Used {
    /// What the cgroup `path` counts. None if there is none, or no longer.
    pub fn read(core: &Core, path: &str) -> Result<Option<Self>> {
        let Some(cgroup) = core.hierarchies.find(path)? else { return Ok(None) };
        gone(Self::read_from(cgroup))
    }

    fn read_from(cgroup: Cgroup) -> std::result::Result<Self, crate::cgroup::Error> {
        Ok(Self {
            at: now(),
            stats: cgroup.stats()?,
            cpu_pressure: cgroup.pressure("cpu")?,
            memory_pressure: cgroup.pressure("memory")?,
            io_pressure: cgroup.pressure("io")?,
            pids: cgroup.pids()?,
            cgroup,
        })
    }

    /// What it has read and written, by device.
    pub fn io(&self) -> Result<Vec<IoDevice>> {
        Ok(gone(self.cgroup.io())?.flatten().unwrap_or_default())
    }

    /// Its huge pages, of each of `sizes`.
    pub fn hugepages(&self, sizes: &[String]) -> Result<Vec<Hugepages>> {
        Ok(gone(self.cgroup.hugepages(sizes))?.unwrap_or_default())
    }
}

/// A cgroup may go while it is read: then there is nothing to say about it.
fn gone<T>(read: std::result::Result<T, crate::cgroup::Error>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Pod {
    /// These sandboxes, each with those of the containers that are its own. What is removed meanwhile is left out.
    pub fn read_all(
        core: &Core,
        sandboxes: Vec<Arc<sandbox::Record>>,
        containers: Vec<Arc<container::Record>>,
        disks: &Survey<'_>,
    ) -> Result<Vec<Self>> {
        let pins: Vec<PathBuf> = sandboxes.iter().map(|it| core.pins_dir(&it.id).join("net")).collect();
        let interfaces = counters::read(pins);
        let interfaces = interfaces.map_err(|source| Error::Io { operation: "read pods' counters".into(), source })?;
        let mut by_sandbox: BTreeMap<String, Vec<Arc<container::Record>>> = BTreeMap::new();
        for container in containers {
            by_sandbox.entry(container.sandbox.clone()).or_default().push(container);
        }
        let mut pods = Vec::with_capacity(sandboxes.len());
        for (record, interfaces) in sandboxes.into_iter().zip(interfaces) {
            let own = by_sandbox.remove(&record.id).unwrap_or_default();
            let containers = own.into_iter().map(|it| Container::read(core, it, disks)).collect::<Result<_>>()?;
            let used = Used::read(core, record.request.cgroup_parent.trim_matches('/'))?;
            let interfaces = interfaces.filter(|_| record.attachment.is_some() || record.cni.is_some());
            pods.push(Self { at: now(), used, containers, interfaces, record });
        }
        Ok(pods)
    }

    /// The processes of its containers.
    pub fn processes(&self) -> u64 {
        self.containers.iter().filter_map(|it| it.used.as_ref()).map(|it| it.pids.len() as u64).sum()
    }
}
