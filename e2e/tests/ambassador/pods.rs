//! Ambassadors as pods: of an agent, of a run, and of two agents on two machines.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::agent::{Agent, condition, container_id, restarts};
use e2e::inspect::wait_for;
use e2e::manifest::{pod, several};
use e2e::netns::HOST;
use e2e::pods::ips;
use e2e::traffic::{Answerer, PROTOCOLS, Protocol, ask};
use e2e::{Node, need, skip};
use serde_json::{Value, json};

const CONTAINER: &str = "ambassador";

fn ambassador(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "coracle.dev/v1alpha1", "kind": "Ambassador", "metadata": {"name": name}, "spec": spec})
}

/// Whatever is asked, it answers with a text.
fn server(name: &str, text: &str) -> Value {
    let args = json!(["serve", "--port", "6379", "--text", text]);
    let ports = json!([{"containerPort": 6379}]);
    pod(name, json!({"containers": [{"name": "c", "image": "coracle.local/tools", "args": args, "ports": ports}]}))
}

fn linked(mut object: Value, links: &str) -> Value {
    object["metadata"]["annotations"] = json!({"coracle.dev/links": links});
    object
}

fn ip(pod: &Value) -> String {
    ips(pod)[0].to_string()
}

/// Asks until the answer is from the server of that name.
#[track_caller]
fn wait_for_answer(agent: &Agent<'_>, from: &e2e::netns::Host, protocol: Protocol, at: SocketAddr, name: &str) {
    let end = std::time::Instant::now() + e2e::deadline();
    loop {
        let answer = ask(from, protocol, at);
        if answer.as_ref().is_ok_and(|answer| answer.name == name) {
            return;
        }
        let logs = agent.node().coracle(["logs", "redis"]).text();
        assert!(std::time::Instant::now() < end, "{at} {protocol:?}: {answer:?}, not {name}\n{logs}\n{}", agent.said());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn an_ambassador_is_a_pod_whose_targets_change_without_a_restart() {
    need!(skip::root());
    let node = Node::new();
    let outside = node.outside();
    let _answerers = [(7001, "one"), (7002, "two")].map(|(port, name)| Answerer::both(outside, port, name));
    let mut agent = Agent::start(&node);
    let spec = |target: u16, more: Option<u16>| {
        let mut ports: Vec<Value> =
            PROTOCOLS.map(|protocol| json!({"port": 6379, "protocol": protocol.name(), "hostPort": 16379})).to_vec();
        ports.extend(more.map(|port| json!({"port": port})));
        json!({"ports": ports, "targets": [format!("192.0.2.2:{target}")], "healthCheck": {"periodSeconds": 1}})
    };
    agent.write("redis.yaml", ambassador("redis", spec(7001, None)));
    let before = agent.wait_for_running("redis");
    assert_eq!(before["metadata"]["labels"]["coracle.dev/ambassador"], "redis");
    assert_eq!(before["spec"]["containers"][0]["image"], "coracle.local/tools");
    // As itself, and at the port of the node.
    let own = SocketAddr::new(ips(&before)[0], 6379);
    for protocol in PROTOCOLS {
        wait_for_answer(&agent, node.host(), protocol, own, "one");
        wait_for_answer(&agent, outside, protocol, (HOST[0], 16379).into(), "one");
    }
    node.coracle(["logs", "redis"]).exits(0).says("TCP 6379 leads to 192.0.2.2:7001");
    let shown = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        let get = || node.coracle(["get", "ambassadors", "redis", "-o", "json"]).stdout();
        let got = wait_for(|| serde_json::from_str(&get()).ok().filter(|it| wanted(it)));
        got.unwrap_or_else(|| panic!("{what}: {}", get()))
    };
    let object: Value = shown("it is ready", &|it| it["status"]["ready"] == true);
    assert_eq!((&object["kind"], &object["status"]["pod"]), (&json!("Ambassador"), &json!("redis")));
    assert_eq!(object["status"]["addresses"][0], own.ip().to_string());
    let table = node.coracle(["get", "ambassadors"]).exits(0);
    table.says("6379/TCP,6379/UDP").says("192.0.2.2:7001").says("true");

    agent.write("redis.yaml", ambassador("redis", spec(7002, Some(6380))));
    for protocol in PROTOCOLS {
        wait_for_answer(&agent, outside, protocol, (HOST[0], 16379).into(), "two");
    }
    wait_for_answer(&agent, node.host(), Protocol::Tcp, SocketAddr::new(own.ip(), 6380), "two");
    let after = agent.wait_for("redis", "with another port", |pod| {
        pod["spec"]["containers"][0]["ports"].as_array().is_some_and(|ports| ports.len() == 3)
    });
    shown("it leads elsewhere", &|it| it["spec"]["targets"] == json!(["192.0.2.2:7002"]));
    assert_eq!(container_id(&before, CONTAINER), container_id(&after, CONTAINER));
    assert_eq!((restarts(&after, CONTAINER), &before["metadata"]["uid"]), (Some(0), &after["metadata"]["uid"]));

    // Another port of the node is another sandbox.
    let other = json!({"ports": [{"port": 6379, "hostPort": 16380}], "targets": ["192.0.2.2:7001"]});
    agent.write("redis.yaml", ambassador("redis", other));
    wait_for_answer(&agent, outside, Protocol::Tcp, (HOST[0], 16380).into(), "one");
    agent.remove("redis.yaml");
    agent.wait_until_gone("redis");
    let gone = || node.coracle(["get", "ambassadors", "redis"]).stderr().contains("not found").then_some(());
    wait_for(gone).expect("it is not shown any more");
    agent.stop_with_nothing_left();
}

#[test]
fn an_ambassador_is_ready_while_each_port_leads_somewhere() {
    need!(skip::root());
    let node = Node::new();
    let agent = Agent::start(&node);
    let spec = json!({"ports": [{"port": 6379}], "targets": ["192.0.2.2:7001"],
        "healthCheck": {"periodSeconds": 1, "failureThreshold": 1}});
    let answerer = Answerer::both(node.outside(), 7001, "one");
    agent.write("redis.yaml", ambassador("redis", spec));
    let before = agent.wait_for_running("redis");
    drop(answerer);
    agent.wait_for("redis", "not ready", |pod| condition(pod, "Ready") == Some(false));
    let _answerer = Answerer::both(node.outside(), 7001, "one");
    let after = agent.wait_for_running("redis");
    assert_eq!(container_id(&before, CONTAINER), container_id(&after, CONTAINER));
    drop(agent);
}

#[test]
fn a_run_has_ambassadors_too() {
    need!(skip::root());
    let node = Node::new();
    let _answerer = Answerer::both(node.outside(), 7001, "one");
    let spec = json!({"ports": [{"port": 6379, "hostPort": 16379}], "targets": ["192.0.2.2:7001"]});
    let mut run = node.run(ambassador("redis", spec));
    run.wait_for("TCP 6379 leads to 192.0.2.2:7001");
    let answer = ask(node.outside(), Protocol::Tcp, (HOST[0], 16379).into()).expect("an answer");
    assert_eq!(answer.name, "one");
    e2e::pods::stop(run);
    node.assert_nothing_left();
}

#[test]
fn what_an_ambassador_takes_is_taken() {
    need!(skip::root());
    let node = Node::new();
    let spec = json!({"ports": [{"port": 6379}], "targets": ["db"]});
    let both = several(&[server("redis", "x"), ambassador("redis", spec)]);
    node.run(both).wait().exits(2).says("Pod default/redis is defined twice");
    let bad = ambassador("redis", json!({"ports": [{"port": 6379}], "targets": ["db:x"]}));
    node.run(bad).wait().exits(2).says("spec.targets[0]: `x` is not a port");
}

/// The consumer asks for `redis:6379` all the time, over a link to an ambassador on its machine, which leads to one on the
/// other machine, which leads to a pod there. On the consumer's machine nobody reaches anybody but by links.
#[test]
fn a_consumer_sees_one_name_while_what_is_behind_it_moves_from_machine_to_machine() {
    need!(skip::root());
    let near = Node::new();
    let far = Node::beside(&near);
    let near_agent = Agent::start_with(&near, ["--default-network", "private"]);
    let far_agent = Agent::start(&far);
    far_agent.write("db.yaml", several(&[server("db-one", "one"), server("db-two", "two")]));
    let [one, two] = ["db-one", "db-two"].map(|name| ip(&far_agent.wait_for_running(name)));
    let check = json!({"periodSeconds": 1});
    let exported = |target: &str| {
        ambassador(
            "redis",
            json!({"ports": [{"port": 6379, "hostPort": 6379}], "targets": [target], "healthCheck": check}),
        )
    };
    far_agent.write("redis.yaml", exported(&one));
    let imported = |target: &str| {
        let spec = json!({"ports": [{"port": 6379}], "targets": [target], "healthCheck": check});
        linked(ambassador("redis", spec), "db-near(ungated)")
    };
    near_agent.write("redis.yaml", imported("192.0.2.2:6379"));
    let ambassadors = [far_agent.wait_for_running("redis"), near_agent.wait_for_running("redis")];
    let sleep = json!([{"name": "c", "image": "coracle.local/tools", "args": ["sleep", "inf"]}]);
    near_agent.write("web.yaml", linked(pod("web", json!({"containers": sleep})), "redis"));
    let consumer = near_agent.wait_for_running("web");
    let fetch = || near.exec("web", "c", &["/bin/coracle", "tool", "fetch", "--timeout", "20s", "http://redis:6379/"]);
    assert_eq!(fetch().exits(0).stdout(), "one\n");

    // It asks throughout: every question is answered, by the one or by the other.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                answers.push(fetch().exits(0).stdout());
            }
            answers
        });
        // On the other machine: the ambassador there leads to another pod.
        far_agent.write("redis.yaml", exported(&two));
        wait(&fetch, "two\n");
        // To this machine: the ambassador here leads to a pod here.
        near_agent.write("db.yaml", server("db-near", "near"));
        near_agent.wait_for_running("db-near");
        near_agent.write("redis.yaml", imported("db-near"));
        wait(&fetch, "near\n");
        // And back.
        near_agent.write("redis.yaml", imported("192.0.2.2:6379"));
        wait(&fetch, "two\n");
        over.store(true, Ordering::Relaxed);
        let answers = asking.join().expect("every question is answered");
        assert!(!answers.is_empty() && answers.iter().all(|answer| ["one\n", "two\n", "near\n"].contains(&&**answer)));
    });
    let now = [far_agent.wait_for_running("redis"), near_agent.wait_for_running("redis")];
    for (before, after) in ambassadors.iter().zip(&now) {
        assert_eq!(container_id(before, CONTAINER), container_id(after, CONTAINER), "it is the same throughout");
    }
    assert_eq!(container_id(&consumer, "c"), container_id(&near_agent.wait_for_running("web"), "c"));
    drop((near_agent, far_agent));
    drop(far);
}

#[track_caller]
fn wait(fetch: &(impl Fn() -> e2e::Finished + Sync), answer: &str) {
    let end = std::time::Instant::now() + e2e::deadline();
    loop {
        let said = fetch().exits(0).stdout();
        if said == answer {
            return;
        }
        assert!(std::time::Instant::now() < end, "{said:?}, never {answer:?}");
    }
}

#[test]
fn the_example_becomes_a_pod_that_leads_to_the_other() {
    need!(skip::root());
    let node = Node::new();
    let agent = Agent::start(&node);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples/ambassador.yaml");
    agent.write("ambassador.yaml", std::fs::read_to_string(path).expect("the example is there"));
    agent.wait_for_running("ambassador-backend");
    agent.wait_for_phase("ambassador-db", "Running");
    let end = std::time::Instant::now() + e2e::deadline();
    while !node.coracle(["logs", "ambassador-db"]).text().contains("TCP 6379 leads to ambassador-backend:7379") {
        assert!(std::time::Instant::now() < end, "{}", node.coracle(["logs", "ambassador-db"]));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(agent);
}
