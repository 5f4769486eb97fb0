//! Messages to validated requests. An error names the field.

use std::net::IpAddr;

use cri_proto::cri;

use crate::cgroup::{HugepageLimit, Resources};
use crate::container::{Device, Mount, Propagation, Request, Seccomp, Security};
use crate::error::{Error, Result};
use crate::network::{PortMapping, Protocol};
use crate::sandbox::{self, Dns, NamespaceMode, Namespaces};
use crate::users::checked;

/// A field that has to be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::Invalid(format!("{field} is missing")))
}

/// A sandbox. `cgroup_root` is the parent where the client names none.
pub fn sandbox(config: cri::PodSandboxConfig, cgroup_root: &str) -> Result<sandbox::Request> {
    let metadata = required(config.metadata, "config.metadata")?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let options = security.namespace_options.unwrap_or_default();
    if options.userns_options.as_ref().is_some_and(|it| it.mode() == cri::NamespaceMode::Pod) {
        return Err(Error::Invalid("user namespaces are not supported yet: leave hostUsers unset".into()));
    }
    let parent = linux.cgroup_parent.trim_matches('/');
    let cgroup_parent =
        if parent.is_empty() { format!("{cgroup_root}/pods/{}", metadata.uid) } else { parent.to_owned() };
    if cgroup_parent.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::Invalid(format!("linux.cgroup_parent {cgroup_parent:?} is no path of a cgroup")));
    }
    let dns =
        config.dns_config.filter(|it| !(it.servers.is_empty() && it.searches.is_empty() && it.options.is_empty()));
    let net = mode(options.network(), "network")?;
    let ports = if net == NamespaceMode::Node { Vec::new() } else { ports(&config.port_mappings)? };
    Ok(sandbox::Request {
        ports,
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        attempt: metadata.attempt,
        hostname: config.hostname,
        log_directory: config.log_directory,
        dns: dns.map(|it| Dns { servers: it.servers, searches: it.searches, options: it.options }),
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        cgroup_parent,
        sysctls: linux.sysctls.into_iter().collect(),
        namespaces: Namespaces { net, pid: mode(options.pid(), "pid")?, ipc: mode(options.ipc(), "ipc")? },
    })
}

/// The ports that are published. One without a port of the host's says only what the pod listens on.
fn ports(mappings: &[cri::PortMapping]) -> Result<Vec<PortMapping>> {
    let mut ports = Vec::new();
    for (index, it) in mappings.iter().enumerate().filter(|(_, it)| it.host_port != 0) {
        let field = |name: &str| format!("port_mappings[{index}].{name}");
        let port = |value: i32, name: &str| match u16::try_from(value) {
            Ok(value) if value != 0 => Ok(value),
            _ => Err(Error::Invalid(format!("{} {value} is no port: from 1 to 65535", field(name)))),
        };
        let protocol = match cri::Protocol::try_from(it.protocol) {
            Ok(cri::Protocol::Tcp) => Protocol::Tcp,
            Ok(cri::Protocol::Udp) => Protocol::Udp,
            Ok(cri::Protocol::Sctp) => Protocol::Sctp,
            Err(_) => return Err(Error::Invalid(format!("{} {} is none", field("protocol"), it.protocol))),
        };
        let host_ip = match it.host_ip.as_str() {
            "" => None,
            text => {
                let wrong = |_| Error::Invalid(format!("{} {text:?} is no IP address", field("host_ip")));
                Some(text.parse::<IpAddr>().map_err(wrong)?)
            }
        };
        ports.push(PortMapping {
            protocol,
            container_port: port(it.container_port, "container_port")?,
            host_port: port(it.host_port, "host_port")?,
            host_ip,
        });
    }
    Ok(ports)
}

fn mode(mode: cri::NamespaceMode, field: &str) -> Result<NamespaceMode> {
    match (mode, field) {
        (cri::NamespaceMode::Pod, _) => Ok(NamespaceMode::Pod),
        (cri::NamespaceMode::Node, _) => Ok(NamespaceMode::Node),
        (cri::NamespaceMode::Container, "pid") => Ok(NamespaceMode::Container),
        (other, _) => Err(Error::Invalid(format!("namespace_options.{field} cannot be {}", other.as_str_name()))),
    }
}

/// A container.
pub fn container(config: cri::ContainerConfig) -> Result<Request> {
    let metadata = required(config.metadata, "config.metadata")?;
    let image = required(config.image, "config.image")?;
    if metadata.name.is_empty() || image.image.is_empty() {
        return Err(Error::Invalid("config.metadata.name and config.image.image must not be empty".into()));
    }
    if !config.cdi_devices.is_empty() {
        return Err(Error::Invalid("CDI devices are not supported yet".into()));
    }
    let linux = config.linux.unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    let stop_signal = match cri::Signal::try_from(config.stop_signal) {
        Ok(cri::Signal::RuntimeDefault) => None,
        Ok(signal) => Some(signal_number(signal)?),
        Err(_) => return Err(Error::Invalid(format!("stop_signal {} is not known", config.stop_signal))),
    };
    let user_image = if image.user_specified_image.is_empty() { &image.image } else { &image.user_specified_image };
    Ok(Request {
        name: metadata.name,
        attempt: metadata.attempt,
        user_image: user_image.clone(),
        image: image.image,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        env: config.envs.into_iter().map(env).collect::<Result<_>>()?,
        mounts: config.mounts.into_iter().map(mount).collect::<Result<_>>()?,
        devices: config.devices.into_iter().map(device).collect(),
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        stdin: config.stdin,
        tty: config.tty,
        oom_score_adj: i32::try_from(resources.oom_score_adj).map_err(|_| {
            Error::Invalid(format!("resources.oom_score_adj {} is out of range", resources.oom_score_adj))
        })?,
        resources: limits(resources)?,
        security: security(linux.security_context.unwrap_or_default())?,
        stop_signal,
    })
}

/// CRI names signals as `SIGNAL_SIGTERM`, and real-time ones as `SIGNAL_SIGRTMINPLUS3`.
fn signal_number(signal: cri::Signal) -> Result<i32> {
    let name = signal.as_str_name().trim_start_matches("SIGNAL_").replace("PLUS", "+").replace("MINUS", "-");
    let name = if name == "SIGCLD" {
        "SIGCHLD"
    } else if name == "SIGPOLL" {
        "SIGIO"
    } else {
        &name
    };
    crate::sys::process::signal_number(name).ok_or_else(|| Error::Invalid(format!("stop_signal {name} is not known")))
}

fn env(pair: cri::KeyValue) -> Result<(String, String)> {
    let value = String::from_utf8(pair.value)
        .map_err(|_| Error::Invalid(format!("the environment variable {} is not UTF-8", pair.key)))?;
    Ok((pair.key, value))
}

fn device(device: cri::Device) -> Device {
    Device { target: device.container_path, source: device.host_path, permissions: device.permissions }
}

fn mount(mount: cri::Mount) -> Result<Mount> {
    let at = &mount.container_path;
    let refuse = |what: &str| Err(Error::Invalid(format!("the mount at {at}: {what} are not supported yet")));
    if mount.image.is_some() {
        return refuse("image mounts");
    }
    if !(mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty()) {
        return refuse("id mappings");
    }
    if !mount.mount_options.is_empty() {
        return refuse("mount options");
    }
    let propagation = match mount.propagation() {
        cri::MountPropagation::PropagationPrivate => Propagation::Private,
        cri::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        cri::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    Ok(Mount {
        target: mount.container_path,
        source: mount.host_path,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation,
    })
}

/// Limits; 0 means that nothing was said.
pub fn limits(resources: cri::LinuxContainerResources) -> Result<Resources> {
    let positive = |value: i64, field: &str| {
        u64::try_from(value).map_err(|_| Error::Invalid(format!("resources.{field} is negative: {value}")))
    };
    let said = |value: u64| (value != 0).then_some(value);
    let text = |value: String| (!value.is_empty()).then_some(value);
    let hugepages = resources.hugepage_limits.into_iter();
    Ok(Resources {
        cpu_shares: said(positive(resources.cpu_shares, "cpu_shares")?),
        cpu_period: said(positive(resources.cpu_period, "cpu_period")?),
        cpu_quota: (resources.cpu_quota != 0).then_some(resources.cpu_quota),
        cpuset_cpus: text(resources.cpuset_cpus),
        cpuset_mems: text(resources.cpuset_mems),
        memory_limit: (resources.memory_limit_in_bytes != 0).then_some(resources.memory_limit_in_bytes),
        memory_swap: (resources.memory_swap_limit_in_bytes != 0).then_some(resources.memory_swap_limit_in_bytes),
        hugepages: hugepages.map(|it| HugepageLimit { page_size: it.page_size, limit: it.limit }).collect(),
        unified: resources.unified.into_iter().collect(),
        ..Resources::default()
    })
}

fn security(context: cri::LinuxContainerSecurityContext) -> Result<Security> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mapping() -> cri::PortMapping {
        cri::PortMapping {
            protocol: cri::Protocol::Udp as i32,
            container_port: 53,
            host_port: 5353,
            host_ip: "::1".into(),
        }
    }

    #[test]
    fn published_ports_are_read_and_the_others_left_out() {
        let plain = cri::PortMapping { host_port: 0, ..mapping() };
        let expected = PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 5353,
            host_ip: Some(std::net::Ipv6Addr::LOCALHOST.into()),
        };
        assert_eq!(ports(&[plain, mapping()]).unwrap(), [expected]);
        let everywhere = cri::PortMapping { host_ip: String::new(), ..mapping() };
        assert_eq!(ports(&[everywhere]).unwrap()[0].host_ip, None);
    }

    #[test]
    fn a_mapping_that_cannot_be_names_its_field() {
        let rows = [
            (cri::PortMapping { host_port: 65_536, ..mapping() }, "port_mappings[0].host_port"),
            (cri::PortMapping { host_port: -1, ..mapping() }, "port_mappings[0].host_port"),
            (cri::PortMapping { container_port: 0, ..mapping() }, "port_mappings[0].container_port"),
            (cri::PortMapping { protocol: 9, ..mapping() }, "port_mappings[0].protocol"),
            (cri::PortMapping { host_ip: "localhost".into(), ..mapping() }, "port_mappings[0].host_ip"),
        ];
        for (mapping, field) in rows {
            let error = ports(&[mapping]).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
