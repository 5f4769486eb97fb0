//! What plug-ins answer.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::INTERFACE;
use super::config::List;
use super::exec::Failure;
use crate::sandbox::Dns;

/// What of a result counts here. In all versions it is the same but for a field that repeats an address' family.
#[derive(Debug, Default, Deserialize)]
struct Wire {
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<Ip>>,
    #[serde(default)]
    dns: Option<WireDns>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: String,
    #[serde(default)]
    interface: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct WireDns {
    #[serde(default)]
    nameservers: Option<Vec<String>>,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    search: Option<Vec<String>>,
    #[serde(default)]
    options: Option<Vec<String>>,
}

/// An error as plug-ins say it.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// What a result says of a pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its addresses: IPv4 first, else as they came.
    pub addresses: Vec<IpAddr>,
    /// Name servers.
    pub dns: Option<Dns>,
}

/// The result that a plug-in printed, in the list's version.
pub fn read(printed: &[u8], list: &List) -> Result<Value, Failure> {
    let mut result: Map<String, Value> = serde_json::from_slice(printed).map_err(|error| match printed {
        [] => Failure::NoResult("it printed no result".into()),
        _ => Failure::NoResult(format!("what it printed is no result: {error}")),
    })?;
    let wire: Wire = serde_json::from_value(Value::Object(result.clone()))
        .map_err(|error| Failure::NoResult(format!("what it printed is no result: {error}")))?;
    // The next one is told it in the version that it is spoken to.
    result.insert("cniVersion".into(), list.version.clone().into());
    let families = !list.speaks("1.0.0");
    for (ip, known) in ips(&mut result).zip(wire.ips.unwrap_or_default()) {
        if families {
            let family = if known.address.contains(':') { "6" } else { "4" };
            ip.insert("version".into(), family.into());
        } else {
            ip.remove("version");
        }
    }
    Ok(Value::Object(result))
}

fn ips(result: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let ips = result.get_mut("ips").and_then(Value::as_array_mut);
    ips.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// What the last result says of the pod.
pub fn outcome(result: &Value) -> Result<Outcome, String> {
    let wire: Wire = serde_json::from_value(result.clone()).map_err(|error| error.to_string())?;
    let interfaces = wire.interfaces.unwrap_or_default();
    let mut addresses = Vec::new();
    for ip in wire.ips.unwrap_or_default() {
        if let Some(index) = ip.interface {
            let interface = usize::try_from(index).ok().and_then(|it| interfaces.get(it));
            let interface =
                interface.ok_or_else(|| format!("{} is on interface {index}, which is none", ip.address))?;
            // Of others than the pod's own it tells, too.
            let inside = interface.sandbox.as_ref().is_some_and(|it| !it.is_empty());
            if !inside || interface.name != INTERFACE {
                continue;
            }
        }
        let address = ip.address.split('/').next().unwrap_or_default();
        addresses.push(address.parse::<IpAddr>().map_err(|_| format!("{:?} is no address", ip.address))?);
    }
    if addresses.is_empty() {
        return Err(format!("it gave the pod no address on {INTERFACE}"));
    }
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(Outcome { addresses, dns: wire.dns.and_then(dns) })
}

/// What can stand in a resolv.conf of it.
fn dns(said: WireDns) -> Option<Dns> {
    let words = |list: Option<Vec<String>>| -> Vec<String> {
        list.unwrap_or_default()
            .into_iter()
            .filter(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_graphic()))
            .collect()
    };
    let mut searches = words(said.search);
    if searches.is_empty() {
        searches = words(said.domain.map(|it| vec![it]));
    }
    let servers = words(said.nameservers).into_iter().filter(|it| it.parse::<IpAddr>().is_ok()).collect();
    let dns = Dns { servers, searches, options: words(said.options) };
    (dns != Dns::default()).then_some(dns)
}

/// The error that a plug-in printed.
pub fn said(printed: &[u8]) -> Option<Failure> {
    let said: Said = serde_json::from_slice(printed).ok()?;
    if said.code == 0 && said.msg.is_empty() && said.details.is_empty() {
        return None;
    }
    Some(Failure::Said { code: said.code, message: one_line(&said.msg), details: one_line(&said.details) })
}

/// The versions that a plug-in printed.
pub fn versions(printed: &[u8]) -> Option<Vec<String>> {
    let answer: Value = serde_json::from_slice(printed).ok()?;
    let versions = answer.get("supportedVersions")?.as_array()?;
    Some(versions.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// What others wrote, as a part of a message.
pub fn one_line(text: &str) -> String {
    const MOST: usize = 1024;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean = words.chars().filter(|it| !it.is_control());
    clean.take(MOST).collect()
}
