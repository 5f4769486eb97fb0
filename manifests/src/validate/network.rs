//! Networks, and what pods say of theirs.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;

use super::{Context, names};
use crate::Network;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::suggest::{clip, nearest};

/// How long prefixes may be that are large enough for pods, and not larger than any network is.
const IPV4: std::ops::RangeInclusive<u8> = 8..=29;
const IPV6: std::ops::RangeInclusive<u8> = 16..=120;

/// The least that IPv6 needs, and the most that there is.
const MTU: (i64, i64) = (1280, 65_535);

/// The networks that there always are.
const BUILT_IN: [&str; 2] = ["flat", "private"];

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, network: &Network) {
    let metadata = path.field("metadata");
    if let Some(name) = &network.metadata.name {
        let at = metadata.field("name");
        context.check(&at, names::dns_label(name));
        if BUILT_IN.contains(&name.as_str()) {
            context.error_help(&at, format!("there is a network `{name}` already"), "choose another name");
        }
    }
    if network.metadata.namespace.is_some() {
        let help = "remove it: pods of all namespaces may be in the network".to_owned();
        context.key_error(&metadata.field("namespace"), "a Network belongs to no namespace", Some(help));
    }
    let path = path.field("spec");
    let subnets = path.field("subnets");
    let mut families: Vec<bool> = Vec::new();
    for (index, text) in network.spec.subnets.iter().enumerate() {
        let at = subnets.index(index);
        let Some(range) = subnet(context, &at, text) else { continue };
        if families.contains(&range.addr().is_ipv4()) {
            let help = "name one IPv4 and one IPv6 range at most";
            context.error_help(&at, format!("`{range}` is the second of its family"), help);
        }
        families.push(range.addr().is_ipv4());
    }
    context.within(&path.field("mtu"), network.spec.mtu.map(i64::from), MTU.0, MTU.1);
}

fn subnet(context: &mut Context<'_, '_>, path: &Path, text: &str) -> Option<IpNet> {
    let Ok(range) = text.parse::<IpNet>() else {
        context.error_help(path, format!("`{}` is not a range of addresses", clip(text)), "such as `10.5.0.0/24`");
        return None;
    };
    if range.trunc() != range {
        let help = format!("write `{}`", range.trunc());
        context.error_help(path, format!("`{range}` has bits set behind its length"), help);
        return None;
    }
    let lengths = if range.addr().is_ipv4() { IPV4 } else { IPV6 };
    if !lengths.contains(&range.prefix_len()) {
        let help = format!("from /{} to /{} can be", lengths.start(), lengths.end());
        context.error_help(path, format!("`{range}` is too large or too small"), help);
        return None;
    }
    let special = match range.addr() {
        IpAddr::V4(it) => it.is_loopback() || it.is_multicast() || it.is_link_local() || it.octets()[0] >= 240,
        IpAddr::V6(it) => it.is_loopback() || it.is_multicast() || it.is_unicast_link_local(),
    };
    if special || range.addr().is_unspecified() {
        let help = "take a private one, such as `10.5.0.0/24`";
        context.error_help(path, format!("`{range}` is of a kind that cannot be routed"), help);
        return None;
    }
    Some(range)
}

/// The annotation of a pod that says which network it is in.
pub(super) fn chosen(context: &mut Context<'_, '_>, path: &Path, value: &str, pod: &Pod) {
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        let help = "remove it, or remove `hostNetwork`";
        context.key_error(path, "a pod in the host's network has no other one", Some(help.to_owned()));
    } else if BUILT_IN.contains(&value) {
    } else if let Some(near) = nearest(value, BUILT_IN).filter(|near| near.eq_ignore_ascii_case(value)) {
        context.error_help(path, format!("`{}` is not a network", clip(value)), format!("did you mean `{near}`?"));
    } else if names::dns_label(value).is_err() {
        let help = "`flat`, `private`, or the name of a Network";
        context.error_help(path, format!("`{}` is not a network", clip(value)), help);
    }
}

/// The annotations of a pod that limit its link: as kubelet reads them.
pub(super) fn bandwidth(context: &mut Context<'_, '_>, path: &Path, value: &str) {
    const LEAST: i64 = 1_000;
    const MOST: i64 = 1_000_000_000_000_000;
    match value.parse::<Quantity>() {
        Err(_) => {
            context.error_help(path, format!("`{}` is not a quantity", clip(value)), "bits a second, such as `10M`");
        }
        Ok(bits) if !(LEAST..=MOST).contains(&bits.units()) => {
            context.error(path, format!("`{bits}` is not between 1k and 1P bits a second"));
        }
        Ok(_) => {}
    }
}
