#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::{Severity, Source};

fn read(body: &str) -> (Option<Config>, Vec<crate::Diagnostic>) {
    let text = format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{body}");
    super::read(&Source { name: "config.yaml".into(), text })
}

fn config(body: &str) -> Config {
    let (config, diagnostics) = read(body);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    config.unwrap()
}

/// The first error's line, column, path and message, and its help.
fn error(body: &str) -> String {
    let (config, diagnostics) = read(body);
    assert_eq!(config, None, "{body}");
    let first = diagnostics.iter().find(|it| it.severity == Severity::Error).unwrap();
    let help = first.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}:{} {}: {}{help}", first.line, first.column, first.path, first.message)
}

#[test]
fn an_empty_configuration_is_kubelet_s_default() {
    assert_eq!(config(""), Config::default());
    let zeros =
        "syncFrequency: 0s\nimageMaximumGCAge: 0s\nlogging:\n  verbosity: 0\nshutdownGracePeriod: 0s\nmemorySwap: {}\n";
    assert_eq!(config(zeros), Config::default());
}

#[test]
fn what_kubeadm_writes_is_accepted_with_warnings() {
    let (config, diagnostics) = read(
        "authentication:\n  anonymous: {enabled: false}\n  webhook: {cacheTTL: 0s, enabled: true}\n  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}\n\
         authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s}}\ncgroupDriver: systemd\ncpuManagerReconcilePeriod: 0s\n\
         containerRuntimeEndpoint: \"\"\nhealthzBindAddress: 127.0.0.1\nhealthzPort: 10248\nimageMinimumGCAge: 0s\n\
         logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}}, verbosity: 0}\nrotateCertificates: true\n\
         staticPodPath: /etc/kubernetes/manifests\nvolumeStatsAggPeriod: 0s\n",
    );
    let errors: Vec<_> = diagnostics.iter().filter(|it| it.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let warned: Vec<_> = diagnostics.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(warned, ["cgroupDriver", "logging.options"]);
    assert_eq!(config.as_ref().unwrap().cluster.rotate_certificates, Some(true));
    assert_eq!(config.unwrap().static_pod_path.unwrap().to_str(), Some("/etc/kubernetes/manifests"));
}

#[test]
fn settings_are_read_with_their_units() {
    let config = config(
        "staticPodURL: https://h/pods\nstaticPodURLHeader: {Token: [a, b]}\ncontainerLogMaxSize: 500Ki\ncontainerLogMaxFiles: 3\n\
         registryPullQPS: 0\nserializeImagePulls: true\nmaxPods: 500\npodPidsLimit: -1\nnodeStatusMaxImages: -1\n\
         crashLoopBackOff: {maxContainerRestartPeriod: 10s}\nhealthzPort: 0\nsystemReserved: {cpu: 500m, memory: 1Gi}\n\
         logging: {format: json, verbosity: 2}\nallowedUnsafeSysctls: [kernel.msg*, net/core/somaxconn, \"net.*\"]\n",
    );
    assert_eq!(config.allowed_unsafe_sysctls, ["kernel.msg*", "net.core.somaxconn", "net.*"]);
    assert_eq!(config.static_pod_url_header, [("Token".into(), "a".into()), ("Token".into(), "b".into())]);
    assert_eq!((config.logs.max_size, config.logs.max_files), (Some(500 << 10), 3));
    assert_eq!(config.pulls, Pulls { qps: None, burst: 10, parallel: Some(1) });
    assert_eq!((config.max_pods, config.pod_pids_limit, config.node_status_max_images), (500, None, None));
    assert_eq!(config.max_container_restart_period, Duration::from_secs(10));
    assert_eq!(config.health.port, None);
    assert_eq!(config.reserved.system, Resources { cpu_milli: 500, memory: 1 << 30, ..Resources::default() });
    assert_eq!(config.logging, Logging { format: Some(LogFormat::Json), verbosity: 2 });
    let cluster = self::config(
        "registerNode: false\nregisterWithTaints: [{key: a, value: b, effect: NoSchedule}]\nproviderID: x://1\n\
         nodeStatusUpdateFrequency: 4s\nnodeStatusReportFrequency: 1m\nnodeLeaseDurationSeconds: 20\nkubeAPIQPS: 5\n\
         kubeAPIBurst: 6\neventRecordQPS: 0\neventBurst: 7\nserverTLSBootstrap: true\n",
    )
    .cluster;
    assert_eq!((cluster.register, cluster.provider_id.as_deref()), (false, Some("x://1")));
    assert_eq!((cluster.taints[0].key.as_str(), cluster.taints[0].effect.as_str()), ("a", "NoSchedule"));
    assert_eq!((cluster.status_update_frequency.as_secs(), cluster.status_report_frequency.as_secs()), (4, 60));
    assert_eq!((cluster.lease_duration.as_secs(), cluster.requests, cluster.events), (20, (5, 6), (0, 7)));
    assert!(cluster.server_tls_bootstrap && cluster.rotate_certificates.is_none());
    assert_eq!(self::config("containerLogMaxSize: \"-1\"").logs.max_size, None);
}

#[test]
fn thresholds_replace_the_default_ones_or_join_them() {
    let names = |body: &str| {
        let thresholds = config(body).eviction.thresholds;
        thresholds.iter().map(|it| (it.signal.name(), it.value, it.grace.map(|it| it.as_secs()))).collect::<Vec<_>>()
    };
    let mebi = |count: u64| Amount::Quantity(count << 20);
    assert_eq!(names("evictionHard: {memory.available: 200Mi}"), [("memory.available", mebi(200), None)]);
    let merged = names(
        "evictionHard: {memory.available: 200Mi, nodefs.available: 0%, pid.available: 10%}\nmergeDefaultEvictionSettings: true",
    );
    assert_eq!(
        merged,
        [
            ("memory.available", mebi(200), None),
            ("nodefs.inodesFree", Amount::Percent(5.0), None),
            ("imagefs.available", Amount::Percent(15.0), None),
            ("imagefs.inodesFree", Amount::Percent(5.0), None),
            ("pid.available", Amount::Percent(10.0), None),
        ]
    );
    let soft = "evictionHard: {memory.available: 1Mi}\nevictionSoft: {memory.available: 2Mi}\n\
                evictionSoftGracePeriod: {memory.available: 1m30s}\nevictionMinimumReclaim: {memory.available: 5Mi}";
    assert_eq!(names(soft), [("memory.available", mebi(1), None), ("memory.available", mebi(2), Some(90))]);
    assert!(config(soft).eviction.thresholds.iter().all(|it| it.minimum_reclaim == Some(mebi(5))));
}

#[test]
fn mistakes_are_pointed_at() {
    for (body, expected) in [
        ("maxPod: 5", "3:1 maxPod: unknown field `maxPod` (did you mean `maxPods`?)"),
        ("maxPods: many", "3:10 maxPods: expected a whole number, found the string `many`"),
        ("maxPods: -1", "3:10 maxPods: `-1` is less than 0"),
        (
            "fileCheckFrequency: 10",
            "3:21 fileCheckFrequency: expected a string, found the number `10` (quote it: \"10\")",
        ),
        ("fileCheckFrequency: 1d", "3:21 fileCheckFrequency: `1d` is no duration (write it as 30s, 10m or 1h30m)"),
        ("containerLogMaxFiles: 1", "3:23 containerLogMaxFiles: `1` is less than 2"),
        ("containerLogMaxSize: big", "3:22 containerLogMaxSize: `big` has no number (write it as 500Ki or 10Mi)"),
        ("containerLogMonitorInterval: 1s", "3:30 containerLogMonitorInterval: it is less than 3s"),
        (
            "imageGCLowThresholdPercent: 90",
            "3:29 imageGCLowThresholdPercent: `90` is not less than `imageGCHighThresholdPercent`, which is 85",
        ),
        ("imageMaximumGCAge: 1m", "3:20 imageMaximumGCAge: it is not more than `imageMinimumGCAge`"),
        (
            "allowedUnsafeSysctls: [net.core.somaxconn, \"kernel.*\"]",
            "3:44 allowedUnsafeSysctls[1]: `kernel.*` is no kernel parameter of a pod's own (write it as `net.core.somaxconn` \
             or `net.ipv4.*`; a pod has its own of `net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem` and `fs.mqueue.*`)",
        ),
        (
            "healthzBindAddress: localhost",
            "3:21 healthzBindAddress: it is no IP address (such as `127.0.0.1` or `::1`)",
        ),
        ("healthzPort: 70000", "3:14 healthzPort: `70000` is not between 0 and 65535"),
        ("staticPodPath: manifests", "3:16 staticPodPath: `manifests` is not absolute (begin it with `/`)"),
        (
            "featureGates:\n  NodeSwap: true",
            "4:13 featureGates[NodeSwap]: there is no feature gate `NodeSwap`: nothing here stands behind one (remove it; the support table says what runs)",
        ),
        (
            "evictionHard:\n  memory.availible: 1Mi",
            "4:21 evictionHard[memory.availible]: there is no signal `memory.availible` (did you mean `memory.available`?)",
        ),
        (
            "evictionSoft:\n  memory.available: 1Mi",
            "4:21 evictionSoft[memory.available]: a soft threshold needs a grace period (add `memory.available` to `evictionSoftGracePeriod`)",
        ),
        (
            "evictionHard:\n  nodefs.available: 120%",
            "4:21 evictionHard[nodefs.available]: `120%` is no percentage from 0% to 100% (write it as 100Mi or 10%)",
        ),
        ("systemReserved:\n  gpu: \"1\"", "4:8 systemReserved[gpu]: `gpu` cannot be reserved (did you mean `cpu`?)"),
        (
            "maxParallelImagePulls: 3\nserializeImagePulls: true",
            "3:24 maxParallelImagePulls: it is more than 1, and `serializeImagePulls` is true (set `serializeImagePulls: false`, or leave one of them out)",
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 10m}",
            "3:47 crashLoopBackOff.maxContainerRestartPeriod: it is not between 1s and 300s",
        ),
        (
            "logging: {format: jsn}",
            "3:19 logging.format: `jsn` is not one of `text`, `json` and `journald` (did you mean `json`?)",
        ),
    ] {
        assert_eq!(error(body), expected);
    }
    assert!(error("cpuManagerPolicy: static").starts_with("3:1 cpuManagerPolicy: `cpuManagerPolicy` is not run yet"));
}

#[test]
fn a_file_that_is_no_configuration_says_so() {
    let error = |text: &str| {
        let (config, diagnostics) = super::read(&Source { name: "f".into(), text: text.into() });
        assert_eq!(config, None, "{text}");
        diagnostics[0].message.clone()
    };
    assert_eq!(error(""), "there is no KubeletConfiguration in this file");
    assert_eq!(error("- a"), "expected an object");
    assert_eq!(error("kind: KubeletConfiguration"), "`apiVersion` is missing");
    assert_eq!(error("apiVersion: v1\nkind: Pod"), "`v1` is not `kubelet.config.k8s.io/v1beta1`");
    let twice = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    assert_eq!(error(&format!("{twice}---\n{twice}")), "there is more than one KubeletConfiguration");
}

#[test]
fn pods_are_stopped_in_steps_by_their_priority() {
    let steps = |body: &str| {
        let steps = config(body).shutdown;
        steps.iter().map(|step| (step.priority, step.grace.as_secs())).collect::<Vec<_>>()
    };
    let two = steps("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n");
    assert_eq!(two, [(0, 20), (2_000_000_000, 10)]);
    let step = |priority, seconds| format!("- {{priority: {priority}, shutdownGracePeriodSeconds: {seconds}}}\n");
    let key = "shutdownGracePeriodByPodPriority:\n";
    let several = format!("{key}{}{}{}", step(100, 10), step(0, 60), step(-5, 1));
    assert_eq!(steps(&several), [(-5, 1), (0, 60), (100, 10)]);
    assert_eq!(steps(""), []);
    for (body, said) in [
        ("shutdownGracePeriodCriticalPods: 10s".to_owned(), "it is more than `shutdownGracePeriod`"),
        ("shutdownGracePeriod: 500ms".to_owned(), "it is less than 1s"),
        (format!("shutdownGracePeriod: 30s\n{key}{}", step(0, 1)), "it cannot stand beside `shutdownGracePeriod`"),
        (format!("{key}{}{}", step(0, 1), step(0, 2)), "`0` is there twice"),
        (format!("{key}{}", step(0, -1)), "it is negative"),
    ] {
        assert!(error(&body).contains(said), "{}", error(&body));
    }
}
