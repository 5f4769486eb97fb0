//! Devices of the Container Device Interface: names that files of the host explain. Who installs a device's driver
//! leaves a file there that says what a container needs to use it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::request::{Mount, Propagation};
use crate::cgroup::{Access, DeviceKind};
use crate::devices::{self, Device};
use crate::error::{Error, Result};
use crate::launch::MountOption;

/// Where the files are; a name in the later directory hides the same in the earlier one.
pub const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The largest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// Whether a name has the form `VENDOR/CLASS=NAME`.
pub fn is_qualified(name: &str) -> bool {
    let Some((kind, device)) = name.split_once('=') else { return false };
    let word = |word: &str, begins: fn(&u8) -> bool, marks: &[u8]| {
        let bytes = word.as_bytes();
        bytes.first().is_some_and(begins)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte))
    };
    let letter: fn(&u8) -> bool = u8::is_ascii_alphabetic;
    kind.split_once('/').is_some_and(|(vendor, class)| word(vendor, letter, b"_-.") && word(class, letter, b"_-."))
        && word(device, u8::is_ascii_alphanumeric, b"_-.:")
}

/// What a container gets for its devices.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Variables, over the container's own.
    pub env: Vec<(String, String)>,
    /// Device nodes, and what may be done with them.
    pub devices: Vec<Node>,
    /// Mounts, in the place of what would be there.
    pub mounts: Vec<Mount>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A device node. One that names no owner has the container's user.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// The device.
    pub device: Device,
    /// What may be done with it; none is nothing.
    pub access: Option<Access>,
    /// Owner, where the file names one.
    pub uid: Option<u32>,
    /// Group, where the file names one.
    pub gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<Entry>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawEdits {
    env: Vec<String>,
    device_nodes: Vec<RawNode>,
    net_devices: Vec<serde_json::Value>,
    hooks: Vec<Hook>,
    mounts: Vec<RawMount>,
    intel_rdt: Option<serde_json::Value>,
    additional_gids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNode {
    path: String,
    #[serde(default)]
    host_path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: u32,
    #[serde(default)]
    minor: u32,
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    #[serde(default)]
    hook_name: String,
    #[serde(default)]
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

/// What the devices `names` ask for, by the files in `dirs`.
pub fn edits<P: AsRef<Path>>(dirs: &[P], names: &[String]) -> Result<Edits> {
    let mut edits = Edits::default();
    if names.is_empty() {
        return Ok(edits);
    }
    let known = read(dirs);
    let mut common: Vec<&Path> = Vec::new();
    for name in names {
        let found = known.get(name).ok_or_else(|| unknown(name, dirs))?;
        let (path, spec, index) = match found {
            Found::One { path, spec, index } => (path, spec, *index),
            Found::Several(paths) => {
                return Err(Error::Invalid(format!("CDI device {name:?} is in several files: {}", paths.join(", "))));
            }
        };
        let named = |what: String| Error::Invalid(format!("CDI device {name:?} of {}: {what}", path.display()));
        // What a file has for all its devices is applied once, before the first of them.
        if !common.contains(&path.as_path()) {
            common.push(path);
            add(&mut edits, &spec.container_edits).map_err(named)?;
        }
        add(&mut edits, &spec.devices[index].container_edits).map_err(named)?;
    }
    Ok(edits)
}

fn unknown<P: AsRef<Path>>(name: &str, dirs: &[P]) -> Error {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.as_ref().display().to_string()).collect();
    Error::Invalid(format!("unresolvable CDI device {name:?}: no file in {} has it", dirs.join(" or ")))
}

enum Found {
    One { path: PathBuf, spec: std::rc::Rc<Spec>, index: usize },
    Several(Vec<String>),
}

/// Every device that the files name. A file that cannot be read or understood costs its own devices, and is said in the
/// log: others have nothing to do with it.
fn read<P: AsRef<Path>>(dirs: &[P]) -> BTreeMap<String, Found> {
    let mut known = BTreeMap::new();
    for dir in dirs {
        let mut here = BTreeMap::new();
        for path in files(dir.as_ref()) {
            let spec = match parse(&path) {
                Ok(spec) => std::rc::Rc::new(spec),
                Err(error) => {
                    tracing::warn!(error, path = %path.display(), "a CDI file is left out");
                    continue;
                }
            };
            for (index, device) in spec.devices.iter().enumerate() {
                let name = format!("{}={}", spec.kind, device.name);
                let found = match here.remove(&name) {
                    None => Found::One { path: path.clone(), spec: spec.clone(), index },
                    Some(Found::One { path: other, .. }) => {
                        Found::Several(vec![other.display().to_string(), path.display().to_string()])
                    }
                    Some(Found::Several(mut paths)) => {
                        paths.push(path.display().to_string());
                        Found::Several(paths)
                    }
                };
                here.insert(name, found);
            }
        }
        known.extend(here);
    }
    known
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| path.extension().is_some_and(|it| it == "json" || it == "yaml" || it == "yml");
    let mut files: Vec<PathBuf> = entries.filter(ours).collect();
    files.sort();
    files
}

fn parse(path: &Path) -> std::result::Result<Spec, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if path.extension().is_some_and(|it| it == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        serde_yaml::from_str(&text).map_err(|error| error.to_string())
    }
}

/// Adds what a file says. What this runtime does not do is an error: a device without it would not work.
fn add(edits: &mut Edits, raw: &RawEdits) -> std::result::Result<(), String> {
    if let Some(hook) = raw.hooks.first() {
        let why = "hooks are not run by this runtime: use a file without them";
        return Err(format!("it needs the {} hook {}, and {why}", hook.hook_name, hook.path));
    }
    if !raw.net_devices.is_empty() || raw.intel_rdt.is_some() {
        let what = if raw.intel_rdt.is_some() { "intelRdt" } else { "netDevices" };
        return Err(format!("it needs {what}, which this runtime does not have"));
    }
    for pair in &raw.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("env {pair:?} is not NAME=VALUE"))?;
        edits.env.push((name.to_owned(), value.to_owned()));
    }
    for node in &raw.device_nodes {
        let node = self::node(node)?;
        edits.devices.retain(|it| it.device.path != node.device.path);
        edits.devices.push(node);
    }
    for mount in &raw.mounts {
        edits.mounts.push(self::mount(mount)?);
    }
    edits.groups.extend(raw.additional_gids.iter().filter(|&&gid| gid != 0));
    Ok(())
}

/// A node of its numbers, or of the host's device where it gives none.
fn node(raw: &RawNode) -> std::result::Result<Node, String> {
    let path = PathBuf::from(&raw.path);
    if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("deviceNodes: the path {:?} is not absolute, or has «..» in it", raw.path));
    }
    let kind = match raw.kind.as_str() {
        "" => None,
        "c" | "u" => Some(DeviceKind::Char),
        "b" => Some(DeviceKind::Block),
        other => return Err(format!("deviceNodes: {} is of the type {other:?}, not c or b", raw.path)),
    };
    let access = match raw.permissions.as_str() {
        "" => Some(Access::ALL),
        "none" => None,
        text => Some(text.parse().map_err(|error| format!("deviceNodes: {}: {error}", raw.path))?),
    };
    let host = if raw.host_path.is_empty() { &raw.path } else { &raw.host_path };
    let on_host = || {
        let found = devices::from_host(Path::new(host), &path).map_err(|error| match &error {
            devices::Error::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        })?;
        match <[Device; 1]>::try_from(found) {
            Ok([device]) => Ok(device),
            Err(_) => Err(format!("deviceNodes: {host} is a directory")),
        }
    };
    let device = match kind {
        Some(kind) if raw.major != 0 => {
            let mode = raw.file_mode.or_else(|| on_host().ok().map(|it| it.mode)).unwrap_or(0o666);
            Device { path, kind, major: raw.major, minor: raw.minor, mode: mode & 0o777, uid: 0, gid: 0 }
        }
        _ => {
            let device = on_host()?;
            if kind.is_some_and(|kind| kind != device.kind) {
                return Err(format!("deviceNodes: {host} is of another type than {:?}", raw.kind));
            }
            Device { mode: raw.file_mode.map_or(device.mode, |mode| mode & 0o777), ..device }
        }
    };
    Ok(Node { device, access, uid: raw.uid, gid: raw.gid })
}

fn mount(raw: &RawMount) -> std::result::Result<Mount, String> {
    let at = &raw.container_path;
    let absolute = |path: &str| {
        let path = Path::new(path);
        path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir)
    };
    if !absolute(at) || Path::new(at).parent().is_none() || !absolute(&raw.host_path) {
        return Err(format!("mounts: {:?} at {at:?}: not absolute, or with «..»", raw.host_path));
    }
    if !matches!(raw.kind.as_str(), "" | "bind" | "none") {
        return Err(format!("mounts: the one at {at} is of the type {:?}, not bind", raw.kind));
    }
    let mut mount = Mount { target: at.clone(), source: raw.host_path.clone(), ..Mount::default() };
    for option in &raw.options {
        match option.as_str() {
            "bind" | "rbind" | "rw" | "private" | "rprivate" => {}
            "ro" => mount.readonly = true,
            "rro" => (mount.readonly, mount.recursive_readonly) = (true, true),
            "slave" | "rslave" => mount.propagation = Propagation::HostToContainer,
            "shared" | "rshared" => mount.propagation = Propagation::Bidirectional,
            "noexec" => mount.options.push(MountOption::Noexec),
            "nodev" => mount.options.push(MountOption::Nodev),
            "nosuid" => mount.options.push(MountOption::Nosuid),
            other => return Err(format!("mounts: the one at {at} has the option {other:?}, which is not known")),
        }
    }
    Ok(mount)
}

#[cfg(test)]
mod tests;
