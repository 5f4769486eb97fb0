//! Whether there is something to connect pods with.

use std::sync::PoisonError;

use super::config::{self, Found, List};
use super::error::Error;
use super::{chain, plugin};
use crate::core::Core;

/// The configuration that pods are connected by now; none where they have Coracle's own network. It is read again each
/// time: a change of the directory counts from then on.
pub fn current(core: &Core) -> Result<Option<List>, Error> {
    let options = &core.options.network.cni;
    let Some(dir) = &options.conf_dir else { return Ok(None) };
    let Found { list, skipped } = config::first(dir).map_err(Error::NotReady)?;
    tell(core, &list, &skipped);
    Ok(Some(list))
}

/// Says which files are unusable, once.
fn tell(core: &Core, list: &List, skipped: &[(std::path::PathBuf, String)]) {
    let now: Vec<String> = skipped.iter().map(|(file, why)| format!("{}: {why}", file.display())).collect();
    let mut told = core.network.cni.told.lock().unwrap_or_else(PoisonError::into_inner);
    if *told != now {
        for what in &now {
            tracing::warn!(what, used = %list.file.display(), "a CNI configuration is unusable: the next one is used");
        }
        *told = now;
    }
}

/// Whether pods can be connected by plug-ins; `Ok` as well where they need none.
pub fn ready(core: &Core) -> Result<(), Error> {
    let options = &core.options.network.cni;
    let Some(list) = current(core)? else { return Ok(()) };
    plugin::verify(&core.network.cni, &list, &options.bin_dirs)?;
    chain::status(&list, &options.bin_dirs, options.time_limit.min(plugin::WORD))
}
