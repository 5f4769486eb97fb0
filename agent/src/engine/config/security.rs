//! Security contexts: the container's over the pod's, as kubelet merges them.

use cri_proto::cri;
use cri_proto::cri::security_profile::ProfileType;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

use super::{ConfigError, Settings};

/// Paths that no unprivileged container sees, as kubelet sends them.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that no unprivileged container writes to.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user that an image names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// Its number, where the image gives one.
    pub uid: Option<i64>,
    /// Its name, where it does not.
    pub name: String,
}

/// The annotation by which a sandbox leaves it to the runtime which ids of the host it gets, and has every mount of its
/// containers mapped like them.
pub const USER_NAMESPACE: (&str, &str) = ("coracle.dev/user-namespace", "auto");

/// Whether a pod has a user namespace of its own.
pub fn has_user_namespace(pod: &Pod) -> bool {
    super::super::plan::spec_of(pod).host_users == Some(false)
}

/// The namespaces of a pod's sandbox and containers.
pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = super::super::plan::spec_of(pod);
    let node_or = |host: Option<bool>, mode| if host == Some(true) { cri::NamespaceMode::Node } else { mode };
    let pid = match spec.share_process_namespace {
        Some(true) => cri::NamespaceMode::Pod,
        _ => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: node_or(spec.host_network, cri::NamespaceMode::Pod).into(),
        ipc: node_or(spec.host_ipc, cri::NamespaceMode::Pod).into(),
        pid: node_or(spec.host_pid, pid).into(),
        // Which ids of the host it gets is the runtime's to say: see `USER_NAMESPACE`.
        userns_options: has_user_namespace(pod)
            .then(|| cri::UserNamespace { mode: cri::NamespaceMode::Pod.into(), ..cri::UserNamespace::default() }),
        ..cri::NamespaceOption::default()
    }
}

/// The sandbox's security context.
pub fn of_sandbox(pod: &Pod, settings: &Settings) -> Result<cri::LinuxSandboxSecurityContext, ConfigError> {
    let spec = super::super::plan::spec_of(pod);
    let empty = PodSecurityContext::default();
    let context = spec.security_context.as_ref().unwrap_or(&empty);
    let privileged = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(is_privileged);
    Ok(cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: int(context.run_as_user),
        // A runtime refuses a group without a user; the containers' is their image's.
        run_as_group: int(context.run_as_group.filter(|_| context.run_as_user.is_some())),
        supplemental_groups: groups(context),
        supplemental_groups_policy: groups_policy(context)?.into(),
        privileged,
        seccomp: seccomp(context.seccomp_profile.as_ref(), settings)?,
        apparmor: apparmor(context.app_armor_profile.as_ref())?,
        ..cri::LinuxSandboxSecurityContext::default()
    })
}

/// A container's security context.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    settings: &Settings,
    image: &ImageUser,
) -> Result<cri::LinuxContainerSecurityContext, ConfigError> {
    let spec = super::super::plan::spec_of(pod);
    let (no_pod, no_container) = (PodSecurityContext::default(), SecurityContext::default());
    let outer = spec.security_context.as_ref().unwrap_or(&no_pod);
    let inner = container.security_context.as_ref().unwrap_or(&no_container);
    let group = inner.run_as_group.or(outer.run_as_group);
    let user = inner.run_as_user.or(outer.run_as_user);
    // A runtime takes a group only beside a user: it is the image's where the pod names none, and root without that.
    let by_image = user.is_none() && group.is_some();
    let user = if by_image && image.name.is_empty() { image.uid.or(Some(0)) } else { user };
    let unmasked = is_privileged(container) || inner.proc_mount.as_deref() == Some("Unmasked");
    let paths = |paths: &[&str]| if unmasked { vec![] } else { paths.iter().map(|path| (*path).to_owned()).collect() };
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: inner.capabilities.as_ref().map(|capabilities| cri::Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: vec![],
        }),
        privileged: is_privileged(container),
        namespace_options: Some(namespaces(pod)),
        selinux_options: inner.se_linux_options.as_ref().or(outer.se_linux_options.as_ref()).map(selinux),
        run_as_user: int(user),
        run_as_username: if by_image && user.is_none() { image.name.clone() } else { String::new() },
        run_as_group: int(group),
        readonly_rootfs: inner.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(outer),
        supplemental_groups_policy: groups_policy(outer)?.into(),
        no_new_privs: inner.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: if is_privileged(container) {
            Some(profile(ProfileType::Unconfined, String::new()))
        } else {
            seccomp(inner.seccomp_profile.as_ref().or(outer.seccomp_profile.as_ref()), settings)?
        },
        apparmor: apparmor(inner.app_armor_profile.as_ref().or(outer.app_armor_profile.as_ref()))?,
        ..cri::LinuxContainerSecurityContext::default()
    })
}

/// Checks `runAsNonRoot` against the user that the container will have.
pub fn check_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), ConfigError> {
    let (non_root, user) = identity(pod, container);
    if !non_root {
        return Ok(());
    }
    let problem = match (user, image.uid, image.name.as_str()) {
        (Some(0), ..) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), ..) => return Ok(()),
        (None, Some(0), _) | (None, None, "") => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, Some(_), _) => return Ok(()),
        (None, None, name) => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ),
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Err(ConfigError::NonRoot(format!("{problem} (pod: {name}, container: {})", container.name)))
}

fn identity(pod: &Pod, container: &Container) -> (bool, Option<i64>) {
    let outer = super::super::plan::spec_of(pod).security_context.as_ref();
    let inner = container.security_context.as_ref();
    let non_root = inner.and_then(|context| context.run_as_non_root).or(outer.and_then(|outer| outer.run_as_non_root));
    let user = inner.and_then(|context| context.run_as_user).or(outer.and_then(|outer| outer.run_as_user));
    (non_root == Some(true), user)
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
}

fn int(value: Option<i64>) -> Option<cri::Int64Value> {
    value.map(|value| cri::Int64Value { value })
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    context.supplemental_groups.iter().flatten().copied().chain(context.fs_group).collect()
}

fn groups_policy(context: &PodSecurityContext) -> Result<cri::SupplementalGroupsPolicy, ConfigError> {
    match context.supplemental_groups_policy.as_deref() {
        None | Some("Merge") => Ok(cri::SupplementalGroupsPolicy::Merge),
        Some("Strict") => Ok(cri::SupplementalGroupsPolicy::Strict),
        Some(other) => Err(ConfigError::Value {
            field: "supplementalGroupsPolicy",
            value: other.to_owned(),
            expected: "it is Merge or Strict",
        }),
    }
}

fn profile(kind: ProfileType, localhost_ref: String) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn seccomp(given: Option<&SeccompProfile>, settings: &Settings) -> Result<Option<cri::SecurityProfile>, ConfigError> {
    let Some(given) = given else {
        let default = if settings.seccomp_default { ProfileType::RuntimeDefault } else { ProfileType::Unconfined };
        return Ok(Some(profile(default, String::new())));
    };
    Ok(Some(match given.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        "Localhost" => {
            let path = given.localhost_profile.as_deref().unwrap_or_default();
            if path.is_empty() || !super::container::is_local(path) {
                return Err(ConfigError::Path { what: "seccompProfile.localhostProfile", path: path.to_owned() });
            }
            let full = settings.root_dir.join("seccomp").join(path);
            profile(ProfileType::Localhost, full.to_string_lossy().into_owned())
        }
        other => {
            return Err(ConfigError::Value {
                field: "seccompProfile.type",
                value: other.to_owned(),
                expected: "it is RuntimeDefault, Unconfined or Localhost",
            });
        }
    }))
}

fn apparmor(given: Option<&AppArmorProfile>) -> Result<Option<cri::SecurityProfile>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    Ok(Some(match given.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        "Localhost" => profile(ProfileType::Localhost, given.localhost_profile.clone().unwrap_or_default()),
        other => {
            return Err(ConfigError::Value {
                field: "appArmorProfile.type",
                value: other.to_owned(),
                expected: "it is RuntimeDefault, Unconfined or Localhost",
            });
        }
    }))
}

fn selinux(options: &SELinuxOptions) -> cri::SeLinuxOption {
    cri::SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
