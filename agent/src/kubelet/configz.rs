//! The settings that are in force, under kubelet's names.

use std::path::PathBuf;
use std::time::Duration;

use manifests::kubelet::{Config, Server};
use serde_json::{Value, json};

/// As `/configz` tells them; `asks` says whether an API server is asked what clients may do.
pub fn configz(config: &Config, port: u16, asks: bool) -> Value {
    let mut shown = json!({"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"});
    for part in [server(&config.server, port, asks), sources(config), containers(config)] {
        if let (Value::Object(shown), Value::Object(part)) = (&mut shown, part) {
            shown.extend(part);
        }
    }
    drop_empty(&mut shown);
    shown
}

fn path(path: Option<&PathBuf>) -> Option<String> {
    path.map(|it| it.display().to_string())
}

fn server(server: &Server, port: u16, asks: bool) -> Value {
    let mode = if asks { "Webhook" } else { "AlwaysAllow" };
    let (certificate, key) = server.certificate.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
    json!({
        "enableServer": server.enabled,
        "address": server.address.to_string(),
        "port": port,
        "tlsCertFile": path(certificate),
        "tlsPrivateKeyFile": path(key),
        "tlsMinVersion": server.modern_tls.then_some("VersionTLS13"),
        "authentication": {
            "x509": {"clientCAFile": path(server.client_ca.as_ref())},
            "webhook": {"enabled": server.tokens.is_some(), "cacheTTL": server.tokens.map(duration)},
            "anonymous": {"enabled": false},
        },
        "authorization": {
            "mode": mode,
            "webhook": {"cacheAuthorizedTTL": duration(server.allowed), "cacheUnauthorizedTTL": duration(server.denied)},
        },
        "enableDebuggingHandlers": server.debugging,
        "enableSystemLogHandler": server.system_logs,
        "streamingConnectionIdleTimeout": duration(server.idle.unwrap_or_default()),
    })
}

fn sources(config: &Config) -> Value {
    json!({
        "healthzBindAddress": config.health.address.to_string(),
        "healthzPort": config.health.port.unwrap_or(0),
        "staticPodPath": path(config.static_pod_path.as_ref()),
        "staticPodURL": config.static_pod_url,
        "fileCheckFrequency": duration(config.file_check_frequency),
        "httpCheckFrequency": duration(config.http_check_frequency),
        "clusterDomain": config.cluster_domain,
        "resolvConf": path(config.resolv_conf.as_ref()),
        "containerRuntimeEndpoint": config.container_runtime_endpoint,
        "runtimeRequestTimeout": duration(config.runtime_request_timeout),
    })
}

fn containers(config: &Config) -> Value {
    json!({
        "containerLogMaxFiles": config.logs.max_files,
        "containerLogMaxSize": config.logs.max_size.map_or_else(|| "-1".to_owned(), |it| it.to_string()),
        "containerLogMaxWorkers": config.logs.workers,
        "containerLogMonitorInterval": duration(config.logs.interval),
        "imageMinimumGCAge": duration(config.images.minimum_age),
        "imageMaximumGCAge": duration(config.images.maximum_age.unwrap_or_default()),
        "imageGCHighThresholdPercent": config.images.high_percent,
        "imageGCLowThresholdPercent": config.images.low_percent,
        "maxPods": config.max_pods,
        "podsPerCore": config.pods_per_core,
        "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        "podPidsLimit": config.pod_pids_limit.map_or(json!(-1), |it| json!(it)),
        "nodeStatusMaxImages": config.node_status_max_images.map_or(json!(-1), |it| json!(it)),
        "localStorageCapacityIsolation": config.local_storage_capacity_isolation,
        "crashLoopBackOff": {"maxContainerRestartPeriod": duration(config.max_container_restart_period)},
        "registryPullQPS": config.pulls.qps.unwrap_or(0),
        "registryBurst": config.pulls.burst,
        "serializeImagePulls": config.pulls.parallel == Some(1),
        "maxParallelImagePulls": config.pulls.parallel,
        "oomScoreAdj": config.oom_score_adj,
        "logging": {"verbosity": config.logging.verbosity},
    })
}

fn drop_empty(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_empty);
    }
}

/// As Go writes it: `1h30m0s`.
fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}").trim_end_matches('0').to_owned() };
    match (hours, minutes) {
        (0, 0) => format!("{rest}{fraction}s"),
        (0, _) => format!("{minutes}m{rest}{fraction}s"),
        _ => format!("{hours}h{minutes}m{rest}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, expected) in [
            (0, "0s"),
            (500, "500ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (4 * 3_600_000, "4h0m0s"),
            (5_400_000, "1h30m0s"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let shown = configz(&Config::default(), 10_250, true);
        let source = manifests::Source { name: "configz".into(), text: shown.to_string() };
        let (config, diagnostics) = manifests::kubelet::read(&source);
        let errors: Vec<_> = diagnostics.iter().filter(|it| it.severity == manifests::Severity::Error).collect();
        assert!(config.is_some(), "{errors:?}");
    }
}
