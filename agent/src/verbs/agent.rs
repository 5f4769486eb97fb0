//! `coracle agent`: keeps the node equal to its manifests, until it is told to stop.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::{HeaderName, HeaderValue};
use runtime::zygote::Zygote;

use crate::cli::Global;
use crate::cluster;
use crate::engine::backoff::Policy;
use crate::engine::config::{ClusterDns, Settings};
use crate::engine::image::Providers;
use crate::engine::time::parse_duration;
use crate::failure::BAD_INPUT;
use crate::host::node::{facts, search_list};
use crate::logging;
use crate::node::config::{self, Config, Flags, Unusable};
use crate::node::sources::{self, Address, Pace, Place};
use crate::node::{self, Listen, Wish, operations};
use crate::privilege::require_root;

/// How long work that nobody waits for any more may take at the end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Flags of `agent`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of manifests, or a single one
    #[arg(long, value_name = "DIR|FILE")]
    pod_manifest_path: Option<PathBuf>,
    /// Address that answers with manifests
    #[arg(long, value_name = "URL", value_parser = sources::address)]
    manifest_url: Option<String>,
    /// Header that is sent to it; may be given several times
    #[arg(long, value_name = "NAME:VALUE", value_parser = sources::header, requires = "manifest_url")]
    manifest_url_header: Vec<(HeaderName, HeaderValue)>,
    /// How often files are looked at without cause [default: 20s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    file_check_frequency: Option<Duration>,
    /// How often that address is asked [default: 20s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    http_check_frequency: Option<Duration>,
    /// Socket of another container runtime, such as unix:///run/containerd/containerd.sock; Coracle's own by default
    #[arg(long, value_name = "SOCKET", value_parser = endpoint)]
    container_runtime_endpoint: Option<PathBuf>,
    /// Serve the container runtime interface on this socket, too, for pods that are none of the agent's
    #[arg(long, value_name = "PATH")]
    cri_socket: Option<PathBuf>,
    /// How often memory, disks and process ids are looked at
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    housekeeping_interval: Duration,
    /// Serve the API to kubectl, too: TLS on this address, such as 127.0.0.1:6443
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<SocketAddr>,
    /// Write a kubeconfig for that, with a token
    #[arg(long, value_name = "FILE", requires = "api_listen")]
    write_kubeconfig: Option<PathBuf>,
    /// Stop the pods when the agent is stopped
    #[arg(long)]
    shutdown_pods: bool,
    /// How long to wait between restarts, such as initial=1s,max=1m,reset=10m [default: initial=10s,max=5m,reset=10m]
    #[arg(long, value_name = "POLICY")]
    restart_backoff: Option<Policy>,
    /// Directory of links to the containers' logs, as kubelet makes them; empty for none [default: `containers` beside a
    /// log directory that is called `pods`]
    #[arg(long, value_name = "DIR")]
    log_links: Option<PathBuf>,
    /// Directory to make look like a kubelet's, for pods that mount that: /var/lib/kubelet
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    kubelet_compat_dir: Option<PathBuf>,
    /// File that says which programs know credentials for registries (CredentialProviderConfig)
    #[arg(long, value_name = "FILE", requires = "image_credential_provider_bin_dir")]
    image_credential_provider_config: Option<PathBuf>,
    /// Directory of those programs
    #[arg(long, value_name = "DIR", requires = "image_credential_provider_config")]
    image_credential_provider_bin_dir: Option<PathBuf>,
    /// Name servers of pods with the policy `ClusterFirst`, such as 10.96.0.10 [default: the node's own]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    #[command(flatten)]
    cluster: cluster::Flags,
    #[command(flatten)]
    flags: Flags,
}

fn duration(text: &str) -> Result<Duration, String> {
    let positive = parse_duration(text).filter(|duration| !duration.is_zero());
    positive.ok_or_else(|| "write it as 500ms, 20s or 1m".to_owned())
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

fn endpoint(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') { Ok(path.into()) } else { Err("write it as unix:///PATH".to_owned()) }
}

/// Runs the agent until it is told to stop. What runs goes on running.
pub fn main(args: Args, global: &Global, zygote: Option<std::io::Result<Zygote>>) -> anyhow::Result<ExitCode> {
    let (config, warnings) = match args.flags.load() {
        Ok(loaded) => loaded,
        Err(Unusable::Invalid { diagnostics, path }) => return mistakes(&diagnostics, &path, global),
        Err(error) => return Err(error.into()),
    };
    logging::of_agent(args.flags.format(&config), config.logging.verbosity).context("begin to log")?;
    config::tell(&warnings);
    let places = places(&args, &config)?;
    let node = args.cluster.facts(facts());
    let cluster = args.cluster.wish(&config, &global.root_dir, &node).transpose()?;
    if places.is_empty() && cluster.is_none() {
        bail!(
            "there is nothing to run pods from; give a directory of manifests with --pod-manifest-path or as staticPodPath in --config, an address with --manifest-url, or a cluster with --kubeconfig"
        );
    }
    require_root("running pods")?;
    let zygote = zygote.transpose().context("prepare to start containers")?;
    let configured = config.container_runtime_endpoint.as_deref().map(endpoint).transpose();
    let configured = configured.map_err(|why| anyhow::anyhow!("containerRuntimeEndpoint: {why}"))?;
    let endpoint = args.container_runtime_endpoint.or(configured);
    let mut global = global.clone();
    global.cluster_domain = global.cluster_domain.or_else(|| config.cluster_domain.clone());
    global.resolv_conf = global.resolv_conf.or_else(|| config.resolv_conf.clone());
    let mut settings = Settings::of(&global, node)?;
    settings.node.allocatable.set(node::care::for_pods(&settings.node, &settings.root_dir, &config));
    settings.unsafe_sysctls.clone_from(&config.allowed_unsafe_sysctls);
    settings.serves_names = endpoint.is_none();
    settings.cluster_dns = cluster_dns(args.cluster_dns, &config, &global);
    if let (Some(config), Some(dir)) = (&args.image_credential_provider_config, &args.image_credential_provider_bin_dir)
    {
        settings.credential_providers = Providers::open(config, dir)?;
    }
    let wish = Wish {
        settings,
        places,
        pace: Pace {
            files: args.file_check_frequency.unwrap_or(config.file_check_frequency),
            urls: args.http_check_frequency.unwrap_or(config.http_check_frequency),
        },
        backoff: args.restart_backoff,
        operations: operations::Wish {
            flags: args.flags,
            config,
            log_links: log_links(args.log_links, &global.log_dir),
        },
        global,
        api: Listen { address: args.api_listen, kubeconfig: args.write_kubeconfig },
        housekeeping: args.housekeeping_interval,
        shutdown_pods: args.shutdown_pods,
        endpoint,
        cri_socket: args.cri_socket,
        kubelet_compat_dir: args.kubelet_compat_dir,
        cluster,
    };
    runtime::memory::use_few_arenas();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let outcome = rt.block_on(node::run(wish, zygote));
    // What is half done is brought to an end, if that is near: what is cut off the next agent takes away.
    rt.shutdown_timeout(LAST_WORK);
    outcome.map(|held| {
        // Its threads may still be at work: who comes next has to wait until this process is gone.
        std::mem::forget(held);
        ExitCode::SUCCESS
    })
}

/// Who answers for names instead of the node itself.
fn cluster_dns(asked: Vec<IpAddr>, config: &Config, global: &Global) -> ClusterDns {
    let servers = if asked.is_empty() { config.cluster_dns.clone() } else { asked };
    let resolv_conf = global.resolv_conf.as_deref().unwrap_or(std::path::Path::new("/etc/resolv.conf"));
    ClusterDns { servers, searches: search_list(resolv_conf) }
}

/// Where manifests come from: the flags come before the configuration.
fn places(args: &Args, config: &Config) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    if let Some(path) = args.pod_manifest_path.as_ref().or(config.static_pod_path.as_ref()) {
        let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
        places.push(Place::Path(path));
    }
    if let Some(url) = &args.manifest_url {
        places.push(Place::Url(Address { url: url.clone(), headers: args.manifest_url_header.clone() }));
    } else if let Some(url) = &config.static_pod_url {
        let wrong = |why| anyhow::anyhow!("staticPodURL, staticPodURLHeader: {why}");
        let headers =
            config.static_pod_url_header.iter().map(|(name, value)| sources::header(&format!("{name}:{value}")));
        let headers = headers.collect::<Result<_, _>>().map_err(wrong)?;
        places.push(Place::Url(Address { url: sources::address(url).map_err(wrong)?, headers }));
    }
    Ok(places)
}

/// Collectors look in /var/log/containers for what is in /var/log/pods; logs that are elsewhere are not for them.
fn log_links(given: Option<PathBuf>, log_dir: &std::path::Path) -> Option<PathBuf> {
    let beside = || log_dir.ends_with("pods").then(|| log_dir.with_file_name("containers"));
    given.map_or_else(beside, |it| Some(it).filter(|it| !it.as_os_str().is_empty()))
}

/// Shows what is wrong with a configuration.
fn mistakes(
    diagnostics: &[manifests::Diagnostic],
    path: &std::path::Path,
    global: &Global,
) -> anyhow::Result<ExitCode> {
    let color = global.color.wanted(&std::io::stderr());
    for diagnostic in diagnostics {
        anstream::eprintln!("{}", diagnostic.render(color));
    }
    anstream::eprintln!("the configuration {} has mistakes: nothing was started", path.display());
    Ok(ExitCode::from(BAD_INPUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_linked_beside_kubelet_s_directory_or_where_it_is_said() {
        let links = |given: Option<&str>, dir| log_links(given.map(PathBuf::from), std::path::Path::new(dir));
        assert_eq!(links(None, "/var/log/pods"), Some("/var/log/containers".into()));
        assert_eq!(links(None, "/srv/logs"), None);
        assert_eq!(links(Some("/l"), "/srv/logs"), Some("/l".into()));
        assert_eq!(links(Some(""), "/var/log/pods"), None);
    }
}
