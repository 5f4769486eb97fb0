//! How much may go over a pod's link, by the annotations that Kubernetes has for it.
//!
//! Both directions are shaped on the host, where the pod cannot change it: what it receives by a token bucket on the host's
//! end of its link, what it sends by one on an interface of its own that the kernel is told to lead it through (ifb).

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::DefaultNla;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector,
    TcU32SelectorFlags,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::rtnl::{Mode, Request};
use super::thread::Host;
use super::wire::{self, Link};
use crate::error::{Error, Result};

/// Least and most bits a second, as kubelet has them.
const BITS: std::ops::RangeInclusive<u128> = 1_000..=1_000_000_000_000_000;

/// How much a bucket holds, in the time in which its rate fills it.
const BURST: u64 = 10;
/// How long a packet may wait in it.
const LATENCY: u64 = 50;

/// Bytes a second; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What the pod receives.
    pub ingress: Option<u64>,
    /// What it sends.
    pub egress: Option<u64>,
}

impl Bandwidth {
    /// What a pod's annotations say.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let read = |direction: &str| {
            let key = format!("kubernetes.io/{direction}-bandwidth");
            let Some(text) = annotations.get(&key) else { return Ok(None) };
            let wrong = |why: String| Error::Invalid(format!("annotation {key}: {why}"));
            let bits = quantity(text).ok_or_else(|| wrong(format!("{text:?} is no quantity, such as 10M")))?;
            if !BITS.contains(&bits) {
                return Err(wrong(format!("{text:?} is not between 1k and 1P bits a second")));
            }
            Ok(u64::try_from(bits / 8).ok())
        };
        Ok(Self { ingress: read("ingress")?, egress: read("egress")? })
    }
}

/// A quantity as Kubernetes writes them, rounded up to a whole number.
fn quantity(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 || fraction.len() > 18 {
        return None;
    }
    let parse = |it: &str| if it.is_empty() { Some(0) } else { it.parse::<u128>().ok() };
    // In units of ten to the minus eighteenth.
    let units = parse(whole)? * 10u128.pow(18) + parse(fraction)? * 10u128.pow(18 - fraction.len() as u32);
    let (numerator, denominator) = scale(suffix)?;
    let product = units.checked_mul(numerator)?;
    Some(product.div_ceil(denominator.checked_mul(10u128.pow(18))?))
}

/// What a suffix multiplies by, as a fraction.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const SMALL: [&str; 3] = ["m", "u", "n"];
    let place = |all: &[&str]| all.iter().position(|it| *it == suffix).and_then(|it| u32::try_from(it).ok());
    if let Some(place) = place(&DECIMAL) {
        return Some((1000u128.pow(place), 1));
    }
    if let Some(place) = place(&BINARY) {
        return Some((1024u128.pow(place + 1), 1));
    }
    if let Some(place) = place(&SMALL) {
        return Some((1, 1000u128.pow(place + 1)));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10u128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.unsigned_abs() <= 18)?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

/// Slows a link down that is not up yet.
pub fn limit(host: &mut Host, link: &Link, index: u32) -> io::Result<()> {
    if let Some(rate) = link.bandwidth.ingress {
        host.rtnl.run(vec![bucket(&link.name, index, rate, link.mtu)])?;
    }
    let Some(rate) = link.bandwidth.egress else { return Ok(()) };
    let name = &link.shaper;
    if !wire::exists(name) {
        let kind = InfoKind::Ifb;
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).name(name.clone());
        let message = message.link_group(link.group).mtu(link.mtu).build();
        let what = format!("make the interface {name} (is ifb in the kernel or a module that can be loaded?)");
        host.rtnl.run(vec![Request::new(what, Mode::Create, RouteNetlinkMessage::NewLink(message))])?;
    }
    let shaper = host.rtnl.index(name)?;
    wire::prepare(host, name, shaper, &[])?;
    let up = LinkUnspec::new_with_index(shaper).up().build();
    host.rtnl.run(vec![
        bucket(name, shaper, rate, link.mtu),
        Request::new(format!("bring up {name}"), Mode::Change, RouteNetlinkMessage::SetLink(up)),
        incoming(&link.name, index),
        through(&link.name, index, shaper),
    ])
}

fn message(index: u32, parent: TcHandle, kind: &str) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
}

/// A token bucket for what leaves by an interface.
fn bucket(name: &str, index: u32, rate: u64, mtu: u32) -> Request {
    let mut message = message(index, TcHandle::ROOT, "tbf");
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes.push(TcAttribute::Options(bucket_options(rate, mtu)));
    let what =
        format!("limit {name} to {rate} bytes a second (is sch_tbf in the kernel or a module that can be loaded?)");
    Request::new(what, Mode::Replace, RouteNetlinkMessage::NewQueueDiscipline(message))
}

/// linux/pkt_sched.h: `struct tc_tbf_qopt` with two `struct tc_ratespec`, and what does not fit into it.
fn bucket_options(rate: u64, mtu: u32) -> Vec<TcOption> {
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_RATE64: u16 = 4;
    const TCA_TBF_BURST: u16 = 6;
    const TC_LINKLAYER_ETHERNET: u8 = 1;
    const ETHERNET_HEADER: u64 = 14;
    let within = |milliseconds: u64| rate.saturating_mul(milliseconds) / 1000;
    // A packet has to fit; the kernel cuts those that were put together.
    let least = 2 * (u64::from(mtu) + ETHERNET_HEADER);
    let burst = u32::try_from(within(BURST).max(least)).unwrap_or(u32::MAX / 2);
    let limit = u32::try_from(within(LATENCY).max(least)).unwrap_or(u32::MAX / 2).saturating_add(burst);
    let low = u32::try_from(rate).unwrap_or(u32::MAX);
    let mut parms = Vec::with_capacity(36);
    for (layer, rate) in [(TC_LINKLAYER_ETHERNET, low), (0, 0)] {
        // cell_log, linklayer, overhead, cell_align, mpu, rate.
        parms.extend([0, layer, 0, 0, 0, 0, 0, 0]);
        parms.extend(rate.to_ne_bytes());
    }
    for number in [limit, 0, 0] {
        parms.extend(number.to_ne_bytes());
    }
    let option = |kind, value: Vec<u8>| TcOption::Other(DefaultNla::new(kind, value));
    let mut options = vec![option(TCA_TBF_PARMS, parms), option(TCA_TBF_BURST, burst.to_ne_bytes().to_vec())];
    if low == u32::MAX {
        options.push(option(TCA_TBF_RATE64, rate.to_ne_bytes().to_vec()));
    }
    options
}

/// Where filters for what comes in by an interface are.
fn incoming(name: &str, index: u32) -> Request {
    let mut message = message(index, TcHandle::INGRESS, "ingress");
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    let what = format!("look at what comes by {name} (is sch_ingress in the kernel or a module that can be loaded?)");
    Request::new(what, Mode::Replace, RouteNetlinkMessage::NewQueueDiscipline(message))
}

/// Leads all that comes in by an interface through another.
fn through(name: &str, index: u32, other: u32) -> Request {
    const ETH_P_ALL: u16 = 3;
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = other;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    let mut all = TcU32Selector::default();
    all.flags = TcU32SelectorFlags::Terminal;
    all.nkeys = 1;
    all.keys = vec![TcU32Key::default()];
    let mut message = message(index, TcHandle { major: 0xffff, minor: 0 }, "u32");
    // A priority, and the protocol in the order of the network.
    message.header.info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::U32(TcFilterU32Option::Selector(all)),
        TcOption::U32(TcFilterU32Option::Action(vec![action])),
    ]));
    let what =
        format!("lead what comes by {name} through another interface (are cls_u32 and act_mirred in the kernel?)");
    Request::new(what, Mode::Create, RouteNetlinkMessage::NewTrafficFilter(message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes_own() {
        let rows = [
            ("1k", Some(1_000)),
            ("10M", Some(10_000_000)),
            ("1.5Mi", Some(1_572_864)),
            ("+8", Some(8)),
            ("100m", Some(1)),
            ("1e6", Some(1_000_000)),
            ("12E3", Some(12_000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            (".5k", Some(500)),
            ("", None),
            ("M", None),
            ("-1M", None),
            ("1 M", None),
            ("1MB", None),
            ("1.2.3", None),
            ("10Kib", None),
            ("1e", None),
        ];
        for (text, expected) in rows {
            assert_eq!(quantity(text), expected, "{text:?}");
        }
    }

    #[test]
    fn annotations_are_bits_and_limits_bytes() {
        let of = |key: &str, text: &str| {
            Bandwidth::of(&BTreeMap::from([(key.to_owned(), text.to_owned())])).map_err(|error| error.to_string())
        };
        let ingress = "kubernetes.io/ingress-bandwidth";
        assert_eq!(of(ingress, "8M").unwrap(), Bandwidth { ingress: Some(1_000_000), egress: None });
        assert_eq!(of("kubernetes.io/egress-bandwidth", "1k").unwrap().egress, Some(125));
        for text in ["999", "1001T", "fast"] {
            assert!(of(ingress, text).unwrap_err().starts_with("annotation kubernetes.io/ingress-bandwidth: "));
        }
    }
}
