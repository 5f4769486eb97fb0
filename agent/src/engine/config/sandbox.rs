//! The sandbox's configuration.

use std::collections::HashMap;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use runtime::resolver::{ADDS_TO_HOST, CLUSTER_DOMAIN, SUBDOMAIN};

use super::super::plan::spec_of;
use super::names::{PodKey, kernel_hostname, subdomain};
use super::{ConfigError, Settings, resources, security};

/// Makes the configuration of a pod's sandbox.
pub fn config(pod: &Pod, attempt: u32, settings: &Settings) -> Result<cri::PodSandboxConfig, ConfigError> {
    let key = PodKey::of(pod);
    let spec = spec_of(pod);
    let host_network = spec.host_network == Some(true);
    let mut annotations: HashMap<_, _> = pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect();
    if security::has_user_namespace(pod) {
        let (name, value) = security::USER_NAMESPACE;
        annotations.insert(name.to_owned(), value.to_owned());
    }
    annotations.extend(resolver(pod, settings).into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: key.name.clone(),
            uid: key.uid.clone(),
            namespace: key.namespace.clone(),
            attempt,
        }),
        // With the host's network the name is the host's own.
        hostname: if host_network { String::new() } else { kernel_hostname(pod, &settings.cluster_domain)? },
        log_directory: key.log_directory(&settings.log_dir).to_string_lossy().into_owned(),
        dns_config: dns(pod, settings),
        port_mappings: if host_network { vec![] } else { ports(pod)? },
        labels: settings.label(key.sandbox_labels(pod)),
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}", settings.pod_cgroup(pod)),
            security_context: Some(security::of_sandbox(pod, settings)?),
            sysctls: sysctls(pod),
            overhead: resources::of_overhead(spec, settings),
            resources: Some(resources::of_pod(spec, settings)),
        }),
        windows: None,
    })
}

/// Which resolver the pod has besides what it says itself. On the host's network `ClusterFirst` is the host's, as kubelet
/// has it. A runtime of others knows nothing of it, and gives every pod the host's.
fn resolver(pod: &Pod, settings: &Settings) -> Vec<(&'static str, String)> {
    let spec = spec_of(pod);
    if !settings.serves_names || asks_cluster(spec, settings) {
        return Vec::new();
    }
    let host_network = spec.host_network == Some(true);
    let mut said = Vec::new();
    match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => {}
        "ClusterFirst" if host_network => said.push((ADDS_TO_HOST, String::new())),
        "Default" => said.push((ADDS_TO_HOST, String::new())),
        _ => said.push((CLUSTER_DOMAIN, settings.cluster_domain.0.clone())),
    }
    said.extend(subdomain(pod).map(|it| (SUBDOMAIN, it.to_owned())));
    said
}

/// Whether the cluster's name servers are the pod's.
fn asks_cluster(spec: &PodSpec, settings: &Settings) -> bool {
    let first = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => spec.host_network != Some(true),
        policy => policy == "ClusterFirstWithHostNet",
    };
    first && !settings.cluster_dns.servers.is_empty()
}

/// What the pod and the cluster say of its resolver. Nothing is sent where they say nothing: the runtime knows the rest.
fn dns(pod: &Pod, settings: &Settings) -> Option<cri::DnsConfig> {
    let own = own_dns(spec_of(pod));
    if !asks_cluster(spec_of(pod), settings) {
        return own;
    }
    let (own, cluster) = (own.unwrap_or_default(), &settings.cluster_dns);
    let domain = &settings.cluster_domain.0;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let searches = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    let mut dns = cri::DnsConfig {
        servers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches: searches.into_iter().chain(cluster.searches.iter().cloned()).collect(),
        options: vec!["ndots:5".to_owned()],
    };
    add(&mut dns.servers, own.servers);
    add(&mut dns.searches, own.searches);
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    for option in own.options {
        dns.options.retain(|it| name(it) != name(&option));
        dns.options.push(option);
    }
    Some(dns)
}

fn add(list: &mut Vec<String>, more: Vec<String>) {
    for one in more {
        if !list.contains(&one) {
            list.push(one);
        }
    }
}

/// What the pod itself says.
fn own_dns(spec: &PodSpec) -> Option<cri::DnsConfig> {
    let config = spec.dns_config.as_ref()?;
    let options = config.options.iter().flatten().map(|option| {
        let name = option.name.clone().unwrap_or_default();
        match &option.value {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name,
        }
    });
    let dns = cri::DnsConfig {
        servers: config.nameservers.clone().unwrap_or_default(),
        searches: config.searches.clone().unwrap_or_default(),
        options: options.collect(),
    };
    (dns != cri::DnsConfig::default()).then_some(dns)
}

fn ports(pod: &Pod) -> Result<Vec<cri::PortMapping>, ConfigError> {
    let spec = spec_of(pod);
    let sidecars = spec.init_containers.iter().flatten().filter(|container| super::super::plan::is_sidecar(container));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| {
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => cri::Protocol::Tcp,
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                Some(other) => {
                    return Err(ConfigError::Value {
                        field: "ports.protocol",
                        value: other.to_owned(),
                        expected: "it is TCP, UDP or SCTP",
                    });
                }
            };
            Ok(cri::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port: port.host_port.unwrap_or(0),
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let context = spec_of(pod).security_context.as_ref();
    let sysctls = context.and_then(|context| context.sysctls.as_ref());
    sysctls.into_iter().flatten().map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ClusterDns;
    use super::*;
    use serde_json::{Value, json};

    fn sandbox(spec: Value) -> cri::PodSandboxConfig {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app": "web"},
                "annotations": {"coracle.dev/network": "flat"}},
            "spec": spec
        }))
        .unwrap();
        let settings =
            Settings { log_dir: "/var/log/pods".into(), cgroup_root: "coracle".into(), ..Settings::default() };
        config(&pod, 2, &settings).unwrap()
    }

    #[test]
    fn names_labels_and_paths_are_kubelets() {
        let config = sandbox(json!({"containers": [{"name": "c"}]}));
        let metadata = config.metadata.unwrap();
        assert_eq!((metadata.name.as_str(), metadata.uid.as_str(), metadata.attempt), ("p", "u-1", 2));
        assert_eq!(config.log_directory, "/var/log/pods/ns_p_u-1");
        assert_eq!(config.hostname, "p");
        assert_eq!(config.linux.unwrap().cgroup_parent, "/coracle/pods/u-1");
        for (label, value) in [
            ("app", "web"),
            ("io.kubernetes.pod.name", "p"),
            ("io.kubernetes.pod.namespace", "ns"),
            ("io.kubernetes.pod.uid", "u-1"),
        ] {
            assert_eq!(config.labels[label], value);
        }
        assert_eq!(config.annotations["coracle.dev/network"], "flat");
        assert_eq!(config.dns_config, None);
    }

    #[test]
    fn pods_lie_by_their_class_where_they_are_grouped() {
        let memory = |list: &str| json!({list: {"cpu": "1", "memory": "1Gi"}});
        for (root, resources, expected) in [
            ("coracle", json!({}), "coracle/kubepods/besteffort/podu-1"),
            ("/coracle/", memory("requests"), "coracle/kubepods/burstable/podu-1"),
            ("coracle", memory("limits"), "coracle/kubepods/podu-1"),
            ("", memory("limits"), "kubepods/podu-1"),
        ] {
            let spec = json!({"containers": [{"name": "c", "resources": resources}]});
            let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u-1"}, "spec": spec})).unwrap();
            let cgroups = super::super::Cgroups { per_qos: true, ..Default::default() };
            let settings = Settings { cgroup_root: root.into(), cgroups, ..Settings::default() };
            assert_eq!(settings.pod_cgroup(&pod), expected);
            let linux = config(&pod, 0, &settings).unwrap().linux.unwrap();
            assert_eq!(linux.cgroup_parent, format!("/{expected}"));
        }
    }

    #[test]
    fn the_hosts_network_has_the_hosts_name_and_no_mappings() {
        let ports = json!([{"containerPort": 80, "hostPort": 8080, "protocol": "UDP", "hostIP": "127.0.0.1"}]);
        let own = sandbox(json!({"containers": [{"name": "c", "ports": ports}]}));
        assert_eq!((own.port_mappings[0].host_port, own.port_mappings[0].protocol()), (8080, cri::Protocol::Udp));
        let host = sandbox(json!({"hostNetwork": true, "containers": [{"name": "c", "ports": ports}]}));
        assert_eq!((host.hostname.as_str(), host.port_mappings.len()), ("", 0));
    }

    #[test]
    fn a_user_namespace_is_left_to_the_runtime() {
        let of = |config: &cri::PodSandboxConfig| {
            let security = config.linux.clone().unwrap().security_context.unwrap();
            (
                security.namespace_options.unwrap().userns_options,
                config.annotations.get("coracle.dev/user-namespace").cloned(),
            )
        };
        let (options, annotation) = of(&sandbox(json!({"hostUsers": false, "containers": []})));
        let expected = cri::UserNamespace { mode: cri::NamespaceMode::Pod.into(), ..cri::UserNamespace::default() };
        assert_eq!((options, annotation.as_deref()), (Some(expected), Some("auto")));
        for spec in [json!({"containers": []}), json!({"hostUsers": true, "containers": []})] {
            assert_eq!(of(&sandbox(spec)), (None, None));
        }
    }

    #[test]
    fn the_resolver_is_sent_where_the_pod_says_something() {
        let config = sandbox(json!({"dnsPolicy": "None", "containers": [],
            "dnsConfig": {"nameservers": ["1.2.3.4"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"},
                {"name": "edns0"}]}}));
        let dns = config.dns_config.unwrap();
        assert_eq!((dns.servers, dns.searches), (vec!["1.2.3.4".to_owned()], vec!["x".to_owned()]));
        assert_eq!(dns.options, ["ndots:2", "edns0"]);
    }

    #[test]
    fn the_policy_says_whose_resolver_a_pod_has() {
        let of = |spec: Value, serves_names: bool| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            let settings = Settings { serves_names, ..Settings::default() };
            let annotations = config(&pod, 0, &settings).unwrap().annotations;
            let is = |name: &str| annotations.contains_key(name);
            (annotations.get(CLUSTER_DOMAIN).cloned(), is(ADDS_TO_HOST), annotations.get(SUBDOMAIN).cloned())
        };
        let cluster = Some("cluster.local".to_owned());
        for (policy, host_network, domain, adds) in [
            ("ClusterFirst", false, cluster.clone(), false),
            ("ClusterFirst", true, None, true),
            ("ClusterFirstWithHostNet", true, cluster.clone(), false),
            ("ClusterFirstWithHostNet", false, cluster.clone(), false),
            ("Default", false, None, true),
            ("None", false, None, false),
        ] {
            let spec = json!({"dnsPolicy": policy, "hostNetwork": host_network, "containers": []});
            assert_eq!(of(spec.clone(), true), (domain, adds, None), "{policy} {host_network}");
            assert_eq!(of(spec, false), (None, false, None), "{policy} {host_network}");
        }
        let below = json!({"containers": [], "subdomain": "sub"});
        assert_eq!(of(below, true), (cluster.clone(), false, Some("sub".into())));
        let elsewhere = json!({"containers": [], "subdomain": "sub", "hostnameOverride": "a.example"});
        assert_eq!(of(elsewhere, true), (cluster, false, None));
    }

    #[test]
    fn in_a_cluster_names_are_asked_of_its_servers_as_kubelet_writes_it() {
        let cluster_dns = ClusterDns { servers: vec!["10.96.0.10".parse().unwrap()], searches: vec!["corp".into()] };
        let settings = Settings { serves_names: true, cluster_dns, ..Settings::default() };
        let of = |spec: Value| {
            let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let config = config(&pod, 0, &settings).unwrap();
            (config.annotations.contains_key(CLUSTER_DOMAIN), config.dns_config)
        };
        let list = |items: &[&str]| items.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let searches = ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"];
        let plain =
            cri::DnsConfig { servers: list(&["10.96.0.10"]), searches: list(&searches), options: list(&["ndots:5"]) };
        assert_eq!(of(json!({"containers": []})), (false, Some(plain.clone())));
        let host = json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet", "containers": []});
        assert_eq!(of(host), (false, Some(plain)));
        assert_eq!(of(json!({"hostNetwork": true, "containers": []})).1, None);
        assert_eq!(of(json!({"dnsPolicy": "Default", "containers": []})).1, None);
        let (_, more) = of(json!({"containers": [], "dnsConfig": {"nameservers": ["10.96.0.10", "1.1.1.1"],
            "searches": ["x", "corp"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}));
        let more = more.unwrap();
        assert_eq!(more.servers, ["10.96.0.10", "1.1.1.1"]);
        assert_eq!(more.searches, [&searches[..], &["x"]].concat());
        assert_eq!(more.options, ["ndots:2", "edns0"]);
    }

    #[test]
    fn sysctls_are_sent_with_dots() {
        let config = sandbox(json!({"containers": [],
            "securityContext": {"sysctls": [{"name": "net/ipv4/ip_unprivileged_port_start", "value": "0"}]}}));
        assert_eq!(config.linux.unwrap().sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
    }
}
