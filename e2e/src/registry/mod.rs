//! Registries to pull from: Debian's own, and one of ours that goes wrong by script.
//!
//! Both listen on loopback, where the node's `coracle` reaches them, and speak plain HTTP.

mod content;
mod docker;
mod hostile;
#[cfg(test)]
mod tests;

pub use content::{Content, architecture};
pub use docker::DockerRegistry;
pub use hostile::{Access, Fault, Hostile, REPOSITORY, Request, Target};

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use crate::Node;
use crate::netns::HostCommand;

/// Who may pull, where a registry asks.
pub const USER: &str = "puller";
/// [`USER`]'s password.
pub const PASSWORD: &str = "secret";
/// Both as HTTP's basic authentication has them.
pub const BASIC: &str = "Basic cHVsbGVyOnNlY3JldA==";
/// Both in the form of an `auth` in docker's `config.json`.
pub const AUTH: &str = "cHVsbGVyOnNlY3JldA==";

/// A listener on `address`, where the node reaches it: these three know in which network the node lives.
fn listen(node: &Node, address: &str) -> TcpListener {
    node.host()
        .within(|| TcpListener::bind((address, 0)))
        .unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"))
}

/// Whether somebody listens on an address of the node.
fn answers(node: &Node, address: &str) -> bool {
    node.host().within(|| TcpStream::connect(address)).is_ok()
}

/// A command in the node's network.
pub fn inside(node: &Node, program: impl AsRef<OsStr>) -> HostCommand {
    node.host().command(Command::new(program))
}

/// Writes a `hosts.toml` for `host` into a directory of the node's, which `--registry-config-dir` takes.
pub fn hosts_toml(node: &Node, host: &str, text: &str) -> PathBuf {
    let dir = node.make_dir("certs.d");
    let sub = node.make_dir(&format!("certs.d/{host}"));
    std::fs::write(sub.join("hosts.toml"), text).expect("the directory is ours");
    dir
}

/// A docker `config.json` in a directory of the node's, with credentials for `host`; `DOCKER_CONFIG` takes the directory.
pub fn docker_config(node: &Node, host: &str, auth: &str) -> PathBuf {
    let dir = node.make_dir("docker-config");
    let text = serde_json::json!({"auths": {host: {"auth": auth}}}).to_string();
    std::fs::write(dir.join("config.json"), text).expect("the directory is ours");
    dir
}
