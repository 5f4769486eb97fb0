//! `KubeletConfiguration` as it is written, with every field of `kubelet.config.k8s.io/v1beta1`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

/// A field that is only named: whatever it holds.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Opaque(#[allow(dead_code, reason = "only its shape counts")] serde_json::Value);

type Texts = BTreeMap<String, String>;

/// The whole of it. Durations and amounts are texts here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "what is not read is here to be known by name")]
pub(crate) struct KubeletConfiguration {
    api_version: Option<String>,
    kind: Option<String>,
    pub(super) static_pod_path: Option<String>,
    pod_logs_dir: Option<String>,
    sync_frequency: Option<String>,
    pub(super) file_check_frequency: Option<String>,
    pub(super) http_check_frequency: Option<String>,
    #[serde(rename = "staticPodURL")]
    pub(super) static_pod_url: Option<String>,
    #[serde(rename = "staticPodURLHeader")]
    pub(super) static_pod_url_header: Option<BTreeMap<String, Vec<String>>>,
    pub(super) container_runtime_endpoint: Option<String>,
    image_service_endpoint: Option<String>,
    pub(super) runtime_request_timeout: Option<String>,
    cgroup_root: Option<String>,
    #[serde(rename = "registryPullQPS")]
    pub(super) registry_pull_qps: Option<i32>,
    pub(super) registry_burst: Option<i32>,
    pub(super) serialize_image_pulls: Option<bool>,
    pub(super) max_parallel_image_pulls: Option<i32>,
    pub(super) container_log_max_size: Option<String>,
    pub(super) container_log_max_files: Option<i32>,
    pub(super) container_log_max_workers: Option<i32>,
    pub(super) container_log_monitor_interval: Option<String>,
    #[serde(rename = "imageMinimumGCAge")]
    pub(super) image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    pub(super) image_maximum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(super) image_gc_high_threshold_percent: Option<i32>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(super) image_gc_low_threshold_percent: Option<i32>,
    pub(super) eviction_hard: Option<Texts>,
    pub(super) eviction_soft: Option<Texts>,
    pub(super) eviction_soft_grace_period: Option<Texts>,
    pub(super) eviction_minimum_reclaim: Option<Texts>,
    pub(super) eviction_pressure_transition_period: Option<String>,
    pub(super) eviction_max_pod_grace_period: Option<i32>,
    pub(super) merge_default_eviction_settings: Option<bool>,
    pub(super) system_reserved: Option<Texts>,
    pub(super) kube_reserved: Option<Texts>,
    pub(super) max_pods: Option<i32>,
    pub(super) pods_per_core: Option<i32>,
    pub(super) pod_pids_limit: Option<i64>,
    pub(super) node_status_update_frequency: Option<String>,
    pub(super) node_status_max_images: Option<i32>,
    pub(super) local_storage_capacity_isolation: Option<bool>,
    pub(super) crash_loop_back_off: Option<CrashLoopBackOffConfig>,
    pub(super) shutdown_grace_period: Option<String>,
    pub(super) shutdown_grace_period_critical_pods: Option<String>,
    pub(super) healthz_port: Option<i32>,
    pub(super) healthz_bind_address: Option<String>,
    #[serde(rename = "oomScoreAdj")]
    pub(super) oom_score_adj: Option<i32>,
    pub(super) logging: Option<LoggingConfiguration>,
    pub(super) feature_gates: Option<BTreeMap<String, bool>>,

    // What follows is known by name alone.
    pub(super) enable_server: Option<bool>,
    pub(super) address: Option<String>,
    pub(super) port: Option<i32>,
    pub(super) read_only_port: Option<i32>,
    pub(super) tls_cert_file: Option<String>,
    pub(super) tls_private_key_file: Option<String>,
    tls_cipher_suites: Option<Vec<String>>,
    tls_curve_preferences: Option<Vec<i32>>,
    pub(super) tls_min_version: Option<String>,
    pub(super) rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    pub(super) server_tls_bootstrap: Option<bool>,
    pub(super) authentication: Option<AuthenticationConfiguration>,
    pub(super) authorization: Option<AuthorizationConfiguration>,
    image_pull_credentials_verification_policy: Option<String>,
    preloaded_images_verification_allowlist: Option<Vec<String>>,
    #[serde(rename = "eventRecordQPS")]
    pub(super) event_record_qps: Option<i32>,
    pub(super) event_burst: Option<i32>,
    pub(super) enable_debugging_handlers: Option<bool>,
    enable_contention_profiling: Option<bool>,
    pub(super) cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub(super) cluster_dns: Option<Vec<String>>,
    pub(super) streaming_connection_idle_timeout: Option<String>,
    pub(super) node_status_report_frequency: Option<String>,
    pub(super) node_lease_duration_seconds: Option<i32>,
    volume_stats_agg_period: Option<String>,
    kubelet_cgroups: Option<String>,
    system_cgroups: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    cgroups_per_qos: Option<bool>,
    cgroup_driver: Option<String>,
    cpu_manager_policy: Option<String>,
    #[serde(rename = "singleProcessOOMKill")]
    single_process_oom_kill: Option<bool>,
    cpu_manager_policy_options: Option<Texts>,
    cpu_manager_reconcile_period: Option<String>,
    memory_manager_policy: Option<String>,
    topology_manager_policy: Option<String>,
    topology_manager_scope: Option<String>,
    topology_manager_policy_options: Option<Texts>,
    qos_reserved: Option<Texts>,
    hairpin_mode: Option<String>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "resolvConf")]
    pub(super) resolv_conf: Option<String>,
    run_once: Option<bool>,
    #[serde(rename = "cpuCFSQuota")]
    cpu_cfs_quota: Option<bool>,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    cpu_cfs_quota_period: Option<String>,
    max_open_files: Option<i64>,
    content_type: Option<String>,
    #[serde(rename = "kubeAPIQPS")]
    pub(super) kube_api_qps: Option<i32>,
    #[serde(rename = "kubeAPIBurst")]
    pub(super) kube_api_burst: Option<i32>,
    enable_controller_attach_detach: Option<bool>,
    protect_kernel_defaults: Option<bool>,
    #[serde(rename = "makeIPTablesUtilChains")]
    make_iptables_util_chains: Option<bool>,
    iptables_masquerade_bit: Option<i32>,
    iptables_drop_bit: Option<i32>,
    fail_swap_on: Option<bool>,
    memory_swap: Option<MemorySwapConfiguration>,
    config_map_and_secret_change_detection_strategy: Option<String>,
    #[serde(rename = "reservedSystemCPUs")]
    reserved_system_cpus: Option<String>,
    show_hidden_metrics_for_version: Option<String>,
    system_reserved_cgroup: Option<String>,
    kube_reserved_cgroup: Option<String>,
    enforce_node_allocatable: Option<Vec<String>>,
    pub(super) allowed_unsafe_sysctls: Option<Vec<String>>,
    volume_plugin_dir: Option<String>,
    #[serde(rename = "providerID")]
    pub(super) provider_id: Option<String>,
    kernel_memcg_notification: Option<bool>,
    pub(super) enable_system_log_handler: Option<bool>,
    enable_system_log_query: Option<bool>,
    pub(super) shutdown_grace_period_by_pod_priority: Option<Vec<ShutdownGracePeriodByPodPriority>>,
    reserved_memory: Option<Vec<Opaque>>,
    enable_profiling_handler: Option<bool>,
    enable_debug_flags_handler: Option<bool>,
    seccomp_default: Option<bool>,
    memory_throttling_factor: Option<f64>,
    memory_reservation_policy: Option<String>,
    pub(super) register_with_taints: Option<Vec<Taint>>,
    pub(super) register_node: Option<bool>,
    tracing: Option<Opaque>,
    fail_cgroup_v1: Option<bool>,
    user_namespaces: Option<UserNamespaces>,
}

/// `crashLoopBackOff`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CrashLoopBackOffConfig {
    pub(super) max_container_restart_period: Option<String>,
}

/// An item of `shutdownGracePeriodByPodPriority`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ShutdownGracePeriodByPodPriority {
    pub(super) priority: i32,
    pub(super) shutdown_grace_period_seconds: i64,
}

/// An item of `registerWithTaints`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "what is not read is here to be known by name")]
pub(crate) struct Taint {
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) effect: String,
    time_added: Option<String>,
}

/// `memorySwap`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "known by name")]
pub(crate) struct MemorySwapConfiguration {
    swap_behavior: Option<String>,
}

/// `userNamespaces`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "known by name")]
pub(crate) struct UserNamespaces {
    #[serde(rename = "idsPerPod")]
    ids_per_pod: Option<i64>,
}

/// `logging`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "what is not read is here to be known by name")]
pub(crate) struct LoggingConfiguration {
    pub(super) format: Option<String>,
    flush_frequency: Option<IntOrString>,
    pub(super) verbosity: Option<i32>,
    vmodule: Option<Vec<Opaque>>,
    options: Option<Opaque>,
}

/// `authentication`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AuthenticationConfiguration {
    pub(super) x509: Option<X509Authentication>,
    pub(super) webhook: Option<WebhookAuthentication>,
    pub(super) anonymous: Option<AnonymousAuthentication>,
}

/// `authentication.x509`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct X509Authentication {
    #[serde(rename = "clientCAFile")]
    pub(super) client_ca_file: Option<String>,
}

/// `authentication.webhook`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WebhookAuthentication {
    pub(super) enabled: Option<bool>,
    #[serde(rename = "cacheTTL")]
    pub(super) cache_ttl: Option<String>,
}

/// `authentication.anonymous`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AnonymousAuthentication {
    pub(super) enabled: Option<bool>,
}

/// `authorization`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AuthorizationConfiguration {
    pub(super) mode: Option<String>,
    pub(super) webhook: Option<WebhookAuthorization>,
}

/// `authorization.webhook`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub(super) cache_authorized_ttl: Option<String>,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub(super) cache_unauthorized_ttl: Option<String>,
}
