//! Names: pods ask the gateway of their network, with real clients, and are told of each other and of the world.

mod upstream;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::slice;
use std::time::Duration;

use e2e::agent::Agent;
use e2e::manifest::{pod, shell, with};
use e2e::netns::{Host, OUTSIDE};
use e2e::pods::{Pod, end, has_v6, keeper};
use e2e::process::Run;
use e2e::{Node, deadline, debian, need};
use serde_json::{Value, json};
use upstream::{ADDRESS, TEXT, TEXTS, Upstream};

/// A node whose name servers are `servers`, and the program dig.
fn node(servers: &[&str]) -> Result<(Node, PathBuf), String> {
    let node = Node::with_busybox()?;
    let dig = debian::program("dig", "bind9-dnsutils")?;
    debian::program("ip", "iproute2")?;
    node.outside();
    set_servers(&node, servers);
    Ok((node, dig))
}

fn set_servers(node: &Node, servers: &[&str]) {
    let lines: String = servers.iter().map(|it| format!("nameserver {it}\n")).collect();
    // Replaced as a whole, as what writes the host's does.
    let new = node.dir().join("resolv.conf.new");
    std::fs::write(&new, lines + "search lan.example\n").expect("the directory is writable");
    std::fs::rename(new, resolv_conf(node)).expect("the directory is writable");
}

fn resolv_conf(node: &Node) -> PathBuf {
    node.dir().join("resolv.conf")
}

fn run(node: &Node, pods: &[Value]) -> Run {
    let path = resolv_conf(node);
    node.run_with(e2e::manifest::several(pods), &["--resolv-conf", &path.to_string_lossy()])
}

fn in_namespace(namespace: &str, mut pod: Value) -> Value {
    pod["metadata"]["namespace"] = json!(namespace);
    pod
}

/// What a pod's resolv.conf says.
fn resolver(node: &Node, pod: &str) -> String {
    node.exec(pod, "c", &["cat", "/etc/resolv.conf"]).exits(0).stdout()
}

/// The server that a pod asks.
fn server(node: &Node, pod: &str) -> IpAddr {
    let text = resolver(node, pod);
    let line = text.lines().find_map(|it| it.strip_prefix("nameserver "));
    line.and_then(|it| it.trim().parse().ok()).unwrap_or_else(|| panic!("no name server in {text}"))
}

/// What dig says on a host: the lines of its short form.
fn dig(dig: &PathBuf, host: &Host, server: IpAddr, words: &[&str]) -> Vec<String> {
    let mut command = Command::new(dig);
    command.args(["+short", "+time=5", "+tries=3", &format!("@{server}")]).args(words);
    // It fails where there is no answer at all.
    let text = host.run(command).stdout();
    // What begins so is about the way there.
    text.lines().filter(|it| !it.starts_with(";;")).map(str::to_owned).collect()
}

/// The word after `status:` and the flags in dig's long form.
fn status(dig: &PathBuf, host: &Host, server: IpAddr, words: &[&str]) -> (String, String) {
    let mut command = Command::new(dig);
    command.args(["+time=5", "+tries=3", &format!("@{server}")]).args(words);
    let text = host.run(command).exits(0).stdout();
    let after = |mark: &str, stop: char| {
        let start = text.find(mark).unwrap_or_else(|| panic!("no {mark} in {text}")) + mark.len();
        text[start..].split(stop).next().unwrap_or_default().trim().to_owned()
    };
    (after("status: ", ','), after("flags: ", ';'))
}

#[test]
fn pods_find_each_other_by_name() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let _upstream = Upstream::start(node.outside(), OUTSIDE[0]);
    let mut full = keeper("box", json!({}));
    full["spec"]["hostname"] = json!("cabinet");
    full["spec"]["subdomain"] = json!("store");
    let pods =
        [keeper("web", json!({})), keeper("db", json!({})), full, in_namespace("other", keeper("far", json!({})))];
    let run = run(&node, &pods);
    let [web, db, cabinet] = ["web", "db", "box"].map(|it| Pod::find(&node, it));
    let far = e2e::inspect::network_of(&node, "E2E_POD=far");
    let gateway = server(&node, "web");
    let expected = "search default.svc.cluster.local svc.cluster.local cluster.local lan.example";
    assert_eq!(resolver(&node, "web"), format!("{expected}\nnameserver {gateway}\noptions ndots:5\n"));
    let ask = |words: &[&str]| dig(&program, &web.network, gateway, words);
    for name in ["db", "db.default", "db.default.svc", "db.default.svc.cluster.local", "DB.Default.pod.cluster.local"] {
        assert_eq!(ask(&[name, "A"]), [db.v4().to_string()], "{name}");
        if has_v6() {
            assert_eq!(ask(&[name, "AAAA"]), [db.v6().to_string()], "{name}");
        }
    }
    for name in ["cabinet", "cabinet.store.default.svc.cluster.local", "box"] {
        assert_eq!(ask(&[name, "A"]), [cabinet.v4().to_string()], "{name}");
    }
    for pod in [&web, &db] {
        for ip in &pod.ips {
            assert_eq!(ask(&["-x", &ip.to_string()]), [format!("{}.default.pod.cluster.local.", pod.name)]);
        }
    }
    assert_eq!(ask(&["-x", &cabinet.v4().to_string()]), ["cabinet.store.default.svc.cluster.local."]);
    let is = |name: &str| status(&program, &web.network, gateway, &[name, "A"]).0;
    assert_eq!(is("nobody.default.svc.cluster.local"), "NXDOMAIN");
    assert_eq!(is("far.default.svc.cluster.local"), "NXDOMAIN", "it is in another namespace");
    assert_eq!(is("far.other.svc.cluster.local"), "NOERROR");
    assert_eq!(status(&program, &web.network, gateway, &["db", "MX"]).0, "NOERROR");
    // The pod's own programs, by its own file.
    node.exec("web", "c", &["nslookup", "db.default.svc.cluster.local"]).exits(0).says(&db.v4().to_string());
    node.exec("web", "c", &["nslookup", "web.default.svc.cluster.local"]).exits(0).says(&web.v4().to_string());
    end(&node, run, (web, db, cabinet, far));
}

#[test]
fn services_and_links_have_names() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let service = |name: &str, more: Value| {
        let ports = json!([{"name": "redis", "port": 80, "targetPort": 6379}]);
        let spec = with(json!({"selector": {"app": "db"}, "ports": ports}), more);
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    };
    let ports = json!({"ports": [{"containerPort": 6379}]});
    let mut db = keeper("db", ports);
    db["metadata"]["labels"] = json!({"app": "db"});
    db["spec"]["hostname"] = json!("first");
    db["spec"]["subdomain"] = json!("peers");
    let mut web = keeper("web", json!({}));
    web["metadata"]["annotations"] = json!({"coracle.dev/links": "db:cache"});
    let services = [service("store", json!({})), service("peers", json!({"clusterIP": "None"}))];
    let run = run(&node, &[&services[..], &[db, web, keeper("other", json!({}))]].concat());
    let [db, web, other] = ["db", "web", "other"].map(|it| Pod::find(&node, it));
    let gateway = server(&node, "web");
    let ask = |who: &Pod, words: &[&str]| dig(&program, &who.network, gateway, words);
    // When db is ready its services lead to it.
    soon(|| ask(&web, &["peers", "A"]), &db);
    assert_eq!(ask(&web, &["first.peers.default.svc.cluster.local", "A"]), [db.v4().to_string()]);
    let target = "first.peers.default.svc.cluster.local.";
    assert_eq!(ask(&web, &["_redis._tcp.peers.default.svc.cluster.local", "SRV"]), [format!("0 100 6379 {target}")]);
    let own = ask(&web, &["store.default.svc.cluster.local", "A"]);
    let [address] = &own[..] else { panic!("one address: {own:?}") };
    assert!(address.parse::<IpAddr>().is_ok_and(|it| !db.ips.contains(&it)), "{address}");
    assert_eq!(ask(&other, &["store", "A"]), own);
    assert_eq!(ask(&web, &["-x", address]), ["store.default.svc.cluster.local."]);
    let target = "store.default.svc.cluster.local.";
    assert_eq!(ask(&web, &["_redis._tcp.store.default", "SRV"]), [format!("0 100 80 {target}")]);
    // A link is its own pod's alone.
    for name in ["cache", "cache.default.svc.cluster.local"] {
        assert_eq!(ask(&web, &[name, "A"]), [db.v4().to_string()], "{name}");
    }
    let full = ["cache.default.svc.cluster.local", "A"];
    assert_eq!(status(&program, &other.network, gateway, &full).0, "NXDOMAIN");
    end(&node, run, (db, web, other));
}

#[test]
fn the_c_library_finds_names_by_the_search_list() {
    let (node, _) = need!(node(&["192.0.2.2"]));
    let _upstream = Upstream::start(node.outside(), OUTSIDE[0]);
    let run = run(&node, &[keeper("web", json!({})), keeper("db", json!({}))]);
    let [web, db] = ["web", "db"].map(|it| Pod::find(&node, it));
    let file = node.dir().join("web-resolv.conf");
    std::fs::write(&file, resolver(&node, "web")).expect("the directory is writable");
    let find = |name: &str| {
        let mut command = Command::new("unshare");
        let script = format!("mount --bind {} /etc/resolv.conf && getent ahostsv4 {name}", file.display());
        command.args(["-m", "sh", "-c", &script]);
        let text = web.network.run(command).exits(0).stdout();
        text.split_whitespace().next().unwrap_or_default().to_owned()
    };
    for name in ["db", "db.default", "db.default.svc.cluster.local"] {
        assert_eq!(find(name), db.v4().to_string(), "{name}");
    }
    assert_eq!(find("some.example.org"), IpAddr::from(ADDRESS).to_string());
    end(&node, run, (web, db));
}

#[test]
fn everything_else_is_asked_of_the_hosts_servers_and_kept() {
    // The first of them is nobody.
    let (node, program) = need!(node(&["192.0.2.99", "192.0.2.2"]));
    let outside = Upstream::start(node.outside(), OUTSIDE[0]);
    let run = run(&node, &[keeper("web", json!({}))]);
    let web = Pod::find(&node, "web");
    let gateway = server(&node, "web");
    let address = IpAddr::from(ADDRESS).to_string();
    let ask = |words: &[&str]| dig(&program, &web.network, gateway, words);
    assert_eq!(ask(&["some.example.org", "A"]), slice::from_ref(&address));
    let asked = outside.count("some.example.org");
    for _ in 0..2 {
        assert_eq!(ask(&["some.example.org", "A"]), slice::from_ref(&address));
    }
    assert_eq!(outside.count("some.example.org"), asked, "it was kept");
    assert_eq!(ask(&["liar.example.org", "A"]), slice::from_ref(&address), "no answer to another question is taken");
    let code = |name: &str| status(&program, &web.network, gateway, &[name, "A"]).0;
    assert_eq!(code("missing.example.org"), "NXDOMAIN");
    assert_eq!(code("broken.example.org"), "SERVFAIL");
    // dig asks again over TCP by itself.
    let texts = ask(&["big.example.org", "TXT"]);
    assert_eq!(texts, vec![format!("\"{}\"", "x".repeat(TEXT)); TEXTS.into()]);
    let (code, flags) = status(&program, &web.network, gateway, &["+ignore", "big.example.org", "TXT"]);
    assert_eq!(code, "NOERROR");
    assert!(flags.split(' ').any(|it| it == "tc"), "{flags}");
    assert_eq!(ask(&["+tcp", "some.example.org", "A"]), slice::from_ref(&address));
    assert_eq!(ask(&["+noedns", "some.example.org", "A"]), slice::from_ref(&address));
    assert_eq!(
        status(&program, &web.network, gateway, &["+edns=9", "+noednsnegotiation", "some.example.org", "A"]).0,
        "BADVERS"
    );
    // Others are asked from now on, and what the former said is forgotten.
    let other: IpAddr = [192, 0, 2, 3].into();
    let mut add = Command::new("ip");
    add.args(["address", "add", "192.0.2.3/24", "dev", e2e::netns::LINK]);
    node.outside().run(add).exits(0);
    let second = Upstream::start(node.outside(), other);
    set_servers(&node, &["192.0.2.3"]);
    assert_eq!(ask(&["some.example.org", "A"]), [address]);
    assert_eq!(outside.count("some.example.org"), asked);
    assert!(second.count("some.example.org") > 0);
    end(&node, run, web);
}

#[test]
fn a_question_that_nobody_answers_fails_in_time_and_holds_nobody_up() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let _upstream = Upstream::start(node.outside(), OUTSIDE[0]);
    let run = run(&node, &[keeper("web", json!({}))]);
    let web = Pod::find(&node, "web");
    let gateway = server(&node, "web");
    // As many as may be open, each for another name.
    let socket = web.network.within(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.connect((gateway, 53)).expect("a socket");
    for number in 0..200u16 {
        socket.send(&question(number, &format!("silent.n{number}.example"))).expect("it is sent");
    }
    let own = dig(&program, &web.network, gateway, &["web", "A"]);
    assert_eq!(own, [web.v4().to_string()], "a pod's own names are answered all the while");
    // What is too much is refused at once, the rest when the time is up.
    socket.set_read_timeout(Some(deadline())).expect("a socket");
    let mut answer = [0; 512];
    for _ in 0..200 {
        let length = socket.recv(&mut answer).expect("each is answered");
        assert_eq!((answer[3] & 0xf, length > 12), (2, true), "SERVFAIL");
    }
    assert_eq!(dig(&program, &web.network, gateway, &["some.example.org", "A"]), [IpAddr::from(ADDRESS).to_string()]);
    end(&node, run, (web, socket));
}

/// A question for the IPv4 address of a name.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[test]
fn nobody_but_pods_is_answered() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let outside = Upstream::start(node.outside(), OUTSIDE[0]);
    let run = run(&node, &[keeper("web", json!({}))]);
    let web = Pod::find(&node, "web");
    let gateway = server(&node, "web");
    // The host's own processes reach it, and are refused.
    assert_eq!(status(&program, node.host(), gateway, &["web.default", "A"]).0, "REFUSED");
    // The end may be there before connect() has returned, and be a reset.
    let connection = node.host().within(|| TcpStream::connect((gateway, 53)));
    let heard = connection.as_ref().map_or(Ok(0), |mut connection| {
        connection.set_read_timeout(Some(deadline())).expect("a socket");
        connection.read(&mut [0; 1])
    });
    assert!(
        matches!(&heard, Ok(0)) || heard.as_ref().is_err_and(|it| it.kind() == ErrorKind::ConnectionReset),
        "{heard:?}"
    );
    // From elsewhere there is no way to it, even for who knows the route.
    let mut route = Command::new("ip");
    route.args(["route", "add", &format!("{gateway}/32"), "via", "192.0.2.1"]);
    node.outside().run(route).exits(0);
    let socket = node.outside().within(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.connect((gateway, 53)).expect("a socket");
    socket.send(&question(1, "some.example.org")).expect("it is sent");
    socket.set_read_timeout(Some(e2e::traffic::SILENCE)).expect("a socket");
    assert!(socket.recv(&mut [0; 512]).is_err(), "an answer came out");
    assert_eq!(outside.count("some.example.org"), 0);
    end(&node, run, (web, connection));
}

#[test]
fn rubbish_does_no_harm_and_connections_have_a_bound() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let run = run(&node, &[keeper("web", json!({}))]);
    let web = Pod::find(&node, "web");
    let gateway = server(&node, "web");
    let socket = web.network.within(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    let to = SocketAddr::new(gateway, 53);
    let good = question(7, "web.default");
    let mut random = e2e::random::Random::seeded(53);
    for round in 0..3000usize {
        let mut bytes = good.clone();
        for _ in 0..=round % 5 {
            let at = random.number() as usize % bytes.len();
            bytes[at] = random.number() as u8;
        }
        bytes.truncate(1 + random.number() as usize % bytes.len());
        let _ = socket.send_to(&bytes, to);
    }
    // What is too much is closed, maybe before connect() has returned.
    let mut connections: Vec<TcpStream> =
        (0..20).filter_map(|_| web.network.within(|| TcpStream::connect(to)).ok()).collect();
    let framed = [&(good.len() as u16).to_be_bytes()[..], &good].concat();
    let answered = connections.iter_mut().filter_map(|it| {
        it.set_read_timeout(Some(deadline())).ok()?;
        it.write_all(&framed).ok()?;
        it.read_exact(&mut [0; 14]).ok()
    });
    assert_eq!(answered.count(), 8, "the others are closed");
    // Too long a question ends a connection.
    connections[0].write_all(&[0xff, 0xff]).expect("it is open");
    while connections[0].read(&mut [0; 512]).is_ok_and(|length| length > 0) {}
    drop(connections);
    soon(|| dig(&program, &web.network, gateway, &["+tcp", "web", "A"]), &web);
    end(&node, run, (web, socket));
}

#[test]
fn the_policy_chooses_the_resolver() {
    let (node, _) = need!(node(&["192.0.2.2"]));
    let _upstream = Upstream::start(node.outside(), OUTSIDE[0]);
    let of = |name: &str, more: Value| pod(name, with(json!({"containers": [shell("c", "exec sleep 1000")]}), more));
    let config = json!({"nameservers": ["192.0.2.53"], "searches": ["shop.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
    let pods = [
        of("plain", json!({})),
        of("added", json!({"dnsConfig": config})),
        of("default", json!({"dnsPolicy": "Default"})),
        of("hosts", json!({"dnsPolicy": "Default", "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}})),
        of("none", json!({"dnsPolicy": "None", "dnsConfig": config})),
        of("host", json!({"hostNetwork": true})),
        of("both", json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
    ];
    let run = run(&node, &pods);
    for name in ["plain", "added", "default", "hosts", "none", "host", "both"] {
        node.wait_for_phase(name, "Running");
    }
    let gateway = server(&node, "plain");
    let cluster = "search default.svc.cluster.local svc.cluster.local cluster.local lan.example";
    let host = "nameserver 192.0.2.2\nsearch lan.example\n";
    assert_eq!(resolver(&node, "plain"), format!("{cluster}\nnameserver {gateway}\noptions ndots:5\n"));
    let added = format!("{cluster} shop.example\nnameserver {gateway}\nnameserver 192.0.2.53\noptions ndots:2 edns0\n");
    assert_eq!(resolver(&node, "added"), added);
    assert_eq!(resolver(&node, "default"), host);
    assert_eq!(resolver(&node, "hosts"), format!("{host}options ndots:2\n"));
    assert_eq!(resolver(&node, "none"), "search shop.example\nnameserver 192.0.2.53\noptions ndots:2 edns0\n");
    assert_eq!(resolver(&node, "host"), host);
    let both = server(&node, "both");
    assert!(both.is_loopback(), "{both}");
    node.exec("both", "c", &["nslookup", "plain.default.svc.cluster.local"]).exits(0);
    node.exec("both", "c", &["nslookup", "some.example.org"]).exits(0).says(&IpAddr::from(ADDRESS).to_string());
    end(&node, run, ());
}

#[test]
fn a_loopback_server_of_the_host_is_asked_in_the_pods_place() {
    let (node, program) = need!(node(&["127.0.0.1"]));
    let _upstream = Upstream::start(node.host(), [127, 0, 0, 1].into());
    let mut default = keeper("default", json!({}));
    default["spec"]["dnsPolicy"] = json!("Default");
    let run = run(&node, &[keeper("web", json!({})), default]);
    let [web, default] = ["web", "default"].map(|it| Pod::find(&node, it));
    let gateway = server(&node, "web");
    let address = IpAddr::from(ADDRESS).to_string();
    assert_eq!(dig(&program, &web.network, gateway, &["some.example.org", "A"]), slice::from_ref(&address));
    assert_eq!(resolver(&node, "default"), format!("search lan.example\nnameserver {gateway}\n"));
    assert_eq!(dig(&program, &default.network, gateway, &["some.example.org", "A"]), [address]);
    end(&node, run, (web, default));
}

#[test]
fn the_domain_is_what_the_operator_says() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let mut full = keeper("web", json!({}));
    full["spec"]["subdomain"] = json!("store");
    full["spec"]["setHostnameAsFQDN"] = json!(true);
    let file = node.manifest(&full);
    let run = node.start(["run", "--cluster-domain", "node.example", &file.to_string_lossy()]);
    let web = Pod::find(&node, "web");
    let gateway = server(&node, "web");
    let name = "web.store.default.svc.node.example";
    assert_eq!(dig(&program, &web.network, gateway, &[name, "A"]), [web.v4().to_string()]);
    assert_eq!(dig(&program, &web.network, gateway, &["-x", &web.v4().to_string()]), [format!("{name}.")]);
    node.exec("web", "c", &["hostname"]).exits(0).says(name);
    node.exec("web", "c", &["cat", "/etc/hosts"]).exits(0).says(&format!("\t{name}\tweb"));
    end(&node, run, web);
}

#[test]
fn names_are_those_of_the_pods_that_there_are() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let mut agent = Agent::start_with(&node, ["--resolv-conf".into(), resolv_conf(&node).into_os_string()]);
    agent.write("web.yaml", keeper("web", json!({})));
    agent.wait_for_running("web");
    let web = Pod::find(&node, "web");
    let gateway = server(&node, "web");
    let full = "late.default.svc.cluster.local";
    let is = |name: &str| status(&program, &web.network, gateway, &[name, "A"]).0;
    assert_eq!(is(full), "NXDOMAIN");
    agent.write("late.yaml", keeper("late", json!({})));
    agent.wait_for_running("late");
    let late = Pod::find(&node, "late");
    assert_eq!(dig(&program, &web.network, gateway, &[full, "A"]), [late.v4().to_string()]);
    agent.remove("late.yaml");
    agent.wait_until_gone("late");
    assert_eq!(is(full), "NXDOMAIN");
    drop((web, late));
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}

#[test]
fn another_process_answers_when_the_one_that_did_is_killed() {
    let (node, program) = need!(node(&["192.0.2.2"]));
    let flag = ["--resolv-conf".into(), resolv_conf(&node).into_os_string()];
    let mut agent = Agent::start_with(&node, flag);
    agent.write("web.yaml", keeper("web", json!({})));
    agent.wait_for_running("web");
    let run = run(&node, &[keeper("other", json!({}))]);
    let [web, other] = ["web", "other"].map(|it| Pod::find(&node, it));
    let gateway = server(&node, "web");
    let asks = |who: &Pod, name: &str| dig(&program, &who.network, gateway, &[name, "A"]);
    assert_eq!(asks(&other, "web"), [web.v4().to_string()], "pods of all owners are known");
    agent.kill();
    soon(|| asks(&other, "web"), &web);
    soon(|| asks(&web, "other"), &other);
    drop(other);
    e2e::pods::stop(run);
    // Nobody is left until the agent is back, without a new pod.
    agent.restart();
    agent.wait_for_running("web");
    soon(|| asks(&web, "web"), &web);
    drop(web);
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}

/// Waits until a question is answered with a pod's address.
#[track_caller]
fn soon(ask: impl Fn() -> Vec<String>, pod: &Pod) {
    let start = std::time::Instant::now();
    let mut said = ask();
    while said != [pod.v4().to_string()] {
        assert!(start.elapsed() < deadline(), "{} is not found: {said:?}", pod.name);
        std::thread::sleep(Duration::from_millis(50));
        said = ask();
    }
}
