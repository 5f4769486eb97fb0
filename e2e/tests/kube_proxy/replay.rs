//! What kube-proxy wrote: taken down, and put into a host again.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use e2e::netns::HOST;
use e2e::{Finished, debian};

use super::world::{ROUTE_LOCALNET, World, families};

/// How kube-proxy writes its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Iptables,
    Nftables,
}

impl Mode {
    /// What kube-proxy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Iptables => "iptables",
            Mode::Nftables => "nftables",
        }
    }

    /// Whether this machine has what loads them.
    pub fn programs(self) -> Result<(), String> {
        match self {
            Mode::Iptables => debian::program("iptables-restore", "iptables").map(drop),
            Mode::Nftables => debian::program("nft", "nftables").map(drop),
        }
    }

    fn file(self, six: bool) -> PathBuf {
        let file = format!("{}.ipv{}", self.name(), if six { 6 } else { 4 });
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/kube-proxy").join(file)
    }

    /// What the host has of it, of one family.
    pub fn list(self, world: &World<'_>, six: bool) -> Finished {
        let words: &[&str] = match (self, six) {
            (Mode::Iptables, false) => &["iptables-save"],
            (Mode::Iptables, true) => &["ip6tables-save"],
            (Mode::Nftables, false) => &["nft", "-s", "list", "table", "ip", "kube-proxy"],
            (Mode::Nftables, true) => &["nft", "-s", "list", "table", "ip6", "kube-proxy"],
        };
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        world.node.host().run(command)
    }

    /// Writes down what the host has.
    pub fn record(self, world: &World<'_>) {
        for six in families() {
            let text = self.list(world, six).exits(0).stdout();
            // Counters, which iptables-restore cannot make.
            let counters = ["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"];
            let text =
                counters.iter().fold(text, |text, it| text.replace(&format!(" -m nfacct --nfacct-name  {it}"), ""));
            let mut text: String = text.lines().filter(|it| !it.starts_with('#')).map(|it| format!("{it}\n")).collect();
            for (name, address) in addresses(world, six) {
                text = text.replace(&address.to_string(), &format!("${{{name}}}"));
            }
            fs::write(self.file(six), text).unwrap();
        }
    }

    /// Puts what was written down into the host, for its pods of today.
    pub fn load(self, world: &World<'_>) -> Result<(), String> {
        if self == Mode::Iptables {
            world.node.host().within(|| fs::write(ROUTE_LOCALNET, "1")).map_err(|error| error.to_string())?;
        }
        for six in families() {
            let mut text = fs::read_to_string(self.file(six)).expect("the recording is there");
            for (name, address) in addresses(world, six) {
                text = text.replace(&format!("${{{name}}}"), &address.to_string());
            }
            let path = world.node.dir().join(format!("{}-{six}", self.name()));
            fs::write(&path, text).map_err(|error| error.to_string())?;
            let program = match (self, six) {
                (Mode::Iptables, false) => "iptables-restore",
                (Mode::Iptables, true) => "ip6tables-restore",
                (Mode::Nftables, _) => "nft",
            };
            let mut command = Command::new(debian::which(program).ok_or_else(|| format!("there is no {program}"))?);
            if self == Mode::Nftables {
                command.arg("-f");
            }
            command.arg(&path);
            world.node.host().run(command).exits(0);
        }
        Ok(())
    }
}

/// What differs from test to test.
fn addresses(world: &World<'_>, six: bool) -> Vec<(String, IpAddr)> {
    let host = HOST[usize::from(six)];
    world.pods.iter().map(|pod| (pod.name.clone(), pod.ip_like(host))).collect()
}
