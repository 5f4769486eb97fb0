#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

fn services(names: &[&str]) -> BTreeMap<Name, Service> {
    let service = || serde_json::from_value(json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}})).unwrap();
    names.iter().map(|it| (("default".to_owned(), (*it).to_owned()), service())).collect()
}

fn host(taken: &[&str]) -> Surroundings {
    let taken = taken.iter().map(|it| (it.parse().unwrap(), "a route".to_owned())).collect();
    Surroundings { taken, ipv6: true }
}

#[test]
fn addresses_outlast_their_owner_and_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let (root, state) = (dir.path().join("root"), dir.path().join("state"));
    std::fs::create_dir_all(state.join("runs")).unwrap();
    let agent = Ledger::new(&root, &state, "agent".into(), Vec::new());
    assert_eq!(agent.allocate(&services(&[]), || unreachable!()).unwrap(), Allocation::default());
    assert!(!root.exists(), "nothing is made where there are no Services");
    let first = agent.allocate(&services(&["web", "db"]), || Ok(host(&["10.155.3.0/24"]))).unwrap();
    assert!(first.addresses.values().flatten().all(|it| it.to_string().starts_with("10.141.")), "{first:?}");
    // Another process, later; where nobody has to choose the host is not looked at.
    let again = Ledger::new(&root, &state, "agent".into(), Vec::new());
    assert_eq!(again.allocate(&services(&["web", "db"]), || unreachable!()).unwrap(), first);
    // A run's Service of the same name is another one.
    std::fs::write(state.join("runs/x.json"), "{}").unwrap();
    let run = Ledger::new(&root, &state, "run:x".into(), Vec::new());
    let of_run = run.allocate(&services(&["web"]), || unreachable!()).unwrap();
    let web = ("default".to_owned(), "web".to_owned());
    assert_ne!(of_run.addresses[&web], first.addresses[&web]);
    assert_eq!(again.allocate(&services(&["web", "db"]), || unreachable!()).unwrap(), first);
    let listed = || std::fs::read_to_string(root.join("network/services.json")).unwrap();
    assert!(listed().contains("run:x"));
    // What a run that died without a word had goes with the next look.
    std::fs::remove_file(state.join("runs/x.json")).unwrap();
    again.allocate(&services(&["web"]), || unreachable!()).unwrap();
    assert!(!listed().contains("run:x") && !listed().contains("\"db\""));
    again.release().unwrap();
    assert!(!listed().contains("agent") && listed().contains("10.141.0.0/16"), "the range stays");
    // A record that cannot be read is no end.
    std::fs::write(root.join("network/services.json"), "{").unwrap();
    assert!(agent.allocate(&services(&["web"]), || Ok(host(&[]))).unwrap().problems.is_empty());
}

#[test]
fn the_operators_ranges_count_if_they_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let said: Ranges = vec!["10.96.0.0/16".parse().unwrap()];
    let ledger = Ledger::new(dir.path(), dir.path(), "agent".into(), said);
    let given = ledger.allocate(&services(&["web"]), || unreachable!()).unwrap();
    assert!(given.addresses.values().flatten().all(|it| it.to_string().starts_with("10.96.")));
    let words = |ranges: &[&str]| {
        let ranges: Vec<IpNet> = ranges.iter().map(|it| it.parse().unwrap()).collect();
        check(&ranges, &host(&["192.168.7.0/24"])).map_err(|error| error.to_string())
    };
    assert_eq!(words(&["10.96.0.0/12", "fd00::/112"]), Ok(()));
    for (ranges, why) in [
        (["10.96.0.1/16"].as_slice(), "10.96.0.1/16 has bits set behind its length; write 10.96.0.0/16"),
        (&["10.0.0.0/8"], "10.0.0.0/8 is too large or too small: from /12 to /29 can be"),
        (&["fd00::/48"], "fd00::/48 is too large or too small: from /64 to /124 can be"),
        (
            &["10.1.0.0/16", "10.2.0.0/16"],
            "10.2.0.0/16 is the second of its family; name one IPv4 and one IPv6 range at most",
        ),
        (&["192.168.0.0/16"], "192.168.0.0/16 cannot be: there is a route"),
    ] {
        assert_eq!(words(ranges), Err(format!("--service-cidr {why}")));
    }
}
