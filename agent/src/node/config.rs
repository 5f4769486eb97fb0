//! What the agent is told: its flags, over a KubeletConfiguration, over kubelet's defaults.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use manifests::{Diagnostic, Severity, Source};

pub use manifests::kubelet::Config;

use crate::engine::backoff::Policy;
use crate::logging::Format;

/// Flags of `agent` that say what a configuration file can say, too: they come first.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// KubeletConfiguration to read settings from; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to serve /healthz and /metrics on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub healthz_bind_address: Option<IpAddr>,
    /// Port to serve /healthz and /metrics on; 0 for not at all [default: 10248]
    #[arg(long, value_name = "PORT")]
    pub healthz_port: Option<u16>,
    /// Size at which a container's log goes on in a new file, such as 10Mi; -1 for never [default: 10Mi]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    pub container_log_max_size: Option<LogSize>,
    /// How many log files a container may have [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub container_log_max_files: Option<u32>,
    #[command(flatten)]
    pub server: crate::kubelet::Flags,
    /// How the agent writes its own messages [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub logging_format: Option<Format>,
    /// How much the agent says of what it does, as kubelet counts: 0 to 10
    #[arg(long = "v", value_name = "LEVEL")]
    pub verbosity: Option<u32>,
}

/// A size; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSize(Option<u64>);

fn size(text: &str) -> Result<LogSize, String> {
    let size: manifests::quantity::Quantity = text.parse().map_err(|error| format!("{error}; write it as 10Mi"))?;
    match u64::try_from(size.units()) {
        Ok(0) => Err("a log of no bytes cannot be kept".into()),
        size => Ok(LogSize(size.ok())),
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file cannot be read.
    #[error("read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says what cannot be.
    #[error("the configuration {} has mistakes", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All there is to say of it.
        diagnostics: Vec<Diagnostic>,
    },
}

impl Flags {
    /// The settings as they are now, and what is to be said of them.
    pub fn load(&self) -> Result<(Config, Vec<Diagnostic>), Unusable> {
        let (mut config, warnings) = match &self.config {
            Some(path) => read(path)?,
            None => (Config::default(), Vec::new()),
        };
        self.apply(&mut config);
        Ok((config, warnings))
    }

    fn apply(&self, config: &mut Config) {
        if let Some(address) = self.healthz_bind_address {
            config.health.address = address;
        }
        if let Some(port) = self.healthz_port {
            config.health.port = Some(port).filter(|it| *it > 0);
        }
        if let Some(LogSize(size)) = self.container_log_max_size {
            config.logs.max_size = size;
        }
        if let Some(files) = self.container_log_max_files {
            config.logs.max_files = files;
        }
        self.server.apply(&mut config.server);
        if let Some(verbosity) = self.verbosity {
            config.logging.verbosity = verbosity;
        }
    }

    /// How the agent writes its messages.
    pub fn format(&self, config: &Config) -> Format {
        self.logging_format.or(config.logging.format.map(Format::from)).unwrap_or_default()
    }
}

fn read(path: &Path) -> Result<(Config, Vec<Diagnostic>), Unusable> {
    let text = std::fs::read_to_string(path).map_err(|source| Unusable::Read { path: path.to_owned(), source })?;
    let (config, diagnostics) = manifests::kubelet::read(&Source { name: path.display().to_string(), text });
    match config {
        Some(config) => Ok((config, diagnostics)),
        None => Err(Unusable::Invalid { path: path.to_owned(), diagnostics }),
    }
}

/// Kubelet's back-off, with the configuration's longest wait.
pub fn back_off(config: &Config) -> Policy {
    let max = config.max_container_restart_period;
    let policy = Policy::default();
    Policy { initial: policy.initial.min(max), max, ..policy }
}

/// Writes down what is to be said of a configuration.
pub fn tell(diagnostics: &[Diagnostic]) {
    for it in diagnostics {
        let place = format!("{}:{}:{}", it.file, it.line, it.column);
        let help = it.help.as_deref().unwrap_or_default();
        match it.severity {
            Severity::Error => tracing::error!(place, field = it.path, help, "{}", it.message),
            Severity::Warning => tracing::warn!(place, field = it.path, help, "{}", it.message),
        }
    }
}

/// What of the settings only a restart of the agent carries into effect, and differs.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("staticPodPath", old.static_pod_path != new.static_pod_path),
        ("clusterDNS", old.cluster_dns != new.cluster_dns),
        ("clusterDomain", old.cluster_domain != new.cluster_domain),
        ("allowedUnsafeSysctls", old.allowed_unsafe_sysctls != new.allowed_unsafe_sysctls),
        ("resolvConf", old.resolv_conf != new.resolv_conf),
        ("staticPodURL", old.static_pod_url != new.static_pod_url),
        ("staticPodURLHeader", old.static_pod_url_header != new.static_pod_url_header),
        ("fileCheckFrequency", old.file_check_frequency != new.file_check_frequency),
        ("httpCheckFrequency", old.http_check_frequency != new.http_check_frequency),
        ("containerRuntimeEndpoint", old.container_runtime_endpoint != new.container_runtime_endpoint),
        ("the settings of kubelet's API", old.server != new.server),
        ("logging.format", old.logging.format != new.logging.format),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(line: &[&str]) -> Flags {
        <Line as clap::Parser>::try_parse_from(["agent"].iter().chain(line)).unwrap().flags
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(&path, format!("{head}containerLogMaxFiles: 7\ncontainerLogMaxSize: 1Mi\nhealthzPort: 1\n"))
            .unwrap();
        let file = path.to_str().unwrap();
        let (config, _) = flags(&["--config", file, "--healthz-port=0", "--container-log-max-size=-1"]).load().unwrap();
        assert_eq!((config.logs.max_files, config.logs.max_size, config.health.port), (7, None, None));
        assert_eq!(flags(&[]).load().unwrap().0, Config::default());
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let load = || flags(&["--config", path.to_str().unwrap()]).load();
        assert!(matches!(load(), Err(Unusable::Read { .. })));
        std::fs::write(&path, "kind: Pod\n").unwrap();
        let Err(Unusable::Invalid { diagnostics, .. }) = load() else { panic!("it is no configuration") };
        assert_eq!(diagnostics.len(), 1);
    }

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let (old, mut new) = (Config::default(), Config::default());
        new.max_pods = 5;
        assert!(needs_restart(&old, &new).is_empty());
        (new.oom_score_adj, new.health.port, new.logging.verbosity) = (0, None, 5);
        assert!(needs_restart(&old, &new).is_empty());
        new.static_pod_path = Some("/p".into());
        assert_eq!(needs_restart(&old, &new), ["staticPodPath"]);
    }
}
