//! Real programs, from Debian's packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::binary;
use crate::finished::Finished;
use crate::process::Run;

const PATIENCE: Duration = Duration::from_secs(300);

/// The path of `program`, installing `package` if it is missing; the error says why it cannot be had.
pub fn program(program: &str, package: &str) -> Result<PathBuf, String> {
    if let Some(path) = which(program) {
        return Ok(path);
    }
    // One at a time: dpkg has a lock of its own, but fails on it instead of waiting.
    let _lock = binary::cache_lock("apt");
    if which(program).is_none() {
        let installed = apt(&["install", "-y", "--no-install-recommends", package]);
        if installed.is_err() {
            apt(&["update"])?;
            apt(&["install", "-y", "--no-install-recommends", package])?;
        }
    }
    which(program).ok_or_else(|| format!("package {package} has no {program}"))
}

/// The files of packages, downloaded and unpacked but not installed: nothing starts, nothing else changes.
pub fn unpacked(packages: &[&str]) -> Result<PathBuf, String> {
    let dir = binary::cache_dir().join(packages.join("+"));
    let _lock = binary::cache_lock("apt");
    if dir.exists() {
        return Ok(dir);
    }
    let partial = dir.with_extension("partial");
    // Left by a run that was killed, or not there at all.
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).map_err(|error| format!("cannot create {}: {error}", partial.display()))?;
    let download = |packages: &[&str]| {
        let mut command = Command::new("apt-get");
        // apt's own user could not write into root's directory: let root download.
        command.current_dir(&partial).args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).args(packages);
        finish(command)
    };
    if download(packages).is_err() {
        apt(&["update"])?;
        download(packages)?;
    }
    for entry in std::fs::read_dir(&partial).map_err(|error| error.to_string())?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            let mut command = Command::new("dpkg");
            command.arg("-x").arg(entry.path()).arg(&partial);
            finish(command)?;
        }
    }
    std::fs::rename(&partial, &dir).map_err(|error| format!("cannot rename {}: {error}", partial.display()))?;
    Ok(dir)
}

/// Refreshes the lists of packages.
pub fn update() -> Result<(), String> {
    apt(&["update"])
}

/// The libraries that a dynamic program needs, by the path that it looks for them at, and where they are here.
///
/// `extra` is a root that is searched too.
pub fn libraries(program: &Path, extra: Option<&Path>) -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new("ldd");
    command.arg(program);
    if let Some(root) = extra {
        let dirs = ["lib", "usr/lib", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
        let dirs: Vec<String> = dirs.iter().map(|dir| root.join(dir).to_string_lossy().into_owned()).collect();
        command.env("LD_LIBRARY_PATH", dirs.join(":"));
    }
    let output = command.output().map_err(|error| format!("cannot start ldd: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        return Err(format!("{} needs {}", program.display(), line.trim()));
    }
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// Finds a program in PATH and the system directories.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn apt(args: &[&str]) -> Result<(), String> {
    if which("apt-get").is_none() {
        return Err("not a Debian system: no apt-get".into());
    }
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(args).env("DEBIAN_FRONTEND", "noninteractive");
    finish(command)
}

fn finish(mut command: Command) -> Result<(), String> {
    let Finished { command, status, lines, .. } = Run::start(&mut command, None).wait_within(PATIENCE);
    let last = lines.last().map(|line| line.text.clone()).unwrap_or_default();
    if status.success() { Ok(()) } else { Err(format!("{command}: {status}: {last}")) }
}
