//! The rules: the same ones however many pods there are. An isolated network has a chain, as has each number of pods that a
//! service leads to.
//!
//! ```text
//! guard     prerouting, before connection tracking: who may send what
//! publish   prerouting and output: ports of the host and of services lead to pods
//! refuse    prerouting and output: services that nobody answers for
//! input     what pods reach on the node
//! forward   what reaches pods, and what they reach elsewhere
//! leave     postrouting: which packets take the node's address
//! ```
//!
//! Nothing is let through for being of an established connection in the direction of its first packet: each such packet
//! is judged as the first one was. Only replies are. So a pod that writes packets itself cannot make up a connection
//! that would be let in, nor keep one that was made while the table was gone.
//!
//! What is let through is marked: the guard's table, which outlives this one, drops what comes out of a private pod, or goes
//! into one, without the mark.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::expression::{Family, Field, Rule};
use super::keys::{LED, LED_AT, PAIR, Part, RIAP, SERVICE};
use super::message::Base;
use super::relations::Choice;
use super::sets::{
    ADDRESSES, ALLOW_IN, ALLOW_OUT, DIRECT, DISCOVERY, ENDPOINTS, GATEWAYS, HIDDEN, INTERFACES, ISOLATED_IN,
    ISOLATED_OUT, LINKS, NETWORKS, OPEN, PORTS, PORTS_AT, PUBLISHED, PUBLISHED_AT, RANGES, SELVES, SERVICE_PORTS,
    SERVICES, STICKY, SetName, USES, members,
};
use super::{Desired, Group};
use crate::network::GUARDED_PREFIX;

/// How the names of pods' interfaces begin, whichever runtime of ours they belong to.
const POD_INTERFACES: &str = "cor*";

/// The bit of the mark of packets (meta mark) that this table has let through, from there to the guard's, which takes it
/// away. Others who mark packets and are known (kube-proxy, Calico, Cilium, Tailscale, the plug-in portmap) use other bits.
pub const LET_THROUGH: u32 = 1 << 12;

/// linux/netfilter_ipv4.h, NF_IP_PRI_*.
const RAW: i32 = -300;
const DNAT: i32 = -100;
/// Behind the translation of destinations.
const TRANSLATED: i32 = -99;
pub const FILTER: i32 = 0;
const SNAT: i32 = 100;

const FAMILIES: [(Family, usize); 2] = [(Family::V4, 0), (Family::V6, 1)];

const ECHO_REQUEST_V4: u8 = 8;
const REDIRECT_V4: u8 = 5;
const ECHO_REQUEST_V6: u8 = 128;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT_V6: u8 = 137;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A chain and its rules.
pub struct Chain {
    pub name: SetName,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

fn chain(name: impl Into<SetName>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), base: None, rules }
}

/// A chain that hooks into the network.
pub fn base(name: &'static str, kind: &'static str, hook: InetHookNumber, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), base: Some((kind, hook, priority)), rules }
}

/// All chains; each comes after those that it leads to.
pub fn all(desired: &Desired) -> Vec<Chain> {
    use InetHookNumber::{Forward, LocalIn, LocalOut, PostRouting, PreRouting};
    let mut chains = vec![
        chain("pass", pass()),
        chain("refused", vec![Rule::new().protocol(TCP).count().reset(), Rule::new().count().unreachable()]),
        chain("neighbours", neighbours()),
        chain("from_pods", from_pods()),
        chain("egress", allowed(PAIR, ALLOW_OUT)),
        chain("ingress", allowed(RIAP, ALLOW_IN)),
        chain("elsewhere", elsewhere()),
        chain("to_node", to_node(desired.reach_node)),
        chain(chain_of(&Group::Open), to_pods(Some(OPEN.map(Cow::from)), true)),
        chain(chain_of(&Group::Alone), to_pods(None, false)),
        chain("ports", ports()),
    ];
    chains.extend(desired.groups().into_iter().flat_map(of_group));
    chains.extend(desired.relations.choices().into_iter().map(of_choice));
    chains.extend([
        base("guard", "filter", PreRouting, RAW, guard()),
        base("publish", "nat", PreRouting, DNAT, publish()),
        base("publish_own", "nat", LocalOut, DNAT, publish()),
        base("refuse", "filter", PreRouting, TRANSLATED, refuse()),
        base("refuse_own", "filter", LocalOut, TRANSLATED, refuse()),
        base("input", "filter", LocalIn, FILTER, input(desired.links)),
        base("forward", "filter", Forward, FILTER, forward()),
        base("leave", "nat", PostRouting, SNAT, leave()),
    ]);
    chains
}

/// The chain of what goes to the pods of a group.
pub fn chain_of(group: &Group) -> SetName {
    match group {
        Group::Open => "open".into(),
        Group::Alone => "private".into(),
        Group::Isolated(name) => format!("net_{name}").into(),
    }
}

/// The chain of a group of its own.
pub fn of_group(group: &Group) -> Option<Chain> {
    let Group::Isolated(name) = group else { return None };
    Some(chain(chain_of(group), to_pods(Some(members(name).map(Cow::from)), true)))
}

/// The chain that chooses a service's pod.
pub fn chain_for(choice: Choice) -> String {
    match choice {
        Choice { shares, seconds: 0 } => format!("choose_{shares}"),
        Choice { shares, seconds } => format!("choose_{shares}_keep_{seconds}"),
    }
}

/// Equal shares for all pods of a service; with affinity first the one that the client has had.
pub fn of_choice(choice: Choice) -> Chain {
    const CLIENT: [Part; 4] = [Part::Destination, Part::Protocol, Part::Port, Part::Source];
    let chosen = [Part::Destination, Part::Protocol, Part::Port, Part::Share(choice.shares)];
    let mut rules = Vec::new();
    for (family, index) in FAMILIES {
        let (sticky, endpoints) = (STICKY[index], ENDPOINTS[index]);
        if choice.seconds > 0 {
            let again = || Rule::new().dnat(family, &CLIENT, sticky);
            let keep =
                |from: &[Part], map: &str| Rule::new().remember(family, &CLIENT, sticky, (from, map), choice.seconds);
            rules.extend([keep(&CLIENT, sticky), again(), keep(&chosen, endpoints), again()]);
        }
        // Where there is no room to remember it, too.
        rules.push(Rule::new().dnat(family, &chosen, endpoints));
    }
    chain(chain_for(choice), rules)
}

/// What is let through. The guard asks for the mark of what comes from, or goes to, the links that it guards.
fn pass() -> Vec<Rule> {
    let guarded = format!("{GUARDED_PREFIX}*");
    vec![
        Rule::new().iifname(&guarded).mark(LET_THROUGH, true),
        Rule::new().oifname(&guarded).mark(LET_THROUGH, true),
        Rule::new().accept(),
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
    let mut rules = vec![Rule::new().address_v6(Field::Destination, Ipv6Addr::LOCALHOST).back()];
    rules.extend(FAMILIES.map(|(family, index)| Rule::new().verdict_of(family, &SERVICE, SERVICE_PORTS[index])));
    rules.push(Rule::new().for_this_host().goto("ports"));
    rules
}

fn ports() -> Vec<Rule> {
    let maps = |(family, index): (Family, usize)| {
        [
            Rule::new().dnat(family, &SERVICE, PORTS_AT[index]),
            Rule::new().dnat(family, &[Part::Protocol, Part::Port], PORTS[index]),
        ]
    };
    FAMILIES.into_iter().flat_map(maps).collect()
}

/// What still has a service's address has found no pod: the service has none, or not this port.
fn refuse() -> Vec<Rule> {
    FAMILIES
        .map(|(family, index)| Rule::new().address_in(family, Field::Destination, SERVICES[index]).goto("refused"))
        .to_vec()
}

/// Others have pods whose names begin the same: they are judged by tables of their own, and may ask at their own gateways.
fn input(links: u32) -> Vec<Rule> {
    vec![Rule::new().iifname(POD_INTERFACES).iifgroup(links).goto("to_node")]
}

/// Answers to the node's own connections, ping, and questions for names. Published ports do not come here: they lead to
/// pods. With `open`, all that no policy forbids to pods that reach each other: in a cluster pods of the host's network, and
/// what the node itself serves, are as good as pods.
fn to_node(open: bool) -> Vec<Rule> {
    let names = FAMILIES.into_iter().flat_map(|(family, index)| {
        [UDP, TCP].map(|protocol| {
            let at_gateway = Rule::new().address_in(family, Field::Destination, GATEWAYS[index]);
            at_gateway.destination_port(protocol, crate::resolver::PORT).goto("pass")
        })
    });
    let rest = [
        Rule::new().established_or_related().reply().goto("pass"),
        Rule::new().icmp_type(Family::V4, ECHO_REQUEST_V4).goto("pass"),
        Rule::new().icmp_type(Family::V6, ECHO_REQUEST_V6).goto("pass"),
        Rule::new().icmpv6_type_in(DISCOVERY).goto("pass"),
    ];
    let flat =
        FAMILIES.map(|(family, index)| Rule::new().address_in(family, Field::Source, OPEN[index]).goto("elsewhere"));
    let flat = flat.into_iter().filter(|_| open);
    names.chain(rest).chain(flat).chain([Rule::new().goto("refused")]).collect()
}

fn forward() -> Vec<Rule> {
    let to = FAMILIES.map(|(family, index)| Rule::new().verdict_of(family, &[Part::Destination], NETWORKS[index]));
    let from =
        FAMILIES.map(|(family, index)| Rule::new().address_in(family, Field::Source, RANGES[index]).goto("elsewhere"));
    to.into_iter().chain(from).collect()
}

/// What pods reach that is no pod: everything that no policy forbids.
fn elsewhere() -> Vec<Rule> {
    let mut rules = answers();
    rules.extend(judged(ISOLATED_OUT, Field::Source, "egress"));
    rules.push(Rule::new().goto("pass"));
    rules
}

fn answers() -> Vec<Rule> {
    vec![
        Rule::new().established_or_related().reply().goto("pass"),
        // That a packet of a pod's answer was too long, say, for a router further on.
        Rule::new().related().goto("pass"),
    ]
}

/// Pods that policies choose have their packets looked at.
fn judged(isolated: [&str; 2], field: Field, chain: &str) -> [Rule; 2] {
    FAMILIES.map(|(family, index)| Rule::new().address_in(family, field, isolated[index]).jump(chain))
}

/// What a policy allows goes on; all else ends.
fn allowed(parts: [Part; 4], sets: [&str; 2]) -> Vec<Rule> {
    let back = FAMILIES.map(|(family, index)| Rule::new().in_set(family, &parts, sets[index]).back());
    back.into_iter().chain([Rule::new().count().drop()]).collect()
}

/// What goes to pods. From their `members` everything does that no policy forbids; from other pods what a link allows;
/// from everywhere what is published; from outside, if `direct`, what sees pods by their own addresses, and what others have
/// led to them (kube-proxy: ports of nodes and balancers). A Service of a cluster opens no pod to another pod.
fn to_pods(members: Option<[SetName; 2]>, direct: bool) -> Vec<Rule> {
    let mut rules = answers();
    for (family, index) in FAMILIES {
        rules.push(Rule::new().in_set(family, &PAIR, LINKS[index]).goto("pass"));
        rules.push(Rule::new().in_set(family, &[Part::Source, Part::Destination], SELVES[index]).goto("pass"));
    }
    rules.extend(judged(ISOLATED_OUT, Field::Source, "egress"));
    rules.extend(judged(ISOLATED_IN, Field::Destination, "ingress"));
    for ((family, _), set) in FAMILIES.into_iter().zip(members.iter().flatten()) {
        rules.push(Rule::new().address_in(family, Field::Source, set).goto("pass"));
    }
    for (family, index) in FAMILIES {
        // A service of ours is but a name for pods: it opens none, whatever port has its number.
        let led = || Rule::new().redirected().asked_not_in(family, SERVICES[index]);
        rules.push(led().in_set(family, &LED, PUBLISHED[index]).goto("pass"));
        rules.push(led().in_set(family, &LED_AT, PUBLISHED_AT[index]).goto("pass"));
    }
    for (family, index) in FAMILIES {
        rules.push(Rule::new().address_in(family, Field::Source, RANGES[index]).count().drop());
        if direct {
            rules.push(Rule::new().redirected().asked_not_in(family, SERVICES[index]).goto("pass"));
            rules.push(Rule::new().address_in(family, Field::Source, DIRECT[index]).goto("pass"));
        }
    }
    rules.push(Rule::new().count().drop());
    rules
}

fn leave() -> Vec<Rule> {
    // The chain sees the first packet of each connection alone, and only when it was let through.
    let mut rules: Vec<Rule> = FAMILIES.map(|(family, index)| Rule::new().in_set(family, &PAIR, USES[index])).to_vec();
    rules.extend([
        Rule::new().oifname("lo").accept(),
        // The node by way of 127.0.0.1: the pod could not answer that address.
        Rule::new().oifname(POD_INTERFACES).loopback_v4(Field::Source).masquerade(),
    ]);
    for (family, index) in FAMILIES {
        // A pod to its own published port: it would not take a packet from its own address.
        rules.push(Rule::new().in_set(family, &[Part::Source, Part::Destination], SELVES[index]).masquerade());
        let from_pods = Rule::new().address_in(family, Field::Source, HIDDEN[index]);
        rules.push(from_pods.address_not_in(family, Field::Destination, DIRECT[index]).masquerade_random());
    }
    rules
}
