//! Services, with real packets: one address before several pods, whoever of them is ready.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use e2e::agent::{Agent, container_id};
use e2e::manifest::{several, with};
use e2e::netns::Host;
use e2e::pods::{Pod, end, keeper};
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, SILENCE, ask, ask_within};
use e2e::{Node, deadline, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What pods listen on.
const PORT: u16 = 7000;
/// Where the Service is.
const FRONT: u16 = 80;

/// How often a question is asked to see everybody who answers: that one of two is never chosen has a chance of 2^-60.
const OFTEN: usize = 60;

/// A pod of `app: web`, ready as long as it has the file /tmp/ready.
fn web(name: &str) -> Value {
    let container = json!({
        "command": ["/bin/busybox", "sh", "-c", "touch /tmp/ready; echo up; exec sleep 1000"],
        "ports": PROTOCOLS.map(|it| json!({"name": format!("web-{}", it.name().to_lowercase()), "containerPort": PORT, "protocol": it.name()})),
        "readinessProbe": {"exec": {"command": ["/bin/busybox", "test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1},
    });
    let mut pod = keeper(name, container);
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod
}

fn service(name: &str, more: Value) -> Value {
    let ports = PROTOCOLS.map(|it| {
        let name = format!("web-{}", it.name().to_lowercase());
        json!({"name": name, "port": FRONT, "protocol": it.name(), "targetPort": name})
    });
    let spec = with(json!({"selector": {"app": "web"}, "ports": ports}), more);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// A Service as the agent shows it.
fn shown(node: &Node, name: &str) -> Value {
    let got = node.coracle(["get", "service", name, "-o", "json"]).exits(0);
    serde_json::from_str(&got.stdout()).expect("an object")
}

fn addresses(service: &Value) -> Vec<IpAddr> {
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    all.map(|it| it.as_str().and_then(|it| it.parse().ok()).expect("an address")).collect()
}

/// Who answers at an address, asked often.
fn who(from: &Host, protocol: Protocol, at: SocketAddr) -> BTreeSet<String> {
    (0..OFTEN).filter_map(|_| ask(from, protocol, at).ok()).map(|it| it.name).collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

/// Waits until exactly these answer.
#[track_caller]
fn settles(what: &str, from: &Host, at: SocketAddr, expected: &[&str]) {
    let end = Instant::now() + deadline();
    for protocol in PROTOCOLS {
        loop {
            let found: BTreeSet<String> = match expected {
                [] => ask_within(from, protocol, at, SILENCE).ok().map(|it| it.name).into_iter().collect(),
                _ => who(from, protocol, at),
            };
            if found == names(expected) {
                break;
            }
            assert!(Instant::now() < end, "{what}: by {protocol:?} there answers {found:?}, and not {expected:?}");
        }
    }
}

#[test]
fn a_service_leads_to_the_pods_that_are_ready_and_follows_them() {
    let node = need!(Node::with_busybox());
    node.outside();
    let mut agent = Agent::start(&node);
    agent.write("service.yaml", service("web", json!({})));
    for name in ["a", "b"] {
        agent.write(&format!("{name}.yaml"), web(name));
    }
    agent.write("client.yaml", keeper("client", json!({})));
    let (a, b, client) = (Pod::find(&node, "a"), Pod::find(&node, "b"), Pod::find(&node, "client"));
    let _answerers = [Answerer::both(&a.network, PORT, "a"), Answerer::both(&b.network, PORT, "b")];
    let vip = addresses(&shown(&node, "web"))[0];
    let at = SocketAddr::new(vip, FRONT);
    settles("both ready", &client.network, at, &["a", "b"]);
    let before = node.pod("a").expect("the pod is there");

    for protocol in PROTOCOLS {
        // Who comes is seen with its own address; a pod reaches itself, too; and so does the node.
        let answer = ask(&client.network, protocol, at).expect("somebody answers");
        assert_eq!(answer.from, client.v4(), "{protocol:?}");
        assert_eq!(who(&a.network, protocol, at), names(&["a", "b"]), "{protocol:?}");
        assert_eq!(who(node.host(), protocol, at), names(&["a", "b"]), "{protocol:?}");
        // Its other ports are nobody's.
        assert!(ask_within(&client.network, protocol, SocketAddr::new(vip, PORT), SILENCE).is_err());
    }

    // Readiness.
    node.exec("b", "c", &["/bin/busybox", "rm", "/tmp/ready"]).exits(0);
    settles("one ready", &client.network, at, &["a"]);
    let described = node.coracle(["describe", "service", "web"]).exits(0).stdout();
    assert!(described.contains(&format!("{}:{PORT}", a.v4())) && described.contains("not ready)"), "{described}");
    node.exec("a", "c", &["/bin/busybox", "rm", "/tmp/ready"]).exits(0);
    settles("none ready", &client.network, at, &[]);
    let refused = ask(&client.network, Protocol::Tcp, at).map(|it| it.name).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "at once, and not after a while");
    for name in ["a", "b"] {
        node.exec(name, "c", &["/bin/busybox", "touch", "/tmp/ready"]).exits(0);
    }
    settles("both again", &client.network, at, &["a", "b"]);

    // The agent may go, and another comes: the address stays.
    agent.kill();
    assert_eq!(who(&client.network, Protocol::Tcp, at), names(&["a", "b"]));
    agent.restart();
    assert_eq!(addresses(&shown(&node, "web"))[0], vip);
    assert_eq!(who(&client.network, Protocol::Udp, at), names(&["a", "b"]));

    // Another port, other pods, and the end of it.
    let ports = PROTOCOLS
        .map(|it| json!({"name": it.name().to_lowercase(), "port": 81, "protocol": it.name(), "targetPort": PORT}));
    agent.write("service.yaml", service("web", json!({"ports": ports})));
    let moved = SocketAddr::new(vip, 81);
    settles("another port", &client.network, moved, &["a", "b"]);
    settles("the former port", &client.network, at, &[]);
    agent.remove("b.yaml");
    settles("one pod", &client.network, moved, &["a"]);
    agent.remove("service.yaml");
    settles("no Service", &client.network, moved, &[]);
    let after = node.pod("a").expect("the pod is there");
    assert_eq!(container_id(&before, "c"), container_id(&after, "c"), "nothing was started again");
    node.coracle(["get", "services"]).exits(0).says("No resources found in default namespace.");
    agent.stop();
}

#[test]
fn services_of_one_run_have_addresses_families_affinity_and_variables() {
    let node = need!(Node::with_busybox());
    node.outside();
    let mut client = keeper("client", json!({}));
    client["spec"]["containers"][0]["command"] =
        json!(["/bin/busybox", "sh", "-c", "env | grep ^STICKY | sort; echo done; exec sleep 1000"]);
    let sticky = json!({"sessionAffinity": "ClientIP", "ipFamilyPolicy": "PreferDualStack"});
    let mut run = node.run(several(&[service("sticky", sticky), web("a"), web("b"), client]));
    run.wait_for("client/c | done");
    let (a, b, client) = (Pod::find(&node, "a"), Pod::find(&node, "b"), Pod::find(&node, "client"));
    let held = [Answerer::both(&a.network, PORT, "a"), Answerer::both(&b.network, PORT, "b")];
    let said = run.lines();
    let value = |name: &str| -> String {
        let line =
            said.iter().find_map(|line| line.text.split_once(&format!("{name}=")).map(|(_, value)| value.to_owned()));
        line.unwrap_or_else(|| panic!("no {name} in {said:#?}"))
    };
    let vip: IpAddr = value("STICKY_SERVICE_HOST").parse().expect("an address");
    assert_eq!(value("STICKY_SERVICE_PORT"), FRONT.to_string());
    assert_eq!(value("STICKY_PORT_80_TCP"), format!("tcp://{vip}:{FRONT}"));
    let at = SocketAddr::new(vip, FRONT);
    let wait = Instant::now() + deadline();
    while ask_within(&client.network, Protocol::Tcp, at, SILENCE).is_err() {
        assert!(Instant::now() < wait, "nobody answers at {at}");
    }
    for protocol in PROTOCOLS {
        assert_eq!(who(&client.network, protocol, at).len(), 1, "by {protocol:?} a client stays with its pod");
    }
    end(&node, run, (a, b, client, held));
}

#[test]
fn what_a_service_cannot_have_is_told_and_harms_nobody() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start_with(&node, ["--service-cidr", "10.199.0.0/24"]);
    agent.write("good.yaml", service("good", json!({"clusterIP": "10.199.0.9"})));
    agent.write("far.yaml", service("far", json!({"clusterIP": "10.96.0.10"})));
    agent.write("port.yaml", service("port", json!({"type": "NodePort"})));
    agent.write("web.yaml", web("a"));
    let a = Pod::find(&node, "a");
    let _answerers = Answerer::both(&a.network, PORT, "a");
    settles("the good one", &a.network, "10.199.0.9:80".parse().expect("an address"), &["a"]);
    let far = shown(&node, "far");
    let why = "its address 10.96.0.10 is not one of 10.199.0.0/24; say --service-cidr, or leave it out";
    assert_eq!(far["status"]["conditions"][0]["message"], why);
    let invalid = agent.wait_for("port.yaml", "shown as invalid", |pod| pod["status"]["reason"] == "Invalid");
    let message = invalid["status"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("a Service of type `NodePort` does not run here"), "{message}");
    let table = node.coracle(["get", "svc"]).exits(0).stdout();
    let row = table.lines().find(|line| line.starts_with("good ")).unwrap_or_default().to_owned();
    assert!(row.contains("ClusterIP") && row.contains("10.199.0.9") && row.contains("80/TCP,80/UDP"), "{table}");
    agent.stop();
}

#[test]
fn the_example_is_reached_by_its_name() {
    need!(e2e::skip::root());
    let node = Node::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples/service.yaml");
    let mut run = node.start(["run".into(), path]);
    run.wait_for("customer/visitor | hello from shop-");
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}
