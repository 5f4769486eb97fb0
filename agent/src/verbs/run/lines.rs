//! A pod's life in words.

use crate::engine::notice::{Event, Pull};
use crate::engine::time::format_duration;
use crate::engine::view::Exit;
use crate::printer::human;

/// What is said of an event; nothing of those that speak for themselves.
pub fn of(event: &Event) -> Option<String> {
    Some(match event {
        Event::Reachable { ips, host_ports } => reachable(ips, host_ports),
        Event::Pull { pull, .. } => pulling(pull),
        Event::Started { attempt: 0, .. } => "started".to_owned(),
        Event::Started { attempt, .. } => format!("started again, restart {attempt}"),
        Event::Exited { exit, memory_limit, .. } => ending(exit, *memory_limit),
        Event::Waiting { reason, delay, .. } if reason == "CrashLoopBackOff" => {
            format!("restarting in {}", format_duration(*delay))
        }
        Event::Waiting { reason, delay, .. } => {
            format!("{reason}, trying again in {}", format_duration(*delay))
        }
        Event::Held { reason, message } => format!("{reason}: {message}"),
        Event::Failed { reason, message, fatal: true, .. } => format!("error: {reason}: {message}"),
        Event::Failed { reason, message, .. } => format!("{reason}: {message}"),
        Event::Unhealthy { message, .. } => message.clone(),
        Event::ProbeWarning { message, .. } => format!("warning: {message}"),
        Event::HookFailed { message, .. } => message.clone(),
        Event::Resize { message, .. } => message.clone(),
        Event::BeginsAgain { because } => format!("all containers begin again, for {because}"),
        Event::Evicted { reason, message } => format!("{reason}: {message}"),
        Event::Warning(text) => format!("warning: {text}"),
        Event::SandboxLost => "the pod's sandbox has died; a new one is made".to_owned(),
        Event::Ended(_) | Event::Killing { .. } => return None,
    })
}

fn reachable(ips: &[String], host_ports: &[String]) -> String {
    let published = match host_ports {
        [] => String::new(),
        [port] => format!("; port {port} of the host"),
        ports => format!("; ports {} of the host", ports.join(", ")),
    };
    format!("at {}{published}", ips.join(", "))
}

fn pulling(pull: &Pull) -> String {
    match pull {
        Pull::Begun { image } => format!("pulling image {image}"),
        Pull::Going { image, bytes, total } => {
            format!("pulling image {image}: {} of {}", human::bytes(*bytes), human::bytes(*total))
        }
        Pull::Note(text) => text.clone(),
        Pull::Done { image, bytes, resumed, took } => {
            let bytes = human::bytes(*bytes);
            let resumed = match resumed {
                0 => String::new(),
                resumed => format!(", {} were here from before", human::bytes(*resumed)),
            };
            format!("pulled image {image} in {:.1}s, {bytes}{resumed}", took.as_secs_f64())
        }
    }
}

fn ending(exit: &Exit, memory_limit: Option<i64>) -> String {
    let mut text = format!("exited with code {}", exit.code);
    match (exit.reason.as_str(), memory_limit) {
        ("OOMKilled", Some(limit)) => {
            text.push_str(&format!(": OOMKilled, for it needed more than its memory limit of {}", memory(limit)));
        }
        ("OOMKilled", None) => text.push_str(": OOMKilled, for the memory of its pod or of the host ran out"),
        ("" | "Completed" | "Error", _) => {
            if let Some(signal) = signal(exit.code) {
                text.push_str(&format!(" ({signal})"));
            }
        }
        (reason, _) => text.push_str(&format!(": {reason}")),
    }
    if !exit.message.is_empty() {
        text.push_str(&format!(": {}", exit.message));
    }
    text
}

/// The signal behind an exit code, where it is one that people meet.
fn signal(code: i32) -> Option<&'static str> {
    Some(match code - 128 {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// Bytes as manifests write them.
fn memory(bytes: i64) -> String {
    for (unit, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes >= 1 << shift && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_pod_that_listens_says_where() {
        let said = |ports: &[&str]| {
            let host_ports = ports.iter().map(|port| (*port).to_owned()).collect();
            of(&Event::Reachable { ips: vec!["10.1.0.2".into(), "fd00::2".into()], host_ports }).unwrap_or_default()
        };
        assert_eq!(said(&[]), "at 10.1.0.2, fd00::2");
        assert_eq!(said(&["8080"]), "at 10.1.0.2, fd00::2; port 8080 of the host");
        assert_eq!(said(&["80", "[::1]:53/udp"]), "at 10.1.0.2, fd00::2; ports 80, [::1]:53/udp of the host");
    }

    #[test]
    fn endings_say_what_is_known() {
        let rows = [
            (0, "Completed", "", None, "exited with code 0"),
            (3, "Error", "", None, "exited with code 3"),
            (137, "Error", "", None, "exited with code 137 (SIGKILL)"),
            (200, "Error", "", None, "exited with code 200"),
            (
                137,
                "OOMKilled",
                "",
                Some(64 << 20),
                "exited with code 137: OOMKilled, for it needed more than its memory limit of 64Mi",
            ),
            (
                137,
                "OOMKilled",
                "",
                None,
                "exited with code 137: OOMKilled, for the memory of its pod or of the host ran out",
            ),
            (127, "StartError", "no such file: x", None, "exited with code 127: StartError: no such file: x"),
            (255, "Unknown", "", None, "exited with code 255: Unknown"),
        ];
        for (code, reason, message, memory_limit, text) in rows {
            let exit = Exit { code, reason: reason.into(), message: message.into() };
            let event = Event::Exited { container: "c".into(), attempt: 0, exit, memory_limit };
            assert_eq!(of(&event).as_deref(), Some(text));
        }
    }

    #[test]
    fn pulls_are_told() {
        let image = || "nginx".to_owned();
        let took = Duration::from_millis(2_140);
        let rows = [
            (Pull::Begun { image: image() }, "pulling image nginx"),
            (
                Pull::Going { image: image(), bytes: 45_200_000, total: 150_000_000 },
                "pulling image nginx: 45.2MB of 150MB",
            ),
            (Pull::Done { image: image(), bytes: 45_200_000, resumed: 0, took }, "pulled image nginx in 2.1s, 45.2MB"),
            (
                Pull::Done { image: image(), bytes: 5_000_000, resumed: 40_000_000, took },
                "pulled image nginx in 2.1s, 5MB, 40MB were here from before",
            ),
        ];
        for (pull, text) in rows {
            assert_eq!(of(&Event::Pull { container: "c".into(), pull }).as_deref(), Some(text));
        }
    }

    #[test]
    fn waits_are_told() {
        for (reason, text) in
            [("CrashLoopBackOff", "restarting in 10s"), ("ErrImagePull", "ErrImagePull, trying again in 10s")]
        {
            let (container, reason) = ("c".to_owned(), reason.to_owned());
            let event = Event::Waiting { container, reason, delay: Duration::from_secs(10) };
            assert_eq!(of(&event).as_deref(), Some(text));
        }
    }
}
