//! kubelet's own API: where it is served, to whom, and how long what is known of a client counts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::settings::Checker;
use super::types::{AuthenticationConfiguration, AuthorizationConfiguration, KubeletConfiguration};
use crate::path::Path;
use crate::suggest::{clip, nearest};

/// The server of kubelet's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `enableServer`
    pub enabled: bool,
    /// `address`
    pub address: IpAddr,
    /// `port`; none where nothing is said of it, which is kubelet's in a cluster and no server outside of one.
    pub port: Option<u16>,
    /// `tlsCertFile` and `tlsPrivateKeyFile`
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// `tlsMinVersion`: nothing older than TLS 1.3.
    pub modern_tls: bool,
    /// `authentication.x509.clientCAFile`: who vouches for clients.
    pub client_ca: Option<PathBuf>,
    /// `authentication.webhook`: how long an answer of the API server about a token counts; none asks for none.
    pub tokens: Option<Duration>,
    /// `authorization.mode`, where it is said.
    pub authorization: Option<Authorization>,
    /// `authorization.webhook.cacheAuthorizedTTL`: how long a permission counts.
    pub allowed: Duration,
    /// `authorization.webhook.cacheUnauthorizedTTL`: how long a refusal counts.
    pub denied: Duration,
    /// `enableDebuggingHandlers`: logs, exec and whatever else acts on pods.
    pub debugging: bool,
    /// `enableSystemLogHandler`: the files of `/var/log`.
    pub system_logs: bool,
    /// `streamingConnectionIdleTimeout`: a session without a byte for so long is over; none never is.
    pub idle: Option<Duration>,
}

/// Who says what a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The API server.
    Webhook,
    /// Nobody: whoever is known may do everything.
    AlwaysAllow,
}

/// kubelet's port.
pub const PORT: u16 = 10_250;

impl Default for Server {
    fn default() -> Self {
        Self {
            enabled: true,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: None,
            certificate: None,
            modern_tls: false,
            client_ca: None,
            tokens: Some(Duration::from_secs(120)),
            authorization: None,
            allowed: Duration::from_secs(300),
            denied: Duration::from_secs(30),
            debugging: true,
            system_logs: true,
            idle: Some(Duration::from_secs(4 * 3600)),
        }
    }
}

/// Reads it, and says what is wrong.
pub(super) fn of(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Server {
    let default = Server::default();
    let (client_ca, tokens) = authentication(raw.authentication.as_ref(), checker, &default);
    let (authorization, allowed, denied) = authorization(raw.authorization.as_ref(), checker, &default);
    if raw.read_only_port.is_some_and(|port| port != 0) {
        let help =
            "leave it out; `/metrics` and `/healthz` are on `healthzPort`, the rest is for clients that are known";
        checker.error(
            &Path::default().field("readOnlyPort"),
            "nothing is served to clients that nobody knows",
            Some(help.into()),
        );
    }
    let idle = checker.duration("streamingConnectionIdleTimeout", &raw.streaming_connection_idle_timeout);
    let port = raw.port.filter(|it| *it != 0).map(|it| checker.number("port", Some(it), (1, 65_535), PORT.into()));
    Server {
        enabled: raw.enable_server.unwrap_or(true),
        address: address(raw, checker).unwrap_or(default.address),
        port: port.and_then(|it| u16::try_from(it).ok()),
        certificate: certificate(raw, checker),
        modern_tls: modern_tls(raw, checker),
        client_ca,
        tokens,
        authorization,
        allowed,
        denied,
        debugging: raw.enable_debugging_handlers.unwrap_or(true),
        system_logs: raw.enable_system_log_handler.unwrap_or(true),
        idle: idle.map_or(default.idle, |it| Some(it).filter(|it| !it.is_zero())),
    }
}

fn address(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Option<IpAddr> {
    let text = raw.address.as_deref()?;
    let address = text.parse().ok();
    if address.is_none() {
        let help = Some("such as `0.0.0.0` or `::`".into());
        checker.error(&Path::default().field("address"), "it is no IP address", help);
    }
    address
}

fn certificate(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = checker.path("tlsCertFile", raw.tls_cert_file.as_ref().filter(|it| !it.is_empty()));
    let key = checker.path("tlsPrivateKeyFile", raw.tls_private_key_file.as_ref().filter(|it| !it.is_empty()));
    let mut alone = |given: &str, missing: &str| {
        let message = format!("a certificate needs its key: `{missing}` is missing");
        checker.error(&Path::default().field(given), message, Some("give both, or none".into()));
        None
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => alone("tlsCertFile", "tlsPrivateKeyFile"),
        (None, Some(_)) => alone("tlsPrivateKeyFile", "tlsCertFile"),
        (None, None) => None,
    }
}

fn modern_tls(raw: &KubeletConfiguration, checker: &mut Checker<'_, '_>) -> bool {
    match raw.tls_min_version.as_deref() {
        None | Some("" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12") => false,
        Some("VersionTLS13") => true,
        Some(other) => {
            let near = nearest(other, ["VersionTLS12", "VersionTLS13"]).map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` is no version of TLS", clip(other));
            checker.error(&Path::default().field("tlsMinVersion"), message, near);
            false
        }
    }
}

fn authentication(
    raw: Option<&AuthenticationConfiguration>,
    checker: &mut Checker<'_, '_>,
    default: &Server,
) -> (Option<PathBuf>, Option<Duration>) {
    let Some(raw) = raw else { return (None, default.tokens) };
    let path = Path::default().field("authentication");
    if raw.anonymous.as_ref().and_then(|it| it.enabled) == Some(true) {
        let help = "remove it; monitoring can read `/metrics` on `healthzPort`, or have a token of its own";
        let path = path.field("anonymous").field("enabled");
        checker.error(&path, "nothing is served to clients that nobody knows", Some(help.into()));
    }
    let client_ca = raw.x509.as_ref().and_then(|it| it.client_ca_file.as_ref()).filter(|it| !it.is_empty());
    let client_ca = checker.path_at(&path.field("x509").field("clientCAFile"), client_ca);
    let webhook = raw.webhook.as_ref();
    let given = webhook.and_then(|it| it.cache_ttl.as_deref());
    let counts = checker.duration_at(&path.field("webhook").field("cacheTTL"), given).filter(|it| !it.is_zero());
    let wanted = webhook.and_then(|it| it.enabled).unwrap_or(true);
    (client_ca, if wanted { counts.or(default.tokens) } else { None })
}

fn authorization(
    raw: Option<&AuthorizationConfiguration>,
    checker: &mut Checker<'_, '_>,
    default: &Server,
) -> (Option<Authorization>, Duration, Duration) {
    let Some(raw) = raw else { return (None, default.allowed, default.denied) };
    let path = Path::default().field("authorization");
    let mode = match raw.mode.as_deref() {
        None | Some("") => None,
        Some("Webhook") => Some(Authorization::Webhook),
        Some("AlwaysAllow") => Some(Authorization::AlwaysAllow),
        Some(other) => {
            let near = nearest(other, ["Webhook", "AlwaysAllow"]).map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` is not one of `Webhook` and `AlwaysAllow`", clip(other));
            checker.error(&path.field("mode"), message, near);
            None
        }
    };
    let webhook = raw.webhook.as_ref();
    let mut counts = |name: &str, text: Option<&String>, default: Duration| {
        let given = checker.duration_at(&path.field("webhook").field(name), text.map(String::as_str));
        given.filter(|it| !it.is_zero()).unwrap_or(default)
    };
    let allowed =
        counts("cacheAuthorizedTTL", webhook.and_then(|it| it.cache_authorized_ttl.as_ref()), default.allowed);
    let denied =
        counts("cacheUnauthorizedTTL", webhook.and_then(|it| it.cache_unauthorized_ttl.as_ref()), default.denied);
    (mode, allowed, denied)
}
