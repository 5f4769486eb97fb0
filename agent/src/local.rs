//! The runtime in this process, for the verbs that are not served by an agent.

use std::time::Duration;

use anyhow::Context as _;
use runtime::images::RegistryOptions;
use runtime::network::cni;
use runtime::zygote::Zygote;
use runtime::{Options, Owner, Runtime};

use crate::channel::{self, Channel};
use crate::cli::Global;

/// Opens the runtime of these directories and the way to its services. What is done through the channel is done in the
/// name of `owner`. Only a process that starts pods brings a zygote.
pub fn open(global: &Global, owner: Owner, zygote: Option<Zygote>) -> anyhow::Result<(Runtime, Channel)> {
    let options = Options {
        root_dir: global.root_dir.clone(),
        state_dir: global.state_dir.clone(),
        cgroup_root: global.cgroup_root.clone(),
        boot_id: global.boot_id.clone(),
        network: runtime::network::Options {
            pod_cidrs: global.pod_cidr.clone(),
            non_masquerade_cidrs: global.non_masquerade_cidr.clone(),
            resolv_conf: global.resolv_conf.clone(),
            default_network: global.default_network.clone(),
            cni: cni(global),
        },
        registry: registry(global),
    };
    let runtime = Runtime::open(options, zygote).context("open the container runtime")?;
    let channel = channel::in_memory(runtime.services(owner));
    Ok((runtime, channel))
}

/// Where CNI plug-ins and their configurations are.
pub fn cni(global: &Global) -> cni::Options {
    let time_limit = Duration::from_secs(global.cni_timeout);
    let mut options = cni::Options { conf_dir: global.cni_conf_dir.clone(), time_limit, ..cni::Options::default() };
    if !global.cni_bin_dir.is_empty() {
        options.bin_dirs.clone_from(&global.cni_bin_dir);
    }
    options
}

/// What the host says about registries, but for what the command line says.
fn registry(global: &Global) -> RegistryOptions {
    let mut options = RegistryOptions::of_host();
    if !global.registry_config_dir.is_empty() {
        options.config_dirs.clone_from(&global.registry_config_dir);
    }
    options
}
