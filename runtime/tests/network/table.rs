//! The table as a thing: made, listed, replaced, flushed, deleted.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtime::network::nft::{Group, LinkRules, PodRules, Table, pairs};
use runtime::network::ports::Protocol;
use runtime::network::wanted::Ports;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Case;
use crate::lab::{self, HOST4, Lab, OUTSIDE, Server, ask, at, ip, mapping, sh, start_within, v4};

pub const ALL: &[Case] = &[
    ("a_table_is_made_and_deleted", a_table_is_made_and_deleted),
    ("nft_shows_the_table", nft_shows_the_table),
    ("everything_can_be_exempt_from_masquerading", everything_can_be_exempt_from_masquerading),
    ("five_hundred_pods_leave_nothing", five_hundred_pods_leave_nothing),
    ("a_pod_is_added_and_removed_twice", a_pod_is_added_and_removed_twice),
    ("a_port_that_leads_elsewhere_is_refused", a_port_that_leads_elsewhere_is_refused),
    ("one_broken_pod_does_not_stop_the_others", one_broken_pod_does_not_stop_the_others),
    ("what_others_take_away_is_noticed", what_others_take_away_is_noticed),
    ("a_refreshed_table_is_the_same_table_with_other_pods", a_refreshed_table_is_the_same_table_with_other_pods),
    ("refreshing_refuses_nobody", refreshing_refuses_nobody),
    ("what_is_the_same_is_not_touched_by_refreshing", what_is_the_same_is_not_touched_by_refreshing),
];

fn a_table_is_made_and_deleted(lab: &Lab) {
    lab.table.delete().unwrap();
    assert_eq!(Table::list_ours().unwrap(), Vec::<String>::new());
    let other = Table::open("coracle-0a1b2c3d").unwrap();
    other.replace(&Default::default()).unwrap();
    lab.table.replace(&lab.desired(&[])).unwrap();
    assert_eq!(Table::list_ours().unwrap(), ["coracle", "coracle-0a1b2c3d"]);
    lab.table.delete().unwrap();
    lab.table.delete().unwrap();
    assert_eq!(Table::list_ours().unwrap(), ["coracle-0a1b2c3d"]);
    other.delete().unwrap();
    assert!(Table::open("filter").is_err() && Table::open("coracle-").is_err());
}

/// What `nft` lists, with counters at zero and elements in order: the kernel gives them in none.
fn normal(list: &str) -> String {
    let mut out = String::new();
    let mut elements: Vec<String> = Vec::new();
    let mut inside = false;
    for line in list.lines() {
        let rest = line.trim_start();
        if let Some(first) = rest.strip_prefix("elements = { ") {
            inside = true;
            elements.clear();
            elements.push(first.to_owned());
        } else if inside {
            elements.push(rest.to_owned());
        }
        if inside && rest.ends_with('}') {
            inside = false;
            let joined = elements.join(" ");
            let mut sorted: Vec<_> = joined.trim_end_matches(" }").split(", ").map(str::to_owned).collect();
            sorted.sort();
            out += &format!("\t\telements = {{ {} }}\n", sorted.join(", "));
        } else if !inside {
            let words: Vec<_> = line.split(' ').collect();
            let zero = |(index, word): (usize, &&str)| {
                let counted = index > 0 && ["packets", "bytes"].contains(&words[index - 1]);
                if counted { "0".to_owned() } else { (*word).to_owned() }
            };
            out += &words.iter().enumerate().map(zero).collect::<Vec<_>>().join(" ");
            out.push('\n');
        }
    }
    out
}

fn nft_shows_the_table(lab: &Lab) {
    let mut desired = lab.desired(&[("pod1", mapping(8080, 80)), ("pod2", lab::mapping_at("192.0.2.1", 53, 5353))]);
    // The second continues the first, the third lies in the fourth.
    desired.non_masquerade = ["10.0.0.0/24", "10.0.1.0/25", "172.16.3.0/24", "172.16.0.0/12", "255.255.255.0/24"]
        .into_iter()
        .chain(["fd00::/64", "ff00::/8"])
        .map(|it| it.parse().unwrap())
        .collect();
    lab.table.replace(&desired).unwrap();
    let Some(list) = lab.list() else {
        return println!("skipped: what nft shows: there is no `nft` here (apt-get install nftables)");
    };
    let version = sh("nft --version");
    if !version.contains(" v1.0.6 ") {
        return println!("skipped: what nft shows: it is of another version here: {version}");
    }
    let expected = include_str!("table.nft");
    let shown = normal(&list);
    assert!(shown == expected, "the table is not as expected:\n{}", lab::difference(expected, &shown));
}

/// Ranges that have no end, and ones that touch each other across a boundary.
fn everything_can_be_exempt_from_masquerading(lab: &Lab) {
    let sets = [["0.0.0.0/0", "::/0"], ["255.255.255.255/32", "ffff::/16"], ["0.0.0.0/1", "128.0.0.0/1"]];
    for ranges in sets {
        let mut desired = lab.desired(&[]);
        desired.non_masquerade = ranges.iter().map(|it| it.parse().unwrap()).collect();
        lab.table.replace(&desired).unwrap_or_else(|error| panic!("{ranges:?}: {error}"));
    }
}

fn five_hundred_pods_leave_nothing(lab: &Lab) {
    let pod = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let port = |protocol| runtime::network::ports::PortMapping { protocol, ..mapping(10_000 + number, 80) };
        use runtime::network::ports::Protocol::{Sctp, Tcp, Udp};
        let mut ports = vec![port(Tcp), port(Sctp)];
        // Clients by UDP are looked for when such a pod goes, which takes its time.
        ports.extend(number.is_multiple_of(50).then(|| port(Udp)));
        PodRules {
            interface: format!("corx{number}"),
            addresses: vec![ip(&format!("10.78.{high}.{low}")), ip(&format!("fd78::{number:x}"))],
            ports,
            ..PodRules::default()
        }
    };
    lab.table.replace(&lab.desired(&[])).unwrap();
    let before = lab.list().map(|it| normal(&it));
    let begin = Instant::now();
    for number in 0..500 {
        lab.table.add_pod(&pod(number)).unwrap();
    }
    println!("  {:?} to add a pod", begin.elapsed() / 500);
    // All of them in one batch, too.
    let mut desired = lab.desired(&[]);
    desired.pods.extend((0..500).map(pod));
    let begin = Instant::now();
    lab.table.replace(&desired).unwrap();
    println!("  {:?} to replace a table of 500", begin.elapsed());
    if let Some(list) = lab.list() {
        assert_eq!(list.matches("corx").count(), 3 * 500);
    }
    for number in 0..500 {
        lab.table.remove_pod(&pod(number)).unwrap();
    }
    assert_eq!(lab.list().map(|it| normal(&it)), before);
}

fn a_pod_is_added_and_removed_twice(lab: &Lab) {
    lab.table.replace(&lab.desired(&[])).unwrap();
    let before = lab.list().map(|it| normal(&it));
    let pod = PodRules {
        interface: "corx".into(),
        addresses: vec![ip("10.77.0.99")],
        ports: vec![mapping(99, 99)],
        ..PodRules::default()
    };
    lab.table.remove_pod(&pod).unwrap();
    for _ in 0..2 {
        lab.table.add_pod(&pod).unwrap();
    }
    assert_ne!(lab.list().map(|it| normal(&it)), before);
    for _ in 0..2 {
        lab.table.remove_pod(&pod).unwrap();
    }
    assert_eq!(lab.list().map(|it| normal(&it)), before);
    let nameless = PodRules { interface: "a-name-too-long-for-linux".into(), ..pod };
    assert!(lab.table.add_pod(&nameless).unwrap_err().to_string().contains("no name of an interface"));
}

fn a_port_that_leads_elsewhere_is_refused(lab: &Lab) {
    lab.table.replace(&lab.desired(&[("pod1", mapping(8080, 80))])).unwrap();
    let other = PodRules { ports: vec![mapping(8080, 80)], ..lab.desired(&[]).pods[1].clone() };
    let error = lab.table.add_pod(&other).unwrap_err().to_string();
    assert!(error.contains("add elements to set inet coracle ports4"), "{error}");
    // Nor does removing it take away what is another's.
    lab.table.remove_pod(&other).unwrap_err();
    let _server = Server::start("pod1", at(v4("pod1"), 80));
    assert!(ask(OUTSIDE, at(ip(HOST4), 8080)).is_ok());
}

fn one_broken_pod_does_not_stop_the_others(lab: &Lab) {
    let mut desired = lab.desired(&[("pod1", mapping(8080, 80)), ("pod2", mapping(8080, 80))]);
    desired.pods.push(PodRules { interface: String::new(), ..Default::default() });
    lab.table.replace(&desired).unwrap();
    let _server = Server::start("pod1", at(v4("pod1"), 80));
    assert!(ask(OUTSIDE, at(ip(HOST4), 8080)).is_ok());
}

fn what_others_take_away_is_noticed(lab: &Lab) {
    if lab.list().is_none() {
        return println!("skipped: what others take away: there is no `nft` here (apt-get install nftables)");
    }
    lab.table.replace(&lab.desired(&[])).unwrap();
    let mut watch = lab.table.watch().unwrap();
    // Ours is no damage: not of this process, nor of another one.
    lab.table.replace(&lab.desired(&[])).unwrap();
    lab.table.remove_pod(&lab.desired(&[]).pods[0]).unwrap();
    Table::open("coracle").unwrap().replace(&lab.desired(&[])).unwrap();
    sh("nft add table inet other; nft add rule inet coracle open counter; nft delete table inet other");
    for line in [
        "nft delete element inet coracle addresses4 '{ \"corpod1\" . 10.77.0.2 }'",
        "nft flush chain inet coracle guard",
        "nft flush table inet coracle",
        "nft delete table inet coracle",
        "nft flush ruleset",
    ] {
        lab.table.replace(&lab.desired(&[])).unwrap();
        sh(line);
        let damage = watch.next_damage().unwrap();
        assert!(damage.by.starts_with("nft (process "), "{line}: {damage:?}");
    }
    // Nothing was told twice, or of our own repairs.
    lab.table.replace(&lab.desired(&[])).unwrap();
    while poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0 {
        assert_eq!(watch.try_damage().unwrap(), None);
    }
}

fn a_refreshed_table_is_the_same_table_with_other_pods(lab: &Lab) {
    if lab.list().is_none() {
        return println!("skipped: what a refreshed table is: there is no `nft` here (apt-get install nftables)");
    }
    let desired = lab.desired(&[("pod1", mapping(8080, 80))]);
    lab.table.replace(&desired).unwrap();
    let expected = lab.list().map(|it| normal(&it));
    lab.table.replace(&lab.desired(&[("pod2", mapping(9090, 90))])).unwrap();
    sh("nft add rule inet coracle open counter");
    lab.table.refresh(&desired).unwrap();
    assert_eq!(lab.list().map(|it| normal(&it)), expected);
    // It is the old one, and has nothing that a new one would not have.
    let handle = || sh("nft -a list table inet coracle").lines().next().map(str::to_owned);
    let before = handle();
    let mut others = desired.clone();
    others.pods[0].group = Group::Isolated("back-end".to_owned());
    lab.table.refresh(&others).unwrap();
    assert!(sh("nft list table inet coracle").contains("chain net_back-end"));
    sh("nft add chain inet coracle strange");
    lab.table.refresh(&desired).unwrap();
    assert_eq!(lab.list().map(|it| normal(&it)), expected);
    assert_eq!(handle(), before);
    // One that cannot be brought up to date is made anew, as is one that is not there.
    for damage in [
        "nft delete table inet coracle; nft add table inet coracle; nft add map inet coracle pods '{ type \
                    ipv4_addr : verdict; }'",
        "nft delete table inet coracle",
    ] {
        sh(damage);
        lab.table.refresh(&desired).unwrap();
        assert_eq!(lab.list().map(|it| normal(&it)), expected, "{damage}");
    }
}

fn refreshing_refuses_nobody(lab: &Lab) {
    let mut desired = lab.desired(&[("pod1", mapping(8080, 80))]);
    desired.non_masquerade = vec!["192.0.2.0/24".parse().unwrap()];
    lab.table.replace(&desired).unwrap();
    let _server = Server::start("pod1", at(v4("pod1"), 80));
    let stop = Arc::new(AtomicBool::new(false));
    // Nobody repeats a datagram that is lost.
    let asks: [fn() -> io::Result<String>; 2] = [
        || lab::ask_here(at(ip(HOST4), 8080), Duration::from_secs(60)),
        || lab::ask_udp(OUTSIDE, None, at(v4("pod1"), 80), Duration::from_secs(20)),
    ];
    let clients = asks.map(|ask| {
        let stopped = Arc::clone(&stop);
        start_within(OUTSIDE, move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                ask().unwrap_or_else(|error| panic!("the question number {asked}: {error}"));
                asked += 1;
            }
            asked
        })
    });
    for _ in 0..200 {
        lab.table.refresh(&desired).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}

fn what_is_the_same_is_not_touched_by_refreshing(lab: &Lab) {
    let mut desired = lab.desired(&[]);
    let ports = Ports { protocol: Protocol::Tcp, first: 80, last: 80 };
    desired.pods[..2].iter_mut().for_each(|pod| pod.group = Group::Alone);
    desired.relations.links = vec![LinkRules { from: vec![v4("pod1")], to: vec![v4("pod2")], ports }];
    lab.table.replace(&desired).unwrap();
    let _server = Server::start("pod2", at(v4("pod2"), 80));
    ask("pod1", at(v4("pod2"), 80)).unwrap();
    // Each element counts what it was used for, and a new one begins with nothing.
    let links: BTreeSet<_> = desired.relations.links.iter().flat_map(pairs).collect();
    let uses = || lab.table.uses(&links).unwrap().into_values().collect::<Vec<_>>();
    assert_eq!(uses(), [1]);
    lab.table.refresh(&desired).unwrap();
    desired.pods.pop();
    desired.non_masquerade = vec!["192.0.2.0/24".parse().unwrap()];
    lab.table.refresh(&desired).unwrap();
    assert_eq!(uses(), [1]);
}
