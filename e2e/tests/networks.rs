//! Named and private networks: whose pods reach whom, with which addresses, and how fast.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, condition, container_id};
use e2e::inspect::wait_for;
use e2e::kubectl::{Cluster, Kubectl};
use e2e::manifest::{several, with};
use e2e::netns::{HOST, Host, OUTSIDE};
use e2e::pods::{Pod, end, has_v6, ips, keeper, stop};
use e2e::traffic::{Answer, Answerer, PROTOCOLS, SILENCE, ask, ask_within};
use e2e::{Node, deadline, debian, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const PORT: u16 = 7000;

/// A Network.
fn network(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "coracle.dev/v1alpha1", "kind": "Network", "metadata": {"name": name}, "spec": spec})
}

/// A [`keeper`] with annotations.
fn annotated(name: &str, annotations: Value) -> Value {
    with(keeper(name, json!({})), json!({"metadata": {"name": name, "annotations": annotations}}))
}

/// A [`keeper`] in a network.
fn member(name: &str, network: &str) -> Value {
    annotated(name, json!({"coracle.dev/network": network}))
}

/// Who is not as expected: of every pod to every other, by both protocols and families, all at the same time.
fn wrong(pods: &[(Pod, &str)], expected: impl Fn(&str, &str) -> bool + Sync) -> Vec<String> {
    let mut ways = Vec::new();
    for (from, own) in pods {
        for (to, network) in pods.iter().filter(|(to, _)| to.name != from.name) {
            let reaches = expected(own, network);
            ways.extend(
                to.at(PORT)
                    .into_iter()
                    .filter(|at| from.ips.iter().any(|ip| ip.is_ipv4() == at.is_ipv4()))
                    .flat_map(|at| PROTOCOLS.map(|protocol| (from, to, at, protocol, reaches))),
            );
        }
    }
    std::thread::scope(|scope| {
        let ask = |(from, to, at, protocol, reaches): (&Pod, &Pod, SocketAddr, _, bool)| {
            let (answer, right) = if reaches {
                let answer = ask(&from.network, protocol, at);
                let right = answer.as_ref().is_ok_and(|it| it.name == to.name && it.from == from.ip_like(at.ip()));
                (answer, right)
            } else {
                let answer = ask_within(&from.network, protocol, at, SILENCE);
                let right = answer.is_err();
                (answer, right)
            };
            (!right).then(|| format!("{} to {} at {at} by {protocol:?}: {answer:?}", from.name, to.name))
        };
        let asked: Vec<_> = ways.into_iter().map(|way| scope.spawn(move || ask(way))).collect();
        asked.into_iter().filter_map(|it| it.join().expect("it asks")).collect()
    })
}

/// Whether packets on bridges are shown to the rules of IP, where the kernel can.
fn show_bridged(host: &Host, shown: bool) -> bool {
    host.within(|| {
        let files = ["iptables", "ip6tables"].map(|it| format!("/proc/sys/net/bridge/bridge-nf-call-{it}"));
        files.iter().all(|it| std::fs::write(it, if shown { "1" } else { "0" }).is_ok())
    })
}

fn reaches(from: &str, to: &str) -> bool {
    let open = |network: &str| matches!(network, "flat" | "wide");
    from != "private" && (from == to || (open(from) && open(to)))
}

#[test]
fn pods_reach_those_of_their_network_alone() {
    let node = need!(Node::with_busybox());
    let outside = node.outside();
    let world = Answerer::both(outside, PORT, "world");
    let subnets = |number: u8| json!([format!("10.66.{number}.0/24"), format!("fd66:{number}::/64")]);
    let subnets = |number: u8| if has_v6() { subnets(number) } else { json!([subnets(number)[0]]) };
    let mut objects = vec![
        network("routed", json!({"subnets": subnets(1)})),
        network("bridged", json!({"subnets": subnets(2), "type": "bridge"})),
        network("wide", json!({"subnets": subnets(3), "type": "bridge", "isolated": false})),
    ];
    let members = [
        ("routed-a", "routed"),
        ("routed-b", "routed"),
        ("bridged-a", "bridged"),
        ("bridged-b", "bridged"),
        ("wide-a", "wide"),
        ("wide-b", "wide"),
        ("flat-a", "flat"),
        ("private-a", "private"),
        ("private-b", "private"),
    ];
    objects.extend(members.iter().map(|(pod, network)| member(pod, network)));
    let run = node.run(several(&objects));
    let pods: Vec<(Pod, &str)> = members.iter().map(|(name, network)| (Pod::find(&node, name), *network)).collect();
    let answerers: Vec<_> = pods.iter().map(|(pod, _)| Answerer::both(&pod.network, PORT, &pod.name)).collect();
    for shown in [false, true] {
        if !show_bridged(node.host(), shown) {
            println!("skipped in part: no br_netfilter, so that bridged packets are never shown to the rules of IP");
        }
        assert_eq!(wrong(&pods, reaches), Vec::<String>::new(), "bridged packets shown: {shown}");
        for (pod, _) in &pods {
            for protocol in PROTOCOLS {
                for at in pod.at(PORT) {
                    let answer = ask(node.host(), protocol, at).map(|answer| answer.name);
                    assert_eq!(answer.ok().as_deref(), Some(pod.name.as_str()), "the host to {at} by {protocol:?}");
                }
                for (to, host) in OUTSIDE.iter().zip(HOST).take(pod.ips.len()) {
                    let answer = ask(&pod.network, protocol, SocketAddr::new(*to, PORT));
                    let expected = Answer { name: "world".into(), from: host };
                    assert_eq!(answer.ok(), Some(expected), "{} to {to} by {protocol:?}", pod.name);
                }
            }
        }
    }
    end(&node, run, (world, pods, answerers));
}

#[test]
fn a_pod_on_a_bridge_cannot_take_anothers_address() {
    let node = need!(Node::with_busybox());
    let ip = need!(debian::program("ip", "iproute2"));
    let objects = [
        network("back", json!({"subnets": ["10.66.0.0/24"], "type": "bridge"})),
        member("server", "back"),
        member("honest", "back"),
        member("spoofer", "back"),
    ];
    let run = node.run(several(&objects));
    let [server, honest, spoofer] = ["server", "honest", "spoofer"].map(|it| Pod::find(&node, it));
    let answerers = Answerer::both(&server.network, PORT, "server");
    let at = SocketAddr::new(server.v4(), PORT);
    let within = |pod: &Pod, words: &[&str]| {
        let mut command = Command::new(&ip);
        command.args(words);
        pod.network.run(command)
    };
    let shown = within(&honest, &["-o", "addr", "show", "dev", "eth0"]).exits(0).stdout();
    assert!(shown.contains(&format!("{}/24", honest.v4())), "{shown}");
    for pod in [&honest, &spoofer] {
        assert_eq!(ask(&pod.network, PROTOCOLS[0], at).map(|it| it.from).ok(), Some(pod.v4()));
    }
    let [first, _] = &answerers;
    first.heard(Duration::ZERO);
    let link = within(&honest, &["-o", "link", "show", "dev", "eth0"]).exits(0).stdout();
    let mac =
        link.split_whitespace().skip_while(|it| *it != "link/ether").nth(1).expect("a hardware address").to_owned();
    let (own, other) = (format!("{}/24", spoofer.v4()), format!("{}/24", honest.v4()));
    let steps: [&[&str]; 4] = [
        &["addr", "add", &other, "dev", "eth0"],
        &["addr", "del", &own, "dev", "eth0"],
        &["route", "replace", "10.66.0.1", "dev", "eth0"],
        &["route", "replace", "default", "via", "10.66.0.1", "dev", "eth0"],
    ];
    for step in steps {
        within(&spoofer, step).exits(0);
    }
    // With the other's address, and then with its hardware address, too.
    for mac in [None, Some(mac.as_str())] {
        if let Some(mac) = mac {
            within(&spoofer, &["link", "set", "dev", "eth0", "address", mac]).exits(0);
        }
        for (answerer, protocol) in answerers.iter().zip(PROTOCOLS) {
            let answer = ask_within(&spoofer.network, protocol, at, SILENCE);
            assert!(answer.is_err(), "{protocol:?}: {answer:?}");
            assert_eq!(answerer.heard(Duration::ZERO), Vec::<IpAddr>::new(), "{protocol:?}");
        }
    }
    assert_eq!(ask(&honest.network, PROTOCOLS[0], at).map(|it| it.from).ok(), Some(honest.v4()), "as before");
    end(&node, run, (server, honest, spoofer, answerers));
}

#[test]
fn ranges_are_chosen_kept_and_refused_where_they_overlap() {
    let node = need!(Node::with_busybox());
    node.outside();
    let chosen = [network("back", json!({})), member("pod", "back")];
    let run = node.run(several(&chosen));
    let before = Pod::find(&node, "pod").ips;
    assert!(before[0].to_string().starts_with("10.202."), "{before:?}");
    let clash = |subnet: &str, overlaps: &str| {
        let objects = [network("clash", json!({"subnets": [subnet]})), member("other", "clash")];
        node.run_to_end(several(&objects)).exits(125).says("network clash: its range").says(overlaps);
    };
    clash("10.202.0.0/16", "of network back");
    clash("10.201.7.0/24", "of the default network");
    clash("192.0.2.0/24", "eth0");
    // Another range than its pods have, and another type: not while they run.
    let change = |spec: Value, why: &str| {
        let run = node.run_to_end(several(&[network("mine", spec), member("other", "mine")]));
        run.exits(125).says(why);
    };
    let mine = node.run(several(&[network("mine", json!({"subnets": ["10.66.0.0/24"]})), member("first", "mine")]));
    assert_eq!(Pod::find(&node, "first").ips[0].to_string(), "10.66.0.2");
    change(json!({"subnets": ["10.67.0.0/24"]}), "want different ones of this name");
    stop(mine);
    let mine = node.run(several(&[network("mine", json!({"subnets": ["10.67.0.0/24"]})), member("second", "mine")]));
    assert!(Pod::find(&node, "second").ips[0].to_string().starts_with("10.67.0."));
    stop(mine);
    stop(run);
    let run = node.run(several(&chosen));
    assert_eq!(Pod::find(&node, "pod").ips, before, "made again, it has its addresses again");
    end(&node, run, ());
}

#[test]
fn an_agents_pod_waits_for_its_network_and_keeps_it_as_long_as_it_runs() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start_with(&node, ["--restart-backoff", "initial=100ms,max=1s"]);
    agent.write("pod.json", member("pod", "late"));
    let said = |pod: &Value| pod.to_string().contains("there is no network late");
    agent.wait_for("pod", "waiting for its network", said);
    node.coracle(["why", "pod"]).exits(0).says("WaitingForNetwork: there is no network late").says("add a Network");
    node.coracle(["events"]).exits(0).says("WaitingForNetwork").says("there is no network late");
    let subnets = |range: &str| network("late", json!({"subnets": [range], "type": "bridge"}));
    agent.write("network.json", subnets("10.66.0.0/24"));
    let running = agent.wait_for_running("pod");
    assert_eq!(ips(&running)[0].to_string(), "10.66.0.2");
    assert!(!agent.said().contains("SandboxFailed"), "it is not begun before: {}", agent.said());
    let shown = node.coracle(["get", "networks", "late", "-o", "json"]).exits(0).stdout();
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    assert_eq!((&shown["kind"], &shown["apiVersion"]), (&json!("Network"), &json!("coracle.dev/v1alpha1")));
    assert_eq!(shown["status"]["pods"], json!(["default/pod"]), "{shown:#}");
    assert_eq!(shown["status"]["subnets"], json!(["10.66.0.0/24"]), "{shown:#}");
    node.coracle(["get", "networks"]).exits(0).says("bridge").says("10.66.0.0/24").says("Ready");
    // What its pods have stays; who comes now waits.
    agent.write("network.json", subnets("10.67.0.0/24"));
    agent.write("other.json", member("other", "late"));
    agent.wait_for("other", "says why it waits", |pod| {
        pod.to_string().contains("its pods have addresses of 10.66.0.0/24")
    });
    assert_eq!(ips(&agent.wait_for_running("pod"))[0].to_string(), "10.66.0.2");
    agent.remove("pod.json");
    let other = agent.wait_for_running("other");
    assert!(ips(&other)[0].to_string().starts_with("10.67.0."), "{other:#}");
    // Without its object it is there until its last pod has ended.
    agent.remove("network.json");
    agent.write("third.json", member("third", "late"));
    agent.wait_for("third", "waiting for its network", said);
    agent.wait_for_words("it stays until its last pod has ended: default/other");
    node.coracle(["get", "networks", "-o", "wide"]).exits(0).says("Terminating").says("default/other");
    let other = Pod::find(&node, "other");
    let answerers = Answerer::both(&other.network, PORT, "other");
    let answer = ask(node.host(), PROTOCOLS[0], SocketAddr::new(other.v4(), PORT)).map(|it| it.name);
    assert_eq!(answer.ok().as_deref(), Some("other"));
    drop((other, answerers));
    for pod in ["other", "third"] {
        agent.remove(&format!("{pod}.json"));
        agent.wait_until_gone(pod);
    }
    node.coracle(["get", "networks", "late"]).exits(125).says("networks \"late\" not found");
    agent.stop_with_nothing_left();
}

#[test]
fn a_runs_pod_waits_for_the_agents_network() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let run = node.run(member("visitor", "shared"));
    node.wait_for_pod("visitor", "waiting for its network", |pod| pod.to_string().contains("WaitingForNetwork"));
    agent.write("network.json", network("shared", json!({"subnets": ["10.66.0.0/24"]})));
    agent.write("host.json", member("host", "shared"));
    let pods = ["visitor", "host"].map(|name| {
        node.wait_for_phase(name, "Running");
        (Pod::find(&node, name), "shared")
    });
    assert!(pods.iter().all(|(pod, _)| pod.v4().to_string().starts_with("10.66.0.")), "{pods:?}");
    let answerers: Vec<_> = pods.iter().map(|(pod, _)| Answerer::both(&pod.network, PORT, &pod.name)).collect();
    assert_eq!(wrong(&pods, reaches), Vec::<String>::new());
    drop((pods, answerers));
    stop(run);
    agent.remove("network.json");
    agent.remove("host.json");
    agent.wait_until_gone("host");
    agent.stop_with_nothing_left();
}

#[test]
fn kubectl_shows_networks() {
    let kubectl = need!(Kubectl::websocket());
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node, kubectl);
    cluster.write("pod.yaml", member("pod", "back"));
    cluster.wait_for("pod", "waiting for its network", |pod| pod.to_string().contains("WaitingForNetwork"));
    cluster.write("network.yaml", network("back", json!({"subnets": ["10.66.0.0/24"]})));
    cluster.wait_for_ready("pod");
    let shown = wait_for(|| {
        let shown = cluster.json(&["get", "network", "back"]);
        (shown["status"]["state"] == "Ready").then_some(shown)
    })
    .expect("its pod is seen in it");
    assert_eq!(shown["apiVersion"], "coracle.dev/v1alpha1");
    assert_eq!(shown["status"]["subnets"], json!(["10.66.0.0/24"]));
    let table = cluster.text(["get", "networks"]);
    assert!(table.contains("ptp") && table.contains("10.66.0.0/24"), "{table}");
    cluster.remove("network.yaml");
    let says =
        |text: &str| wait_for(|| Some(cluster.text(["get", "networks", "-o", "wide"])).filter(|it| it.contains(text)));
    says("no manifest declares it any more").expect("it stays while its pod is there");
    cluster.remove("pod.yaml");
    cluster.wait_until_gone("pod");
    wait_for(|| (!cluster.text(["get", "networks"]).contains("back")).then_some(()))
        .expect("it goes with its last pod");
}

#[test]
fn a_node_says_which_network_pods_are_in_that_name_none() {
    let node = need!(Node::with_busybox());
    let pods = |names: [&str; 2]| several(&names.map(|name| keeper(name, json!({}))));
    let flat = node.run(pods(["flat-a", "flat-b"]));
    let flat_pods = ["flat-a", "flat-b"].map(|it| (Pod::find(&node, it), "flat"));
    let private = node.run_with(pods(["private-a", "private-b"]), &["--default-network", "private"]);
    let private_pods = ["private-a", "private-b"].map(|it| (Pod::find(&node, it), "private"));
    let pods: Vec<_> = flat_pods.into_iter().chain(private_pods).collect();
    let answerers: Vec<_> = pods.iter().map(|(pod, _)| Answerer::both(&pod.network, PORT, &pod.name)).collect();
    assert_eq!(wrong(&pods, reaches), Vec::<String>::new());
    let lost = node.run_with(keeper("lost", json!({})), &["--default-network", "nowhere"]);
    node.wait_for_pod("lost", "waiting for its network", |pod| {
        let text = pod.to_string();
        text.contains("WaitingForNetwork") && text.contains("there is no network nowhere")
    });
    stop(lost);
    node.run_with(keeper("lost", json!({})), &["--default-network", "No Where"]).wait().exits(2);
    drop((pods, answerers));
    stop(flat);
    end(&node, private, ());
}

#[test]
fn another_default_counts_for_pods_that_are_made_from_then_on() {
    let node = need!(Node::with_busybox());
    let agent_with = |network: &str| Agent::start_with(&node, ["--default-network", network]);
    let write = |agent: &Agent, name: &str| {
        let mut pod = keeper(name, json!({}));
        pod["spec"]["restartPolicy"] = json!("Always");
        agent.write(&format!("{name}.json"), pod);
    };
    let check = |members: &[(&str, &'static str)], when: &str| {
        let pods: Vec<_> = members.iter().map(|(name, network)| (Pod::find(&node, name), *network)).collect();
        let answerers: Vec<_> = pods.iter().map(|(pod, _)| Answerer::both(&pod.network, PORT, &pod.name)).collect();
        assert_eq!(wrong(&pods, reaches), Vec::<String>::new(), "{when}");
        drop((pods, answerers));
    };
    let id = |name: &str| container_id(&node.pod(name).expect("it is there"), "c");
    let mut agent = agent_with("private");
    for name in ["old-a", "old-b"] {
        write(&agent, name);
        agent.wait_for_running(name);
    }
    check(&[("old-a", "private"), ("old-b", "private")], "at first");
    let before = [id("old-a"), id("old-b")];

    // What stands stays as it is, and is not made anew; also where only its container begins again.
    agent.kill();
    let mut agent = agent_with("flat");
    for name in ["new-a", "new-b"] {
        write(&agent, name);
        agent.wait_for_running(name);
    }
    let mut members = vec![("old-a", "private"), ("old-b", "private"), ("new-a", "flat"), ("new-b", "flat")];
    check(&members, "with another default");
    assert_eq!([id("old-a"), id("old-b")], before);
    node.coracle(["restart", "old-b", "-c", "c"]).exits(0);
    agent.wait_for("old-b", "its container is another one", |pod| {
        container_id(pod, "c").is_some_and(|it| Some(&it) != before[1].as_ref())
            && condition(pod, "Ready") == Some(true)
    });
    check(&members, "when a container has begun again");

    // Made anew, a pod is in what is the default now.
    let uid = agent.wait_for_running("old-a")["metadata"]["uid"].clone();
    node.coracle(["delete", "pod", "old-a", "--grace-period", "0"]).exits(0);
    agent.wait_for("old-a", "made anew", |pod| pod["metadata"]["uid"] != uid && condition(pod, "Ready") == Some(true));
    members[0].1 = "flat";
    check(&members, "when a pod was made anew");

    // And back.
    agent.kill();
    let mut agent = agent_with("private");
    write(&agent, "last");
    agent.wait_for_running("last");
    members.push(("last", "private"));
    check(&members, "with the first default again");
    for (name, _) in members {
        agent.remove(&format!("{name}.json"));
        agent.wait_until_gone(name);
    }
    agent.stop_with_nothing_left();
}

/// How long it takes until a number of bytes is there.
fn transfer(from: &Host, to: &Host, at: SocketAddr, bytes: usize) -> Duration {
    let listener = to.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, at.port()))).expect("a listener");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream =
                from.within(|| std::net::TcpStream::connect_timeout(&at, deadline())).expect("a connection");
            stream.write_all(&vec![0; bytes]).expect("all is sent");
        });
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(deadline())).expect("a socket option");
        let received = stream.take(bytes as u64 + 1).read_to_end(&mut Vec::new()).expect("all is received");
        assert_eq!(received, bytes);
    });
    begin.elapsed()
}

#[test]
fn a_limited_pod_receives_and_sends_no_faster_than_that() {
    let node = need!(Node::with_busybox());
    let limits = json!({"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "16M"});
    let in_network = with(limits.clone(), json!({"coracle.dev/network": "back"}));
    let objects =
        [network("back", json!({"type": "bridge"})), annotated("limited", limits), annotated("bridged", in_network)];
    let run = node.run(several(&objects));
    let [limited, bridged] = ["limited", "bridged"].map(|it| Pod::find(&node, it));
    let receive = |pod: &Pod| transfer(node.host(), &pod.network, SocketAddr::new(pod.v4(), PORT), 2_000_000);
    for pod in [&limited, &bridged] {
        // Two million bytes at one million a second. A busy machine takes longer, never shorter.
        let received = receive(pod);
        assert!(received > Duration::from_secs(1), "{}: {received:?}", pod.name);
    }
    let outside = node.outside();
    for pod in [&limited, &bridged] {
        let at = SocketAddr::new(OUTSIDE[0], PORT);
        let sent = transfer(&pod.network, outside, at, 2_000_000);
        assert!(sent > Duration::from_millis(500), "{}: {sent:?}", pod.name);
    }
    end(&node, run, (limited, bridged));
}

#[test]
fn what_a_killed_run_has_left_of_a_network_is_collected() {
    let node = need!(Node::with_busybox());
    let annotations = json!({"coracle.dev/network": "back", "kubernetes.io/egress-bandwidth": "10M"});
    let objects = [network("back", json!({"type": "bridge"})), annotated("pod", annotations)];
    let mut run = node.run(several(&objects));
    let names = || {
        let text = node.host().within(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split_once(':')).map(|it| it.0.trim().to_owned());
        names.filter(|it| it.starts_with("cor")).collect::<Vec<_>>()
    };
    node.wait_for_phase("pod", "Running");
    let there = names();
    for prefix in ["corp-", "corp", "cori"] {
        assert!(there.iter().any(|it| it.starts_with(prefix)), "{prefix} in {there:?}");
    }
    run.signal(Signal::KILL);
    run.wait();
    node.coracle(["gc"]).exits(0);
    assert_eq!(names(), Vec::<String>::new());
    node.assert_nothing_left();
}

#[test]
fn the_example_of_a_network_does_what_it_says() {
    need!(e2e::skip::root());
    let node = Node::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples/private-network.yaml");
    let mut run = node.start(["run".into(), example]);
    run.wait_for("back-visitor/visitor | hello from back-web");
    let [web, visitor] = ["back-web", "back-visitor"].map(|name| ips(&node.pod(name).expect("it is shown")));
    assert!(
        web.iter().chain(&visitor).all(|ip| ip.is_ipv6() || ip.to_string().starts_with("10.202.")),
        "{web:?} {visitor:?}"
    );
    end(&node, run, ());
}
