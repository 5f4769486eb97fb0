//! From what was written to what it means, checked as kubelet checks it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::types::{KubeletConfiguration, LoggingConfiguration};
use super::{Config, ContainerLogs, Health, ImageGc, LogFormat, Logging, Pulls, Reserved, Resources};
use super::{cluster, eviction, server, shutdown, types};
use crate::diagnostic::Severity::Error;
use crate::duration;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use crate::suggest::{clip, nearest};
use crate::validate::names;
use crate::yaml::Node;

/// What a duration looks like, for those who wrote none.
const DURATION: &str = "write it as 30s, 10m or 1h30m";

/// Reads the fields and says what is wrong with each.
pub(super) struct Checker<'a, 'r> {
    root: &'a Node,
    report: &'a mut Report<'r>,
}

/// The settings. What is wrong is reported, and kubelet's default stands in for it.
pub(super) fn of(raw: &KubeletConfiguration, root: &Node, report: &mut Report<'_>) -> Config {
    let mut checker = Checker { root, report };
    let default = Config::default();
    feature_gates(raw, &mut checker);
    Config {
        static_pod_path: checker.path("staticPodPath", raw.static_pod_path.as_ref()),
        cluster_domain: cluster_domain(raw, &mut checker),
        cluster_dns: cluster_dns(raw, &mut checker),
        resolv_conf: checker.path("resolvConf", raw.resolv_conf.as_ref()),
        static_pod_url: checker.url(raw),
        static_pod_url_header: headers(raw),
        file_check_frequency: checker.period(
            "fileCheckFrequency",
            &raw.file_check_frequency,
            default.file_check_frequency,
        ),
        http_check_frequency: checker.period(
            "httpCheckFrequency",
            &raw.http_check_frequency,
            default.http_check_frequency,
        ),
        container_runtime_endpoint: raw.container_runtime_endpoint.clone(),
        runtime_request_timeout: checker.period(
            "runtimeRequestTimeout",
            &raw.runtime_request_timeout,
            default.runtime_request_timeout,
        ),
        pulls: pulls(raw, &mut checker),
        logs: logs(raw, &mut checker),
        images: images(raw, &mut checker),
        eviction: eviction::of(raw, &mut checker),
        reserved: Reserved {
            system: checker.resources("systemReserved", raw.system_reserved.as_ref()),
            kube: checker.resources("kubeReserved", raw.kube_reserved.as_ref()),
        },
        max_pods: checker.number("maxPods", raw.max_pods.filter(|it| *it != 0), (0, i32::MAX), 110),
        pods_per_core: Some(checker.number("podsPerCore", raw.pods_per_core, (0, i32::MAX), 0)).filter(|it| *it > 0),
        // Any negative number is no limit.
        pod_pids_limit: raw.pod_pids_limit.and_then(|it| u64::try_from(it).ok()),
        allowed_unsafe_sysctls: unsafe_sysctls(raw, &mut checker),
        node_status_max_images: match raw.node_status_max_images {
            Some(-1) => None,
            other => Some(checker.number("nodeStatusMaxImages", other, (0, i32::MAX), 50) as usize),
        },
        local_storage_capacity_isolation: raw.local_storage_capacity_isolation.unwrap_or(true),
        max_container_restart_period: restart_period(raw, &mut checker),
        shutdown: shutdown::of(raw, &mut checker),
        health: health(raw, &mut checker),
        server: server::of(raw, &mut checker),
        oom_score_adj: oom_score_adj(raw, &mut checker),
        logging: raw.logging.as_ref().map_or_else(Logging::default, |it| logging(it, &mut checker)),
        cluster: cluster::of(raw, &mut checker),
    }
}

fn cluster_domain(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Option<String> {
    let domain = raw.cluster_domain.as_deref()?.trim_end_matches('.');
    if !domain.is_empty() && !super::is_cluster_domain(domain) {
        let message = format!("`{}` is no domain", clip(domain));
        checker.error(&Path::default().field("clusterDomain"), message, Some("write it as `cluster.local`".into()));
    }
    Some(domain.to_owned()).filter(|it| !it.is_empty())
}

fn cluster_dns(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for (index, text) in raw.cluster_dns.iter().flatten().enumerate() {
        match text.parse() {
            Ok(server) => servers.push(server),
            Err(_) => {
                let path = Path::default().field("clusterDNS").index(index);
                let message = format!("`{}` is no address", clip(text));
                checker.error(&path, message, Some("write it as `10.96.0.10`".into()));
            }
        }
    }
    servers
}

/// Only what a pod has to itself can be allowed: the rest is the host's.
fn unsafe_sysctls(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Vec<String> {
    let mut allowed = Vec::new();
    for (index, pattern) in raw.allowed_unsafe_sysctls.iter().flatten().enumerate() {
        let path = Path::default().field("allowedUnsafeSysctls").index(index);
        // A beginning is as good as the names that begin with it.
        let name = pattern.strip_suffix('*').map_or_else(|| pattern.clone(), |beginning| format!("{beginning}x"));
        match names::sysctl(&name) {
            Ok(()) => allowed.push(pattern.replace('/', ".")),
            Err(_) => {
                let message = format!("`{}` is no kernel parameter of a pod's own", clip(pattern));
                let help = "write it as `net.core.somaxconn` or `net.ipv4.*`; a pod has its own of `net.*`, `kernel.shm*`, \
                            `kernel.msg*`, `kernel.sem` and `fs.mqueue.*`";
                checker.error(&path, message, Some(help.into()));
            }
        }
    }
    allowed
}

fn feature_gates(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) {
    for name in raw.feature_gates.iter().flatten().map(|(name, _)| name) {
        let path = Path::default().field("featureGates").key(name);
        let message = format!("there is no feature gate `{}`: nothing here stands behind one", clip(name));
        checker.error(&path, message, Some("remove it; the support table says what runs".into()));
    }
}

fn headers(raw: &KubeletConfiguration) -> Vec<(String, String)> {
    let all = raw.static_pod_url_header.iter().flatten();
    all.flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone()))).collect()
}

fn pulls(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Pulls {
    let default = Pulls::default();
    let qps = checker.number("registryPullQPS", raw.registry_pull_qps, (0, i32::MAX), 5);
    let burst = raw.registry_burst.filter(|it| *it != 0);
    let burst = checker.number("registryBurst", burst, (0, i32::MAX), default.burst);
    let most =
        raw.max_parallel_image_pulls.map(|it| checker.number("maxParallelImagePulls", Some(it), (1, i32::MAX), 1));
    let parallel = match (raw.serialize_image_pulls, most) {
        (Some(true), Some(most)) if most > 1 => {
            let path = Path::default().field("maxParallelImagePulls");
            let help = "set `serializeImagePulls: false`, or leave one of them out".to_owned();
            checker.error(&path, "it is more than 1, and `serializeImagePulls` is true", Some(help));
            Some(1)
        }
        (Some(true), _) => Some(1),
        (_, most) => most,
    };
    Pulls { qps: Some(qps).filter(|it| *it > 0), burst, parallel }
}

fn logs(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> ContainerLogs {
    let default = ContainerLogs::default();
    let path = Path::default().field("containerLogMaxSize");
    let max_size = match raw.container_log_max_size.as_deref().map(|text| (text, text.parse::<Quantity>())) {
        None => default.max_size,
        // Kubelet takes a negative one for no limit.
        Some((_, Ok(size))) => match u64::try_from(size.units()) {
            Ok(0) => {
                checker.error(&path, "a log of no bytes cannot be kept", Some("such as `10Mi`; -1 is no limit".into()));
                default.max_size
            }
            size => size.ok(),
        },
        Some((_, Err(error))) => {
            checker.error(&path, error.to_string(), Some("write it as 500Ki or 10Mi".into()));
            default.max_size
        }
    };
    let interval = "containerLogMonitorInterval";
    let least = Duration::from_secs(3);
    let every = checker.period(interval, &raw.container_log_monitor_interval, default.interval);
    if every < least {
        checker.error(&Path::default().field(interval), "it is less than 3s", None);
    }
    ContainerLogs {
        max_size,
        max_files: checker.number("containerLogMaxFiles", raw.container_log_max_files, (2, i32::MAX), 5),
        workers: checker.number("containerLogMaxWorkers", raw.container_log_max_workers, (1, i32::MAX), 1),
        interval: every.max(least),
    }
}

fn images(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> ImageGc {
    let default = ImageGc::default();
    let percent = |checker: &mut Checker<'_, '_>, name, value, default: u8| {
        let number = checker.number(name, value, (0, 100), u32::from(default));
        u8::try_from(number).unwrap_or(default)
    };
    let high_percent =
        percent(checker, "imageGCHighThresholdPercent", raw.image_gc_high_threshold_percent, default.high_percent);
    let low_percent =
        percent(checker, "imageGCLowThresholdPercent", raw.image_gc_low_threshold_percent, default.low_percent);
    if low_percent >= high_percent {
        let message =
            format!("`{low_percent}` is not less than `imageGCHighThresholdPercent`, which is {high_percent}");
        let given = raw.image_gc_low_threshold_percent.is_some();
        let field = if given { "imageGCLowThresholdPercent" } else { "imageGCHighThresholdPercent" };
        checker.error(&Path::default().field(field), message, None);
    }
    let minimum_age = checker.period("imageMinimumGCAge", &raw.image_minimum_gc_age, default.minimum_age);
    let maximum_age = checker.duration("imageMaximumGCAge", &raw.image_maximum_gc_age).filter(|it| !it.is_zero());
    if maximum_age.is_some_and(|it| it <= minimum_age) {
        let path = Path::default().field("imageMaximumGCAge");
        checker.error(&path, "it is not more than `imageMinimumGCAge`", None);
    }
    ImageGc { minimum_age, maximum_age, high_percent, low_percent }
}

fn restart_period(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Duration {
    let most = Config::default().max_container_restart_period;
    let Some(back_off) = &raw.crash_loop_back_off else { return most };
    let types::CrashLoopBackOffConfig { max_container_restart_period } = back_off;
    let path = Path::default().field("crashLoopBackOff").field("maxContainerRestartPeriod");
    let given = checker.duration_at(&path, max_container_restart_period.as_deref());
    if given.is_some_and(|it| !(Duration::from_secs(1)..=most).contains(&it)) {
        checker.error(&path, "it is not between 1s and 300s", None);
    }
    given.unwrap_or(most)
}

fn health(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Health {
    let default = Health::default();
    let address = match raw.healthz_bind_address.as_deref().map(str::parse) {
        None => default.address,
        Some(Ok(address)) => address,
        Some(Err(_)) => {
            let path = Path::default().field("healthzBindAddress");
            checker.error(&path, "it is no IP address", Some("such as `127.0.0.1` or `::1`".into()));
            default.address
        }
    };
    let port = checker.number("healthzPort", raw.healthz_port, (0, 65_535), 10_248);
    Health { address, port: u16::try_from(port).ok().filter(|it| *it > 0) }
}

fn oom_score_adj(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> i32 {
    let value = raw.oom_score_adj.unwrap_or(Config::default().oom_score_adj);
    if !(-1000..=1000).contains(&value) {
        checker.error(&Path::default().field("oomScoreAdj"), format!("`{value}` is not between -1000 and 1000"), None);
    }
    value
}

fn logging(raw: &LoggingConfiguration, checker: &mut Checker<'_, '_>) -> Logging {
    let path = Path::default().field("logging");
    let format = match raw.format.as_deref() {
        None => None,
        Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some("journald") => Some(LogFormat::Journald),
        Some(other) => {
            let near = nearest(other, ["text", "json", "journald"]).map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` is not one of `text`, `json` and `journald`", clip(other));
            checker.error(&path.field("format"), message, near);
            None
        }
    };
    let verbosity = raw.verbosity.unwrap_or(0);
    if verbosity < 0 {
        checker.error(&path.field("verbosity"), format!("`{verbosity}` is less than 0"), None);
    }
    Logging { format, verbosity: u32::try_from(verbosity).unwrap_or(0) }
}

impl Checker<'_, '_> {
    pub(super) fn error(&mut self, path: &Path, message: impl Into<String>, help: Option<String>) {
        // What is already reported is not reported again.
        if !self.report.is_settled(path) {
            let (at, _) = path.locate(self.root);
            self.report.add(Error, at, path, message, help);
        }
    }

    pub(super) fn duration(&mut self, name: &str, text: &Option<String>) -> Option<Duration> {
        self.duration_at(&Path::default().field(name), text.as_deref())
    }

    pub(super) fn duration_at(&mut self, path: &Path, text: Option<&str>) -> Option<Duration> {
        let text = text?;
        let parsed = duration::parse(text);
        if parsed.is_none() {
            self.error(path, format!("`{}` is no duration", clip(text)), Some(DURATION.into()));
        }
        parsed
    }

    /// A duration of which 0 is none given, as kubelet has it.
    pub(super) fn period(&mut self, name: &str, text: &Option<String>, default: Duration) -> Duration {
        self.duration(name, text).filter(|it| !it.is_zero()).unwrap_or(default)
    }

    pub(super) fn number(&mut self, name: &str, value: Option<i32>, within: (i32, i32), default: u32) -> u32 {
        let Some(value) = value else { return default };
        let (least, most) = within;
        if !(least..=most).contains(&value) {
            let message = match most {
                i32::MAX => format!("`{value}` is less than {least}"),
                _ => format!("`{value}` is not between {least} and {most}"),
            };
            self.error(&Path::default().field(name), message, None);
        }
        u32::try_from(value).unwrap_or(default)
    }

    pub(super) fn path(&mut self, name: &str, text: Option<&String>) -> Option<PathBuf> {
        self.path_at(&Path::default().field(name), text)
    }

    pub(super) fn path_at(&mut self, path: &Path, text: Option<&String>) -> Option<PathBuf> {
        let text = text?;
        if !text.starts_with('/') {
            let message = format!("`{}` is not absolute", clip(text));
            self.error(path, message, Some("begin it with `/`".into()));
        }
        Some(PathBuf::from(text))
    }

    fn url(&mut self, raw: &KubeletConfiguration) -> Option<String> {
        let url = raw.static_pod_url.as_ref()?;
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            let message = format!("`{}` is no URL", clip(url));
            let help = "begin it with `https://` or `http://`".to_owned();
            self.error(&Path::default().field("staticPodURL"), message, Some(help));
        }
        Some(url.clone())
    }

    fn resources(&mut self, name: &str, texts: Option<&BTreeMap<String, String>>) -> Resources {
        let mut resources = Resources::default();
        for (resource, text) in texts.into_iter().flatten() {
            let path = Path::default().field(name).key(resource);
            let amount = match text.parse::<Quantity>() {
                Ok(amount) if amount.nano() >= 0 => amount,
                Ok(_) => {
                    self.error(&path, format!("`{}` is less than 0", clip(text)), None);
                    continue;
                }
                Err(error) => {
                    self.error(&path, error.to_string(), None);
                    continue;
                }
            };
            let (units, milli) = (amount.units().unsigned_abs(), amount.milli().unsigned_abs());
            match resource.as_str() {
                "cpu" => resources.cpu_milli = milli,
                "memory" => resources.memory = units,
                "ephemeral-storage" => resources.ephemeral_storage = units,
                "pid" => resources.pid = units,
                other => {
                    let known = ["cpu", "memory", "ephemeral-storage", "pid"];
                    let near = nearest(other, known).map(|near| format!("did you mean `{near}`?"));
                    let message = format!("`{}` cannot be reserved", clip(other));
                    self.error(&path, message, near.or_else(|| Some(format!("what can: {}", known.join(", ")))));
                }
            }
        }
        resources
    }
}
