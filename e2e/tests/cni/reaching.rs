//! Who reaches whom, and what pods know.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use e2e::agent::Agent;
use e2e::manifest::{pod, several};
use e2e::netns::{HOST, OUTSIDE};
use e2e::pods::{Pod, capable, end, has_v6, keeper, stop};
use e2e::traffic::{Answer, Answerer, PROTOCOLS, ask, get};
use e2e::{Node, debian, need};
use serde_json::{Value, json};

use super::plugins::Plugins;

const PORT: u16 = 7000;
const PUBLISHED: u16 = 8080;

/// [`PORT`] published by both protocols.
fn published() -> Value {
    json!({"ports": PROTOCOLS.map(|it| json!({"containerPort": PORT, "hostPort": PUBLISHED, "protocol": it.name()}))})
}

fn families() -> usize {
    if has_v6() { 2 } else { 1 }
}

/// Pods and the node reach each other, and the world reaches what is published, by both families.
#[track_caller]
fn everybody_reaches_everybody(node: &Node, plugins: &Plugins, from_pod: bool) {
    let outside = node.outside();
    let run =
        node.run_with(several(&[keeper("one", published()), keeper("two", json!({}))]), &to_str(&plugins.flags()));
    let (one, two) = (Pod::find(node, "one"), Pod::find(node, "two"));
    assert_eq!((one.ips.len(), one.ips[0].is_ipv4()), (families(), true), "{one:?}");
    let answerers = [Answerer::both(&one.network, PORT, "one"), Answerer::both(&two.network, PORT, "two")];
    let world = Answerer::both(outside, PORT, "world");
    // At one address each: else answers by UDP would come from the nearest.
    let at_node = |protocol, ip: &IpAddr| Answerer::start(node.host(), protocol, SocketAddr::new(*ip, PORT), "node");
    let ways = PROTOCOLS.into_iter().flat_map(|protocol| HOST.iter().take(families()).map(move |ip| (protocol, ip)));
    let of_node: Vec<_> = ways.map(|(protocol, ip)| at_node(protocol, ip).expect("a listener")).collect();
    let name =
        |from, protocol, at| ask(from, protocol, at).map(|answer| answer.name).map_err(|error| error.to_string());
    for protocol in PROTOCOLS {
        for (from, to) in [(&one, &two), (&two, &one)] {
            for at in to.at(PORT) {
                let expected = Answer { name: to.name.clone(), from: from.ip_like(at.ip()) };
                assert_eq!(ask(&from.network, protocol, at).ok(), Some(expected), "{} to {at} {protocol:?}", from.name);
            }
        }
        for at in one.at(PORT) {
            assert_eq!(name(node.host(), protocol, at), Ok("one".into()), "the node to {at} by {protocol:?}");
        }
        for index in 0..families() {
            let node_at = SocketAddr::new(HOST[index], PORT);
            assert_eq!(name(&two.network, protocol, node_at), Ok("node".into()), "{node_at} by {protocol:?}");
            let world_at = SocketAddr::new(OUTSIDE[index], PORT);
            let answer = ask(&two.network, protocol, world_at);
            assert_eq!(answer.ok(), Some(Answer { name: "world".into(), from: HOST[index] }), "{world_at}");
            let port = SocketAddr::new(HOST[index], PUBLISHED);
            assert_eq!(name(outside, protocol, port), Ok("one".into()), "the world to {port} by {protocol:?}");
            assert_eq!(name(node.host(), protocol, port), Ok("one".into()), "the node to {port} by {protocol:?}");
            if from_pod {
                assert_eq!(name(&two.network, protocol, port), Ok("one".into()), "a pod to {port} by {protocol:?}");
            }
        }
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PUBLISHED);
        assert_eq!(name(node.host(), protocol, local), Ok("one".into()), "the node to {local} by {protocol:?}");
    }
    assert_eq!(plugins.leases().len(), 2 * families());
    end(node, run, (one, two, answerers, world, of_node));
    plugins.assert_nothing_left(node);
}

fn to_str(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn pods_on_debians_bridge_reach_each_other_the_node_and_the_world() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
    let chain = json!([plugins.bridge(), portmap, bandwidth, {"type": "firewall"}, {"type": "tuning"}]);
    plugins.write("10-bridge.conflist", "1.0.0", chain);
    everybody_reaches_everybody(&node, &plugins, true);
}

#[test]
fn pods_on_debians_ptp_reach_each_other_the_node_and_the_world() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let ptp = json!({"type": "ptp", "ipMasq": true, "ipam": plugins.ipam()});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    plugins.write("10-ptp.conflist", "0.4.0", json!([ptp, portmap]));
    everybody_reaches_everybody(&node, &plugins, true);
}

#[test]
fn a_configuration_of_one_plug_in_and_an_old_version_is_enough() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let mut conf = json!({"cniVersion": "0.3.1", "name": super::plugins::NETWORK});
    let bridge = plugins.bridge();
    conf.as_object_mut().expect("an object").extend(bridge.as_object().expect("an object").clone());
    std::fs::write(plugins.conf.join("10-one.conf"), conf.to_string()).expect("it is writable");
    let run = node.run_with(several(&[keeper("one", json!({})), keeper("two", json!({}))]), &to_str(&plugins.flags()));
    let (one, two) = (Pod::find(&node, "one"), Pod::find(&node, "two"));
    let answerers = Answerer::both(&one.network, PORT, "one");
    for at in one.at(PORT) {
        let answer = ask(&two.network, PROTOCOLS[0], at);
        assert_eq!(answer.ok(), Some(Answer { name: "one".into(), from: two.ip_like(at.ip()) }), "{at}");
    }
    end(&node, run, (one, two, answerers));
    plugins.assert_nothing_left(&node);
}

#[test]
fn a_pod_knows_its_addresses_and_name_servers_and_is_probed_and_entered() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge()]));
    let mut own = keeper("own", json!({}));
    own["spec"]["dnsPolicy"] = json!("None");
    own["spec"]["dnsConfig"] = json!({"nameservers": ["192.0.2.99"]});
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    let serve = json!({"name": "c", "image": "coracle.local/tools", "args": ["serve", "--port", "8080"],
        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}});
    let web = pod("web", json!({"containers": [serve]}));
    let mut agent = Agent::start_with(&node, plugins.os_flags());
    agent.write("all.yaml", several(&[keeper("plain", json!({"readinessProbe": probe})), own, web]));
    let plain = Pod::find(&node, "plain");
    Pod::find(&node, "own");
    let read = |pod: &str, file: &str| node.exec(pod, "c", &["cat", file]).exits(0).stdout();
    let hosts = read("plain", "/etc/hosts");
    for ip in &plain.ips {
        assert!(hosts.lines().any(|line| line.starts_with(&format!("{ip}\t")) && line.ends_with("plain")), "{hosts}");
    }
    assert_eq!(read("plain", "/etc/resolv.conf"), "search plugged.example\nnameserver 192.0.2.53\n");
    assert_eq!(read("own", "/etc/resolv.conf"), "nameserver 192.0.2.99\n");
    let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
    let web = node.wait_for_pod("web", "ready", ready);
    node.wait_for_pod("plain", "ready", ready);
    let ip: IpAddr = web["status"]["podIP"].as_str().expect("an address").parse().expect("an address");
    assert_eq!(get(node.host(), SocketAddr::new(ip, 8080)).ok().as_deref(), Some("hello from web\n"));
    let mut forward = node.start(["port-forward", "web", "18080:8080"]);
    forward.wait_for("18080");
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 18080);
    assert_eq!(get(node.host(), at).ok().as_deref(), Some("hello from web\n"));
    stop(forward);
    drop(plain);
    agent.remove("all.yaml");
    for name in ["plain", "own", "web"] {
        agent.wait_until_gone(name);
    }
    plugins.assert_nothing_left(&node);
    agent.stop_with_nothing_left();
}

#[test]
fn bandwidth_is_what_the_annotations_say() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let tc = need!(debian::program("tc", "iproute2"));
    let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge(), bandwidth]));
    let mut slow = capable("slow", &[]);
    slow["metadata"]["annotations"] = json!({"kubernetes.io/ingress-bandwidth": "8M"});
    let run = node.run_with(slow, &to_str(&plugins.flags()));
    let slow = Pod::find(&node, "slow");
    let mut show = Command::new(tc);
    show.args(["qdisc", "show"]);
    let shown = node.host().run(show).exits(0).stdout();
    assert!(shown.lines().any(|line| line.contains("tbf") && line.contains("rate 8Mbit")), "{shown}");
    end(&node, run, slow);
    plugins.assert_nothing_left(&node);
}

#[test]
fn two_pods_do_not_publish_one_port_and_nobody_without_a_plug_in_for_it() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge()]));
    let flags = plugins.flags();
    let flags = to_str(&flags);
    let refused = node.run_with(keeper("early", published()), &flags).wait();
    refused.exits(125).says("the pod publishes 8080/tcp, 8080/udp").says("portMappings").says("10-bridge.conflist");
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    plugins.write("10-bridge.conflist", "1.0.0", json!([plugins.bridge(), portmap]));
    let run = node.run_with(keeper("first", published()), &flags);
    let first = Pod::find(&node, "first");
    node.run_with(keeper("second", published()), &flags)
        .wait()
        .exits(125)
        .says("8080/tcp is taken by pod default/first");
    // One of Coracle's own network neither.
    node.run(keeper("third", published())).wait().exits(125).says("8080/tcp is taken by pod default/first");
    end(&node, run, first);
    plugins.assert_nothing_left(&node);
}
