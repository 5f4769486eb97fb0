//! A node with plug-ins: a directory of configurations, Debian's plug-ins, and scripts of a test's own.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::pods::has_v6;
use e2e::{Node, deadline, debian};
use serde_json::{Value, json};

/// The name of the network.
pub const NETWORK: &str = "e2e-net";

/// Where the plug-ins of a node are.
pub struct Plugins {
    /// Configurations.
    pub conf: PathBuf,
    /// Scripts, which are looked for before Debian's.
    pub scripts: PathBuf,
    /// What scripts write down.
    pub notes: PathBuf,
    leases: PathBuf,
    debian: PathBuf,
}

impl Plugins {
    /// Without any configuration yet; the error says what this machine lacks.
    pub fn on(node: &mut Node) -> Result<Self, String> {
        debian::program("iptables", "iptables")?;
        let installed = Path::new("/usr/lib/cni");
        let debian = match installed.join("bridge").exists() {
            true => installed.to_owned(),
            false => debian::unpacked(&["containernetworking-plugins"])?.join("usr/lib/cni"),
        };
        // Plug-ins let the host forward, and nobody takes that back.
        let host = node.host().clone();
        let forward = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(|it| format!("/proc/sys/net/{it}"));
        let before = host.within(|| forward.clone().map(|path| fs::read_to_string(path).ok()));
        node.on_drop(move || {
            host.within(|| {
                for (path, value) in forward.iter().zip(before) {
                    // A kernel without IPv6 has no such file.
                    value.map(|value| fs::write(path, value));
                }
            });
        });
        Ok(Self {
            conf: node.make_dir("cni-conf"),
            scripts: node.make_dir("cni-scripts"),
            notes: node.make_dir("cni-notes"),
            leases: node.make_dir("cni-leases"),
            debian,
        })
    }

    /// The flags of verbs that make pods.
    pub fn flags(&self) -> Vec<String> {
        let bin = format!("{}:{}", self.scripts.display(), self.debian.display());
        vec!["--cni-conf-dir".into(), self.conf.display().to_string(), "--cni-bin-dir".into(), bin]
    }

    /// The same, for an agent.
    pub fn os_flags(&self) -> Vec<OsString> {
        self.flags().into_iter().map(OsString::from).collect()
    }

    /// Addresses of both families, and where they are written down.
    pub fn ipam(&self) -> Value {
        let mut ranges = vec![json!([{"subnet": "10.88.0.0/24"}])];
        let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
        if has_v6() {
            ranges.push(json!([{"subnet": "fd88::/64"}]));
            routes.push(json!({"dst": "::/0"}));
        }
        json!({"type": "host-local", "dataDir": self.leases, "ranges": ranges, "routes": routes})
    }

    /// Debian's bridge.
    pub fn bridge(&self) -> Value {
        json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "dns": {"nameservers": ["192.0.2.53"], "search": ["plugged.example"]}, "ipam": self.ipam()})
    }

    /// Writes a configuration list.
    pub fn write(&self, file: &str, version: &str, plugins: Value) {
        let list = json!({"cniVersion": version, "name": NETWORK, "plugins": plugins});
        fs::write(self.conf.join(file), list.to_string()).expect("the directory is writable");
    }

    /// Writes a plug-in. What it is asked is in `$CNI_COMMAND`, what it reads in `$input`; it notes the verb and the network
    /// namespace that it is told.
    pub fn script(&self, name: &str, body: &str) {
        let notes = self.notes.display();
        let text = format!(
            "#!/bin/sh\nnotes={notes}\ninput=$(cat)\necho \"$CNI_COMMAND netns=$CNI_NETNS\" >> $notes/{name}\n\
             printf '%s' \"$input\" > $notes/{name}.$CNI_COMMAND\n\
             pass() {{ printf '%s' \"$input\" | sed 's/.*\"prevResult\"://; s/,\"type\":\"[^\"]*\"}}$//'; }}\n{body}\n"
        );
        // Whole at once: it may be started while it is written.
        let (path, new) = (self.scripts.join(name), self.scripts.join(format!(".{name}")));
        fs::write(&new, text).expect("the directory is writable");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(new, path).expect("the directory is writable");
    }

    /// What a script was asked, in order.
    pub fn asked(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.notes.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What a script read last when it was asked this.
    pub fn told(&self, name: &str, verb: &str) -> Value {
        let text = fs::read_to_string(self.notes.join(format!("{name}.{verb}"))).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} was not asked for {verb}: {error}: {text:?}"))
    }

    /// The addresses that host-local has given away.
    pub fn leases(&self) -> Vec<IpAddr> {
        let entries = fs::read_dir(self.leases.join(NETWORK)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// What plug-ins have left on the node's host: addresses, links and rules of pods.
    pub fn left(&self, node: &Node) -> Vec<String> {
        let mut left: Vec<String> = self.leases().iter().map(|ip| format!("the lease of {ip}")).collect();
        left.extend(node.host().within(|| {
            let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
            let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
            names.filter(|name| name.starts_with("veth")).map(|name| format!("the link {name}")).collect::<Vec<_>>()
        }));
        for program in ["iptables-save", "ip6tables-save"] {
            let rules = node.host().run(std::process::Command::new(program)).stdout();
            let of_pods =
                |line: &&str| line.starts_with("-A ") && (line.contains("10.88.0.") || line.contains("fd88::"));
            left.extend(rules.lines().filter(of_pods).map(str::to_owned));
        }
        left.extend(
            fs::read_dir(node.root_dir.join("network/cni"))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| format!("the record {}", entry.path().display())),
        );
        left
    }

    /// Waits until nothing is left: links of a namespace that has ended go when the kernel comes to it.
    #[track_caller]
    pub fn assert_nothing_left(&self, node: &Node) {
        let end = Instant::now() + deadline();
        loop {
            let left = self.left(node);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "plug-ins have left: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + deadline();
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
