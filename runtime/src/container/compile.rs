//! From what a container is asked to be to the process that it becomes.

use std::os::fd::OwnedFd;

use super::request::{Request, Seccomp};
use crate::capabilities::{CapSet, compute};
use crate::error::{Error, Result};
use crate::images::{Image, ImageConfig};
use crate::launch::{Capabilities, ProcessSpec};
use crate::sandbox;
use crate::seccomp::{self, Profile, Program};
use crate::users::{self, Identity};
use crate::{rootfs, sys};

/// A process, and what could not be given as it was asked for.
pub struct Compiled {
    /// The process.
    pub process: ProcessSpec,
    /// For the operator.
    pub notes: Vec<String>,
}

/// Compiles the process of a container whose root is mounted.
pub fn process(request: &Request, image: &Image, sandbox: &sandbox::Record, root: &OwnedFd) -> Result<Compiled> {
    let security = &request.security;
    let mut notes = Vec::new();
    let identity = identity(request, &image.config, root)?;
    let capabilities = capabilities(request, identity.uid, &mut notes)?;
    let mut groups = security.groups.clone();
    if !security.strict_groups {
        groups.extend(identity.groups.iter().filter(|it| !security.groups.contains(it)));
    }
    let process = ProcessSpec {
        args: args(request, &image.config)?,
        env: env(request, &image.config, sandbox, identity.home.as_deref()),
        cwd: working_dir(request, &image.config)?,
        uid: identity.uid,
        gid: identity.gid,
        groups,
        umask: 0o022,
        capabilities,
        no_new_privileges: security.no_new_privileges,
        seccomp: seccomp(request, CapSet(capabilities.bounding))?,
        apparmor: apparmor(request)?,
        rlimits: Vec::new(),
        oom_score_adj: oom_score_adj(request.oom_score_adj, &mut notes),
        tty: request.tty,
        user_namespace: sandbox.request.user.as_ref().map(|it| it.map.clone()),
    };
    check_mapped(&process)?;
    Ok(Compiled { process, notes })
}

/// Refuses ids that the pod's user namespace does not have: the kernel would, without saying which.
fn check_mapped(process: &ProcessSpec) -> Result<()> {
    let Some(map) = &process.user_namespace else { return Ok(()) };
    let refuse = |what: &str, id: u32| {
        let why = "is not mapped in the pod's user namespace; use a smaller one, or the host's users";
        Err(Error::Invalid(format!("the {what} {id} {why}")))
    };
    if map.uid(process.uid).is_none() {
        return refuse("user", process.uid);
    }
    match std::iter::once(&process.gid).chain(&process.groups).find(|&&gid| map.gid(gid).is_none()) {
        Some(&gid) => refuse("group", gid),
        None => Ok(()),
    }
}

/// The client's number or name, else the image's user.
fn identity(request: &Request, image: &ImageConfig, root: &OwnedFd) -> Result<Identity> {
    let security = &request.security;
    let user = match (security.user, security.username.as_str()) {
        (Some(uid), _) => uid.to_string(),
        (None, "") => image.user.clone(),
        (None, name) => name.to_owned(),
    };
    let user = match security.group {
        Some(gid) => format!("{}:{gid}", user.split(':').next().unwrap_or("")),
        None => user,
    };
    users::resolve(&user, &rootfs::read(root, "/etc/passwd")?, &rootfs::read(root, "/etc/group")?)
}

/// Kubernetes' rule: `command` replaces the entrypoint and drops the image's arguments, `args` replaces the arguments.
fn args(request: &Request, image: &ImageConfig) -> Result<Vec<String>> {
    let mut args = if request.command.is_empty() { image.entrypoint.clone() } else { request.command.clone() };
    match (request.args.is_empty(), request.command.is_empty()) {
        (false, _) => args.extend_from_slice(&request.args),
        (true, true) => args.extend_from_slice(&image.cmd),
        (true, false) => {}
    }
    if args.is_empty() {
        let why = "neither the container nor its image says what to run; set command or args";
        return Err(Error::Invalid(format!("container {:?}: {why}", request.name)));
    }
    Ok(args)
}

fn env(request: &Request, image: &ImageConfig, sandbox: &sandbox::Record, home: Option<&str>) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("HOSTNAME", &sandbox.request.hostname);
    set("HOME", home.unwrap_or("/"));
    if request.tty {
        set("TERM", "xterm");
    }
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(name, value);
    }
    for (name, value) in &request.env {
        set(name, value);
    }
    env.retain(|(name, value)| name != "HOSTNAME" || !value.is_empty());
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// An absolute path that is no way out: /proc's links to open files are refused by name here, and are never followed
/// when the directory is entered.
fn working_dir(request: &Request, image: &ImageConfig) -> Result<String> {
    let asked = [&request.working_dir, &image.working_dir].into_iter().find(|it| !it.is_empty());
    let dir = asked.map_or("/", String::as_str);
    let absolute = if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") };
    let parts: Vec<&str> = absolute.split('/').filter(|it| !it.is_empty() && *it != ".").collect();
    if let ["proc", _, "fd" | "cwd" | "root" | "map_files", ..] | ["proc", _, "task", _, "fd" | "cwd" | "root", ..] =
        parts.as_slice()
    {
        let why = "a link of /proc is no working directory: it could lead out of the container";
        return Err(Error::Invalid(format!("the working directory {dir:?} is refused: {why}")));
    }
    Ok(absolute)
}

/// For root the sets are full; another user keeps what is bounding, and has what is ambient.
fn capabilities(request: &Request, uid: u32, notes: &mut Vec<String>) -> Result<Capabilities> {
    let security = &request.security;
    let available =
        CapSet::available(std::path::Path::new("/proc")).map_err(|error| Error::Invalid(error.to_string()))?;
    let invalid = |error: crate::capabilities::Error| Error::Invalid(error.to_string());
    let computed = compute(&security.add, &security.drop, security.privileged, available).map_err(invalid)?;
    if !computed.clamped.is_empty() {
        let names = computed.clamped.names().join(", ");
        notes.push(format!("capabilities that the runtime does not have itself were left out: {names}"));
    }
    let ambient = CapSet::from_names(&security.ambient).map_err(invalid)?.0 & computed.set.0;
    let bounding = computed.set.0;
    let permitted = if uid == 0 { bounding } else { ambient };
    Ok(Capabilities { bounding, permitted, inheritable: ambient, ambient })
}

fn seccomp(request: &Request, caps: CapSet) -> Result<Option<Program>> {
    let security = &request.security;
    if security.privileged {
        return Ok(None);
    }
    let profile = match &security.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::RuntimeDefault => Profile::runtime_default(caps)?,
        Seccomp::Localhost(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Error::Invalid(format!("read the seccomp profile {path}: {error}")))?;
            Profile::parse(&text, caps)?
        }
    };
    Ok(Some(seccomp::compile(&profile)?))
}

fn apparmor(request: &Request) -> Result<Option<String>> {
    let Some(profile) = request.security.apparmor.as_ref().filter(|it| *it != "unconfined") else { return Ok(None) };
    if request.security.privileged {
        return Ok(None);
    }
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return Err(Error::Invalid(format!(
            "the AppArmor profile {profile:?} was asked for and this host's kernel has no AppArmor"
        )));
    }
    // One "NAME (mode)" a line. Where securityfs is not mounted the kernel's refusal at exec has to do.
    match std::fs::read_to_string("/sys/kernel/security/apparmor/profiles") {
        Ok(loaded) if !loaded.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile)) => {
            Err(Error::Invalid(format!(
                "the AppArmor profile {profile:?} is not loaded on this host: load it with apparmor_parser -r FILE"
            )))
        }
        _ => Ok(Some(profile.clone())),
    }
}

/// Without CAP_SYS_RESOURCE a process can only make itself more ready to be killed (proc(5)).
fn oom_score_adj(asked: i32, notes: &mut Vec<String>) -> Option<i32> {
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
    let asked = asked.clamp(-1000, 1000);
    let privileged = CapSet::available(std::path::Path::new("/proc")).is_ok_and(|it| it.has_name("SYS_RESOURCE"));
    if asked >= own || privileged {
        return Some(asked);
    }
    notes.push(format!("oom_score_adj is {own} instead of {asked}: lowering it needs CAP_SYS_RESOURCE"));
    Some(own)
}

/// The number of a signal: `SIGTERM`, `TERM`, `15`, `RTMIN+3`.
pub fn signal_number(name: &str) -> Result<i32> {
    sys::process::signal_number(name).ok_or_else(|| Error::Invalid(format!("{name:?} is no signal")))
}
