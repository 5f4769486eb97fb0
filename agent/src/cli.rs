//! The command line: the flags that go with every verb, and the verbs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use runtime::network::Kind;
use runtime::zygote::Zygote;

use crate::printer::Color;
use crate::{logging, tool, verbs};

/// A node agent for one machine: runs Kubernetes pod YAML without a cluster, or as a node of one.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, propagate_version = false, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags that go with every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that go with every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of what lasts: images, volumes, container layers
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/coracle")]
    pub root_dir: PathBuf,
    /// Directory of what lasts until the next boot: running pods, sockets, records
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/coracle")]
    pub state_dir: PathBuf,
    /// Directory of the containers' logs
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/log/pods")]
    pub log_dir: PathBuf,
    /// Name of the cgroup, below each hierarchy's root, that holds the pods
    #[arg(long, global = true, value_name = "NAME", default_value = "coracle")]
    pub cgroup_root: String,
    /// Name of this boot, for tests of what a reboot leaves; the kernel's by default
    #[arg(long, global = true, value_name = "ID", hide = true)]
    pub boot_id: Option<String>,
    /// Addresses for pods, IPv4 or IPv6; by default a free range is found
    #[arg(long, global = true, value_name = "CIDR", value_delimiter = ',')]
    pub pod_cidr: Vec<IpNet>,
    /// Network of pods that name none: `flat`, `private` or the name of a Network
    #[arg(long, global = true, value_name = "NETWORK", default_value_t)]
    pub default_network: Kind,
    /// Directory of CNI configurations: pods are connected by its plug-ins, not by Coracle's own network
    #[arg(long, global = true, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Directories of CNI plug-ins [default: /opt/cni/bin:/usr/lib/cni]
    #[arg(long, global = true, value_name = "DIR", value_delimiter = ':')]
    pub cni_bin_dir: Vec<PathBuf>,
    /// How long a CNI plug-in may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub cni_timeout: u64,
    /// Addresses for Services, IPv4 or IPv6 or both, the usual family first; by default a free range is found
    #[arg(long, global = true, value_name = "CIDR", value_delimiter = ',')]
    pub service_cidr: Vec<IpNet>,
    /// Destinations at which pods are seen with their own addresses, not with the host's
    #[arg(long, global = true, value_name = "CIDR", value_delimiter = ',')]
    pub non_masquerade_cidr: Vec<IpNet>,
    /// Domain below which pods and services have their names [default: cluster.local]
    #[arg(long, global = true, value_name = "DOMAIN", value_parser = domain)]
    pub cluster_domain: Option<String>,
    /// File that names the name servers for all other names [default: /etc/resolv.conf]
    #[arg(long, global = true, value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// Directory of registries' settings, as containerd's certs.d: HOST/hosts.toml, certificates; may be given several
    /// times, the first that knows a host wins [default: /etc/coracle/certs.d, /etc/containerd/certs.d]
    #[arg(long, global = true, value_name = "DIR")]
    pub registry_config_dir: Vec<PathBuf>,
    /// When to colour the output
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

/// A domain of labels as they are in names of pods.
fn domain(text: &str) -> Result<String, String> {
    let domain = text.trim_end_matches('.');
    match manifests::kubelet::is_cluster_domain(domain) {
        true => Ok(domain.to_owned()),
        false => Err("write it as cluster.local: lower case letters, digits, `-` and `.`".to_owned()),
    }
}

/// What to do. Each verb lives in a module of its name under `verbs`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the pods of manifests in the foreground
    Run(verbs::run::Args),
    /// Keep the node equal to a directory of manifests
    Agent(Box<verbs::agent::Args>),
    /// Serve the container runtime interface on a socket, for a kubelet or crictl
    Cri(verbs::cri::Args),
    /// Show pods
    Get(verbs::get::Args),
    /// Show what pods use of processors and memory
    Top(verbs::top::Args),
    /// Print a container's log
    Logs(verbs::logs::Args),
    /// Show what manifests would change of what the agent runs
    Diff(verbs::diff::Args),
    /// Put manifests into the agent's directory, checked and whole
    Apply(verbs::apply::Args),
    /// Restart a pod of the agent, or one of its containers
    Restart(verbs::restart::Args),
    /// Say why a pod is not what it should be, and what to do
    Why(verbs::why::Args),
    /// Check manifests and show everything that is wrong with them
    Validate(verbs::validate::Args),
    /// Say what a field of a manifest is, and whether it runs here
    Explain(verbs::explain::Args),
    /// Pull, import, export, list, inspect and remove images
    Image(verbs::image::Args),
    /// Run a command in a container of a running pod
    Exec(verbs::exec::Args),
    /// Copy files to or from a container of a running pod
    Cp(verbs::cp::Args),
    /// Join a terminal with a container that runs
    Attach(verbs::attach::Args),
    /// Reach a pod's ports from here
    PortForward(verbs::port_forward::Args),
    /// Show all about a pod
    Describe(verbs::describe::Args),
    /// Show what happened
    Events(verbs::events::Args),
    /// Stop a pod of the agent; it starts anew unless its manifest goes too
    Delete(verbs::delete::Args),
    /// Say what this host lacks and what follows from it
    Doctor(verbs::doctor::Args),
    /// Remove what runs that are gone have left behind
    Gc(verbs::gc::Args),
    /// Show the version
    Version(verbs::version::Args),
    /// Print a shell's completion script
    Completion(verbs::completion::Args),
    /// Run one of the small programs that the built-in image is made of
    #[command(disable_help_flag = true)]
    Tool {
        /// The program and its arguments; `coracle tool help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "APPLET")]
        args: Vec<OsString>,
    },
}

impl Cli {
    /// Carries out the verb.
    pub fn run(self, zygote: Option<std::io::Result<Zygote>>) -> anyhow::Result<ExitCode> {
        let global = self.global.absolute()?;
        global.color.apply();
        // The agent says how by its own flags.
        if !matches!(self.verb, Verb::Agent(_)) {
            logging::of_verb();
        }
        match self.verb {
            Verb::Run(args) => verbs::run::main(args, &global, zygote),
            Verb::Agent(args) => verbs::agent::main(*args, &global, zygote),
            Verb::Cri(args) => verbs::cri::main(args, &global, zygote),
            Verb::Get(args) => verbs::get::main(args, &global),
            Verb::Top(args) => verbs::top::main(args, &global),
            Verb::Logs(args) => verbs::logs::main(args, &global),
            Verb::Diff(args) => verbs::diff::main(args, &global),
            Verb::Apply(args) => verbs::apply::main(args, &global),
            Verb::Restart(args) => verbs::restart::main(args, &global),
            Verb::Why(args) => verbs::why::main(args, &global),
            Verb::Validate(args) => verbs::validate::main(args, &global),
            Verb::Explain(args) => verbs::explain::main(args, &global),
            Verb::Image(args) => verbs::image::main(args, &global),
            Verb::Exec(args) => verbs::exec::main(args, &global),
            Verb::Cp(args) => verbs::cp::main(args, &global),
            Verb::Attach(args) => verbs::attach::main(args, &global),
            Verb::PortForward(args) => verbs::port_forward::main(args, &global),
            Verb::Describe(args) => verbs::describe::main(args, &global),
            Verb::Events(args) => verbs::events::main(args, &global),
            Verb::Delete(args) => verbs::delete::main(args, &global),
            Verb::Doctor(args) => verbs::doctor::main(args, &global),
            Verb::Gc(args) => verbs::gc::main(args, &global),
            Verb::Version(args) => verbs::version::main(args, &global),
            Verb::Completion(args) => verbs::completion::main(args, &global),
            Verb::Tool { args } => Ok(tool::run(&args)),
        }
    }
}

impl Global {
    /// Which boot this is.
    pub fn this_boot(&self) -> anyhow::Result<String> {
        use anyhow::Context as _;
        self.boot_id.clone().map_or_else(|| runtime::boot_id().context("read the boot id"), Ok)
    }

    /// Makes the directories absolute: what is recorded below them must not depend on where a verb was typed.
    fn absolute(mut self) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        anyhow::ensure!(
            self.cni_conf_dir.is_none() || self.default_network == Kind::Flat,
            "--default-network {} is of Coracle's own network, and --cni-conf-dir takes its place: leave one of them out",
            self.default_network
        );
        let Self { root_dir, state_dir, log_dir, registry_config_dir, cni_conf_dir, cni_bin_dir, .. } = &mut self;
        let dirs = [root_dir, state_dir, log_dir].into_iter().chain(registry_config_dir);
        for dir in dirs.chain(cni_conf_dir).chain(cni_bin_dir) {
            *dir = std::path::absolute(&*dir).with_context(|| format!("find directory {}", dir.display()))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in [["coracle", "--state-dir", "/s", "version"], ["coracle", "version", "--state-dir", "/s"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.global.state_dir, PathBuf::from("/s"));
            assert_eq!(cli.global.root_dir, PathBuf::from("/var/lib/coracle"));
        }
    }

    #[test]
    fn ranges_are_given_one_by_one_or_in_a_list() {
        let line = ["coracle", "--pod-cidr", "10.1.0.0/16", "version", "--pod-cidr=fd01::/64,fd02::/64"];
        let ranges = |line: &[&str]| Cli::try_parse_from(line).map(|cli| cli.global.pod_cidr.len());
        assert_eq!(ranges(&line[..4]).unwrap(), 1);
        assert_eq!(ranges(&[line[0], line[3], line[4]]).unwrap(), 2);
        assert_eq!(ranges(&["coracle", "version", "--pod-cidr", "10.1.0.0/16", "--pod-cidr", "fd01::/64"]).unwrap(), 2);
        assert!(ranges(&["coracle", "version", "--pod-cidr", "10.1.0.0"]).is_err());
    }

    #[test]
    fn relative_directories_become_absolute() {
        let cli = Cli::try_parse_from(["coracle", "--root-dir", "x", "version"]).unwrap();
        assert!(cli.global.absolute().unwrap().root_dir.is_absolute());
    }
}
