#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> Name {
    ("default".to_owned(), text.to_owned())
}

fn services(list: &[(&str, Value)]) -> BTreeMap<Name, Service> {
    let service = |spec: &Value| {
        let mut spec = spec.clone();
        if spec.get("ports").is_none() {
            spec["ports"] = json!([{"port": 80}]);
        }
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    };
    list.iter().map(|(it, spec)| (name(it), service(spec))).collect()
}

fn ranges(text: &[&str]) -> Ranges {
    text.iter().map(|it| it.parse().unwrap()).collect()
}

fn fresh(ranges_: &[&str], list: &[(&str, Value)]) -> Allocation {
    allocate(&ranges(ranges_), &services(list), &BTreeMap::new(), &[])
}

const BOTH: &[&str] = &["10.155.0.0/16", "fd00:5::/112"];

#[test]
fn addresses_follow_from_names_and_stay() {
    let list = [("web", json!({})), ("db", json!({})), ("cache", json!({}))];
    let first = fresh(BOTH, &list);
    assert_eq!(first, fresh(BOTH, &list), "the same again without any record");
    assert_eq!(first.problems, BTreeMap::new());
    let all: std::collections::BTreeSet<_> = first.addresses.values().flatten().collect();
    assert_eq!(all.len(), 3);
    assert!(first.addresses.values().all(|it| it.len() == 1 && it[0].is_ipv4()), "one, of the first family");
    // With a record, what is there stays whatever comes and goes.
    let before = BTreeMap::from([(name("web"), vec!["10.155.9.9".parse().unwrap()])]);
    let kept = allocate(&ranges(BOTH), &services(&list), &before, &[]);
    assert_eq!(kept.addresses[&name("web")], before[&name("web")]);
    assert_eq!(kept.addresses[&name("db")], first.addresses[&name("db")]);
    // Out of the range it does not.
    let moved = allocate(&ranges(&["10.156.0.0/16"]), &services(&list), &before, &[]);
    assert!(moved.addresses[&name("web")][0].to_string().starts_with("10.156."));
}

#[test]
fn two_names_never_have_one_address() {
    // A range so small that names meet.
    let list: Vec<(String, Value)> = (0..14).map(|it| (format!("s{it}"), json!({}))).collect();
    let list: Vec<(&str, Value)> = list.iter().map(|(it, spec)| (it.as_str(), spec.clone())).collect();
    let full = fresh(&["10.1.2.0/28"], &list);
    let all: std::collections::BTreeSet<_> = full.addresses.values().flatten().collect();
    assert_eq!((all.len(), full.problems.len()), (14, 0));
    let network: IpAddr = "10.1.2.0".parse().unwrap();
    let everybody: IpAddr = "10.1.2.15".parse().unwrap();
    assert!(!all.contains(&network) && !all.contains(&everybody));
    let more: Vec<(&str, Value)> = list.iter().cloned().chain([("t", json!({}))]).collect();
    let over = fresh(&["10.1.2.0/28"], &more);
    assert_eq!(over.problems.values().collect::<Vec<_>>(), ["every address of 10.1.2.0/28 is taken"]);
    let others: Vec<IpAddr> = (1..14).map(|it| format!("10.1.2.{it}").parse().unwrap()).collect();
    let last = allocate(&ranges(&["10.1.2.0/28"]), &services(&[("web", json!({}))]), &BTreeMap::new(), &others);
    assert_eq!(last.addresses[&name("web")], ["10.1.2.14".parse::<IpAddr>().unwrap()]);
}

#[test]
fn an_address_that_is_named_is_given_or_refused_with_the_reason() {
    let web = |address: &str| [("web", json!({"clusterIP": address, "clusterIPs": [address]}))];
    assert_eq!(fresh(BOTH, &web("10.155.0.10")).addresses[&name("web")], ["10.155.0.10".parse::<IpAddr>().unwrap()]);
    let refused = |allocation: Allocation| allocation.problems[&name("web")].clone();
    assert_eq!(
        refused(fresh(BOTH, &web("10.96.0.10"))),
        "its address 10.96.0.10 is not one of 10.155.0.0/16; say --service-cidr, or leave it out"
    );
    assert_eq!(
        refused(fresh(&BOTH[..1], &web("fd00:5::1"))),
        "this node has no Services with addresses of IPv6; say --service-cidr"
    );
    let two = [("web", json!({"clusterIP": "10.155.0.10"})), ("api", json!({"clusterIP": "10.155.0.10"}))];
    assert_eq!(refused(fresh(BOTH, &two)), "its address 10.155.0.10 is that of Service default/api");
    // Who has it keeps it, even if it only was the next free one.
    let before = BTreeMap::from([(name("api"), vec!["10.155.0.10".parse().unwrap()])]);
    let list = services(&[("web", json!({"clusterIP": "10.155.0.10"})), ("api", json!({}))]);
    let kept = allocate(&ranges(BOTH), &list, &before, &[]);
    assert_eq!(kept.addresses[&name("api")], before[&name("api")]);
    assert_eq!(refused(kept), "its address 10.155.0.10 is that of Service default/api");
    // One that now names another one gets that.
    let named = services(&[("api", json!({"clusterIP": "10.155.0.11"}))]);
    let moved = allocate(&ranges(BOTH), &named, &before, &[]);
    assert_eq!(moved.addresses[&name("api")], ["10.155.0.11".parse::<IpAddr>().unwrap()]);
}

#[test]
fn families_are_those_that_are_asked_for() {
    let families = |ranges: &[&str], spec: Value| -> Vec<&'static str> {
        let allocation = fresh(ranges, &[("web", spec)]);
        let addresses = allocation.addresses.get(&name("web")).cloned().unwrap_or_default();
        addresses.iter().map(|it| if it.is_ipv4() { "4" } else { "6" }).collect()
    };
    let v6_first: &[&str] = &["fd00:5::/112", "10.155.0.0/16"];
    for (ranges, spec, expected) in [
        (BOTH, json!({}), vec!["4"]),
        (v6_first, json!({}), vec!["6"]),
        (BOTH, json!({"ipFamilyPolicy": "SingleStack"}), vec!["4"]),
        (BOTH, json!({"ipFamilies": ["IPv6"]}), vec!["6"]),
        (BOTH, json!({"ipFamilyPolicy": "PreferDualStack"}), vec!["4", "6"]),
        (BOTH, json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}), vec!["6", "4"]),
        (&BOTH[..1], json!({"ipFamilyPolicy": "PreferDualStack"}), vec!["4"]),
        (&BOTH[..1], json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]}), vec!["4"]),
        (BOTH, json!({"ipFamilyPolicy": "RequireDualStack"}), vec!["4", "6"]),
        (BOTH, json!({"ipFamilies": ["IPv6", "IPv4"]}), vec!["6", "4"]),
        (BOTH, json!({"clusterIP": "fd00:5::7", "clusterIPs": ["fd00:5::7"]}), vec!["6"]),
        (BOTH, json!({"clusterIP": "10.155.0.7", "clusterIPs": ["10.155.0.7", "fd00:5::7"]}), vec!["4", "6"]),
        (BOTH, json!({"clusterIP": "None", "clusterIPs": ["None"]}), vec![]),
        (BOTH, json!({"ports": []}), vec![]),
        (&[], json!({}), vec![]),
    ] {
        assert_eq!(families(ranges, spec.clone()), expected, "{ranges:?} {spec}");
    }
    let alone = fresh(&BOTH[..1], &[("web", json!({"ipFamilyPolicy": "RequireDualStack"}))]);
    let why = "it requires addresses of both families, and this node has Services in one only";
    assert_eq!((alone.addresses.len(), alone.problems[&name("web")].as_str()), (0, why));
}
