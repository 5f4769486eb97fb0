//! Identity and confinement.

use cri_proto::cri;

use super::mode;
use crate::container::{Seccomp, Security};
use crate::error::{Error, Result};
use crate::sandbox::NamespaceMode;
use crate::users::checked;

pub(super) fn security(context: cri::LinuxContainerSecurityContext) -> Result<Security> {
    let options = context.namespace_options.clone().unwrap_or_default();
    let target = options.pid() == cri::NamespaceMode::Target;
    let capabilities = context.capabilities.clone().unwrap_or_default();
    let id = |value: Option<cri::Int64Value>| value.map(|it| checked(it.value)).transpose();
    let apparmor = apparmor(&context)?;
    if context.selinux_options.as_ref().is_some_and(|it| *it != cri::SeLinuxOption::default()) {
        return Err(Error::Invalid("SELinux options were given and SELinux is not supported yet".into()));
    }
    Ok(Security {
        privileged: context.privileged,
        add: capabilities.add_capabilities,
        drop: capabilities.drop_capabilities,
        ambient: capabilities.add_ambient_capabilities,
        user: id(context.run_as_user)?,
        group: id(context.run_as_group)?,
        groups: context.supplemental_groups.iter().map(|&gid| checked(gid)).collect::<Result<_>>()?,
        strict_groups: context.supplemental_groups_policy == cri::SupplementalGroupsPolicy::Strict as i32,
        seccomp: seccomp(context.seccomp.as_ref())?,
        username: context.run_as_username,
        readonly_root: context.readonly_rootfs,
        no_new_privileges: context.no_new_privs,
        masked_paths: context.masked_paths,
        readonly_paths: context.readonly_paths,
        apparmor,
        pid: if target { NamespaceMode::Container } else { mode(options.pid(), "pid")? },
        user_namespace: super::userns::of_container(options.userns_options.as_ref())?,
        pid_target: target.then_some(options.target_id),
    })
}

/// The profile's name; none where nothing was asked for, and for RuntimeDefault, for there is no profile of our own.
fn apparmor(context: &cri::LinuxContainerSecurityContext) -> Result<Option<String>> {
    use cri::security_profile::ProfileType;
    // Clients older than the message say it by a string.
    #[allow(deprecated)]
    let string = context.apparmor_profile.as_str();
    let name = match (&context.apparmor, string) {
        (None, "" | "runtime/default") => return Ok(None),
        (None, "unconfined") => return Ok(Some("unconfined".into())),
        (None, string) => string.strip_prefix("localhost/").unwrap_or_default(),
        (Some(profile), _) => match profile.profile_type() {
            ProfileType::RuntimeDefault => return Ok(None),
            ProfileType::Unconfined => return Ok(Some("unconfined".into())),
            // Some clients keep the prefix of the string.
            ProfileType::Localhost => {
                profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref)
            }
        },
    };
    if name.is_empty() || name.contains(char::is_control) {
        return Err(Error::Invalid(format!("AppArmor: {string:?} names no profile: it is localhost/NAME")));
    }
    Ok(Some(name.to_owned()))
}

/// The interface does exactly what a request says: nothing said is Unconfined.
fn seccomp(profile: Option<&cri::SecurityProfile>) -> Result<Seccomp> {
    let Some(profile) = profile else { return Ok(Seccomp::Unconfined) };
    match profile.profile_type() {
        cri::security_profile::ProfileType::RuntimeDefault => Ok(Seccomp::RuntimeDefault),
        cri::security_profile::ProfileType::Unconfined => Ok(Seccomp::Unconfined),
        cri::security_profile::ProfileType::Localhost if profile.localhost_ref.starts_with('/') => {
            Ok(Seccomp::Localhost(profile.localhost_ref.clone()))
        }
        cri::security_profile::ProfileType::Localhost => {
            let path = &profile.localhost_ref;
            Err(Error::Invalid(format!("the seccomp profile {path:?} is not an absolute path of this host")))
        }
    }
}
