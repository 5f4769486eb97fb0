//! Giving a pod its addresses and its link, and taking them away.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::leases::Change;
use super::pool::{self, Choice, Use};
use super::state::{self, Locked, Marker};
use super::thread::Pending;
use super::wire::{self, Link};
use super::{Attachment, Error, Kind, Network, PREFIX, publish, setup};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::sandbox::{NamespaceMode, Record};

/// Addresses that are a pod's for this boot, and soon for good.
pub struct Claimed {
    mtu: u32,
    lease: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

/// A link that is being made.
pub struct Connecting {
    pod: String,
    link: Pending<()>,
    lease: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

/// Chooses a pod's addresses, checks that its ports are free, and saves its record with both. A pod on the host's
/// network has none.
pub fn claim(core: &Arc<Core>, record: &mut Record) -> Result<Option<Claimed>> {
    if record.request.namespaces.net == NamespaceMode::Node {
        record.save(core)?;
        return Ok(None);
    }
    let pod = pod(record);
    claim_for(core, record, &pod).map(Some).map_err(|error| of_pod(pod, error))
}

fn claim_for(core: &Arc<Core>, record: &mut Record, pod: &str) -> Result<Claimed> {
    let network = &core.network;
    let mut locked = network.lock(core)?;
    setup::up(core, &mut locked)?;
    Network::watch(core)?;
    publish::check(core, &locked, &record.request.ports)?;
    let (place, new) = choose(core, &locked, pod)?;
    let attachment = attachment(&locked, record, place);
    let marker = Marker {
        version: 1,
        boot_id: core.boot_id.clone(),
        sandbox: record.id.clone(),
        pod: pod.to_owned(),
        link: attachment.interface.clone(),
        ports: attachment.ports.clone(),
        idle: None,
    };
    record.attachment = Some(attachment);
    // The record before the marker: a marker whose sandbox has none is nobody's.
    record.save(core)?;
    locked.mark(place, &marker).during(|| "write down whose an address is".into())?;
    let mtu = locked.shared.mtu;
    drop(locked);
    let lease = new.then(|| write_lease(core, Change::Lease { pod: pod.to_owned(), place }));
    Ok(Claimed { mtu, lease: lease.transpose()? })
}

/// On a thread of its own: the disk may take longer for it than all else together.
fn write_lease(core: &Arc<Core>, change: Change) -> Result<std::thread::JoinHandle<std::io::Result<()>>> {
    let core = Arc::clone(core);
    let write = move || core.network.book.commit(change, |place| usage(&core, place));
    std::thread::Builder::new().name("lease".into()).spawn(write).during(|| "start a thread".into())
}

/// A place, and whether its lease is new.
fn choose(core: &Core, locked: &Locked, pod: &str) -> Result<(u32, bool)> {
    let leases = core.network.book.read().during(|| "read the leases of addresses".into())?;
    let leases = &leases.leases;
    let ranges = &locked.shared.ranges;
    let capacity = ranges.capacity();
    let full = || Error::Full { range: ranges.words(), count: capacity };
    let choice = pool::choose(leases, pod, capacity, |place| usage(core, place)).ok_or_else(full)?;
    let known = leases.get(pod).filter(|it| it.place < capacity);
    // A namesake that runs keeps the lease: this pod has its address for this time.
    let guest = matches!(choice, Choice::Fresh(_)) && known.is_some();
    Ok((choice.place(), !guest && known.is_none_or(|it| it.place != choice.place())))
}

/// What is known of a place now.
fn usage(core: &Core, place: u32) -> Use {
    let Some(marker) = state::marker(&core.network.dir, place).filter(|it| it.boot_id == core.boot_id) else {
        return Use::Unused;
    };
    if marker.idle.is_none() && core.sandbox_dir(&marker.sandbox).exists() {
        return Use::Held;
    }
    if wire::exists(&marker.link) { Use::Lingering } else { Use::Idle(marker.idle.unwrap_or_default()) }
}

/// Lets through what the pod will send and receive. It needs no link for it, so that it passes while its shim starts.
pub fn admit(core: &Core, record: &Record) -> Result<()> {
    let Some(attachment) = &record.attachment else { return Ok(()) };
    let locked = core.network.lock(core)?;
    core.network.firewall.add(core, &locked, attachment).map_err(|error| of_pod(pod(record), error))
}

/// Has the thread make the link, and waits for what the kernel says to it in [`Connecting::wait`].
pub fn attach(core: &Core, record: &Record, claimed: Claimed, namespace: BorrowedFd<'_>) -> Result<Connecting> {
    let pod = pod(record);
    match attach_for(core, record, claimed.mtu, &pod, namespace) {
        Ok(link) => Ok(Connecting { pod, link, lease: claimed.lease }),
        Err(error) => Err(of_pod(pod, error)),
    }
}

fn attach_for(core: &Core, record: &Record, mtu: u32, pod: &str, namespace: BorrowedFd<'_>) -> Result<Pending<()>> {
    let Some(attachment) = &record.attachment else {
        return Err(crate::Error::Conflict("it has no addresses yet".into()));
    };
    let link = Link {
        name: attachment.interface.clone(),
        alias: format!("coracle: {pod}"),
        group: core.network.group,
        namespace: namespace.try_clone_to_owned().during(|| "keep the pod's network namespace".into())?,
        mtu,
        addresses: attachment.addresses.clone(),
        gateways: attachment.gateways.clone(),
        macs: macs(&record.id),
    };
    let what = || format!("make the link {}", attachment.interface);
    core.network.begin(move |host| wire::connect(host, &link)).during(what)
}

impl Connecting {
    /// Waits until the pod is connected, and its address is its own for good.
    pub fn wait(self) -> Result<()> {
        let connected = self.link.wait().during(|| "make its link".into());
        let written = match self.lease.map(std::thread::JoinHandle::join) {
            Some(Ok(written)) => written.during(|| "write the lease of its address".into()),
            Some(Err(_)) => Err(crate::Error::Conflict("the thread that writes its lease has died".into())),
            None => Ok(()),
        };
        connected.and(written).map_err(|error| of_pod(self.pod, error))
    }
}

/// Takes a pod's rules away and lets others have its address. Its link goes with its namespace. Done again without harm.
pub fn detach(core: &Core, record: &Record) -> Result<()> {
    let Some(attachment) = record.attachment.as_ref().filter(|_| record.boot_id == core.boot_id) else { return Ok(()) };
    let network = &core.network;
    let locked = network.lock(core)?;
    let marker = state::marker(&network.dir, attachment.place);
    let Some(mut marker) = marker.filter(|it| it.sandbox == record.id && it.idle.is_none()) else { return Ok(()) };
    network.firewall.remove(core, &locked, attachment)?;
    publish::stop(attachment)?;
    marker.idle = Some(crate::shim::now());
    // A full disk must not keep a pod from ending: what a sandbox without a directory holds is free all the same.
    if let Err(error) = locked.mark(attachment.place, &marker) {
        tracing::debug!(%error, sandbox = record.id, "it could not be written down that an address is free");
    }
    Ok(())
}

fn attachment(locked: &Locked, record: &Record, place: u32) -> Attachment {
    let mut ranges = locked.shared.ranges;
    let request = &record.request;
    let off = |which: &str| request.sysctls.get(&format!("net.ipv6.conf.{which}.disable_ipv6"));
    if [off("all"), off("default")].into_iter().flatten().any(|it| it.trim() == "1") {
        ranges.v6 = None;
    }
    Attachment {
        kind: Kind::Flat,
        place,
        interface: format!("{PREFIX}{}", record.id.get(..11).unwrap_or(&record.id)),
        addresses: ranges.addresses(place),
        gateways: ranges.gateways(),
        ports: request.ports.clone(),
        relay: None,
    }
}

/// Hardware addresses of the host's end and the pod's: local ones, from the sandbox's id.
fn macs(id: &str) -> [[u8; 6]; 2] {
    let digit = |at: usize| id.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok()).unwrap_or(0);
    let mac = |first: u8| [first, digit(0), digit(2), digit(4), digit(6), digit(8)];
    [mac(0x0a), mac(0x0e)]
}

fn pod(record: &Record) -> String {
    format!("{}/{}", record.request.namespace, record.request.name)
}

fn of_pod(pod: String, error: crate::Error) -> crate::Error {
    Error::Pod { pod, source: Box::new(error) }.into()
}
