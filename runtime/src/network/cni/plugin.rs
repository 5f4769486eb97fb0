//! Plug-ins as programs: where they are, what they speak, and how they are asked.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Map, Value};

use super::config::{List, type_of};
use super::error::Error;
use super::exec::{self, Call, Ended, Failure};
use super::{Memory, request, result};
use crate::cgroup::Cgroup;

/// How long a plug-in may take to say what it speaks, or whether it is ready: nothing is done meanwhile.
pub const WORD: Duration = Duration::from_secs(10);

/// What a program looked like.
pub type Stamp = (PathBuf, u64, i64, i64, u64);

/// What the asking of plug-ins goes by.
pub struct Asker<'a> {
    /// Where they are.
    pub dirs: &'a [PathBuf],
    /// How long one may take.
    pub limit: Duration,
    /// Where they run.
    pub cgroup: Option<&'a Cgroup>,
}

impl Asker<'_> {
    /// Asks one plug-in of a list; what it printed.
    pub fn ask(
        &self,
        list: &List,
        plugin: &Map<String, Value>,
        verb: &'static str,
        told: &Map<String, Value>,
        environment: &[(&'static str, String)],
    ) -> Result<Vec<u8>, Error> {
        let name = type_of(plugin);
        let asked = find(name, self.dirs).and_then(|program| {
            let input = serde_json::to_vec(told);
            let input =
                input.map_err(|error| Failure::Io { operation: "write its input".into(), source: error.into() })?;
            let call = Call { program: &program, environment, input: &input, cgroup: self.cgroup, limit: self.limit };
            let Ended { status, printed, complaint } = exec::run(&call)?;
            if exec::succeeded(status) {
                return Ok(printed);
            }
            Err(result::said(&printed).unwrap_or(Failure::Ended { status, complaint }))
        });
        asked.map_err(|source| of_plugin(list, plugin, verb, source))
    }
}

/// Says whose failure it is.
pub fn of_plugin(list: &List, plugin: &Map<String, Value>, verb: &'static str, source: Failure) -> Error {
    let plugin = type_of(plugin).to_owned();
    Error::Plugin { verb, plugin, network: list.name.clone(), file: list.file.clone(), source: Box::new(source) }
}

/// The program of a type: nowhere but in these directories.
pub fn find(name: &str, dirs: &[PathBuf]) -> Result<PathBuf, Failure> {
    let is_program =
        |path: &PathBuf| std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    // Configurations are checked when they are read; those that were kept are the root's alone.
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let found = plain.then(|| dirs.iter().map(|dir| dir.join(name)).find(is_program)).flatten();
    found.ok_or_else(|| Failure::Missing { name: name.to_owned(), dirs: dirs.to_vec() })
}

/// Whether the programs of a list are there and speak its version, as far as they say.
pub fn verify(memory: &Memory, list: &List, dirs: &[PathBuf]) -> Result<(), Error> {
    for plugin in &list.plugins {
        let name = type_of(plugin);
        let missing = |source| of_plugin(list, plugin, "ADD", source);
        let program = find(name, dirs).map_err(missing)?;
        let Some(spoken) = versions(memory, &program, &list.version, dirs) else { continue };
        if !spoken.contains(&list.version) {
            return Err(Error::Unsupported {
                network: list.name.clone(),
                file: list.file.clone(),
                why: format!(
                    "it is of cniVersion {}, and plug-in {name} ({}) speaks {}",
                    list.version,
                    program.display(),
                    spoken.join(", ")
                ),
            });
        }
    }
    Ok(())
}

/// What a program speaks; none where it does not say.
fn versions(memory: &Memory, program: &Path, version: &str, dirs: &[PathBuf]) -> Option<Vec<String>> {
    let data = std::fs::metadata(program).ok()?;
    let stamp = (program.to_owned(), data.ino(), data.mtime(), data.mtime_nsec(), data.len());
    let known = memory.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&stamp).cloned();
    if let Some(known) = known {
        return known;
    }
    let input = serde_json::json!({ "cniVersion": version }).to_string();
    let environment = [("CNI_COMMAND", "VERSION".to_owned()), ("CNI_PATH", request::path(dirs))];
    let call = Call { program, environment: &environment, input: input.as_bytes(), cgroup: None, limit: WORD };
    // What is wrong with it besides it will say when it is needed.
    let answer = exec::run(&call).ok().filter(|it| exec::succeeded(it.status));
    let spoken = answer.and_then(|it| result::versions(&it.printed));
    memory.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(stamp, spoken.clone());
    spoken
}
