//! The numbers, as Prometheus reads them.

use std::fmt::Write as _;
use std::time::Instant;

use super::ports::{Counts, Ports};
use super::upstream::{Endpoint, Upstream};

/// How often the configuration was read again, and was not good.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reloads {
    /// Taken.
    pub good: u64,
    /// Not taken.
    pub bad: u64,
}

type Number<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

const OF_PORTS: &[Number<Counts>] = &[
    ("connections_total", "counter", "Connections and UDP clients taken.", |it| it.accepted),
    ("connections_refused_total", "counter", "Connections and UDP clients that no target was found for.", |it| {
        it.refused
    }),
    ("connections", "gauge", "Connections and UDP clients there are.", |it| it.open),
    ("received_bytes_total", "counter", "Bytes from clients.", |it| it.received),
    ("sent_bytes_total", "counter", "Bytes to clients.", |it| it.sent),
    ("dropped_packets_total", "counter", "UDP packets that were lost here.", |it| it.dropped),
];

const OF_TARGETS: &[Number<Endpoint>] = &[
    ("target_connections_total", "counter", "Connections that a target accepted.", |it| it.connected),
    ("target_refused_total", "counter", "Connections that a target did not accept.", |it| it.refused),
    ("target_failed_checks_total", "counter", "Health checks that failed.", |it| it.failed),
];

/// All of them.
pub fn text(ports: &Ports, upstream: &Upstream, reloads: Reloads, now: Instant) -> String {
    let mut out = String::new();
    for (name, kind, help, number) in OF_PORTS {
        head(&mut out, name, kind, help);
        for (_, serving) in ports.iter() {
            let port = &serving.port;
            let labels = [("port", port.name.as_str()), ("protocol", port.protocol.word())];
            line(&mut out, name, &labels, number(&serving.counts));
        }
    }
    let endpoints = || upstream.targets().flat_map(|target| target.endpoints.iter().map(move |it| (target, it)));
    let up: Number<Endpoint> = ("target_up", "gauge", "Whether a target is there.", |_| 0);
    for (name, kind, help, number) in OF_TARGETS.iter().chain([&up]) {
        head(&mut out, name, kind, help);
        for (target, endpoint) in endpoints() {
            let (place, address) = (target.place.to_string(), endpoint.address.to_string());
            let value = match *name == up.0 {
                true => u64::from(target.endpoint_is_up(endpoint, now)),
                false => number(endpoint),
            };
            line(&mut out, name, &[("target", &place), ("address", &address)], value);
        }
    }
    head(&mut out, "config_reloads_total", "counter", "Times that the configuration was read again.");
    line(&mut out, "config_reloads_total", &[("outcome", "good")], reloads.good);
    line(&mut out, "config_reloads_total", &[("outcome", "bad")], reloads.bad);
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP coracle_ambassador_{name} {help}\n# TYPE coracle_ambassador_{name} {kind}");
}

/// No label's value has a character that would have to be escaped: they are ports, places and addresses.
fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let _ = writeln!(out, "coracle_ambassador_{name}{{{}}} {value}", labels.join(","));
}
