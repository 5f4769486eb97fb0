//! The rules: the same ones however many pods there are.
//!
//! ```text
//! guard    prerouting, before connection tracking: who may send what
//! publish  prerouting and output: ports of the host lead to pods
//! input    what pods reach on the node
//! forward  what reaches pods
//! leave    postrouting: which packets take the node's address
//! ```
//!
//! Nothing is let through for being of an established connection in the direction of its first packet: each such packet
//! is judged as the first one was. Only replies are. So a pod that writes packets itself cannot make up a connection
//! that would be let in, nor keep one that was made while the table was gone.

use std::net::Ipv6Addr;

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::expression::{Family, Field, Rule};
use super::message::Base;
use super::sets::{ADDRESSES, DIRECT, DISCOVERY, FLAT, GATEWAYS, INTERFACES, NETWORKS, PORTS, PORTS_AT, RANGES};

/// How the names of pods' interfaces begin, whichever runtime of ours they belong to.
const POD_INTERFACES: &str = "cor*";

/// linux/netfilter_ipv4.h, NF_IP_PRI_*.
const RAW: i32 = -300;
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;

const FAMILIES: [(Family, usize); 2] = [(Family::V4, 0), (Family::V6, 1)];

const ECHO_REQUEST_V4: u8 = 8;
const REDIRECT_V4: u8 = 5;
const ECHO_REQUEST_V6: u8 = 128;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT_V6: u8 = 137;
const TCP: u8 = 6;

/// A chain and its rules.
pub struct Chain {
    pub name: &'static str,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// All chains; each comes after those that it leads to.
pub fn all() -> Vec<Chain> {
    let chain = |name, rules| Chain { name, base: None, rules };
    let base = |name, kind, hook, priority, rules| Chain { name, base: Some((kind, hook, priority)), rules };
    vec![
        chain("neighbours", neighbours()),
        chain("from_pods", from_pods()),
        chain("to_node", to_node()),
        chain(FLAT, flat()),
        chain("ports", ports()),
        base("guard", "filter", InetHookNumber::PreRouting, RAW, guard()),
        base("publish", "nat", InetHookNumber::PreRouting, DNAT, publish()),
        base("publish_own", "nat", InetHookNumber::LocalOut, DNAT, publish()),
        base("input", "filter", InetHookNumber::LocalIn, FILTER, input()),
        base("forward", "filter", InetHookNumber::Forward, FILTER, forward()),
        base("leave", "nat", InetHookNumber::PostRouting, SNAT, leave()),
    ]
}

/// Addresses that nobody may use but who has them.
///
/// Loopback addresses come in by no wire: with route_localnet on the pods' links they would be routed.
fn guard() -> Vec<Rule> {
    let loopback = Ipv6Addr::LOCALHOST;
    let mut rules = vec![
        Rule::new().iifname("lo").accept(),
        Rule::new().loopback_v4(Field::Source).count().drop(),
        Rule::new().loopback_v4(Field::Destination).count().drop(),
        Rule::new().address_v6(Field::Source, loopback).count().drop(),
        Rule::new().address_v6(Field::Destination, loopback).count().drop(),
        Rule::new().iifname_in(INTERFACES).goto("from_pods"),
    ];
    for (family, index) in FAMILIES {
        // From anywhere else nobody has a pod's address, and nobody has business with the gateway's.
        rules.push(Rule::new().address_in(family, Field::Source, RANGES[index]).count().drop());
        rules.push(Rule::new().address_in(family, Field::Destination, GATEWAYS[index]).count().drop());
    }
    rules
}

fn from_pods() -> Vec<Rule> {
    vec![
        // A pod is no router, for its node least of all.
        Rule::new().icmp_type(Family::V4, REDIRECT_V4).count().drop(),
        Rule::new().icmp_type(Family::V6, ROUTER_ADVERTISEMENT).count().drop(),
        Rule::new().icmp_type(Family::V6, REDIRECT_V6).count().drop(),
        Rule::new().iifname_source_in(Family::V4, ADDRESSES[0]).accept(),
        Rule::new().iifname_source_in(Family::V6, ADDRESSES[1]).accept(),
        // Neighbour discovery, before there is an address (from ::) and after; the kernel forwards neither.
        Rule::new().link_local_v6(Field::Source).goto("neighbours"),
        Rule::new().address_v6(Field::Source, Ipv6Addr::UNSPECIFIED).goto("neighbours"),
        Rule::new().count().drop(),
    ]
}

fn neighbours() -> Vec<Rule> {
    vec![Rule::new().icmpv6_type_in(DISCOVERY).accept(), Rule::new().count().drop()]
}

fn publish() -> Vec<Rule> {
    // Packets from ::1 go nowhere else, whatever their destination is turned into: a relay listens there.
    vec![
        Rule::new().address_v6(Field::Destination, Ipv6Addr::LOCALHOST).back(),
        Rule::new().for_this_host().goto("ports"),
    ]
}

fn ports() -> Vec<Rule> {
    let maps = |(family, index): (Family, usize)| {
        [Rule::new().dnat(family, PORTS_AT[index], true), Rule::new().dnat(family, PORTS[index], false)]
    };
    FAMILIES.into_iter().flat_map(maps).collect()
}

fn input() -> Vec<Rule> {
    vec![Rule::new().iifname(POD_INTERFACES).goto("to_node")]
}

/// Answers to the node's own connections, and ping. Published ports do not come here: they lead to pods.
fn to_node() -> Vec<Rule> {
    vec![
        Rule::new().established_or_related().reply().accept(),
        Rule::new().icmp_type(Family::V4, ECHO_REQUEST_V4).accept(),
        Rule::new().icmp_type(Family::V6, ECHO_REQUEST_V6).accept(),
        Rule::new().icmpv6_type_in(DISCOVERY).accept(),
        Rule::new().protocol(TCP).count().reset(),
        Rule::new().count().unreachable(),
    ]
}

fn forward() -> Vec<Rule> {
    vec![Rule::new().oifname_verdict(NETWORKS)]
}

/// The network in which every pod reaches every other; from outside only what is published, what answers, and what sees
/// pods by their own addresses.
fn flat() -> Vec<Rule> {
    vec![
        Rule::new().established_or_related().reply().accept(),
        // That a packet of a pod's answer was too long, say, for a router further on.
        Rule::new().related().accept(),
        Rule::new().iifname_in(INTERFACES).accept(),
        Rule::new().redirected().accept(),
        Rule::new().address_in(Family::V4, Field::Source, DIRECT[0]).accept(),
        Rule::new().address_in(Family::V6, Field::Source, DIRECT[1]).accept(),
        Rule::new().count().drop(),
    ]
}

fn leave() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new().oifname("lo").accept(),
        // The node by way of 127.0.0.1: the pod could not answer that address.
        Rule::new().oifname(POD_INTERFACES).loopback_v4(Field::Source).masquerade(),
    ];
    for (family, index) in FAMILIES {
        // A pod to its own published port: it would not take a packet from its own address.
        rules.push(Rule::new().oifname_source_in(family, ADDRESSES[index]).masquerade());
        let from_pods = Rule::new().address_in(family, Field::Source, RANGES[index]);
        rules.push(from_pods.address_not_in(family, Field::Destination, DIRECT[index]).masquerade_random());
    }
    rules
}
