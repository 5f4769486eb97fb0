//! Whether there is something to connect pods with.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::config::{self, Found, List};
use super::error::Error;
use super::{Memory, Options, chain, plugin};
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

/// What pods would be connected by, for who asks what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Survey {
    /// The network, its file, its version and its plug-ins, in words.
    pub network: String,
    /// Files that come first and are unusable, and why.
    pub skipped: Vec<(PathBuf, String)>,
    /// Why pods cannot be connected: programs that are missing or speak other versions, what STATUS says.
    pub troubles: Vec<String>,
}

/// Looks at the configurations of a directory and, with `ask`, at the plug-ins of the one that counts, which are asked what
/// they speak and how they are. An error says why there is none.
pub fn survey(dir: &Path, options: &Options, ask: bool) -> Result<Survey, String> {
    let Found { list, skipped } = config::first(dir)?;
    let types: Vec<&str> = list.plugins.iter().map(config::type_of).collect();
    let network =
        format!("{} of {} (cniVersion {}): {}", list.name, list.file.display(), list.version, types.join(", "));
    let mut survey = Survey { network, skipped, troubles: Vec::new() };
    if ask {
        let missing = |name: &&str| plugin::find(name, &options.bin_dirs).err().map(|it| it.to_string());
        survey.troubles.extend(types.iter().filter_map(missing));
        if survey.troubles.is_empty() {
            let usable = plugin::verify(&Memory::default(), &list, &options.bin_dirs);
            let limit = options.time_limit.min(plugin::WORD);
            let usable = usable.and_then(|()| chain::status(&list, &options.bin_dirs, limit));
            survey.troubles.extend(usable.err().map(|it| it.to_string()));
        }
    }
    Ok(survey)
}
