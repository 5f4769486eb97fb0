#![allow(clippy::unwrap_used)]

use hickory_proto::rr::Name;

use super::*;
use crate::resolver::message::{self, Edns};

fn pod(namespace: &str, name: &str, addresses: &[&str]) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        owner: "agent".into(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        domain: Some(DEFAULT_DOMAIN.into()),
        ..Pod::default()
    }
}

fn name(name: &str, asker: Option<(&str, &str)>, entry: Entry) -> Given {
    let asker = asker.map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()));
    Given { owner: "agent".into(), name: name.into(), asker, entry }
}

fn leads_to(namespace: &str, name: &str) -> Entry {
    Entry { pods: vec![(namespace.into(), name.into())], ..Entry::default() }
}

fn at(addresses: &[&str]) -> Entry {
    Entry { addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(), ..Entry::default() }
}

/// Web and db in `default`, db in `other`; a service `api`, a headless one `peers`, a link of web's.
fn zone() -> Zone {
    let db =
        Pod { hostname: Some("box".into()), fqdn: Some("box.sub".into()), ..pod("default", "db", &["10.201.0.3"]) };
    let pods = vec![
        pod("default", "web", &["10.201.0.2", "fd00::2"]),
        db,
        pod("other", "db", &["10.201.0.4", "fd00::4"]),
        pod("default", "a.b", &["10.201.0.5"]),
    ];
    let srv = Entry { srv: vec![(80, "api.default.svc".into())], ..Entry::default() };
    let peers = Entry {
        pods: vec![("default".into(), "web".into()), ("other".into(), "db".into()), ("default".into(), "gone".into())],
        ..Entry::default()
    };
    let given = vec![
        name("api.default.svc", None, at(&["10.96.0.7"])),
        name("_http._tcp.api.default.svc", None, srv),
        name("peers.default.svc", None, peers),
        name("empty.default.svc", None, Entry::default()),
        name("redis", Some(("default", "web")), leads_to("other", "db")),
        name("api", Some(("default", "a.b")), leads_to("default", "db")),
    ];
    Zone::new(pods, given, vec!["10.201.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()])
}

fn question(text: &str, kind: RecordType) -> Question {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    let bytes = message::ask(&Question { name: name.clone(), kind, ..blank() }, 7, true).unwrap();
    let read = message::read(&bytes).unwrap();
    assert_eq!((&read.name, read.kind), (&name, kind));
    read
}

fn blank() -> Question {
    Question {
        id: 0,
        name: Name::root(),
        text: None,
        kind: RecordType::A,
        recursion: true,
        unchecked: false,
        authentic: false,
        edns: Some(Edns { payload: 1232, dnssec: false }),
    }
}

/// What the pod with this address is told, in words.
fn ask(zone: &Zone, asker: &str, text: &str, kind: RecordType) -> String {
    let asker = match asker {
        "node" => Asker::Node,
        address => Asker::Pod(zone.pod_at(address.parse().unwrap()).unwrap()),
    };
    let Found::Here(reply) = zone.lookup(&question(text, kind), asker, 0) else { return "elsewhere".into() };
    assert!(reply.authoritative);
    if reply.answers.is_empty() {
        assert!(reply.authorities.iter().any(|it| it.record_type() == RecordType::SOA), "{text}");
        return match reply.code {
            ResponseCode::NoError => "nothing".into(),
            ResponseCode::NXDomain => "no such name".into(),
            other => other.to_string(),
        };
    }
    let mut data: Vec<String> = reply.answers.iter().map(|it| it.data.to_string()).collect();
    data.sort();
    data.join(" ")
}

const WEB: &str = "10.201.0.2";

#[test]
fn pods_are_found_by_whatever_the_search_list_makes_of_their_names() {
    let zone = zone();
    for (text, expected) in [
        ("db", "10.201.0.3"),
        ("DB.default", "10.201.0.3"),
        ("db.other", "10.201.0.4"),
        ("db.default.svc.cluster.local", "10.201.0.3"),
        ("db.other.svc.cluster.local", "10.201.0.4"),
        ("db.other.svc", "10.201.0.4"),
        ("db.other.pod.cluster.local", "10.201.0.4"),
        ("db.cluster.local", "10.201.0.3"),
        ("box", "10.201.0.3"),
        ("box.default.svc.cluster.local", "10.201.0.3"),
        ("box.sub.default.svc.cluster.local", "10.201.0.3"),
        ("box.sub", "10.201.0.3"),
        ("a.b", "10.201.0.5"),
        ("a.b.default.svc.cluster.local", "10.201.0.5"),
        ("10-201-0-4.other.pod.cluster.local", "10.201.0.4"),
        ("10-201-0-4.default.pod.cluster.local", "no such name"),
        ("db.nowhere.svc.cluster.local", "no such name"),
        ("nothing.default.svc.cluster.local", "no such name"),
        ("example.org.default.svc.cluster.local", "no such name"),
        ("example.org", "elsewhere"),
        ("nothing", "elsewhere"),
        ("db.cluster.example", "elsewhere"),
        ("localhost", "127.0.0.1"),
        ("x.localhost", "127.0.0.1"),
    ] {
        assert_eq!(ask(&zone, WEB, text, RecordType::A), expected, "{text}");
    }
    assert_eq!(ask(&zone, "10.201.0.4", "db", RecordType::A), "10.201.0.4", "each namespace has its own");
    assert_eq!(ask(&zone, "node", "db", RecordType::A), "elsewhere", "the node is in no namespace");
    assert_eq!(ask(&zone, "node", "db.default", RecordType::A), "10.201.0.3");
    assert_eq!(ask(&zone, "node", "fd00--4.other.pod.cluster.local", RecordType::AAAA), "fd00::4");
}

#[test]
fn a_name_without_such_records_is_not_a_missing_name() {
    let zone = zone();
    assert_eq!(ask(&zone, WEB, "db", RecordType::AAAA), "nothing");
    assert_eq!(ask(&zone, WEB, "web", RecordType::AAAA), "fd00::2");
    assert_eq!(ask(&zone, WEB, "web", RecordType::MX), "nothing");
    assert_eq!(ask(&zone, WEB, "web", RecordType::ANY), "10.201.0.2 fd00::2");
    for above in [
        "cluster.local",
        "svc.cluster.local",
        "default.svc.cluster.local",
        "other.pod.cluster.local",
        "_tcp.api.default.svc.cluster.local",
        "sub.default.svc.cluster.local",
    ] {
        assert_eq!(ask(&zone, WEB, above, RecordType::A), "nothing", "{above}");
    }
    assert!(ask(&zone, WEB, "cluster.local", RecordType::SOA).starts_with("ns.cluster.local. hostmaster."));
    assert_eq!(ask(&zone, WEB, "empty.default.svc.cluster.local", RecordType::A), "nothing");
}

#[test]
fn services_have_addresses_or_those_of_their_pods() {
    let zone = zone();
    for text in ["api", "api.default", "api.default.svc", "api.default.svc.cluster.local"] {
        assert_eq!(ask(&zone, WEB, text, RecordType::A), "10.96.0.7", "{text}");
        assert_eq!(ask(&zone, WEB, text, RecordType::AAAA), "nothing", "{text}");
    }
    assert_eq!(ask(&zone, "10.201.0.4", "api", RecordType::A), "elsewhere", "of another namespace");
    assert_eq!(ask(&zone, WEB, "peers", RecordType::A), "10.201.0.2 10.201.0.4");
    assert_eq!(ask(&zone, WEB, "peers", RecordType::AAAA), "fd00::2 fd00::4");
    let srv = ask(&zone, WEB, "_http._tcp.api.default.svc.cluster.local", RecordType::SRV);
    assert_eq!(srv, "0 100 80 api.default.svc.cluster.local.");
    assert_eq!(ask(&zone, WEB, "_http._tcp.api", RecordType::SRV), srv);
    assert_eq!(ask(&zone, WEB, "_http._tcp.api", RecordType::A), "nothing");
    let asked = question("_http._tcp.api", RecordType::SRV);
    let Found::Here(reply) = zone.lookup(&asked, Asker::Pod(zone.pod_at(WEB.parse().unwrap()).unwrap()), 0) else {
        panic!("it is known");
    };
    assert_eq!(reply.additionals.len(), 1);
    assert_eq!(reply.additionals[0].data.ip_addr(), Some("10.96.0.7".parse().unwrap()));
}

#[test]
fn an_alias_is_one_pods_alone_and_comes_before_all_else() {
    let zone = zone();
    for text in ["redis", "redis.default.svc.cluster.local", "redis.svc.cluster.local", "redis.cluster.local"] {
        assert_eq!(ask(&zone, WEB, text, RecordType::A), "10.201.0.4", "{text}");
    }
    assert_eq!(ask(&zone, "10.201.0.3", "redis", RecordType::A), "elsewhere");
    assert_eq!(ask(&zone, "10.201.0.3", "redis.default.svc.cluster.local", RecordType::A), "no such name");
    assert_eq!(ask(&zone, WEB, "redis.other.svc.cluster.local", RecordType::A), "no such name");
    assert_eq!(ask(&zone, "10.201.0.5", "api", RecordType::A), "10.201.0.3", "before the service of that name");
    assert_eq!(ask(&zone, "10.201.0.5", "api.default", RecordType::A), "10.96.0.7");
}

#[test]
fn addresses_have_names() {
    let zone = zone();
    let v6 = format!("4.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    for (text, expected) in [
        ("2.0.201.10.in-addr.arpa", "web.default.pod.cluster.local."),
        ("3.0.201.10.in-addr.arpa", "box.sub.default.svc.cluster.local."),
        (&v6, "db.other.pod.cluster.local."),
        ("7.0.96.10.in-addr.arpa", "api.default.svc.cluster.local."),
        ("9.0.201.10.in-addr.arpa", "no such name"),
        ("0.201.10.in-addr.arpa", "nothing"),
        ("1.2.0.192.in-addr.arpa", "elsewhere"),
        ("10.in-addr.arpa", "elsewhere"),
        ("in-addr.arpa", "elsewhere"),
        ("x.in-addr.arpa", "elsewhere"),
    ] {
        assert_eq!(ask(&zone, WEB, text, RecordType::PTR), expected, "{text}");
    }
    assert_eq!(ask(&zone, WEB, "2.0.201.10.in-addr.arpa", RecordType::A), "nothing");
}

#[test]
fn of_two_pods_of_one_name_the_askers_owners_is_meant_then_the_younger() {
    let of = |owner: &str, created_at: i64, address: &str| Pod {
        owner: owner.into(),
        created_at,
        ..pod("default", "db", &[address])
    };
    let pods = vec![
        of("agent", 5, "10.201.0.2"),
        of("run:1", 1, "10.201.0.3"),
        of("run:1", 3, "10.201.0.4"),
        Pod { owner: "run:2".into(), ..pod("default", "web", &["10.201.0.5"]) },
    ];
    let zone = Zone::new(pods, Vec::new(), Vec::new());
    assert_eq!(ask(&zone, "10.201.0.2", "db", RecordType::A), "10.201.0.2");
    assert_eq!(ask(&zone, "10.201.0.3", "db", RecordType::A), "10.201.0.4");
    assert_eq!(ask(&zone, "10.201.0.5", "db", RecordType::A), "10.201.0.2", "the youngest of the others'");
}

#[test]
fn each_pod_has_the_domain_that_it_was_told() {
    let pods = vec![
        pod("default", "web", &["10.201.0.2"]),
        Pod { domain: Some("node.example".into()), ..pod("default", "db", &["10.201.0.3"]) },
        Pod { domain: None, ..pod("default", "cri", &["10.201.0.4"]) },
    ];
    let zone = Zone::new(pods, Vec::new(), vec!["10.201.0.0/16".parse().unwrap()]);
    let full = "web.default.svc.node.example";
    assert_eq!(ask(&zone, "10.201.0.3", full, RecordType::A), "10.201.0.2");
    assert_eq!(ask(&zone, WEB, full, RecordType::A), "elsewhere");
    assert_eq!(ask(&zone, "10.201.0.3", "2.0.201.10.in-addr.arpa", RecordType::PTR), "web.default.pod.node.example.");
    assert_eq!(ask(&zone, "10.201.0.4", "web.default.svc.cluster.local", RecordType::A), "10.201.0.2");
}

#[test]
fn what_one_owner_names_twice_leads_to_both() {
    let of = |owner: &str, address: &str| Given { owner: owner.into(), ..name("a.b.svc", None, at(&[address])) };
    let given =
        vec![of("agent", "10.0.0.1"), of("run:1", "10.0.0.2"), of("agent", "10.0.0.3"), of("agent", "10.0.0.1")];
    let pods = vec![Pod { owner: "run:1".into(), ..pod("b", "web", &["10.201.0.2"]) }];
    let zone = Zone::new(pods, given, Vec::new());
    assert_eq!(ask(&zone, "node", "a.b.svc", RecordType::A), "10.0.0.1 10.0.0.3");
    assert_eq!(ask(&zone, WEB, "a", RecordType::A), "10.0.0.2", "its own owner's");
}

#[test]
fn answers_begin_with_another_address_each_time() {
    let peers = Entry { addresses: (1..=3u8).map(|it| IpAddr::from([10, 0, 0, it])).collect(), ..Entry::default() };
    let zone = Zone::new(Vec::new(), vec![name("peers.default.svc", None, peers)], Vec::new());
    let first = |turn| match zone.lookup(&question("peers.default", RecordType::A), Asker::Node, turn) {
        Found::Here(reply) => reply.answers[0].data.to_string(),
        Found::Elsewhere => "elsewhere".into(),
    };
    assert_eq!([0, 1, 2, 3].map(first), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
}
