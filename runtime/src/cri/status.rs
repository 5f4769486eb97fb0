//! How this node is.

use std::collections::HashMap;
use std::path::Path;

use cri_proto::cri;
use tonic::Status;

use super::Services;
use crate::core::Core;
use crate::network::cni;
use crate::probe::{self, Finding, State};

impl Services {
    pub(super) async fn node_status(&self, verbose: bool) -> Result<cri::StatusResponse, Status> {
        self.run(move |core, _| {
            Ok(cri::StatusResponse {
                status: Some(cri::RuntimeStatus { conditions: vec![runtime(core), network(core)] }),
                runtime_handlers: vec![cri::RuntimeHandler {
                    name: String::new(),
                    features: Some(cri::RuntimeHandlerFeatures {
                        recursive_read_only_mounts: true,
                        user_namespaces: crate::userns::supported(core),
                    }),
                }],
                features: Some(cri::RuntimeFeatures {
                    supplemental_groups_policy: true,
                    mount_options: true,
                    ..Default::default()
                }),
                info: if verbose { info(core) } else { HashMap::new() },
            })
        })
        .await
    }
}

fn options(core: &Core) -> probe::Options {
    probe::Options::new(core.options.root_dir.clone(), core.options.state_dir.clone())
}

/// Whether pods can run at all.
fn runtime(core: &Core) -> cri::RuntimeCondition {
    let mut wrong: Vec<(&str, String)> = Vec::new();
    if let Err(error) = core.zygote() {
        wrong.push(("NoZygote", error.to_string()));
    }
    let findings = probe::cgroup_findings(&options(core));
    wrong.extend(findings.iter().filter(|it| it.state == State::Missing).map(|it| ("CgroupsNotUsable", words(it))));
    for dir in [&core.options.root_dir, &core.options.state_dir] {
        wrong.extend(unwritable(dir).map(|why| ("DirectoryNotWritable", why)));
    }
    condition("RuntimeReady", wrong)
}

fn unwritable(dir: &Path) -> Option<String> {
    use rustix::fs::StatVfsMountFlags;
    match rustix::fs::statvfs(dir) {
        Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Some(format!("{} is on a filesystem that is mounted read-only; remount it", dir.display()))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{} cannot be looked at: {error}", dir.display())),
    }
}

/// Whether pods with a network of their own can run.
fn network(core: &Core) -> cri::RuntimeCondition {
    if core.options.network.cni.conf_dir.is_some() {
        let unready = cni::ready(core).err().map(|error| (cni::NOT_READY, error.to_string()));
        return condition("NetworkReady", unready.into_iter().collect());
    }
    let findings = probe::pod_network_findings(&options(core), core.options.network.pod_cidrs.is_empty());
    let wrong = findings.iter().filter(|it| it.state != State::Ok).map(|it| match it.topic {
        probe::FORWARDING => ("ForwardingImpossible", words(it)),
        _ => ("NoPodRange", words(it)),
    });
    condition("NetworkReady", wrong.collect())
}

/// What is wrong, what follows, what to do.
fn words(finding: &Finding) -> String {
    let parts = [Some(&finding.what), finding.consequence.as_ref(), finding.remedy.as_ref()];
    parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("; ")
}

/// A condition with the first reason why it does not hold, and all that is wrong in its message.
fn condition(name: &str, wrong: Vec<(&str, String)>) -> cri::RuntimeCondition {
    cri::RuntimeCondition {
        r#type: name.into(),
        status: wrong.is_empty(),
        reason: wrong.first().map(|(reason, _)| (*reason).to_owned()).unwrap_or_default(),
        message: wrong.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join("; "),
    }
}

/// What this node was told to be. Registries' credentials are not in it.
fn info(core: &Core) -> HashMap<String, String> {
    let options = &core.options;
    let texts = |list: &[ipnet::IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let config = serde_json::json!({
        "rootDir": options.root_dir,
        "stateDir": options.state_dir,
        "cgroupRoot": options.cgroup_root,
        "cgroupDriver": "cgroupfs",
        "podCIDRs": texts(&options.network.pod_cidrs),
        "nonMasqueradeCIDRs": texts(&options.network.non_masquerade_cidrs),
        "cniConfDir": options.network.cni.conf_dir,
        "cniBinDirs": options.network.cni.bin_dirs,
        "registryConfigDirs": options.registry.config_dirs,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let range = crate::network::free_ranges(&options.state_dir).unwrap_or_else(|why| why);
    let network = serde_json::json!({ "podRange": range });
    HashMap::from([("config".into(), config.to_string()), ("network".into(), network.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_or_says_why_not() {
        let holds = condition("NetworkReady", Vec::new());
        assert!(holds.status && holds.reason.is_empty() && holds.message.is_empty());
        let wrong = vec![("NoPodRange", "no range is free".to_owned()), ("ForwardingImpossible", "b".to_owned())];
        let fails = condition("NetworkReady", wrong);
        assert!(!fails.status);
        assert_eq!((fails.reason.as_str(), fails.message.as_str()), ("NoPodRange", "no range is free; b"));
    }

    #[test]
    fn a_directory_that_cannot_be_looked_at_is_said() {
        assert_eq!(unwritable(Path::new("/tmp")), None);
        assert!(unwritable(Path::new("/nowhere/at/all")).is_some_and(|why| why.starts_with("/nowhere/at/all")));
    }
}
