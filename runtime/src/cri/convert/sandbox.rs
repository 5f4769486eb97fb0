//! A sandbox's configuration.

use std::net::IpAddr;

use cri_proto::cri;

use super::{mode, required, userns};
use crate::error::{Error, Result};
use crate::network::{PortMapping, Protocol};
use crate::sandbox::{self, Dns, NamespaceMode, Namespaces};

/// A sandbox. `cgroup_root` is the parent where the client names none.
pub fn sandbox(config: cri::PodSandboxConfig, cgroup_root: &str) -> Result<sandbox::Request> {
    let metadata = required(config.metadata, "config.metadata")?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let options = security.namespace_options.unwrap_or_default();
    let parent = linux.cgroup_parent.trim_matches('/');
    let cgroup_parent =
        if parent.is_empty() { format!("{cgroup_root}/pods/{}", metadata.uid) } else { parent.to_owned() };
    if cgroup_parent.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::Invalid(format!("linux.cgroup_parent {cgroup_parent:?} is no path of a cgroup")));
    }
    let dns =
        config.dns_config.filter(|it| !(it.servers.is_empty() && it.searches.is_empty() && it.options.is_empty()));
    let net = mode(options.network(), "network")?;
    let namespaces = Namespaces { net, pid: mode(options.pid(), "pid")?, ipc: mode(options.ipc(), "ipc")? };
    let user = userns::of_sandbox(options.userns_options.as_ref(), &config.annotations, namespaces)?;
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
        namespaces,
        user,
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
