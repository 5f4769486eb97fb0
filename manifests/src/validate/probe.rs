//! Probes, and what is done at a container's start and end.

use super::pod::Surroundings;
use super::{Context, names};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What both probes and hooks can do.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

/// A container that keeps running may have all of them.
pub(super) fn validate(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &Container,
    surroundings: &Surroundings<'_>,
) {
    for (name, probe) in probes(container) {
        let path = path.field(name);
        one(context, &path, probe, container);
        if name == "readinessProbe" && probe.termination_grace_period_seconds.is_some() {
            let message = "a readiness probe ends no container: it has no grace of its own";
            context.key_error(&path.field("terminationGracePeriodSeconds"), message, None);
        }
        let successes = probe.success_threshold.filter(|count| name != "readinessProbe" && *count > 1);
        if let Some(count) = successes {
            let message = format!("`{count}`: one success is enough for a `{name}`, so only 1 is allowed");
            context.error(&path.field("successThreshold"), message);
        }
    }
    let Some(lifecycle) = &container.lifecycle else { return };
    let path = path.field("lifecycle");
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            hooked(context, &path.field(name), hook, container, surroundings);
        }
    }
    stop_signal(context, &path.field("stopSignal"), lifecycle, surroundings);
}

/// An init container ends by itself: nobody probes or stops it.
pub(super) fn none(context: &mut Context<'_, '_>, path: &Path, container: &Container) {
    let lifecycle = container.lifecycle.as_ref().map(|_| "lifecycle");
    for name in probes(container).map(|(name, _)| name).chain(lifecycle) {
        let help = "remove it, or make the container a sidecar: `restartPolicy: Always`";
        let message = format!("an init container runs to its end, without `{name}`");
        context.key_error(&path.field(name), message, Some(help.to_owned()));
    }
}

fn probes(container: &Container) -> impl Iterator<Item = (&'static str, &Probe)> {
    let all = [
        ("livenessProbe", container.liveness_probe.as_ref()),
        ("readinessProbe", container.readiness_probe.as_ref()),
        ("startupProbe", container.startup_probe.as_ref()),
    ];
    all.into_iter().filter_map(|(name, probe)| Some((name, probe?)))
}

fn one(context: &mut Context<'_, '_>, path: &Path, probe: &Probe, container: &Container) {
    for (name, value) in [
        ("failureThreshold", probe.failure_threshold),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("timeoutSeconds", probe.timeout_seconds),
    ] {
        context.at_least(&path.field(name), value.map(i64::from), 0);
    }
    context.at_least(&path.field("terminationGracePeriodSeconds"), probe.termination_grace_period_seconds, 1);
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handled(context, path, &handler, container, 0, "`exec`, `httpGet`, `tcpSocket` or `grpc`");
}

fn hooked(
    context: &mut Context<'_, '_>,
    path: &Path,
    hook: &LifecycleHandler,
    container: &Container,
    surroundings: &Surroundings<'_>,
) {
    let handler = Handler {
        exec: hook.exec.as_ref(),
        http_get: hook.http_get.as_ref(),
        tcp_socket: hook.tcp_socket.as_ref(),
        grpc: None,
        sleep: hook.sleep.as_ref(),
    };
    handled(context, path, &handler, container, surroundings.grace, "`exec`, `httpGet`, `tcpSocket` or `sleep`");
}

fn handled(
    context: &mut Context<'_, '_>,
    path: &Path,
    handler: &Handler<'_>,
    container: &Container,
    grace: i64,
    choice: &str,
) {
    let given: Vec<&str> = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http_get.is_some()),
        ("tcpSocket", handler.tcp_socket.is_some()),
        ("grpc", handler.grpc.is_some()),
        ("sleep", handler.sleep.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    match given[..] {
        [] => context.key_error(path, format!("it does nothing: add {choice}"), None),
        [first, second, ..] => {
            let message = format!("only one of {choice} is possible, and this has `{first}` and `{second}`");
            context.key_error(&path.field(second), message, None);
        }
        _ => {}
    }
    if let Some(exec) = handler.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        context.missing(&path.field("exec"), "command");
    }
    if let Some(http) = handler.http_get {
        http_get(context, &path.field("httpGet"), http, container);
    }
    if let Some(tcp) = handler.tcp_socket {
        port(context, &path.field("tcpSocket").field("port"), &tcp.port, container);
    }
    if let Some(grpc) = handler.grpc {
        port(context, &path.field("grpc").field("port"), &IntOrString::Int(grpc.port), container);
    }
    if let Some(sleep) = handler.sleep {
        let path = path.field("sleep").field("seconds");
        if sleep.seconds > grace {
            let message = format!("`{}` is more than the pod's grace of {grace}s", sleep.seconds);
            context.error_help(&path, message, "raise `terminationGracePeriodSeconds`");
        } else {
            context.at_least(&path, Some(sleep.seconds), 0);
        }
    }
}

fn http_get(context: &mut Context<'_, '_>, path: &Path, http: &HTTPGetAction, container: &Container) {
    port(context, &path.field("port"), &http.port, container);
    for (index, header) in http.http_headers.iter().flatten().enumerate() {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if header.name.is_empty() || !header.name.chars().all(known) {
            let at = path.field("httpHeaders").index(index).field("name");
            context.error(&at, format!("`{}` is not the name of a header", clip(&header.name)));
        }
    }
}

/// A number, or the name of one of the container's ports.
fn port(context: &mut Context<'_, '_>, path: &Path, port: &IntOrString, container: &Container) {
    let name = match port {
        IntOrString::Int(number) => return context.within(path, Some(i64::from(*number)), 1, 65535),
        IntOrString::String(name) => name,
    };
    // A number in quotes is what a template leaves behind; the API server calls it a bad name as well.
    if let Ok(number) = name.parse::<u16>() {
        context.error_help(path, format!("`\"{number}\"` is not the name of a port"), format!("a number: `{number}`"));
        return;
    }
    let named = || container.ports.iter().flatten().filter_map(|port| port.name.as_deref());
    if let Err(broken) = names::port_name(name) {
        context.check(path, Err(broken));
    } else if !named().any(|known| known == name) {
        let help = match nearest(name, named()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name it in the container's `ports`".to_owned(),
        };
        context.key_warning(path, format!("the container has no port `{}`, so this never succeeds", clip(name)), help);
    }
}

fn stop_signal(context: &mut Context<'_, '_>, path: &Path, lifecycle: &Lifecycle, surroundings: &Surroundings<'_>) {
    let Some(signal) = lifecycle.stop_signal.as_deref() else { return };
    const NAMED: [&str; 36] = [
        "SIGABRT",
        "SIGALRM",
        "SIGBUS",
        "SIGCHLD",
        "SIGCLD",
        "SIGCONT",
        "SIGFPE",
        "SIGHUP",
        "SIGILL",
        "SIGINT",
        "SIGIO",
        "SIGIOT",
        "SIGKILL",
        "SIGPIPE",
        "SIGPOLL",
        "SIGPROF",
        "SIGPWR",
        "SIGQUIT",
        "SIGSEGV",
        "SIGSTKFLT",
        "SIGSTOP",
        "SIGSYS",
        "SIGTERM",
        "SIGTRAP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
        "SIGVTALRM",
        "SIGWINCH",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGRTMIN",
        "SIGRTMAX",
    ];
    let number = |prefix: &str| signal.strip_prefix(prefix)?.parse::<u8>().ok();
    let real_time = number("SIGRTMIN+").is_some_and(|n| (1..=15).contains(&n))
        || number("SIGRTMAX-").is_some_and(|n| (1..=14).contains(&n));
    if !real_time && !NAMED.contains(&signal) {
        let near = nearest(signal, NAMED).or_else(|| nearest(&format!("SIG{signal}"), NAMED));
        let help = near.map_or("a name such as `SIGQUIT`".to_owned(), |near| format!("did you mean `{near}`?"));
        context.error_help(path, format!("`{}` is not a signal", clip(signal)), help);
    } else if !surroundings.has_os {
        context.error_help(path, "a `stopSignal` needs `spec.os.name`", "add `os: {name: linux}` to the pod's `spec`");
    }
}
