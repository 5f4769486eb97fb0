//! Links: who waits for whom, what a pod knows of those that it is linked to, and that it reaches them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;

use e2e::agent::{Agent, condition, container_id};
use e2e::cri::Containerd;
use e2e::kubectl::{Cluster, Kubectl};
use e2e::manifest::{pod, several, shell, with};
use e2e::pods::{Pod, end, ips, keeper};
use e2e::traffic::{Answerer, PATIENCE, PROTOCOLS, ask};
use e2e::{Node, debian, need};
use serde_json::{Value, json};

/// What the source of a link listens on.
const PORT: u16 = 7000;

/// A pod that declares [`PORT`] by both protocols and is ready when its file says so.
fn source(name: &str) -> Value {
    let ports = PROTOCOLS.map(|protocol| json!({"containerPort": PORT, "protocol": protocol.name()}));
    let probe = json!({"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1});
    keeper(name, json!({"ports": ports, "readinessProbe": probe}))
}

/// The same, ready as soon as it runs.
fn ready_source(name: &str) -> Value {
    let mut source = source(name);
    source["spec"]["containers"][0].as_object_mut().expect("a container").remove("readinessProbe");
    source
}

/// A pod with links.
fn linked(name: &str, links: &str) -> Value {
    annotated(keeper(name, json!({})), links)
}

fn annotated(mut pod: Value, links: &str) -> Value {
    pod["metadata"]["annotations"] = json!({"coracle.dev/links": links});
    pod
}

/// As an agent keeps it.
fn kept(mut pod: Value) -> Value {
    pod["spec"]["restartPolicy"] = json!("Always");
    pod
}

fn held(pod: &Value) -> bool {
    let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "WaitingForLinks";
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    waiting
        && conditions.iter().any(|it| it["type"] == "PodReadyToStartContainers" && it["reason"] == "WaitingForLinks")
}

/// The variables of the container whose names begin so.
fn variables(node: &Node, pod: &str, prefix: &str) -> BTreeSet<String> {
    let said = node.exec(pod, "c", &["env"]).exits(0).stdout();
    said.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

fn hosts(node: &Node, pod: &str) -> String {
    node.exec(pod, "c", &["cat", "/etc/hosts"]).exits(0).stdout()
}

/// Whether one pod gets answers of another by both protocols and families.
#[track_caller]
fn assert_reaches(from: &Pod, to: &Pod) {
    let _answerers = Answerer::both(&to.network, PORT, &to.name);
    for protocol in PROTOCOLS {
        for at in to.at(PORT) {
            let answer = ask(&from.network, protocol, at).map(|answer| answer.name);
            assert_eq!(answer.ok().as_ref(), Some(&to.name), "{} to {at} by {protocol:?}", from.name);
        }
    }
}

#[test]
fn a_pod_begins_when_what_it_is_linked_to_is_ready_and_knows_where_that_is() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(several(&[source("db"), linked("web", "db:redis")]));
    run.wait_for("web: WaitingForLinks: link redis: pod default/db is not ready");
    node.wait_for_pod("web", "held", held);
    node.coracle(["get", "links"]).exits(0).says("web.redis").says("pod/default/db").says("NotReady");
    let db = Pod::find(&node, "db");
    node.exec("db", "c", &["touch", "/tmp/ready"]).exits(0);
    let web = Pod::find(&node, "web");
    let file = hosts(&node, "web");
    for ip in &db.ips {
        assert!(file.contains(&format!("\n{ip}\tredis\n")), "{file}");
    }
    let ip = db.ips[0];
    let expected = [
        "REDIS_NAME=/web/redis".to_owned(),
        format!("REDIS_PORT=tcp://{ip}:7000"),
        format!("REDIS_PORT_7000_TCP=tcp://{ip}:7000"),
        format!("REDIS_PORT_7000_TCP_ADDR={ip}"),
        "REDIS_PORT_7000_TCP_PORT=7000".to_owned(),
        "REDIS_PORT_7000_TCP_PROTO=tcp".to_owned(),
        format!("REDIS_PORT_7000_UDP=udp://{ip}:7000"),
        format!("REDIS_PORT_7000_UDP_ADDR={ip}"),
        "REDIS_PORT_7000_UDP_PORT=7000".to_owned(),
        "REDIS_PORT_7000_UDP_PROTO=udp".to_owned(),
    ];
    assert_eq!(variables(&node, "web", "REDIS_"), expected.into());
    assert_eq!(variables(&node, "db", "REDIS_"), [].into(), "the source knows nothing of it");
    assert_reaches(&web, &db);
    let link: Value =
        serde_json::from_str(&node.coracle(["get", "links", "web.redis", "-o", "json"]).exits(0).stdout())
            .expect("it is JSON");
    assert_eq!((&link["kind"], &link["status"]["state"]), (&json!("Link"), &json!("Ready")), "{link:#}");
    assert_eq!(link["status"]["ports"], json!(["7000/tcp", "7000/udp"]), "{link:#}");
    // Also where nobody needs the link to get through.
    assert!(link["status"]["connections"].as_u64() >= Some(2 * db.ips.len() as u64), "{link:#}");
    node.coracle(["get", "links", "-o", "wide"]).exits(0).says("7000/tcp,7000/udp").says(&ip.to_string());
    node.coracle(["get", "links", "nothing"]).exits(125).says("links \"nothing\" not found");
    end(&node, run, (db, web));
}

#[test]
fn the_variables_of_the_source_are_given_to_who_asks_for_them() {
    let node = need!(Node::with_busybox());
    let env = json!([{"name": "PASSWORD", "value": "a=b"}, {"name": "HOME", "value": "/srv"}]);
    let db = with(shell("c", "echo up; exec sleep 1000"), json!({"env": env}));
    let db = pod("db", json!({"containers": [db]}));
    let run = node.run(several(&[db, linked("asks", "db(env)"), linked("does-not", "db")]));
    for name in ["asks", "does-not"] {
        node.wait_for_phase(name, "Running");
    }
    assert_eq!(variables(&node, "asks", "DB_ENV_"), ["DB_ENV_PASSWORD=a=b".to_owned()].into());
    assert_eq!(variables(&node, "does-not", "DB_"), ["DB_NAME=/does-not/db".to_owned()].into());
    end(&node, run, ());
}

#[test]
fn a_link_to_nothing_waits_and_says_so_and_a_source_may_come_and_go() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("web.yaml", kept(linked("web", "db")));
    agent.wait_for("web", "held", held);
    node.coracle(["why", "web"]).exits(0).says("WaitingForLinks: link db: there is no pod default/db");
    node.coracle(["events"]).exits(0).says("WaitingForLinks").says("there is no pod default/db");
    node.coracle(["get", "links"]).exits(0).says("Missing");
    agent.write("db.yaml", kept(ready_source("db")));
    let before = agent.wait_for_running("web");
    let address = ips(&agent.wait_for_running("db"))[0];
    let web = Pod::find(&node, "web");
    assert_reaches(&web, &Pod::find(&node, "db"));
    let same = |when: &str| {
        let now = agent.wait_for_running("web");
        assert_eq!(container_id(&now, "c"), container_id(&before, "c"), "the consumer goes on: {when}");
    };

    agent.remove("db.yaml");
    agent.wait_until_gone("db");
    same("its source is gone");
    agent.write("db.yaml", kept(ready_source("db")));
    let again = ips(&agent.wait_for_running("db"))[0];
    assert_eq!(again, address, "an address is a name's");
    same("its source is there again");
    assert_reaches(&web, &Pod::find(&node, "db"));

    let old = agent.wait_for_running("db")["metadata"]["uid"].clone();
    node.coracle(["delete", "pod", "db", "--grace-period", "0"]).exits(0);
    agent.wait_for("db", "made anew", |pod| pod["metadata"]["uid"] != old && condition(pod, "Ready") == Some(true));
    same("its source was made anew");
    agent.kill();
    agent.restart();
    let now = agent.wait_for_running("web");
    assert_eq!(container_id(&now, "c"), container_id(&before, "c"), "another agent changes nothing");
    agent.wait_for_running("db");
    assert_reaches(&web, &Pod::find(&node, "db"));
    drop(web);
    for name in ["web", "db"] {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
    agent.stop_with_nothing_left();
}

/// The connections by UDP from one address to another that the kernel remembers.
fn remembered(node: &Node, conntrack: &Path, from: IpAddr, to: IpAddr) -> String {
    let mut command = Command::new(conntrack);
    command.args(["-L", "-p", "udp", "--orig-src", &from.to_string(), "--orig-dst", &to.to_string()]);
    node.host().run(command).stdout()
}

#[test]
fn a_source_that_comes_back_with_another_address_is_followed() {
    let node = need!(Node::with_busybox());
    let conntrack = need!(debian::program("conntrack", "conntrack"));
    let mut agent = Agent::start_with(&node, ["--default-network", "private"]);
    let network = json!({"apiVersion": "coracle.dev/v1alpha1", "kind": "Network", "metadata": {"name": "back"},
        "spec": {"subnets": ["10.66.0.0/24"]}});
    agent.write("network.yaml", network);
    agent.write("db.yaml", kept(ready_source("db")));
    agent.write("web.yaml", kept(linked("web", "db")));
    agent.wait_for_running("web");
    let web = Pod::find(&node, "web");
    let mut id = container_id(&agent.wait_for_running("web"), "c");
    // One socket throughout.
    let client = web.network.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let asks = |at: IpAddr| {
        client.send_to(b"who?", (at, PORT)).expect("it is sent");
        let mut answer = [0; 100];
        let (length, from) = client.recv_from(&mut answer).expect("an answer");
        (from.ip(), String::from_utf8_lossy(&answer[..length]).starts_with("db "))
    };
    let mut former = None;
    for (network, moves) in [("", "at first"), ("back", "into a network"), ("", "and back")] {
        if moves != "at first" {
            let mut db = kept(ready_source("db"));
            if !network.is_empty() {
                db["metadata"]["annotations"] = json!({"coracle.dev/network": network});
            }
            agent.write("db.yaml", db);
        }
        let there = |pod: &Value| {
            let first = ips(pod).first().copied();
            condition(pod, "Ready") == Some(true) && first.is_some() && first != former
        };
        agent.wait_for("db", &format!("{moves}: it has another address"), there);
        let db = Pod::find(&node, "db");
        let at = db.v4();
        // The hosts file of who runs all the time, and names.
        let named = e2e::inspect::wait_for(|| {
            let file = hosts(&node, "web");
            let lines: Vec<_> = file.lines().filter(|line| line.ends_with("\tdb")).collect();
            let own: Vec<_> = db.ips.iter().map(|ip| format!("{ip}\tdb")).collect();
            (lines == own).then_some(())
        });
        assert!(named.is_some(), "{moves}: {:?} in {}", db.ips, hosts(&node, "web"));
        let said = node.exec("web", "c", &["nslookup", "db.default.svc.cluster.local"]).stdout();
        assert!(said.contains(&at.to_string()), "{moves}: {said}");
        {
            let _answerers = Answerer::both(&db.network, PORT, "db");
            assert_eq!(asks(at), (at, true), "{moves}");
        }
        assert_reaches(&web, &db);
        if let Some(former) = former {
            // Whoever gets the address next is not reached by what was said to the source.
            let forgotten =
                e2e::inspect::wait_for(|| remembered(&node, &conntrack, web.v4(), former).is_empty().then_some(()));
            assert!(forgotten.is_some(), "{moves}: {}", remembered(&node, &conntrack, web.v4(), former));
        }
        let now = container_id(&agent.wait_for_running("web"), "c");
        assert_eq!(now, id, "{moves}: the consumer goes on");
        // What begins from now on has it in its environment.
        node.coracle(["restart", "web", "-c", "c"]).exits(0);
        let web = agent.wait_for("web", "another container", |pod| {
            let now = container_id(pod, "c");
            now.is_some() && now != id && condition(pod, "Ready") == Some(true)
        });
        id = container_id(&web, "c");
        let port = format!("DB_PORT=tcp://{}:{PORT}", db.ips[0]);
        assert_eq!(variables(&node, "web", "DB_PORT="), [port].into(), "{moves}");
        former = Some(at);
    }
    drop((web, client));
    agent.remove("network.yaml");
    for name in ["web", "db"] {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn pods_of_a_run_and_of_the_agent_are_linked_to_each_other() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    agent.write("db.yaml", kept(ready_source("db")));
    agent.write("late.yaml", kept(linked("late", "of-run:r")));
    agent.wait_for_running("db");
    agent.wait_for("late", "held", held);
    let run = node.run(several(&[linked("of-run", "db")]));
    let (db, of_run) = (Pod::find(&node, "db"), Pod::find(&node, "of-run"));
    assert_reaches(&of_run, &db);
    assert!(variables(&node, "of-run", "DB_PORT=").contains(&format!("DB_PORT=tcp://{}:7000", db.ips[0])));
    agent.wait_for_running("late");
    let file = hosts(&node, "late");
    assert!(file.contains(&format!("\n{}\tr\n", of_run.ips[0])), "{file}");
    drop((db, of_run));
    e2e::pods::stop(run);
    for name in ["late", "db"] {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
    agent.stop_with_nothing_left();
}

#[test]
fn two_ways_need_one_that_does_not_wait() {
    let node = need!(Node::with_busybox());
    let two = |a: &str, b: &str| [annotated(ready_source("a"), a), annotated(ready_source("b"), b)];
    let refused = node.run(several(&two("b", "a"))).wait().exits(2);
    refused.says("default/a linked to default/b linked to default/a").says("write b(ungated) in coracle.dev/links");
    let run = node.run(several(&two("b(ungated)", "a")));
    let (a, b) = (Pod::find(&node, "a"), Pod::find(&node, "b"));
    assert_reaches(&a, &b);
    assert_reaches(&b, &a);
    let names = |pod: &Pod, alias: &str| {
        e2e::inspect::wait_for(|| {
            hosts(&node, if alias == "a" { "b" } else { "a" })
                .contains(&format!("{}\t{alias}\n", pod.ips[0]))
                .then_some(())
        })
    };
    assert!(names(&b, "b").is_some() && names(&a, "a").is_some(), "each has the other's name");
    end(&node, run, (a, b));

    let mut agent = Agent::start(&node);
    let [a, b] = two("b", "a");
    agent.write("a.yaml", kept(a));
    agent.write("b.yaml", kept(b));
    agent.wait_for("a", "told", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "LinkCycle"
    });
    node.coracle(["why", "b"]).exits(0).says("LinkCycle: default/b linked to default/a linked to default/b");
    let [a, _] = two("b(ungated)", "a");
    agent.write("a.yaml", kept(a));
    agent.wait_for_running("b");
    for name in ["a", "b"] {
        agent.remove(&format!("{name}.yaml"));
    }
    agent.wait_until_gone("a");
    agent.wait_until_gone("b");
    agent.stop_with_nothing_left();
}

#[test]
fn a_run_whose_pods_wait_in_vain_ends() {
    let node = need!(Node::with_busybox());
    // Without a probe it would be ready for the moment that it runs.
    let mut container = shell("c", "exit 3");
    container["readinessProbe"] = json!({"exec": {"command": ["false"]}});
    let db = pod("db", json!({"containers": [container]}));
    let finished = node.run_to_end(several(&[db, linked("web", "db")])).exits(3);
    finished.says("web: WaitingForLinks: link db: pod default/db is not ready (it is Failed)");
    node.assert_nothing_left();
}

#[test]
fn what_is_no_link_is_shown_in_the_manifest() {
    let node = Node::new();
    for (links, said) in [
        ("db(ungatd)", "did you mean `ungated`?"),
        ("db, cache:db", "two links are called `db`"),
        ("web:me", "a link from a pod to itself"),
        ("other/db", "a namespace comes after the name: `db.other`"),
    ] {
        let file = node.manifest(linked("web", links));
        let finished = node.coracle(["validate".as_ref(), file.as_os_str()]).exits(2);
        finished.says(said).says("^");
    }
}

#[test]
fn kubectl_shows_links() {
    let kubectl = need!(Kubectl::websocket());
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node, kubectl);
    cluster.write("db.yaml", kept(source("db")));
    cluster.write("web.yaml", kept(linked("web", "db:redis")));
    cluster.wait_for("web", "held", held);
    let shown = cluster.text(["get", "links"]);
    assert!(shown.contains("web.redis") && shown.contains("NotReady"), "{shown}");
    cluster.wait_for("db", "running", |pod| pod["status"]["phase"] == "Running");
    node.exec("db", "c", &["touch", "/tmp/ready"]).exits(0);
    cluster.wait_for_ready("web");
    let link = cluster.json(&["get", "link", "web.redis"]);
    assert_eq!(link["apiVersion"], "coracle.dev/v1alpha1");
    assert_eq!((&link["spec"]["target"], &link["status"]["state"]), (&json!("pod/default/db"), &json!("Ready")));
    let wide = cluster.text(["get", "links", "-o", "wide"]);
    assert!(wide.contains("7000/tcp,7000/udp"), "{wide}");
    for name in ["web", "db"] {
        cluster.remove(&format!("{name}.yaml"));
        cluster.wait_until_gone(name);
    }
    assert!(!cluster.text(["get", "links"]).contains("web.redis"));
}

#[test]
fn on_another_runtime_a_pod_with_links_does_not_begin_and_says_why() {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    let mut agent = Agent::prepare(&node, ["--container-runtime-endpoint"]);
    agent.arg(containerd.socket());
    agent.restart();
    agent.write("web.yaml", kept(linked("web", "db(ungated)")));
    agent.wait_for("web", "refused", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "LinksUnsupported"
    });
    node.coracle(["why", "web"]).exits(0).says("take coracle.dev/links away");
    agent.write("web.yaml", kept(keeper("web", json!({}))));
    agent.wait_for_running("web");
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    agent.stop();
}
