//! Identity and confinement.

use cri_proto::cri;
use cri_proto::cri::security_profile::ProfileType;

use super::{choice, mode};
use crate::capabilities::CapSet;
use crate::container::{Seccomp, Security};
use crate::error::{Error, Result};
use crate::sandbox::NamespaceMode;
use crate::users::checked;

/// Where a container's and a sandbox's security context are in their messages.
const PLACE: &str = "linux.security_context";

pub(super) fn security(context: cri::LinuxContainerSecurityContext) -> Result<Security> {
    let options = context.namespace_options.clone().unwrap_or_default();
    let pid: cri::NamespaceMode = choice(options.pid, &format!("{PLACE}.namespace_options.pid"))?;
    let target = pid == cri::NamespaceMode::Target;
    if target && options.target_id.is_empty() {
        let why = "is empty, and pid is TARGET";
        return Err(Error::Invalid(format!("{PLACE}.namespace_options.target_id {why}")));
    }
    let namespaces = format!("{PLACE}.namespace_options");
    let pid = if target { NamespaceMode::Container } else { mode(options.pid, &namespaces, "pid")? };
    let capabilities = capabilities(context.capabilities.unwrap_or_default())?;
    selinux(context.selinux_options.as_ref())?;
    // Clients older than the messages say it by a string.
    #[allow(deprecated)]
    let (old_seccomp, old_apparmor) = (context.seccomp_profile_path.as_str(), context.apparmor_profile.as_str());
    let identity = identity(Identity {
        user: context.run_as_user,
        username: context.run_as_username,
        group: context.run_as_group,
        groups: &context.supplemental_groups,
        policy: context.supplemental_groups_policy,
    })?;
    let (apparmor, apparmor_default) = apparmor(context.apparmor.as_ref(), old_apparmor)?;
    Ok(Security {
        privileged: context.privileged,
        add: capabilities.add_capabilities,
        drop: capabilities.drop_capabilities,
        ambient: capabilities.add_ambient_capabilities,
        seccomp: seccomp(context.seccomp.as_ref(), old_seccomp)?,
        apparmor,
        apparmor_default,
        readonly_root: context.readonly_rootfs,
        no_new_privileges: context.no_new_privs,
        masked_paths: paths(context.masked_paths, "masked_paths")?,
        readonly_paths: paths(context.readonly_paths, "readonly_paths")?,
        pid,
        user_namespace: super::userns::of_container(options.userns_options.as_ref())?,
        pid_target: target.then_some(options.target_id),
        ..identity
    })
}

/// Looks at the security context of a sandbox. Nothing in a sandbox runs with it: there is no process that a client would
/// give an identity or a filter. What could not be given to a container is refused here too.
pub(super) fn check_sandbox(context: &cri::LinuxSandboxSecurityContext) -> Result<()> {
    identity(Identity {
        user: context.run_as_user,
        username: String::new(),
        group: context.run_as_group,
        groups: &context.supplemental_groups,
        policy: context.supplemental_groups_policy,
    })?;
    #[allow(deprecated)]
    seccomp(context.seccomp.as_ref(), &context.seccomp_profile_path)?;
    apparmor(context.apparmor.as_ref(), "")?;
    selinux(context.selinux_options.as_ref())
}

struct Identity<'a> {
    user: Option<cri::Int64Value>,
    username: String,
    group: Option<cri::Int64Value>,
    groups: &'a [i64],
    policy: i32,
}

fn identity(asked: Identity<'_>) -> Result<Security> {
    let named = |error: Error, field: &str| Error::Invalid(format!("{PLACE}.{field}: {error}"));
    let id = |value: Option<cri::Int64Value>, field: &str| {
        value.map(|it| checked(it.value)).transpose().map_err(|error| named(error, field))
    };
    let (user, group) = (id(asked.user, "run_as_user")?, id(asked.group, "run_as_group")?);
    if user.is_some() && !asked.username.is_empty() {
        return Err(Error::Invalid(format!("{PLACE}.run_as_username is given beside run_as_user: give one of them")));
    }
    if group.is_some() && user.is_none() && asked.username.is_empty() {
        let why = "is given without run_as_user or run_as_username";
        return Err(Error::Invalid(format!("{PLACE}.run_as_group {why}")));
    }
    let groups = asked.groups.iter().map(|&gid| checked(gid)).collect::<Result<_>>();
    let policy: cri::SupplementalGroupsPolicy = choice(asked.policy, &format!("{PLACE}.supplemental_groups_policy"))?;
    Ok(Security {
        user,
        username: asked.username,
        group,
        groups: groups.map_err(|error| named(error, "supplemental_groups"))?,
        strict_groups: policy == cri::SupplementalGroupsPolicy::Strict,
        ..Security::default()
    })
}

/// Every name has to be one; what of them a container gets is computed when its user is known.
fn capabilities(asked: cri::Capability) -> Result<cri::Capability> {
    let lists = [
        ("add_capabilities", &asked.add_capabilities),
        ("drop_capabilities", &asked.drop_capabilities),
        ("add_ambient_capabilities", &asked.add_ambient_capabilities),
    ];
    for (field, names) in lists {
        let wrong = |error| Error::Invalid(format!("{PLACE}.capabilities.{field}: {error}"));
        CapSet::from_names(names).map_err(wrong)?;
    }
    Ok(asked)
}

fn paths(paths: Vec<String>, field: &str) -> Result<Vec<String>> {
    match paths.iter().find(|it| !it.starts_with('/') || it.contains('\0')) {
        None => Ok(paths),
        Some(path) => Err(Error::Invalid(format!("{PLACE}.{field}: {path:?} is not an absolute path"))),
    }
}

/// A runtime without SELinux cannot give a label, whatever the host has.
fn selinux(options: Option<&cri::SeLinuxOption>) -> Result<()> {
    if options.is_none_or(|it| *it == cri::SeLinuxOption::default()) {
        return Ok(());
    }
    let why = "a label was asked for, and this runtime does not set SELinux labels: leave it unset";
    Err(Error::Invalid(format!("{PLACE}.selinux_options: {why}")))
}

/// A profile as both messages and both strings say it.
enum Wanted<'a> {
    Unset,
    RuntimeDefault,
    Unconfined,
    Localhost(&'a str),
}

fn wanted<'a>(profile: Option<&'a cri::SecurityProfile>, string: &'a str, field: &str) -> Result<Wanted<'a>> {
    let Some(profile) = profile else {
        return match string {
            "" => Ok(Wanted::Unset),
            "runtime/default" | "docker/default" => Ok(Wanted::RuntimeDefault),
            "unconfined" => Ok(Wanted::Unconfined),
            other => match other.strip_prefix("localhost/") {
                Some(name) => Ok(Wanted::Localhost(name)),
                None => Err(Error::Invalid(format!(
                    "{PLACE}.{field}: {other:?} is neither runtime/default, unconfined nor localhost/NAME"
                ))),
            },
        };
    };
    let kind: ProfileType = choice(profile.profile_type, &format!("{PLACE}.{field}.profile_type"))?;
    if kind != ProfileType::Localhost && !profile.localhost_ref.is_empty() {
        let kind = kind.as_str_name();
        return Err(Error::Invalid(format!("{PLACE}.{field}.localhost_ref is given and profile_type is {kind}")));
    }
    Ok(match kind {
        ProfileType::RuntimeDefault => Wanted::RuntimeDefault,
        ProfileType::Unconfined => Wanted::Unconfined,
        // Some clients keep the prefix of the string.
        ProfileType::Localhost => {
            Wanted::Localhost(profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref))
        }
    })
}

/// The profile's name, and whether the runtime's own was asked for.
fn apparmor(profile: Option<&cri::SecurityProfile>, string: &str) -> Result<(Option<String>, bool)> {
    let name = match wanted(profile, string, "apparmor")? {
        Wanted::Unset => return Ok((None, false)),
        Wanted::RuntimeDefault => return Ok((None, true)),
        Wanted::Unconfined => return Ok((Some("unconfined".into()), false)),
        Wanted::Localhost(name) => name,
    };
    if name.is_empty() || name.contains(char::is_control) {
        return Err(Error::Invalid(format!("{PLACE}.apparmor.localhost_ref {name:?} names no profile")));
    }
    Ok((Some(name.to_owned()), false))
}

/// The interface does exactly what a request says: nothing said is Unconfined.
fn seccomp(profile: Option<&cri::SecurityProfile>, string: &str) -> Result<Seccomp> {
    match wanted(profile, string, "seccomp")? {
        Wanted::Unset | Wanted::Unconfined => Ok(Seccomp::Unconfined),
        Wanted::RuntimeDefault => Ok(Seccomp::RuntimeDefault),
        Wanted::Localhost(path) if path.starts_with('/') => Ok(Seccomp::Localhost(path.to_owned())),
        Wanted::Localhost(path) => {
            Err(Error::Invalid(format!("{PLACE}.seccomp.localhost_ref {path:?} is not an absolute path of this host")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
