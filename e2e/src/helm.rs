//! A real helm, which makes manifests of charts.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Finished, Node, Run, debian, pypi};

/// A helm.
#[derive(Clone, Debug)]
pub struct Helm(PathBuf);

impl Helm {
    /// The machine's own, or one that is fetched.
    pub fn find() -> Result<Self, String> {
        crate::skip::root()?;
        debian::which("helm").map_or_else(|| pypi::program("helm"), Ok).map(Self)
    }

    /// The manifests of a release of a chart, as `helm template` prints them.
    #[track_caller]
    pub fn template(&self, node: &Node, release: &str, chart: &Path, values: &Value) -> String {
        let file = node.manifest(values);
        self.run(node, |command| command.args(["template", release]).arg(chart).arg("--values").arg(file)).stdout()
    }

    /// What helm has against a chart with these values is the end of the test.
    #[track_caller]
    pub fn lint(&self, node: &Node, chart: &Path, values: &Value) {
        let file = node.manifest(values);
        self.run(node, |command| command.args(["lint", "--strict"]).arg(chart).arg("--values").arg(file));
    }

    /// Runs one, with a home of its own on the node, that has to succeed.
    #[track_caller]
    fn run(&self, node: &Node, args: impl FnOnce(&mut Command) -> &mut Command) -> Finished {
        let mut command = Command::new(&self.0);
        args(command.env("HOME", node.dir()).env_remove("KUBECONFIG"));
        Run::start(&mut command, None).wait().exits(0)
    }
}
