//! What a node says about registries.

use std::path::PathBuf;
use std::time::Duration;

/// Where the configuration of registries is, and how patient to be with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Directories of `HOST/hosts.toml`; the first that has something for a host counts.
    pub config_dirs: Vec<PathBuf>,
    /// `config.json` and `auth.json` files; the first that has credentials for an image counts.
    pub auth_files: Vec<PathBuf>,
    /// Patience.
    pub timeouts: Timeouts,
}

/// How patient to be with a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// Without a byte from a registry.
    pub stall: Duration,
    /// Before the second attempt; each further one waits twice as long.
    pub back_off: Duration,
    /// The longest wait between attempts, unless the registry asks for more.
    pub max_back_off: Duration,
    /// The longest wait that a registry may ask for.
    pub max_retry_after: Duration,
    /// Attempts that bring nothing before a blob is given up.
    pub attempts: u32,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            back_off: Duration::from_millis(400),
            max_back_off: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(60),
            attempts: 5,
        }
    }
}

impl RegistryOptions {
    /// The directories and files where registries are configured on most hosts, by this process's environment.
    pub fn of_host() -> RegistryOptions {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let auth_files = [
            variable("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
            variable("HOME").map(|dir| dir.join(".docker/config.json")),
            variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            Some(PathBuf::from("/etc/coracle/config.json")),
        ];
        RegistryOptions {
            config_dirs: vec!["/etc/coracle/certs.d".into(), "/etc/containerd/certs.d".into()],
            auth_files: auth_files.into_iter().flatten().collect(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        RegistryOptions::of_host()
    }
}
