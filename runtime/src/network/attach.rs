//! Giving a pod its addresses and its link, and taking them away.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::bandwidth::Bandwidth;
use super::leases::Change;
use super::pool::{self, Choice, Leases, Use};
use super::ranges::Ranges;
use super::state::{self, Locked, Marker, Seat};
use super::thread::Pending;
use super::wire::{self, Link, Port};
use super::{
    Attachment, Error, GUARDED_PREFIX, Kind, Network, PREFIX, SHAPER_PREFIX, cni, links, named, publish, setup,
};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::sandbox::{NamespaceMode, Record};

/// Addresses that are a pod's for this boot, and soon for good.
pub struct Claimed {
    mtu: u32,
    bandwidth: Bandwidth,
    prefixes: Ranges,
    lease: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

/// A link that is being made.
pub struct Connecting {
    pod: String,
    link: Pending<()>,
    lease: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

/// A network as a pod finds it.
struct Found {
    kind: Kind,
    /// What its pods may send to each other and others is not what all may.
    guarded: bool,
    ranges: Ranges,
    mtu: u32,
    bridge: Option<String>,
}

impl Found {
    fn seat(&self, place: u32) -> Seat {
        Seat { network: self.kind.network().to_owned(), place }
    }
}

/// Chooses a pod's addresses, checks that its ports are free, and saves its record with both. A pod on the host's
/// network has none.
pub fn claim(core: &Arc<Core>, record: &mut Record) -> Result<Option<Claimed>> {
    if record.request.namespaces.net == NamespaceMode::Node {
        record.save(core)?;
        // Its names are answered by who watches.
        if crate::resolver::asks_on_host(record) {
            Network::watch(core)?;
            core.network.names.wait(&[crate::resolver::loopback(core)]);
        }
        return Ok(None);
    }
    let pod = pod(record);
    if core.network.options.cni.conf_dir.is_some() {
        cni::sweep_beside(core);
        return cni::claim(core, record).map(|()| None).map_err(|error| of_pod(pod, error));
    }
    claim_for(core, record, &pod).map(Some).map_err(|error| of_pod(pod, error))
}

fn claim_for(core: &Arc<Core>, record: &mut Record, pod: &str) -> Result<Claimed> {
    let network = &core.network;
    let bandwidth = Bandwidth::of(&record.request.annotations)?;
    let kind = match record.request.annotations.get(Kind::ANNOTATION) {
        Some(text) => text.parse().map_err(|why| crate::Error::Invalid(format!("{}: {why}", Kind::ANNOTATION)))?,
        None => network.options.default_network.clone(),
    };
    let mut locked = network.lock(core)?;
    setup::up(core, &mut locked)?;
    Network::watch(core)?;
    let found = find(core, &mut locked, kind)?;
    publish::check(core, &locked, &record.request.ports)?;
    let (place, new) = choose(core, &found, pod)?;
    let attachment = attachment(&found, record, place);
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
    let seat = found.seat(place);
    locked.mark(&seat, &marker).during(|| "write down whose an address is".into())?;
    drop(locked);
    let lease = new.then(|| write_lease(core, Change::Lease { pod: pod.to_owned(), seat }));
    Ok(Claimed { mtu: found.mtu, bandwidth, prefixes: found.ranges, lease: lease.transpose()? })
}

/// The network of this kind, brought up if it is not.
fn find(core: &Core, locked: &mut Locked, kind: Kind) -> Result<Found> {
    let way_out = locked.shared.mtu;
    let (guarded, ranges, mtu, bridge) = match &kind {
        Kind::Flat | Kind::Private => (kind == Kind::Private, locked.shared.ranges, way_out, None),
        Kind::Named(name) => {
            let (spec, named) = named::up(core, locked, name)?;
            (spec.isolated, named.ranges, spec.mtu.unwrap_or(way_out), named.bridge)
        }
    };
    Ok(Found { kind, guarded, ranges, mtu, bridge })
}

/// Keeps addresses of a network for a pod, which need not be there yet, and tells which. One that has some keeps them.
pub fn lease_for(core: &Arc<Core>, namespace: &str, name: &str, kind: Option<Kind>) -> Result<Vec<IpAddr>> {
    let pod = format!("{namespace}/{name}");
    let lease = || {
        let network = &core.network;
        let mut locked = network.lock(core)?;
        setup::up(core, &mut locked)?;
        let found = find(core, &mut locked, kind.unwrap_or_else(|| network.options.default_network.clone()))?;
        let book = network.book.read().during(|| "read the leases of addresses".into())?;
        let kept = book.leases(found.kind.network()).and_then(|it| it.get(&pod));
        if let Some(lease) = kept.filter(|it| it.place < found.ranges.capacity()) {
            return Ok(found.ranges.addresses(lease.place));
        }
        let (place, _) = choose(core, &found, &pod)?;
        // While the lock is held: who chooses next has to see it.
        let change = Change::Lease { pod: pod.clone(), seat: found.seat(place) };
        let written = network.book.commit(change, |seat| usage(core, seat));
        written.during(|| "write the lease of its address".into())?;
        Ok(found.ranges.addresses(place))
    };
    lease().map_err(|error| of_pod(pod.clone(), error))
}

/// On a thread of its own: the disk may take longer for it than all else together.
fn write_lease(core: &Arc<Core>, change: Change) -> Result<std::thread::JoinHandle<std::io::Result<()>>> {
    let core = Arc::clone(core);
    let write = move || core.network.book.commit(change, |seat| usage(&core, seat));
    std::thread::Builder::new().name("lease".into()).spawn(write).during(|| "start a thread".into())
}

/// A place, and whether its lease is new.
fn choose(core: &Core, found: &Found, pod: &str) -> Result<(u32, bool)> {
    let book = core.network.book.read().during(|| "read the leases of addresses".into())?;
    let none = Leases::new();
    let leases = book.leases(found.kind.network()).unwrap_or(&none);
    let capacity = found.ranges.capacity();
    let full = || Error::Full { range: found.ranges.words(), count: capacity };
    let choice = pool::choose(leases, pod, capacity, |place| usage(core, &found.seat(place))).ok_or_else(full)?;
    let known = leases.get(pod).filter(|it| it.place < capacity);
    // A namesake that runs keeps the lease: this pod has its address for this time.
    let guest = matches!(choice, Choice::Fresh(_)) && known.is_some();
    Ok((choice.place(), !guest && known.is_none_or(|it| it.place != choice.place())))
}

/// What is known of a place now.
fn usage(core: &Core, seat: &Seat) -> Use {
    let Some(marker) = state::marker(&core.network.dir, seat).filter(|it| it.boot_id == core.boot_id) else {
        return Use::Unused;
    };
    if marker.idle.is_none() && core.sandbox_dir(&marker.sandbox).exists() {
        return Use::Held;
    }
    if wire::exists(&marker.link) { Use::Lingering } else { Use::Idle(marker.idle.unwrap_or_default()) }
}

/// Lets through what the pod will send and receive. It needs no link for it, so that it passes while its shim starts.
pub fn admit(core: &Core, record: &Record) -> Result<()> {
    let locked = core.network.lock(core)?;
    let admitted = record.attachment.as_ref().map_or(Ok(()), |it| named::admit(core, &record.id, it));
    let admitted = admitted.and_then(|()| core.network.firewall.add(core, &locked, record));
    admitted.map_err(|error| of_pod(pod(record), error))
}

/// Has the thread make the link, and waits for what the kernel says to it in [`Connecting::wait`].
pub fn attach(core: &Core, record: &Record, claimed: Claimed, namespace: BorrowedFd<'_>) -> Result<Connecting> {
    let pod = pod(record);
    match attach_for(core, record, &claimed, &pod, namespace) {
        Ok(link) => Ok(Connecting { pod, link, lease: claimed.lease }),
        Err(error) => Err(of_pod(pod, error)),
    }
}

fn attach_for(
    core: &Core,
    record: &Record,
    claimed: &Claimed,
    pod: &str,
    namespace: BorrowedFd<'_>,
) -> Result<Pending<()>> {
    let Some(attachment) = &record.attachment else {
        return Err(crate::Error::Conflict("it has no addresses yet".into()));
    };
    let link = Link {
        name: attachment.interface.clone(),
        alias: format!("coracle: {pod}"),
        group: core.network.group,
        namespace: namespace.try_clone_to_owned().during(|| "keep the pod's network namespace".into())?,
        mtu: claimed.mtu,
        addresses: attachment.addresses.clone(),
        gateways: attachment.gateways.clone(),
        macs: macs(&record.id),
        bridge: attachment.bridge.as_ref().map(|name| Port { bridge: name.clone(), ranges: claimed.prefixes }),
        shaper: format!("{SHAPER_PREFIX}{}", short(&record.id)),
        bandwidth: claimed.bandwidth,
    };
    let what = || format!("make the link {}", attachment.interface);
    core.network.begin(move |host| wire::connect(host, &link)).during(what)
}

/// As much of a sandbox's id as there is room for in the name of an interface.
fn short(id: &str) -> &str {
    id.get(..11).unwrap_or(id)
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

/// The place that a sandbox has: until [`detach`] has ended, also when it was stopped.
pub fn held(core: &Core, record: &Record) -> Option<(Seat, Marker)> {
    let attachment = record.attachment.as_ref().filter(|_| record.boot_id == core.boot_id)?;
    let seat = Seat { network: attachment.kind.network().to_owned(), place: attachment.place };
    let marker = state::marker(&core.network.dir, &seat)?;
    (marker.sandbox == record.id && marker.idle.is_none()).then_some((seat, marker))
}

/// Takes a pod's rules away and lets others have its address. Its link goes with its namespace. Done again without harm.
pub fn detach(core: &Core, record: &Record) -> Result<()> {
    // Whatever this process is told by now: who has connected it has to let go of it.
    cni::detach(core, &record.id)?;
    if record.boot_id != core.boot_id {
        return Ok(());
    }
    let Some(attachment) = &record.attachment else {
        return if record.making { let_go(core, record) } else { Ok(()) };
    };
    disconnect(core, record, attachment)?;
    links::outgrow(core, &record.owner)
}

/// Who was killed between the claim of an address and its record holds one that the record does not tell of.
fn let_go(core: &Core, record: &Record) -> Result<()> {
    let locked = core.network.lock(core)?;
    let markers = locked.markers().during(|| "list who has which address".into())?;
    for (seat, mut marker) in markers.into_iter().filter(|(_, it)| it.sandbox == record.id && it.idle.is_none()) {
        marker.idle = Some(crate::shim::now());
        locked.mark(&seat, &marker).during(|| "write down that an address is free".into())?;
    }
    Ok(())
}

fn disconnect(core: &Core, record: &Record, attachment: &Attachment) -> Result<()> {
    let network = &core.network;
    // Before anything is locked: the kernel takes its time with it, and nobody else has to do with it.
    leave(core, record);
    let mut locked = network.lock(core)?;
    let Some((seat, mut marker)) = held(core, record) else { return Ok(()) };
    network.firewall.remove(core, &locked, record)?;
    named::dismiss(core, &record.id, attachment)?;
    publish::stop(attachment)?;
    marker.idle = Some(crate::shim::now());
    // A full disk must not keep a pod from ending: what a sandbox without a directory holds is free all the same.
    if let Err(error) = locked.mark(&seat, &marker) {
        tracing::debug!(%error, sandbox = record.id, "it could not be written down that an address is free");
    }
    if matches!(attachment.kind, Kind::Named(_))
        && let Err(error) = named::sweep(core, &mut locked)
    {
        tracing::warn!(%error, "networks that nobody wants any more are left to coracle gc");
    }
    Ok(())
}

/// Takes away what does not go with the pod's namespace.
fn leave(core: &Core, record: &Record) {
    if !Bandwidth::of(&record.request.annotations).is_ok_and(|it| it.egress.is_some()) {
        return;
    }
    let shaper = format!("{SHAPER_PREFIX}{}", short(&record.id));
    if let Err(error) = core.network.run(move |host| wire::remove(host, &shaper)) {
        tracing::debug!(%error, sandbox = record.id, "an interface was left to coracle gc");
    }
}

fn attachment(found: &Found, record: &Record, place: u32) -> Attachment {
    let mut ranges = found.ranges;
    let request = &record.request;
    let off = |which: &str| request.sysctls.get(&format!("net.ipv6.conf.{which}.disable_ipv6"));
    if [off("all"), off("default")].into_iter().flatten().any(|it| it.trim() == "1") {
        ranges.v6 = None;
    }
    let prefix = if found.guarded { GUARDED_PREFIX } else { PREFIX };
    Attachment {
        kind: found.kind.clone(),
        place,
        interface: format!("{prefix}{}", short(&record.id)),
        bridge: found.bridge.clone(),
        addresses: ranges.addresses(place),
        gateways: ranges.gateways(),
        ports: request.ports.clone(),
        relay: None,
    }
}

/// Hardware addresses of the host's end and the pod's: local ones, from the sandbox's id.
pub fn macs(id: &str) -> [[u8; 6]; 2] {
    let digit = |at: usize| id.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok()).unwrap_or(0);
    let mac = |first: u8| [first, digit(0), digit(2), digit(4), digit(6), digit(8)];
    [mac(0x0a), mac(0x0e)]
}

fn pod(record: &Record) -> String {
    format!("{}/{}", record.request.namespace, record.request.name)
}

pub fn of_pod(pod: String, error: crate::Error) -> crate::Error {
    Error::Pod { pod, source: Box::new(error) }.into()
}
