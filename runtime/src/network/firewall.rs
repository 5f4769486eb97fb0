//! The rules: what is to hold, from the records, handed to nftables.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::nft::{self, Desired, Guard, NetworkRules, Pair, PodRules, Relations, Seen, Stale, Table};
use super::relations::{self, Addresses, Scope, Sets};
use super::state::Locked;
use super::wanted::WantedSet;
use super::{Attachment, Error, named, wanted};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::Owner;
use crate::sandbox::{self, Record};

/// The table of a state directory.
pub struct Firewall {
    name: String,
    table: OnceLock<Table>,
    /// What keeps pods apart while the table is not there; in the process that watches over it.
    guard: Mutex<Option<Guard>>,
    /// Who forgets connections.
    forgetter: Mutex<Option<Sender<Stale>>>,
    /// For whom this process has put something into force.
    served: Mutex<Vec<Owner>>,
}

impl Firewall {
    /// The table of this name.
    pub fn new(name: String) -> Self {
        Self {
            name,
            table: OnceLock::new(),
            guard: Mutex::default(),
            forgetter: Mutex::default(),
            served: Mutex::default(),
        }
    }

    /// Opened when it is first needed: a process that only looks at images has no use for it.
    fn table(&self) -> Result<&Table> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let opened = Table::open(&self.name).map_err(during("open nftables"))?;
        Ok(self.table.get_or_init(|| opened))
    }

    /// Makes the table what the records say, whatever it was.
    pub fn load(&self, core: &Core, locked: &Locked) -> Result<()> {
        let desired = desired(core, locked)?;
        self.table()?.replace(&desired).map_err(during("load the rules of the pods' network"))
    }

    /// The same for a table that is thought to be whole: nobody's connections are disturbed.
    pub fn refresh(&self, core: &Core, locked: &Locked) -> Result<()> {
        let desired = desired(core, locked)?;
        self.table()?.refresh(&desired).map_err(during("bring the rules of the pods' network up to date"))
    }

    /// Adds a pod, whose record says what it has, with all that it has to do with others.
    pub fn add(&self, core: &Core, locked: &Locked, record: &Record) -> Result<()> {
        let Some(pod) = &record.attachment else { return Ok(()) };
        let networks = named::rules(core, locked)?;
        // First what is forbidden and allowed, then the pod.
        let related = about(core, record)?;
        let added = related.map_or(Ok(()), |(without, with)| self.relate(&without, &with));
        match added.and_then(|()| self.table()?.add_pod(&rules(&networks, pod)).map_err(unexpected)) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the rules are loaded anew");
                self.refresh(core, locked)
            }
        }
    }

    /// Leads clients to a pod that has been added, who sent to its ports before. It takes its time.
    pub fn published(&self, pod: &Attachment) -> Result<()> {
        self.table()?.redirect_clients(&[rules(&[], pod)]).map_err(during("lead clients to published ports"))
    }

    /// Takes a pod away, whose record says that it stops.
    pub fn remove(&self, core: &Core, locked: &Locked, record: &Record) -> Result<()> {
        let Some(pod) = &record.attachment else { return Ok(()) };
        let networks = named::rules(core, locked)?;
        let related = about(core, record)?;
        let removed = self.table()?.remove_pod(&rules(&networks, pod)).map_err(unexpected);
        let removed = removed.and_then(|()| related.map_or(Ok(()), |(without, with)| self.relate(&with, &without)));
        match removed {
            Ok(()) => Ok(()),
            // The table may have been flushed or deleted, or the network been taken down.
            Err(_) if !locked.shared.up => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the rules are loaded anew");
                self.refresh(core, locked)
            }
        }
    }

    /// Puts into force what an owner wants, in the place of what it wanted before.
    pub fn set(&self, core: &Core, locked: &Locked, owner: &Owner, set: &WantedSet) -> Result<()> {
        let (old, networks) = (wanted::all(core)?, named::rules(core, locked)?);
        wanted::write(core, locked, owner, set)?;
        if !locked.shared.up {
            return Ok(());
        }
        let new = wanted::all(core)?;
        let scope = relations::changed(&old, &new);
        let resolved = |sets: &Sets| -> Result<Relations> {
            Ok(relations::resolve(sets, &Addresses::read(core, sets, &scope)?, &scope))
        };
        let (before, after) = (resolved(&old)?, resolved(&new)?);
        // Who served this owner before may have died between writing down what it wants and putting it into force.
        let known = self.served().contains(owner);
        let first = !known && (!set.is_empty() || old != new);
        let other_frame = networks != named::rules(core, locked)? || reach_node(&old) != reach_node(&new);
        if before == after && !first && !other_frame {
            return Ok(());
        }
        // Until it is in force: who asks again after an error finds the wish written down, and no difference.
        self.served().retain(|it| it != owner);
        let table = self.table()?;
        let related = if first || other_frame { None } else { table.relate(&before, &after).map_err(trace).ok() };
        let stale = match related {
            Some(stale) => stale,
            None => {
                self.refresh(core, locked)?;
                Stale::between(&before, &after)
            }
        };
        // A link that is gone lets nothing through when this answers.
        if let Err(error) = table.forget(&stale) {
            // Who asks again finds no difference: what is left of it is tried once more besides.
            self.forget_soon(stale)?;
            return Err(during("end the connections of links")(error));
        }
        self.served().push(owner.clone());
        Ok(())
    }

    /// The owners whose wishes this process has put into force.
    fn served(&self) -> MutexGuard<'_, Vec<Owner>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relate(&self, before: &Relations, after: &Relations) -> Result<()> {
        let stale = self.table()?.relate(before, after).map_err(unexpected)?;
        if stale.is_empty() { Ok(()) } else { self.forget_soon(stale) }
    }

    /// Forgets connections while pods come and go, without anybody's waiting for it: all that have come together at once.
    fn forget_soon(&self, stale: Stale) -> Result<()> {
        let mut forgetter = self.forgetter.lock().unwrap_or_else(PoisonError::into_inner);
        if forgetter.is_none() {
            let table = Table::open(&self.name).map_err(during("open nftables"))?;
            let (sender, receiver) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new().name("forgetter".into()).spawn(move || forget(&table, &receiver));
            thread.during(|| "start a thread".into())?;
            *forgetter = Some(sender);
        }
        // It lasts as long as this does.
        let _ = forgetter.as_ref().map(|it| it.send(stale));
        Ok(())
    }

    /// How many connections each of these was used for; none while there is no table.
    pub fn uses(&self, pairs: &BTreeSet<Pair>) -> Result<HashMap<Pair, u64>> {
        if pairs.is_empty() || !self.tables()?.contains(&self.name) {
            return Ok(HashMap::new());
        }
        self.table()?.uses(pairs).map_err(during("read the counters of links"))
    }

    /// Takes the table away.
    pub fn unload(&self) -> Result<()> {
        if self.tables()?.contains(&self.name) {
            self.table()?.delete().map_err(during("remove the rules of the pods' network"))?;
        }
        self.keep_guard(|| false)?;
        nft::remove_guard(&self.name).map_err(during("remove the guard of the pods' network"))
    }

    /// This process, and none besides, guards the pods from now on, as long as it lives.
    pub fn guard(&self, up: impl FnOnce() -> bool) -> Result<()> {
        let guard = Guard::open(&self.name).map_err(during("open nftables"))?;
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        self.keep_guard(up)
    }

    /// The guard is there while the table is or, being `up`, shall be, if this process has it. Who takes the table away says
    /// first that it is not up, and comes here then: it is asked when nobody else is here.
    pub fn keep_guard(&self, up: impl FnOnce() -> bool) -> Result<()> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guard) = guard.as_mut() else { return Ok(()) };
        let kept = if up() || self.tables()?.contains(&self.name) { guard.hold().map(drop) } else { guard.release() };
        kept.map_err(during("keep the guard of the pods' network"))
    }

    /// Whether another Coracle has pods on this host.
    pub fn has_others(&self) -> Result<bool> {
        Ok(self.tables()?.iter().any(|it| *it != self.name))
    }

    /// Follows what others do to the table.
    pub fn watch(&self) -> Result<nft::Watch> {
        self.table()?.watch().map_err(during("follow the changes of nftables"))
    }

    fn tables(&self) -> Result<Vec<String>> {
        Table::list_ours().map_err(during("list the tables of nftables"))
    }
}

/// Waits until something happens to the table; where somebody else has taken something out of it, who, in words.
pub fn next(watch: &mut nft::Watch) -> Result<Option<String>> {
    let seen = watch.next_seen().map_err(during("follow the changes of nftables"))?;
    let damage = seen.into_iter().find_map(|it| if let Seen::Damage(damage) = it { Some(damage) } else { None });
    Ok(damage.map(|it| format!("something was taken out of them by {}", it.by)))
}

fn forget(table: &Table, receiver: &Receiver<Stale>) {
    while let Ok(mut stale) = receiver.recv() {
        receiver.try_iter().for_each(|it| stale.extend(it));
        if let Err(error) = table.forget(&stale) {
            tracing::warn!(%error, "connections of pods that are gone may still be remembered");
        }
    }
}

fn during(operation: &'static str) -> impl FnOnce(nft::Error) -> crate::Error {
    move |source| Error::Rules { operation, source }.into()
}

fn trace(error: nft::Error) {
    tracing::debug!(%error, "the rules are loaded anew");
}

fn unexpected(error: nft::Error) -> crate::Error {
    during("change the rules of the pods' network")(error)
}

/// What is wanted of a pod, resolved without it and with it; none where nothing is.
fn about(core: &Core, record: &Record) -> Result<Option<(Relations, Relations)>> {
    let sets = wanted::all(core)?;
    let scope = Scope::pod(&relations::name(record));
    if !relations::concerns(&sets, &scope) {
        return Ok(None);
    }
    let mut addresses = Addresses::read(core, &sets, &scope)?;
    addresses.remove(record);
    let without = relations::resolve(&sets, &addresses, &scope);
    addresses.add(record);
    Ok(Some((without, relations::resolve(&sets, &addresses, &scope))))
}

/// All that the table shall hold: every pod of this boot that was not stopped, and what owners want of them.
fn desired(core: &Core, locked: &Locked) -> Result<Desired> {
    let records = sandbox::all(core)?;
    let here = records.iter().filter(|it| it.boot_id == core.boot_id && !it.stopped);
    let networks = named::rules(core, locked)?;
    let sets = wanted::all(core)?;
    let addresses = Addresses::read(core, &sets, &Scope::All)?;
    Ok(Desired {
        links: core.network.group,
        non_masquerade: locked.shared.non_masquerade.clone(),
        reach_node: reach_node(&sets),
        pods: here.filter_map(|it| it.attachment.as_ref()).map(|it| rules(&networks, it)).collect(),
        relations: relations::resolve(&sets, &addresses, &Scope::All),
        networks,
    })
}

fn reach_node(sets: &Sets) -> bool {
    sets.iter().any(|(_, set)| set.reach_node)
}

fn rules(networks: &[NetworkRules], pod: &Attachment) -> PodRules {
    PodRules {
        group: nft::group(networks, &pod.kind),
        interface: pod.interface.clone(),
        bridge: pod.bridge.clone(),
        addresses: pod.addresses.clone(),
        ports: pod.ports.clone(),
    }
}
