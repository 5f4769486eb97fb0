//! A sandbox's configuration.

use std::net::IpAddr;

use cri_proto::cri;

use super::resources::limits;
use super::{choice, mode, required, userns};
use crate::error::{Error, Result};
use crate::network::{PortMapping, Protocol};
use crate::sandbox::{self, Dns, NamespaceMode, Namespaces};

/// The longest host name that Linux takes (uname(2)), in bytes.
const MAX_HOSTNAME: usize = 64;

/// The longest name of a directory (limits.h, NAME_MAX), in bytes.
const MAX_NAME: usize = 255;

/// A sandbox. `cgroup_root` is the parent where the client names none.
pub fn sandbox(config: cri::PodSandboxConfig, cgroup_root: &str) -> Result<sandbox::Request> {
    let metadata = required(config.metadata, "config.metadata")?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    super::security::check_sandbox(&security)?;
    let options = security.namespace_options.unwrap_or_default();
    if config.hostname.len() > MAX_HOSTNAME || config.hostname.contains(is_break) {
        let why = format!("{:?} is no host name: at most {MAX_HOSTNAME} bytes, without spaces", config.hostname);
        return Err(Error::Invalid(format!("hostname {why}")));
    }
    if !config.log_directory.is_empty() && !config.log_directory.starts_with('/') {
        let directory = config.log_directory;
        return Err(Error::Invalid(format!("log_directory {directory:?} is not an absolute path")));
    }
    let place = "linux.security_context.namespace_options";
    let net = mode(options.network, place, "network")?;
    let namespaces = Namespaces { net, pid: mode(options.pid, place, "pid")?, ipc: mode(options.ipc, place, "ipc")? };
    let user = userns::of_sandbox(options.userns_options.as_ref(), &config.annotations, namespaces)?;
    let ports = if net == NamespaceMode::Node { Vec::new() } else { ports(&config.port_mappings)? };
    let amounts = |field: &str, it: Option<cri::LinuxContainerResources>| {
        it.map(|it| limits(&format!("linux.{field}"), it)).transpose()
    };
    Ok(sandbox::Request {
        ports,
        cgroup_parent: cgroup_parent(&linux.cgroup_parent, cgroup_root, &metadata.uid)?,
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        attempt: metadata.attempt,
        hostname: config.hostname,
        log_directory: config.log_directory,
        dns: config.dns_config.map(dns).transpose()?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        sysctls: linux.sysctls.into_iter().collect(),
        namespaces,
        user,
        privileged: security.privileged,
        amounts: sandbox::Amounts {
            overhead: amounts("overhead", linux.overhead)?,
            resources: amounts("resources", linux.resources)?,
        },
    })
}

/// What would end a word or a line of the files that it is written to.
fn is_break(letter: char) -> bool {
    letter.is_whitespace() || letter.is_control()
}

/// What a client gives is written as it is. One that gives a message and nothing in it wants an empty file.
fn dns(config: cri::DnsConfig) -> Result<Dns> {
    let lists = [("servers", &config.servers), ("searches", &config.searches), ("options", &config.options)];
    for (field, words) in lists {
        if let Some(index) = words.iter().position(|word| word.is_empty() || word.contains(is_break)) {
            let why = format!("{:?} is no word of a resolv.conf", words[index]);
            return Err(Error::Invalid(format!("dns_config.{field}[{index}] {why}")));
        }
    }
    Ok(Dns { servers: config.servers, searches: config.searches, options: config.options })
}

/// The cgroup below which a pod's are: a path, or the last slice of one by its name alone, as clients of systemd's driver
/// say it.
fn cgroup_parent(asked: &str, root: &str, uid: &str) -> Result<String> {
    let refuse = |why: &str| Err(Error::Invalid(format!("linux.cgroup_parent {asked:?} {why}")));
    let parent = asked.trim_matches('/');
    let path = match parent.rsplit('/').next() {
        Some("") | None => {
            let part = uid.replace('/', "_");
            // It becomes a directory.
            if part.len() > MAX_NAME || part.contains(char::is_control) {
                return Err(Error::Invalid(format!("config.metadata.uid {uid:?} makes no name of a cgroup")));
            }
            return Ok(format!("{root}/pods/{}", if part.starts_with('.') { "_" } else { &part }));
        }
        Some(slice) if slice.ends_with(".slice") => match expanded(slice) {
            Some(path) => path,
            None => return refuse("ends in no name of a slice, such as kubepods-burstable.slice"),
        },
        Some(_) => parent.to_owned(),
    };
    let wrong =
        |part: &str| matches!(part, "" | "." | "..") || part.len() > MAX_NAME || part.contains(char::is_control);
    if path.split('/').any(wrong) {
        return refuse("is no path of a cgroup");
    }
    Ok(path)
}

/// Where systemd has a slice: `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn expanded(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name.is_empty() || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(dash, _)| dash).chain([name.len()]);
    Some(ends.map(|end| format!("{}.slice", &name[..end])).collect::<Vec<_>>().join("/"))
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
        let protocol = match choice(it.protocol, &field("protocol"))? {
            cri::Protocol::Tcp => Protocol::Tcp,
            cri::Protocol::Udp => Protocol::Udp,
            cri::Protocol::Sctp => Protocol::Sctp,
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

    fn config() -> cri::PodSandboxConfig {
        let metadata = cri::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "n".into(), attempt: 0 };
        cri::PodSandboxConfig { metadata: Some(metadata), ..Default::default() }
    }

    fn with(linux: cri::LinuxPodSandboxConfig) -> cri::PodSandboxConfig {
        cri::PodSandboxConfig { linux: Some(linux), ..config() }
    }

    fn secured(context: cri::LinuxSandboxSecurityContext) -> cri::PodSandboxConfig {
        with(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() })
    }

    #[test]
    fn a_parent_is_a_path_or_the_name_of_a_slice() {
        let rows = [
            ("", "coracle/pods/u"),
            ("/kubepods/besteffort/pod1", "kubepods/besteffort/pod1"),
            ("kubepods.slice", "kubepods.slice"),
            (
                "kubepods-besteffort-pod1_2.slice",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            ),
            ("/a.slice/a-b.slice", "a.slice/a-b.slice"),
            ("/elsewhere/a-b.slice/", "a.slice/a-b.slice"),
        ];
        for (asked, expected) in rows {
            assert_eq!(cgroup_parent(asked, "coracle", "u").unwrap(), expected, "{asked}");
        }
        for asked in ["a/../b", "a//b", ".slice", "-.slice", "a--b.slice", "a-.slice", "./a", "a/b\n"] {
            let error = cgroup_parent(asked, "coracle", "u").unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroup_parent"), "{asked}: {error}");
        }
        assert_eq!(cgroup_parent("", "coracle", "../../x").unwrap(), "coracle/pods/_");
    }

    #[test]
    fn a_resolver_is_kept_as_it_is_given() {
        let empty = cri::PodSandboxConfig { dns_config: Some(cri::DnsConfig::default()), ..config() };
        assert_eq!(sandbox(empty, "coracle").unwrap().dns, Some(Dns::default()));
        assert_eq!(sandbox(config(), "coracle").unwrap().dns, None);
    }

    #[test]
    fn amounts_are_recorded() {
        let amount = |bytes| Some(cri::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() });
        let linux = cri::LinuxPodSandboxConfig { overhead: amount(1), resources: amount(2), ..Default::default() };
        let amounts = sandbox(with(linux), "coracle").unwrap().amounts;
        let bytes = |it: &Option<crate::cgroup::Resources>| it.as_ref().unwrap().memory_limit;
        assert_eq!((bytes(&amounts.overhead), bytes(&amounts.resources)), (Some(1), Some(2)));
    }

    #[test]
    fn a_sandbox_that_cannot_be_names_its_field() {
        let id = |value| Some(cri::Int64Value { value });
        let net = |network| {
            let options = cri::NamespaceOption { network, ..Default::default() };
            secured(cri::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() })
        };
        let seccomp = cri::SecurityProfile { profile_type: 2, localhost_ref: "relative".into() };
        let label = cri::SeLinuxOption { r#type: "t".into(), ..Default::default() };
        let dns = |servers: &str| Some(cri::DnsConfig { servers: vec![servers.into()], ..Default::default() });
        let context = cri::LinuxSandboxSecurityContext::default;
        let rows = [
            (cri::PodSandboxConfig { metadata: None, ..config() }, "config.metadata"),
            (cri::PodSandboxConfig { hostname: "h".repeat(65), ..config() }, "hostname"),
            (cri::PodSandboxConfig { hostname: "a\nb".into(), ..config() }, "hostname"),
            (cri::PodSandboxConfig { log_directory: "logs".into(), ..config() }, "log_directory"),
            (cri::PodSandboxConfig { dns_config: dns("192.0.2.1\nx"), ..config() }, "dns_config.servers[0]"),
            (net(1), "linux.security_context.namespace_options.network"),
            (net(9), "linux.security_context.namespace_options.network"),
            (
                secured(cri::LinuxSandboxSecurityContext { run_as_group: id(1), ..context() }),
                "linux.security_context.run_as_group",
            ),
            (
                secured(cri::LinuxSandboxSecurityContext { run_as_user: id(-1), ..context() }),
                "linux.security_context.run_as_user",
            ),
            (
                secured(cri::LinuxSandboxSecurityContext { seccomp: Some(seccomp), ..context() }),
                "linux.security_context.seccomp",
            ),
            (
                secured(cri::LinuxSandboxSecurityContext { selinux_options: Some(label), ..context() }),
                "linux.security_context.selinux_options",
            ),
            (
                secured(cri::LinuxSandboxSecurityContext { supplemental_groups_policy: 5, ..context() }),
                "linux.security_context.supplemental_groups_policy",
            ),
        ];
        for (asked, field) in rows {
            let error = sandbox(asked, "coracle").unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid);
            assert!(error.to_string().starts_with(field), "{field}: {error}");
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
