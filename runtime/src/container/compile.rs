//! From what a container is asked to be to the process that it becomes.

use std::os::fd::OwnedFd;

use super::cdi::Edits;
use super::request::{Request, Seccomp};
use crate::capabilities::{CapSet, compute};
use crate::error::{Error, Result};
use crate::images::{Image, ImageConfig};
use crate::launch::{Capabilities, ProcessSpec, Text};
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
pub fn process(
    request: &Request,
    image: &Image,
    sandbox: &sandbox::Record,
    root: &OwnedFd,
    edits: &Edits,
) -> Result<Compiled> {
    let security = &request.security;
    let mut notes = Vec::new();
    let identity = identity(request, &image.config, root)?;
    let capabilities = capabilities(request, identity.uid, &mut notes)?;
    // The first group is among them, as login programs and other runtimes have it.
    let mut groups = vec![identity.gid];
    groups.extend(&security.groups);
    if !security.strict_groups {
        groups.extend(&identity.groups);
    }
    groups.extend(&edits.groups);
    groups.sort_unstable();
    groups.dedup();
    let process = ProcessSpec {
        args: args(request, &image.config)?,
        env: env(request, &image.config, sandbox, identity.home.as_deref(), edits),
        cwd: working_dir(request, &image.config)?,
        uid: identity.uid,
        gid: identity.gid,
        groups,
        umask: 0o022,
        capabilities,
        no_new_privileges: security.no_new_privileges,
        seccomp: seccomp(request, CapSet(capabilities.bounding))?,
        apparmor: apparmor(request, &mut notes)?,
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
    // Some builders write "no entrypoint" as one that is an empty word.
    let entrypoint = if image.entrypoint == [""] { &[][..] } else { &image.entrypoint };
    let mut args = if request.command.is_empty() { entrypoint.to_vec() } else { request.command.clone() };
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

/// The container's over the image's over what every container has; what its devices need is over all.
fn env(
    request: &Request,
    image: &ImageConfig,
    sandbox: &sandbox::Record,
    home: Option<&str>,
    edits: &Edits,
) -> Vec<Text> {
    let mut env: Vec<(&str, &[u8])> = Vec::new();
    let mut set = |name, value| match env.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name, value)),
    };
    let hostname = sandbox::hostname(&sandbox.request);
    set("PATH", b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("HOSTNAME", hostname.as_bytes());
    set("HOME", home.unwrap_or("/").as_bytes());
    if request.tty {
        set("TERM", b"xterm");
    }
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(name, value.as_bytes());
    }
    for (name, value) in &request.env {
        set(name, value.as_bytes());
    }
    for (name, value) in &edits.env {
        set(name, value.as_bytes());
    }
    env.into_iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat().into()).collect()
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
    let ambient = CapSet::from_names(&security.ambient).map_err(invalid)?;
    let missing = ambient.minus(computed.set).minus(computed.clamped);
    // ALL is all that the container has.
    if !missing.is_empty() && !security.ambient.iter().any(|it| it.eq_ignore_ascii_case("ALL")) {
        let names = missing.names().join(", ");
        let why = "the container has not: add them to add_capabilities as well";
        return Err(Error::Invalid(format!(
            "linux.security_context.capabilities.add_ambient_capabilities has {names}, which {why}"
        )));
    }
    let ambient = ambient.0 & computed.set.0;
    let bounding = computed.set.0;
    let permitted = if uid == 0 { bounding } else { ambient };
    Ok(Capabilities { bounding, permitted, inheritable: ambient, ambient })
}

fn seccomp(request: &Request, caps: CapSet) -> Result<Option<Program>> {
    let security = &request.security;
    if security.privileged {
        return Ok(None);
    }
    let program = match &security.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::RuntimeDefault => Program::clone(&*seccomp::default_program(caps)?),
        Seccomp::Localhost(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Error::Invalid(format!("linux.security_context.seccomp: read {path}: {error}")))?;
            seccomp::compile(&Profile::parse(&text, caps)?)?
        }
    };
    Ok(Some(program))
}

/// Whether this host's kernel runs with AppArmor.
pub fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y")
}

/// The profile to enter. This runtime has none of its own: where its own is asked for it is the one that the operator has
/// loaded under its name, and without that none, which is said.
fn apparmor(request: &Request, notes: &mut Vec<String>) -> Result<Option<String>> {
    const OWN: &str = "coracle-default";
    const FIELD: &str = "linux.security_context.apparmor";
    let security = &request.security;
    let profile = match &security.apparmor {
        Some(profile) if profile != "unconfined" => profile,
        _ if security.apparmor_default => OWN,
        _ => return Ok(None),
    };
    if !has_apparmor() {
        let profile = if security.apparmor_default { "RuntimeDefault" } else { profile };
        return Err(Error::Invalid(format!(
            "{FIELD}: the AppArmor profile {profile:?} was asked for and this host's kernel has no AppArmor"
        )));
    }
    // A privileged container is spared the default only; a profile by name was meant.
    if security.privileged && security.apparmor_default {
        return Ok(None);
    }
    // One "NAME (mode)" a line. Where securityfs is not mounted the kernel's refusal at exec has to do.
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles")
        .map(|loaded| loaded.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile)));
    match (loaded, security.apparmor_default) {
        (Ok(true), _) | (Err(_), false) => Ok(Some(profile.to_owned())),
        (Ok(false) | Err(_), true) => {
            notes.push(format!("AppArmor: RuntimeDefault is unconfined: no profile {OWN} is loaded on this host"));
            Ok(None)
        }
        (Ok(false), false) => Err(Error::Invalid(format!(
            "{FIELD}: the AppArmor profile {profile:?} is not loaded on this host: load it with apparmor_parser -r FILE"
        ))),
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
