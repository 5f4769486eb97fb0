//! A real kube-proxy, on the host of a test.

use std::path::PathBuf;
use std::process::Command;

use e2e::Run;
use e2e::inspect::wait_until;

use super::replay::Mode;
use super::world::{CLUSTER, World, families, node_name, services};

/// It ends when dropped.
pub struct KubeProxy(Run);

impl KubeProxy {
    /// Starts the one of the directory that `CORACLE_KUBERNETES` names, and waits until its rules are there.
    pub fn start(world: &World<'_>, mode: Mode) -> Self {
        let programs =
            PathBuf::from(std::env::var_os("CORACLE_KUBERNETES").expect("CORACLE_KUBERNETES names a directory"));
        for object in services(world) {
            world.server.create(&object);
        }
        let mut command = Command::new(programs.join("kube-proxy"));
        command.args(["--proxy-mode", mode.name(), "--hostname-override", &node_name(), "--cluster-cidr", CLUSTER]);
        // The test's server reads nothing else.
        command.args(["--kube-api-content-type", "application/json"]);
        command.args(["--conntrack-max-per-core", "0", "--conntrack-min", "0", "--kubeconfig"]);
        command.arg(world.server.kubeconfig_of_admin());
        let proxy = Self(world.node.host().spawn(command));
        // The last Service of both families.
        let has = |six| mode.list(world, six).stdout().contains("30082");
        wait_until("kube-proxy has written its rules", || families().into_iter().all(has));
        proxy
    }

    /// What it said.
    pub fn end(self) -> String {
        self.0.lines().iter().map(|line| format!("  {}\n", line.text)).collect()
    }
}
