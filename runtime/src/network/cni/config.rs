//! Configurations: files of a directory, the first valid one of which is the network of all pods.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The versions of the specification that are spoken here.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// How files of configurations end.
const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// Bytes of a file.
const MOST: u64 = 1 << 20;

/// A configuration list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// Where it was read from.
    pub file: PathBuf,
    /// The network's name.
    pub name: String,
    /// The version that its plug-ins are spoken to in.
    pub version: String,
    /// No CHECK.
    pub disable_check: bool,
    /// No GC.
    pub disable_gc: bool,
    /// What each plug-in is told, in order.
    pub plugins: Vec<Map<String, Value>>,
}

impl List {
    /// Reads it, as it is in the file of this name.
    pub fn parse(text: &[u8], file: &Path) -> Result<Self, String> {
        let list: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let single = !list.contains_key("plugins") && list.contains_key("type");
        let name = text_of(&list, "name")?.ok_or("it has no name")?;
        if !is_name(&name) {
            return Err(format!("the name {name:?} is not made of letters, digits, `_`, `.` and `-`"));
        }
        let plugins = match list.get("plugins") {
            _ if single => vec![list.clone()],
            Some(Value::Array(plugins)) => plugins.iter().map(object).collect::<Result<_, _>>()?,
            Some(_) => return Err("plugins is no list".into()),
            None => Vec::new(),
        };
        let list = Self {
            file: file.to_owned(),
            name,
            version: version(&list)?,
            disable_check: flag(&list, "disableCheck")?,
            disable_gc: flag(&list, "disableGC")?,
            plugins,
        };
        list.plugins.iter().try_for_each(check)?;
        Ok(list)
    }

    /// Reads a file, and what belongs to it.
    fn read(file: &Path) -> Result<Self, String> {
        let text = read(file)?;
        let mut list = Self::parse(&text, file)?;
        let object: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let more = object.contains_key("plugins") || !object.contains_key("type");
        if more && !flag(&object, "loadOnlyInlinedPlugins")? {
            list.plugins.extend(parts(&file.with_file_name(&list.name))?);
        }
        if list.plugins.is_empty() {
            return Err("it has no plug-ins".into());
        }
        Ok(list)
    }

    /// Whether this version or a later one is spoken.
    pub fn speaks(&self, version: &str) -> bool {
        rank(&self.version) >= rank(version)
    }

    /// Whether a plug-in of it can do something.
    pub fn is_capable(&self, capability: &str) -> bool {
        self.plugins.iter().any(|it| capabilities(it).contains(capability))
    }
}

/// The type of a plug-in: the name of its program.
pub fn type_of(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// What a plug-in can do.
pub fn capabilities(plugin: &Map<String, Value>) -> BTreeSet<&str> {
    let all = plugin.get("capabilities").and_then(Value::as_object);
    all.into_iter().flatten().filter(|(_, can)| **can == Value::Bool(true)).map(|(name, _)| name.as_str()).collect()
}

/// What was found in a directory.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// The first valid configuration.
    pub list: List,
    /// Those before it, and what is wrong with them.
    pub skipped: Vec<(PathBuf, String)>,
}

/// The first valid configuration of a directory, by the files' names; else why there is none.
pub fn first(dir: &Path) -> Result<Found, String> {
    let files = files(dir, &ENDINGS)?.ok_or_else(|| format!("there is no directory {}", dir.display()))?;
    let mut skipped = Vec::new();
    for file in files {
        match List::read(&file) {
            Ok(list) => return Ok(Found { list, skipped }),
            Err(why) => skipped.push((file, why)),
        }
    }
    if skipped.is_empty() {
        return Err(format!("there is no CNI configuration in {}", dir.display()));
    }
    let all: Vec<String> = skipped.iter().map(|(file, why)| format!("{}: {why}", file.display())).collect();
    Err(format!("there is no valid CNI configuration in {}: {}", dir.display(), all.join("; ")))
}

/// Plug-ins of a list that are in files of their own.
fn parts(dir: &Path) -> Result<Vec<Map<String, Value>>, String> {
    let read = |file: &PathBuf| {
        let of_file = |why: String| format!("{}: {why}", file.display());
        let plugin: Map<String, Value> =
            serde_json::from_slice(&read(file)?).map_err(|error| of_file(format!("it is no JSON: {error}")))?;
        check(&plugin).map_err(of_file)?;
        Ok(plugin)
    };
    files(dir, &["conf"])?.unwrap_or_default().iter().map(read).collect()
}

/// A directory's files of these endings, in order; none if it is not there.
fn files(dir: &Path, endings: &[&str]) -> Result<Option<Vec<PathBuf>>, String> {
    let failed = |error: std::io::Error| format!("{} cannot be listed: {error}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        other => other.map_err(failed)?,
    };
    let paths: Vec<PathBuf> = entries.map(|it| it.map(|it| it.path())).collect::<Result<_, _>>().map_err(failed)?;
    let fits = |path: &PathBuf| path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending));
    let mut files: Vec<PathBuf> = paths.into_iter().filter(|it| fits(it) && it.is_file()).collect();
    files.sort_unstable();
    Ok(Some(files))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|file| file.take(MOST + 1).read_to_end(&mut text));
    match read {
        Err(error) => Err(format!("it cannot be read: {error}")),
        Ok(length) if length as u64 > MOST => Err(format!("it is longer than {MOST} bytes")),
        Ok(_) => Ok(text),
    }
}

/// What has to hold of a plug-in's configuration before anything is started by it.
fn check(plugin: &Map<String, Value>) -> Result<(), String> {
    let name = text_of(plugin, "type")?.ok_or("a plug-in has no type")?;
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(format!("the type {name:?} of a plug-in is not the name of a program"));
    }
    let Some(capabilities) = plugin.get("capabilities") else { return Ok(()) };
    serde_json::from_value::<BTreeMap<String, bool>>(capabilities.clone())
        .map(drop)
        .map_err(|_| format!("capabilities of plug-in {name} are not true or false by name"))
}

fn object(value: &Value) -> Result<Map<String, Value>, String> {
    value.as_object().cloned().ok_or_else(|| "a plug-in is no object".into())
}

fn text_of(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{key} is no text")),
    }
}

/// Some write it as text.
fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("{key} is neither true nor false")),
    }
}

/// The latest of the versions that it names and that are spoken here.
fn version(list: &Map<String, Value>) -> Result<String, String> {
    let mut named: Vec<String> = text_of(list, "cniVersion")?.into_iter().collect();
    match list.get("cniVersions") {
        None => {}
        Some(versions) => named.extend(
            serde_json::from_value::<Vec<String>>(versions.clone()).map_err(|_| "cniVersions is no list of texts")?,
        ),
    }
    let known = VERSIONS.iter().rev().find(|version| named.iter().any(|it| it == *version));
    known.map(|it| (*it).to_owned()).ok_or_else(|| {
        let named = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
        format!("its cniVersion is {named}; spoken here are {}", VERSIONS.join(", "))
    })
}

fn rank(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|it| *it == version)
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    first && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it))
}
