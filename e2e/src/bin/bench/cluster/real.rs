//! A Deployment in a real cluster, whose one node is the agent, and then a kubelet.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use e2e::agent::{Agent, condition};
use e2e::apiserver::User;
use e2e::controlplane::{Audited, ControlPlane, Parts};
use e2e::cri::Kubelet;
use e2e::kubectl::Kubectl;
use e2e::{Node, Run, inspect, patience};
use serde_json::{Value, json};

use super::rest::{self, Processes};
use super::{Scale, spec};
use crate::coracle::since;
use crate::report::{Report, Row};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const ONE: &str = "a Deployment of 1 created, to its pod ready";
/// How long 50 pods may take on a usual machine.
const LONG: Duration = Duration::from_secs(120);

/// All of it, or why not.
pub fn measure(scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let Some(programs) = &scale.kubernetes else {
        report.add(Row::absent(ONE, "ms", "coracle", "no --kubernetes DIR with the programs of a control plane"));
        return Ok(());
    };
    let ours = with_cluster(programs, |bench| {
        let name = "coracle";
        let mut agent = Agent::prepare(bench.node, ["--hostname-override", name, "--kubeconfig"]);
        agent.arg(bench.plane.kubeconfig(name, &User::node(name)));
        agent.arg("--client-ca-file");
        agent.arg(bench.plane.authority_file());
        agent.restart();
        let daemons = vec![agent.run().pid()];
        let figures = bench.figures(name, scale, report, || Processes {
            daemons: daemons.clone(),
            of_pods: inspect::processes(bench.node),
        });
        let figures = figures.with_context(|| format!("the agent said:\n{}", agent.said()))?;
        agent.stop();
        Ok(figures)
    })?;
    let theirs = with_cluster(programs, |bench| {
        let (name, program) = ("kubelet", programs.join("kubelet"));
        ensure!(program.is_file(), "{} is not there", program.display());
        let (kubeconfig, authority) = (bench.plane.kubeconfig(name, &User::node(name)), bench.plane.authority_file());
        let kubelet =
            Kubelet::start(bench.node, &program, name, &kubeconfig, &authority).map_err(anyhow::Error::msg)?;
        let figures =
            bench.figures(name, scale, report, || Processes { daemons: kubelet.daemons(), of_pods: kubelet.of_pods() });
        figures.with_context(|| format!("the kubelet said:\n{}", kubelet.said()))
    });
    match theirs {
        Ok(theirs) => report.extend(ratios(&ours, &theirs, scale)),
        Err(error) => report.add(Row::absent(ONE, "ms", "kubelet", &format!("{error:#}"))),
    }
    Ok(())
}

/// What is compared.
struct Figures {
    one: Vec<f64>,
    more: Vec<f64>,
}

fn more(pods: usize) -> String {
    format!("that Deployment scaled by {pods}, to all pods ready")
}

fn ratios(ours: &Figures, theirs: &Figures, scale: &Scale) -> Vec<Row> {
    let ratio = |what: &str, ours: &[f64], theirs: &[f64]| {
        let samples = ours.iter().zip(theirs).map(|(ours, theirs)| 100.0 * ours / theirs).collect();
        Row::new(&format!("{what}: coracle's time of kubelet's"), "%", "coracle", samples)
    };
    vec![ratio(ONE, &ours.one, &theirs.one), ratio(&more(scale.pods), &ours.more, &theirs.more)]
}

struct Bench<'n> {
    node: &'n Node,
    plane: ControlPlane<'n>,
    /// `kubectl get deployments --watch`: `NAME/READY` a line, as soon as it changes.
    watch: Run,
}

/// Runs something in a cluster of its own: an empty one, without nodes.
fn with_cluster<T>(programs: &Path, run: impl FnOnce(&mut Bench<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let node = Node::with_disks(8 << 10).map_err(anyhow::Error::msg)?;
    crate::agent::clean_when_interrupted(&node)?;
    // A kubelet wants an address that is not the loopback's.
    node.outside();
    let kubectl = Kubectl::websocket().map_err(anyhow::Error::msg)?;
    let plane = ControlPlane::start(&node, programs, Parts::All).map_err(anyhow::Error::msg)?;
    let kubeconfig = plane.kubeconfig("watcher", &User::admin());
    create(&plane, "marker", 0, "nobody")?;
    let format = r#"jsonpath={.metadata.name}/{.status.readyReplicas}{"\n"}"#;
    let watch = kubectl.command(&node, &kubeconfig, ["get", "deployments", "--watch", "-o", format]);
    let watch = Run::start(&mut { watch }, None);
    let mut bench = Bench { node: &node, plane, watch };
    bench.watch.wait_for("marker/");
    run(&mut bench)
}

/// Whether a node can take pods: controllers have seen that it is ready.
fn is_ready(node: &Value) -> bool {
    let free = node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
    free && condition(node, "Ready") == Some(true)
}

fn create(plane: &ControlPlane<'_>, name: &str, replicas: usize, node: &str) -> anyhow::Result<()> {
    let labels = json!({"app": name});
    let mut pod = spec();
    pod["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    // A Deployment takes no other.
    pod["restartPolicy"] = json!("Always");
    let body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod}},
    });
    plane.admin("POST", DEPLOYMENTS, &body).map(drop).map_err(anyhow::Error::msg)
}

impl Bench<'_> {
    fn admin(&self, method: &str, url: &str, body: &Value) -> anyhow::Result<Value> {
        self.plane.admin(method, url, body).map_err(anyhow::Error::msg)
    }

    /// Waits until something asked for holds.
    fn wait(&self, what: &str, url: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + patience(LONG);
        loop {
            let there = self.admin("GET", url, &Value::Null);
            if there.as_ref().is_ok_and(&holds) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "never {what}: {there:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Everything of a node, which is there or comes.
    fn figures(
        &mut self,
        program: &str,
        scale: &Scale,
        report: &mut Report,
        processes: impl Fn() -> Processes,
    ) -> anyhow::Result<Figures> {
        self.wait("a node that is ready", &format!("/api/v1/nodes/{program}"), is_ready)?;
        let mut figures = Figures { one: Vec::new(), more: Vec::new() };
        // The first warms the caches.
        for round in 0..=scale.rounds {
            let name = format!("bench-{round}");
            let begun = Instant::now();
            create(&self.plane, &name, 1, program)?;
            self.watch.wait_for_within(&format!("{name}/1"), patience(LONG));
            figures.one.push(since(begun));
            let (all, begun) = (1 + scale.pods, Instant::now());
            self.admin("PATCH", &format!("{DEPLOYMENTS}/{name}"), &json!({"spec": {"replicas": all}}))?;
            self.watch.wait_for_within(&format!("{name}/{all}"), patience(LONG));
            figures.more.push(since(begun));
            if round < scale.rounds {
                self.remove(&name)?;
            }
        }
        figures.one.remove(0);
        figures.more.remove(0);
        report.add(Row::new(ONE, "ms", program, figures.one.clone()));
        report.add(Row::new(&more(scale.pods), "ms", program, figures.more.clone()));
        report.extend(self.at_rest(program, scale, &processes())?);
        self.remove(&format!("bench-{}", scale.rounds))?;
        Ok(figures)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.admin("DELETE", &format!("{DEPLOYMENTS}/{name}"), &Value::Null)?;
        let none = |list: &Value| list["items"].as_array().is_some_and(Vec::is_empty);
        self.wait("a cluster without pods", "/api/v1/namespaces/default/pods", none)
    }

    fn at_rest(&self, program: &str, scale: &Scale, processes: &Processes) -> anyhow::Result<Vec<Row>> {
        let (user, mut before) = (format!("system:node:{program}"), 0);
        rest::rows(program, scale, 1 + scale.pods, processes, |_| {
            let (requests, now) = self.plane.audited(&user, before).map_err(|error| anyhow!(error))?;
            before = now;
            Ok(requests.iter().map(|Audited { verb, resource, .. }| format!("{verb} {resource}")).collect())
        })
    }
}
