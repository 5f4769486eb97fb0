//! In network namespaces of their own, with the kernel's own routes.

use super::*;

/// In a network namespace of its own, on a thread that ends with it.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return None;
    }
    let work = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::scope(|scope| Some(scope.spawn(work).join().unwrap()))
}

#[test]
fn what_the_host_has_is_seen_and_what_is_ours_is_told_apart() {
    use super::super::rtnl::{Mode, Request};
    let route = |range: &str, protocol: u8, metric: u32| {
        let range: IpNet = range.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = if range.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = range.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(protocol);
        message.header.kind = RouteType::Unreachable;
        message.attributes = vec![RouteAttribute::Destination(range.addr().into()), RouteAttribute::Priority(metric)];
        Request::new(format!("add {range}"), Mode::Create, RouteNetlinkMessage::NewRoute(message))
    };
    let survey = elsewhere(|| {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.run(vec![route("10.9.0.0/16", 4, 5), route("10.201.0.0/16", PROTOCOL, 7)]).unwrap();
        let again = rtnl.run(vec![route("10.9.0.0/16", 4, 5)]).unwrap_err();
        assert!(again.to_string().contains("could not add 10.9.0.0/16: File exists"), "{again}");
        rtnl.run(vec![]).unwrap();
        survey(&mut rtnl).unwrap()
    });
    let Some(survey) = survey else { return };
    assert_eq!(survey.claims, [Claim { range: "10.201.0.0/16".parse().unwrap(), group: 7 }]);
    let found: Vec<&str> =
        survey.taken.iter().map(|it| it.by.as_str()).filter(|it| !it.contains("name server")).collect();
    assert_eq!(found, ["the route 10.9.0.0/16"]);
    assert_eq!(survey.mtu, DEFAULT_MTU);
}

#[test]
fn a_route_by_several_routers_or_one_of_the_other_family_is_a_routers() {
    let Some(found) = elsewhere(|| {
        let ip = |line: &str| std::process::Command::new("ip").args(line.split(' ')).status().ok();
        let lines = [
            "link add eth0 type veth peer name eth1",
            "link set eth1 up",
            "addr add 192.0.2.1/24 dev eth0",
            "link set eth0 up",
            "route add 10.8.0.0/16 nexthop via 192.0.2.2 nexthop via 192.0.2.3",
            "route add 10.9.0.0/16 nexthop via 192.0.2.2 nexthop dev eth0",
            "route add 10.10.0.0/16 via inet6 fe80::2 dev eth0",
        ];
        if !lines.iter().all(|it| ip(it).is_some_and(|status| status.success())) {
            return None;
        }
        let mut rtnl = Rtnl::open().unwrap();
        let local = local(&mut rtnl).unwrap();
        assert!(local.contains(&"192.0.2.1/32".parse().unwrap()), "{local:?}");
        assert!(!local.iter().any(|it| it.contains(&"192.0.2.2".parse::<IpAddr>().unwrap())), "{local:?}");
        Some(survey(&mut rtnl).unwrap())
    }) else {
        return;
    };
    let Some(found) = found else {
        return println!("skipped: this machine has no `ip` that makes such routes (apt-get install iproute2)");
    };
    let words = |taken: &[Taken]| taken.iter().map(|it| it.by.clone()).collect::<Vec<_>>();
    assert_eq!(
        words(&found.routed),
        [
            "the route 10.8.0.0/16 via 192.0.2.2 on eth0 and via 192.0.2.3 on eth0",
            "the route 10.10.0.0/16 via fe80::2 on eth0"
        ]
    );
    assert!(words(&found.taken).contains(&"the route 10.9.0.0/16 via 192.0.2.2 on eth0 and on eth0".to_owned()));
}

#[test]
fn only_names_of_pods_links_are_ours() {
    for name in ["cor0123456789a", "corp0123456789a", "cori0123456789a", "cor-0123456789", "corp-0123456789"] {
        assert!(is_ours(name), "{name}");
    }
    assert_eq!(names("0123456789abcdef")[0], "cor0123456789a");
    for name in [
        "cor-012345678",
        "corx0123456789a",
        "cor",
        "coreth0",
        "cor0123456789",
        "cor0123456789ab",
        "eth0",
        "corxyzxyzxyzxy",
    ] {
        assert!(!is_ours(name), "{name}");
    }
}
