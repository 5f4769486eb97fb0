//! Publishing a pod's ports: that nobody else has them, and what listens for it on `[::1]`.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::state::Locked;
use super::{Attachment, Error, PortMapping, ports};
use crate::cgroup::Cgroup;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::Process;
use crate::relay;
use crate::sandbox::{self, Record};

/// Sees that ports are no other pod's and no process's. Whoever holds the lock may then write down that they are this
/// pod's.
pub fn check(core: &Core, locked: &Locked, wanted: &[PortMapping]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let markers = locked.markers().during(|| "list whose the published ports are".into())?;
    let others = markers
        .into_iter()
        .map(|(_, it)| it)
        .filter(|it| it.boot_id == core.boot_id && it.idle.is_none() && core.sandbox_dir(&it.sandbox).exists());
    let taken = others.flat_map(|it| it.ports.into_iter().map(move |port| (it.pod.clone(), port)));
    let records = sandbox::all(core)?;
    let plugged = records.iter().filter(|it| it.cni.is_some() && it.boot_id == core.boot_id && !it.stopped);
    let plugged = plugged.flat_map(|it| {
        let pod = format!("{}/{}", it.request.namespace, it.request.name);
        it.request.ports.iter().map(move |port| (pod.clone(), *port))
    });
    ports::check(wanted, taken.chain(plugged)).map_err(|taken| Error::Port(taken).into())
}

/// A relay that is being started.
pub struct Starting {
    thread: JoinHandle<Result<Option<Process>>>,
}

/// Has a pod's relay started, in the cgroup of its shim, while its shim starts. One without published ports has none.
pub fn start(core: &Arc<Core>, record: &Record, cgroup: Cgroup) -> Result<Option<Starting>> {
    let Some(attachment) = record.attachment.clone().filter(|it| !it.ports.is_empty()) else { return Ok(None) };
    let (core, pod) = (Arc::clone(core), format!("{}/{}", record.request.namespace, record.request.name));
    let start = move || {
        let started = relay::start(core.zygote()?, &pod, &cgroup, &attachment.ports, &attachment.addresses);
        core.network.firewall.published(&attachment)?;
        started.map_err(|error| match error {
            relay::Error::Taken(taken) => Error::Port(taken).into(),
            error => Error::Relay(error).into(),
        })
    };
    let thread = std::thread::Builder::new().name("relay".into()).spawn(start);
    Ok(Some(Starting { thread: thread.during(|| "start a thread".into())? }))
}

impl Starting {
    /// Waits until it serves.
    pub fn wait(self) -> Result<Option<Process>> {
        let died = |_| Err(crate::Error::Conflict("the thread that starts its relay has died".into()));
        self.thread.join().unwrap_or_else(died)
    }
}

/// Ends a pod's relay.
pub fn stop(attachment: &Attachment) -> Result<()> {
    let Some(process) = attachment.relay else { return Ok(()) };
    relay::stop(process).during(|| "end the relay of published ports".into())
}
