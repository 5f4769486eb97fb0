//! The agent, its manifests, and what may happen to both. The seed decides what, to whom and how long after the one before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, condition};
use e2e::manifest::{pod, shell, with};
use e2e::random::Random;
use e2e::{Node, patience};
use serde_json::{Value, json};

use super::model::{History, Start, Wanted};

/// Pods that come and go.
const PODS: usize = 8;

/// Containers that a pod may have.
const CONTAINERS: [&str; 2] = ["one", "two"];

/// How long the node may take to come to rest.
const REST: Duration = Duration::from_secs(90);

pub struct World<'n> {
    agent: Agent<'n>,
    node: &'n Node,
    /// Where containers note that they have started, one file a pod.
    notes: PathBuf,
    pods: BTreeMap<String, History>,
    kills: usize,
    actions: usize,
    started: Instant,
}

impl<'n> World<'n> {
    pub fn new(node: &'n Node) -> Self {
        let notes = node.make_dir("notes");
        let pods = (0..PODS).map(|number| (format!("pod-{number}"), History::default())).collect();
        let agent = Agent::start(node);
        Self { agent, node, notes, pods, kills: 0, actions: 0, started: Instant::now() }
    }

    fn say(&self, what: &str) {
        println!("{:9.3} #{} {what}", self.started.elapsed().as_secs_f64(), self.actions);
    }

    /// One action and a pause, after which the agent may be killed. It takes four numbers whatever it comes to: the
    /// sequence is the seed's alone.
    pub fn act(&mut self, random: &mut Random) {
        let (what, which, pause) =
            (random.number() % 100, random.number() as usize, random.below(Duration::from_millis(450)));
        let kill = random.number().is_multiple_of(2);
        self.actions += 1;
        let name = format!("pod-{}", which % PODS);
        let there = self.pods[&name].now().is_some();
        match what {
            _ if !there => self.add(&name, 1 + which / PODS % CONTAINERS.len()),
            0..20 => self.remove(&name),
            20..45 => self.relabel(&name, what % 2 == 0),
            _ => self.change(&name, which / PODS, what % 2 == 0),
        }
        // From 50 ms on: an agent that never lives long enough to begin proves nothing.
        std::thread::sleep(Duration::from_millis(50) + pause);
        if kill {
            self.say("kill the agent");
            self.kills += 1;
            self.agent.kill();
            self.agent.launch();
        }
    }

    fn add(&mut self, name: &str, containers: usize) {
        let history = self.pods.get_mut(name).expect("it is one of ours");
        let version = history.version();
        let containers =
            CONTAINERS.iter().take(containers).map(|container| ((*container).to_owned(), version)).collect();
        history.push(Some(Wanted { containers, label: 0 }));
        self.say(&format!("add {name}"));
        self.write(name, false);
    }

    fn remove(&mut self, name: &str) {
        self.pods.get_mut(name).expect("it is one of ours").push(None);
        self.say(&format!("remove {name}"));
        self.agent.remove(&format!("{name}.yaml"));
    }

    fn relabel(&mut self, name: &str, in_place: bool) {
        let history = self.pods.get_mut(name).expect("it is one of ours");
        let mut wanted = history.now().cloned().expect("it is there");
        wanted.label += 1;
        history.push(Some(wanted));
        self.say(&format!("relabel {name}"));
        self.write(name, in_place);
    }

    fn change(&mut self, name: &str, which: usize, in_place: bool) {
        let history = self.pods.get_mut(name).expect("it is one of ours");
        let mut wanted = history.now().cloned().expect("it is there");
        let version = history.version();
        let container = wanted.containers.keys().nth(which % wanted.containers.len()).cloned().expect("there is one");
        wanted.containers.insert(container.clone(), version);
        history.push(Some(wanted));
        self.say(&format!("change {container} of {name} to {version}"));
        self.write(name, in_place);
    }

    fn write(&self, name: &str, in_place: bool) {
        let wanted = self.pods[name].now().expect("it is there");
        let (file, text) = (format!("{name}.yaml"), manifest(name, wanted, &self.notes));
        if in_place {
            self.agent.write_in_place(&file, text)
        } else {
            self.agent.write(&file, text)
        };
    }

    /// The end: the node comes to equal the manifests, every start is explained, and when the manifests are gone nothing
    /// is left.
    pub fn finish(mut self) {
        self.actions += 1;
        self.say(&format!("the agent was killed {} times", self.kills));
        self.agent.settles(patience(REST), || self.differences());
        let mut wrong = String::new();
        for (name, history) in &self.pods {
            let starts = self.starts(name);
            self.say(&format!("{name} has started {} containers", starts.len()));
            for why in history.unexplained(&starts) {
                let _ = writeln!(wrong, "{name}: {why}");
            }
        }
        assert!(wrong.is_empty(), "starts that nothing explains:\n{wrong}\nthe agent said:\n{}", self.agent.said());
        for (name, history) in std::mem::take(&mut self.pods) {
            if history.now().is_some() {
                self.agent.remove(&format!("{name}.yaml"));
            }
        }
        for number in 0..PODS {
            self.agent.wait_until_gone(&format!("pod-{number}"));
        }
        self.agent.stop_with_nothing_left();
        self.say("the end");
    }

    /// How the node differs from its manifests at this moment: it may be about to equal them.
    fn differences(&self) -> Vec<String> {
        let pods = self.node.pods();
        let mut wrong = Vec::new();
        for (name, history) in &self.pods {
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str());
            match (history.now(), pod) {
                (None, None) => {}
                (None, Some(pod)) => wrong.push(format!("{name} has no manifest and is there: {}", pod["status"])),
                (Some(_), None) => wrong.push(format!("{name} has a manifest and is not there")),
                (Some(wanted), Some(pod)) => wrong.extend(differs(name, wanted, pod)),
            }
        }
        for pod in &pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            if !self.pods.contains_key(name) {
                wrong.push(format!("{name} is there: {}", pod["status"]));
            }
        }
        wrong.extend(self.processes());
        wrong
    }

    /// How the processes that run differ from those that shall: what is recorded is one of the things that may be wrong.
    fn processes(&self) -> Vec<String> {
        let mut running: Vec<String> = e2e::inspect::processes(self.node)
            .into_iter()
            .filter_map(|pid| {
                e2e::inspect::environment(pid).into_iter().find_map(|it| Some(it.strip_prefix("MARK=")?.to_owned()))
            })
            .collect();
        running.sort();
        let mut wanted = Vec::new();
        for (name, history) in &self.pods {
            for (container, version) in history.now().into_iter().flat_map(|it| &it.containers) {
                wanted.push(format!("{name}/{container}/{version}"));
            }
        }
        wanted.sort();
        if running == wanted { vec![] } else { vec![format!("there run {running:?}, and there should {wanted:?}")] }
    }

    /// What a pod's containers noted, in its order.
    fn starts(&self, name: &str) -> Vec<Start> {
        let text = fs::read_to_string(self.notes.join(name)).unwrap_or_default();
        let start = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let (uid, container, version) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
            Some(Start { uid, container, version })
        };
        text.lines().map(|line| start(line).unwrap_or_else(|| panic!("{name} noted {line:?}"))).collect()
    }
}

fn differs(name: &str, wanted: &Wanted, pod: &Value) -> Option<String> {
    let label = pod["metadata"]["labels"]["label"].as_str() == Some(wanted.label.to_string().as_str());
    let containers = pod["spec"]["containers"].as_array().map_or(0, Vec::len) == wanted.containers.len();
    let ready = condition(pod, "Ready") == Some(true) && pod["metadata"]["deletionTimestamp"].is_null();
    (!(label && containers && ready)).then(|| format!("{name} shall be {wanted:?} and is {}", pod["status"]))
}

/// A pod whose containers note that they have started, and stay.
fn manifest(name: &str, wanted: &Wanted, notes: &std::path::Path) -> Value {
    let containers: Vec<Value> = wanted
        .containers
        .iter()
        .map(|(container, version)| {
            let script = format!("echo $UID_OF_POD {container} {version} >> /notes/{name}; exec sleep 100000");
            let more = json!({
                "env": [
                    {"name": "MARK", "value": format!("{name}/{container}/{version}")},
                    {"name": "UID_OF_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
                ],
                "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
            });
            with(shell(container, &script), more)
        })
        .collect();
    let spec = json!({
        "restartPolicy": "Always",
        "volumes": [{"name": "notes", "hostPath": {"path": notes}}],
        "containers": containers,
    });
    with(pod(name, spec), json!({"metadata": {"name": name, "labels": {"label": wanted.label.to_string()}}}))
}
