//! From the moment that a pod is bound to the moment that the server hears of it running.

use std::time::Instant;

use e2e::agent::{Agent, condition};
use e2e::apiserver::{ApiServer, Seen};
use e2e::{Node, inspect};
use serde_json::{Value, json};

use super::rest::{self, Processes};
use super::{Scale, spec};
use crate::report::{Report, Row};

/// The node's name.
const NODE: &str = "bench";

struct Bench<'n> {
    server: ApiServer,
    agent: Agent<'n>,
}

/// All of it with the tests' own server.
pub fn measure(scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let node = Node::with_disks(8 << 10).map_err(anyhow::Error::msg)?;
    crate::agent::clean_when_interrupted(&node)?;
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NODE);
    let mut agent = Agent::prepare(&node, ["--hostname-override", NODE, "--kubeconfig"]);
    agent.arg(kubeconfig);
    agent.restart();
    server.wait_for("nodes", NODE, "ready", |node| condition(node, "Ready") == Some(true));
    let mut bench = Bench { server, agent };
    // The first warms the caches.
    let one: Vec<f64> = (0..=scale.runs).map(|_| bench.start_and_remove(1)).collect();
    report.add(Row::new("a pod bound, to the server told that it runs", "ms", "coracle", one[1..].to_vec()));
    let several: Vec<f64> = (0..=scale.rounds).map(|_| bench.start_and_remove(scale.pods)).collect();
    let what = format!("{} pods bound at once, to the server told of all that they run", scale.pods);
    report.add(Row::new(&what, "ms", "coracle", several[1..].to_vec()));
    bench.start(scale.pods);
    report.extend(bench.at_rest(scale)?);
    bench.remove(scale.pods);
    bench.agent.stop();
    Ok(())
}

fn name(number: usize) -> String {
    format!("bench-{number}")
}

fn path(number: usize) -> String {
    format!("default/{}", name(number))
}

/// What tells the server that a pod runs.
fn tells_of(seen: &Seen, number: usize) -> bool {
    seen.method == "PATCH"
        && seen.path.ends_with(&format!("/pods/{}/status", name(number)))
        && seen.body["status"]["phase"] == "Running"
}

impl Bench<'_> {
    /// Binds pods, and waits until the last of them is said to run: the milliseconds.
    fn start(&self, pods: usize) -> f64 {
        for number in 0..pods {
            let metadata = json!({"name": name(number), "namespace": "default"});
            self.server.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec()}));
        }
        self.server.forget();
        let begun = Instant::now();
        (0..pods).for_each(|number| self.server.bind(&path(number), NODE));
        let runs = |pod: &Value| pod["status"]["phase"] == "Running";
        (0..pods).for_each(|number| drop(self.server.wait_for("pods", &path(number), "running", runs)));
        let requests = self.server.requests();
        let first = |number| requests.iter().find(|it| tells_of(it, number)).map(|it| it.at);
        let last = (0..pods).filter_map(first).max().unwrap_or_else(Instant::now);
        (last - begun).as_secs_f64() * 1000.0
    }

    fn remove(&self, pods: usize) {
        (0..pods).for_each(|number| self.server.delete("pods", &path(number)));
        (0..pods).for_each(|number| self.server.wait_until_gone("pods", &path(number)));
    }

    fn start_and_remove(&mut self, pods: usize) -> f64 {
        let took = self.start(pods);
        self.remove(pods);
        took
    }

    fn at_rest(&mut self, scale: &Scale) -> anyhow::Result<Vec<Row>> {
        let of_pods = inspect::processes(self.agent.node());
        let processes = Processes { daemons: vec![self.agent.run().pid()], of_pods };
        rest::rows("coracle", scale, scale.pods, &processes, |counting| {
            if !counting {
                self.server.forget();
            }
            Ok(self.server.requests().iter().filter(|it| it.user.starts_with("system:node:")).map(Seen::deed).collect())
        })
    }
}
