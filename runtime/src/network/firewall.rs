//! The rules: what is to hold, from the records, handed to nftables.

use std::sync::OnceLock;

use super::nft::{self, Desired, PodRules, Table};
use super::state::Locked;
use super::{Attachment, Error};
use crate::core::Core;
use crate::error::Result;
use crate::sandbox;

/// The table of a state directory.
pub struct Firewall {
    name: String,
    table: OnceLock<Table>,
}

impl Firewall {
    /// The table of this name.
    pub fn new(name: String) -> Self {
        Self { name, table: OnceLock::new() }
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

    /// Adds a pod, whose record says what it has.
    pub fn add(&self, core: &Core, locked: &Locked, pod: &Attachment) -> Result<()> {
        match self.table()?.add_pod(&rules(pod)) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the rules are loaded anew");
                self.load(core, locked)
            }
        }
    }

    /// Leads clients to a pod that has been added, who sent to its ports before. It takes its time.
    pub fn published(&self, pod: &Attachment) -> Result<()> {
        self.table()?.redirect_clients(&[rules(pod)]).map_err(during("lead clients to published ports"))
    }

    /// Takes a pod away, whose record says that it stops.
    pub fn remove(&self, core: &Core, locked: &Locked, pod: &Attachment) -> Result<()> {
        match self.table()?.remove_pod(&rules(pod)) {
            Ok(()) => Ok(()),
            // The table may have been flushed or deleted, or the network been taken down.
            Err(_) if !locked.shared.up => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the rules are loaded anew");
                self.load(core, locked)
            }
        }
    }

    /// Takes the table away.
    pub fn unload(&self) -> Result<()> {
        if !self.tables()?.contains(&self.name) {
            return Ok(());
        }
        self.table()?.delete().map_err(during("remove the rules of the pods' network"))
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

/// Waits until somebody else takes something out of the table; who, and what that is, in words.
pub fn damage(watch: &mut nft::Watch) -> Result<String> {
    let damage = watch.next_damage().map_err(during("follow the changes of nftables"))?;
    Ok(format!("something was taken out of them by {}", damage.by))
}

fn during(operation: &'static str) -> impl FnOnce(nft::Error) -> crate::Error {
    move |source| Error::Rules { operation, source }.into()
}

/// All that the table shall hold: every pod of this boot that was not stopped.
fn desired(core: &Core, locked: &Locked) -> Result<Desired> {
    let records = sandbox::all(core)?;
    let here = records.iter().filter(|it| it.boot_id == core.boot_id && !it.stopped);
    Ok(Desired {
        ranges: locked.shared.ranges.all(),
        gateways: locked.shared.ranges.gateways(),
        non_masquerade: locked.shared.non_masquerade.clone(),
        pods: here.filter_map(|it| it.attachment.as_ref()).map(rules).collect(),
    })
}

fn rules(pod: &Attachment) -> PodRules {
    PodRules { interface: pod.interface.clone(), addresses: pod.addresses.clone(), ports: pod.ports.clone() }
}
