//! The runtime in this process, for the verbs that are not served by an agent.

use anyhow::Context as _;
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
        },
        registry: runtime::images::RegistryOptions::of_host(),
    };
    let runtime = Runtime::open(options, zygote).context("open the container runtime")?;
    let channel = channel::in_memory(runtime.services(owner));
    Ok((runtime, channel))
}
