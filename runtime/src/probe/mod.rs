//! What the host offers, what it lacks, and what follows: the facts of `coracle doctor`.
//!
//! Probing reads files and makes system calls without effect; it changes nothing, loads no kernel module, and every
//! question that cannot be answered is a finding itself.

mod cgroups;
mod kernel;
mod limits;
mod network;
mod storage;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::network::cni;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Options {
    /// Coracle's durable directory; it need not exist yet.
    pub root_dir: PathBuf,
    /// Coracle's directory of this boot; it need not exist yet.
    pub state_dir: PathBuf,
    /// `/proc`.
    pub proc_root: PathBuf,
    /// `/sys`.
    pub sys_root: PathBuf,
    /// `/lib/modules`.
    pub modules_root: PathBuf,
    /// What was said of CNI.
    pub cni: cni::Options,
    /// Where configurations for it are by custom.
    pub cni_conf_dir: PathBuf,
}

impl Options {
    /// This host, with these directories of Coracle's.
    pub fn new(root_dir: PathBuf, state_dir: PathBuf) -> Options {
        let path = |text: &str| PathBuf::from(text);
        Options {
            root_dir,
            state_dir,
            proc_root: path("/proc"),
            sys_root: path("/sys"),
            modules_root: path("/lib/modules"),
            cni: cni::Options::default(),
            cni_conf_dir: path(cni::CONF_DIR),
        }
    }

    /// A file of procfs or sysfs, without its last newline; none if it cannot be read.
    fn text(&self, root: &Path, path: &str) -> Option<String> {
        std::fs::read_to_string(root.join(path)).ok().map(|text| text.trim_end().to_owned())
    }

    fn proc(&self, path: &str) -> Option<String> {
        self.text(&self.proc_root, path)
    }

    fn sys(&self, path: &str) -> Option<String> {
        self.text(&self.sys_root, path)
    }
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Coracle works, and something does not.
    Degraded,
    /// Pods cannot run.
    Missing,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub topic: &'static str,
    /// How well it is.
    pub state: State,
    /// What was seen.
    pub what: String,
    /// What follows for pods; none if nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
    /// What to do about it; none if nothing needs doing or can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(topic: &'static str, state: State, what: impl Into<String>) -> Finding {
        Finding { topic, state, what: what.into(), consequence: None, remedy: None }
    }

    fn ok(topic: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(topic, State::Ok, what)
    }

    fn degraded(topic: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(topic, State::Degraded, what)
    }

    fn missing(topic: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(topic, State::Missing, what)
    }

    fn so(mut self, consequence: impl Into<String>) -> Finding {
        self.consequence = Some(consequence.into());
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The topic of what lets the host pass on its pods' packets.
pub const FORWARDING: &str = "forwarding";

/// What of the host's control groups matters: quick enough to be asked every few seconds.
pub fn cgroup_findings(options: &Options) -> Vec<Finding> {
    cgroups::findings(options)
}

/// What may keep pods from having a network. `choose`: no range was named for them.
pub fn pod_network_findings(options: &Options, choose: bool) -> Vec<Finding> {
    network::essentials(options, choose)
}

/// Looks at the host.
pub fn host(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(limits::privileges(options));
    findings.extend(kernel::findings(options));
    findings.extend(network::findings(options));
    findings.extend(cgroups::findings(options));
    findings.extend(storage::findings(options));
    findings.extend(limits::findings(options));
    findings
}
