//! Ambassadors.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, names};
use crate::Ambassador;
use crate::ambassador::{AmbassadorHealthCheck, AmbassadorPort, STATUS_PORT, Target};
use crate::path::Path;

/// Ports of one ambassador, and targets of one port.
const MOST: usize = 64;

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, ambassador: &Ambassador) {
    let spec = &ambassador.spec;
    if let Some(name) = &ambassador.metadata.name
        && names::dns_label(name).is_err()
    {
        // The pod's host name would be another one, and a link's alias could not be this one.
        let at = path.field("metadata").field("name");
        context.check(&at, names::dns_label(name));
    }
    let path = path.field("spec");
    if spec.ports.is_empty() {
        context.error_help(&path.field("ports"), "`ports` is missing", "add `ports: [{port: 6379}]`");
    }
    bounded(context, &path.field("ports"), spec.ports.len());
    let common = targets(context, &path.field("targets"), &spec.targets);
    ports(context, &path, ambassador, &common);
    let status = i64::from(spec.status_port.unwrap_or(STATUS_PORT));
    context.within(&path.field("statusPort"), spec.status_port.map(i64::from), 1, 65535);
    if let Some(index) = spec.ports.iter().position(|port| is_tcp(port) && i64::from(port.port) == status) {
        let at = path.field("ports").index(index).field("port");
        context.error_help(
            &at,
            format!("port {status} is where the ambassador says how it is"),
            "set another `statusPort`",
        );
    }
    for (name, value, least, most) in [
        ("connectTimeoutSeconds", spec.connect_timeout_seconds, 1, 3600),
        ("maxConnections", spec.max_connections, 1, 1_000_000),
        ("drainSeconds", spec.drain_seconds, 0, 86_400),
        ("udpIdleSeconds", spec.udp_idle_seconds, 1, 86_400),
    ] {
        context.within(&path.field(name), value.map(i64::from), least, most);
    }
    if let Some(check) = &spec.health_check {
        health(context, &path.field("healthCheck"), check);
    }
}

fn is_tcp(port: &AmbassadorPort) -> bool {
    port.protocol.as_deref().unwrap_or("TCP") == "TCP"
}

fn bounded(context: &mut Context<'_, '_>, path: &Path, count: usize) {
    if count > MOST {
        context.error(path, format!("{count} of them, and at most {MOST} are allowed"));
    }
}

fn ports(context: &mut Context<'_, '_>, path: &Path, ambassador: &Ambassador, common: &[Target]) {
    let spec = &ambassador.spec;
    let (mut seen, mut host, mut named) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let at = path.field("ports").index(index);
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        match port.port {
            0 => context.missing(&at, "port"),
            number => context.within(&at.field("port"), Some(number.into()), 1, 65535),
        }
        if let Some(first) = seen.insert((protocol, port.port), index).filter(|_| port.port != 0) {
            context.error(&at.field("port"), format!("{protocol} {} is `ports[{first}]` already", port.port));
        }
        context.within(&at.field("hostPort"), port.host_port.map(i64::from), 1, 65535);
        if let Some(number) = port.host_port
            && let Some(first) = host.insert((protocol, number, port.host_ip.clone()), index)
        {
            context.error(&at.field("hostPort"), format!("host port {number} is that of `ports[{first}]` already"));
        }
        context.within(&at.field("targetPort"), port.target_port.map(i64::from), 1, 65535);
        if let Some(ip) = port.host_ip.as_ref().filter(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
            context.error(&at.field("hostIP"), format!("`{}` is not an address", crate::suggest::clip(ip)));
        }
        if let Some(name) = &port.name {
            context.check(&at.field("name"), names::port_name(name));
            if !named.insert(name) {
                context
                    .error(&at.field("name"), format!("`{}` is the name of another port", crate::suggest::clip(name)));
            }
        }
        let own = targets(context, &at.field("targets"), &port.targets);
        if port.targets.is_empty() && spec.targets.is_empty() {
            let help = "add `targets: [\"HOST:PORT\"]`, here or beside `ports`";
            context.error_help(&at.field("targets"), "the port leads nowhere", help);
        }
        let leads_to = if own.is_empty() { common } else { &own };
        if let Some(target) = leads_to.iter().find(|target| is_itself(ambassador, port, target)) {
            context.error(&at, format!("an ambassador that leads to itself: `{target}`"));
        }
    }
}

/// Whether a target is the port that leads to it.
fn is_itself(ambassador: &Ambassador, port: &AmbassadorPort, target: &Target) -> bool {
    let meta = &ambassador.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let number = target.port.map(i32::from).or(port.target_port).unwrap_or(port.port);
    let loopback = target.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let own = target.host == name || target.host == format!("{name}.{namespace}") || target.host == "localhost";
    number == port.port && (own || loopback)
}

fn targets(context: &mut Context<'_, '_>, path: &Path, texts: &[String]) -> Vec<Target> {
    bounded(context, path, texts.len());
    let mut good = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Target::parse(text) {
            Ok(target) => good.push(target),
            Err(why) => {
                let help = "a target is `HOST:PORT`, such as `db.example:6379` or `[fd00::1]:6379`";
                context.error_help(&path.index(index), why, help);
            }
        }
    }
    good
}

fn health(context: &mut Context<'_, '_>, path: &Path, check: &AmbassadorHealthCheck) {
    for (name, value, most) in [
        ("port", check.port, 65535),
        ("periodSeconds", check.period_seconds, 86_400),
        ("timeoutSeconds", check.timeout_seconds, 3600),
        ("failureThreshold", check.failure_threshold, 1000),
        ("successThreshold", check.success_threshold, 1000),
    ] {
        context.within(&path.field(name), value.map(i64::from), 1, most);
    }
    if let Some(asked) = &check.path {
        if check.kind.as_deref() != Some("HTTP") {
            context.error_help(&path.field("path"), "only HTTP asks for a path", "add `type: HTTP`");
        } else if !asked.starts_with('/') || !asked.chars().all(|c| c.is_ascii_graphic()) {
            context.error(&path.field("path"), "a path begins with `/` and has no blanks");
        }
    }
}
