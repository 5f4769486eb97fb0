//! The agent, its manifests, and what may happen to both. The seed decides what, to whom and how long after the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, condition};
use e2e::random::Random;
use e2e::{Node, patience, pods};
use serde_json::Value;

use super::kernel::Kernel;
use super::model::{Declared, NETWORKS, Pods, awaited, links, name, networks};
use super::packets;

/// Pairs that are tried with packets: some that are linked, and some of all.
const SAMPLES: usize = 24;

/// More pods than the agent takes by itself.
const CONFIG: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 1000\n\
    imageGCHighThresholdPercent: 100\nevictionHard: {memory.available: 1Mi}\n";

pub struct World<'n> {
    agent: Agent<'n>,
    kernel: Kernel<'n>,
    /// How many pods there may be.
    most: usize,
    pods: Pods,
    kills: usize,
    actions: u64,
    started: Instant,
}

impl<'n> World<'n> {
    /// A world in which three of four pods have a manifest already.
    pub fn new(node: &'n Node, nft: PathBuf, most: usize, random: &mut Random) -> Self {
        let config = node.dir().join("many.yaml");
        std::fs::write(&config, CONFIG).expect("the node's directory is writable");
        let agent = Agent::start_with(node, ["--config".into(), config.into_os_string()]);
        agent.write("networks.yaml", networks());
        let kernel = Kernel { node, nft };
        let mut world = Self { agent, kernel, most, pods: Pods::new(), kills: 0, actions: 0, started: Instant::now() };
        for number in (0..most).filter(|it| it % 4 != 3) {
            world.add(number, random);
        }
        world
    }

    fn say(&self, what: &str) {
        println!("{:9.3} #{} {what}", self.started.elapsed().as_secs_f64(), self.actions);
    }

    /// One action and a pause, after which the agent may be killed.
    pub fn act(&mut self, random: &mut Random) {
        self.actions += 1;
        let (what, number, pause) = (random.number() % 100, self.any(random), random.below(Duration::from_millis(250)));
        let kill = random.number().is_multiple_of(6);
        match what {
            _ if !self.pods.contains_key(&number) => self.add(number, random),
            0..35 => self.remove(number),
            35..50 => self.change(
                number,
                "moves",
                |it, random| it.network = random.number() as usize % NETWORKS.len(),
                random,
            ),
            50..60 => self.change(number, "is made anew", |it, random| it.version = random.number(), random),
            _ => {
                let links = self.some_links(number, random);
                self.change(number, "is linked", |it, _| it.links = links, random);
            }
        }
        std::thread::sleep(Duration::from_millis(10) + pause);
        if kill {
            self.say("kill the agent");
            self.kills += 1;
            self.agent.kill();
            self.agent.launch();
        }
    }

    fn any(&self, random: &mut Random) -> usize {
        random.number() as usize % self.most
    }

    /// Up to three links; a pod waits for none but pods of lower numbers, so that none waits for itself.
    fn some_links(&self, number: usize, random: &mut Random) -> BTreeMap<usize, bool> {
        let count = random.number() % 4;
        let mut links = BTreeMap::new();
        for _ in 0..count {
            let (to, gated) = (self.any(random), random.number().is_multiple_of(3));
            if to != number {
                links.insert(to, gated && to < number);
            }
        }
        links
    }

    fn add(&mut self, number: usize, random: &mut Random) {
        let network = random.number() as usize % NETWORKS.len();
        let links = self.some_links(number, random);
        let declared = Declared { network, links, version: 0 };
        self.say(&format!("add {}: {}", name(number), declared.annotations()));
        self.pods.insert(number, declared);
        self.write(number);
    }

    fn remove(&mut self, number: usize) {
        self.say(&format!("remove {}", name(number)));
        self.pods.remove(&number);
        self.agent.remove(&format!("{}.yaml", name(number)));
    }

    fn change(
        &mut self,
        number: usize,
        what: &str,
        change: impl FnOnce(&mut Declared, &mut Random),
        random: &mut Random,
    ) {
        let pod = self.pods.get_mut(&number).expect("it is there");
        change(pod, random);
        let now = pod.annotations();
        self.say(&format!("{} {what}: {now}", name(number)));
        self.write(number);
    }

    fn write(&self, number: usize) {
        self.agent.write(&format!("{}.yaml", name(number)), self.pods[&number].manifest(number));
    }

    /// The end: the node and the kernel come to equal the manifests, pairs of pods behave as these say, the rules are those
    /// that the records alone lead to, and when the manifests are gone nothing is left.
    pub fn finish(mut self, random: &mut Random) {
        self.actions += 1;
        self.say(&format!("the agent was killed {} times", self.kills));
        // Who waits for a pod that never comes would never begin.
        for number in awaited(&self.pods) {
            self.pods.insert(number, Declared::default());
            self.write(number);
        }
        let patience = patience(Duration::from_secs(60 + self.most as u64));
        self.agent.settles(patience, || self.differences());
        self.say(&format!("{} pods are as declared", self.pods.len()));

        let pairs = self.sample(random);
        let wrong = packets::wrong(self.kernel.node, &self.pods, &pairs);
        assert!(
            wrong.is_empty(),
            "of {} pairs:\n{}\nthe agent said:\n{}",
            pairs.len(),
            wrong.join("\n"),
            self.agent.said()
        );
        self.say(&format!("{} pairs behave as declared", pairs.len()));

        let before = self.kernel.table().expect("there are pods");
        self.kernel.delete(&before);
        self.agent.settles(patience, || {
            self.kernel.table().map_or_else(|| vec!["there is no table".into()], |after| before.differences(&after))
        });
        self.say("the rules made anew are the same");

        for number in std::mem::take(&mut self.pods).into_keys() {
            self.agent.remove(&format!("{}.yaml", name(number)));
        }
        self.agent.remove("networks.yaml");
        let node = self.kernel.node;
        let there =
            || node.pods().iter().map(|pod| format!("{} stays: {}", pod["metadata"]["name"], pod["status"])).collect();
        self.agent.settles(patience, there);
        self.agent.stop_with_nothing_left();
        self.say("the end");
    }

    fn sample(&self, random: &mut Random) -> BTreeSet<(usize, usize)> {
        let linked = links(&self.pods);
        let all: Vec<usize> = self.pods.keys().copied().collect();
        let mut pairs = BTreeSet::new();
        for _ in 0..SAMPLES {
            if !linked.is_empty() {
                pairs.insert(linked[random.number() as usize % linked.len()]);
            }
            let [from, to] = [(); 2].map(|()| all[random.number() as usize % all.len()]);
            if from != to {
                // The way back as well: what a link does not open.
                pairs.extend([(from, to), (to, from)]);
            }
        }
        pairs
    }

    /// How the node and the kernel differ from the manifests at this moment: they may be about to equal them.
    fn differences(&self) -> Vec<String> {
        let there: BTreeMap<String, Value> = self
            .kernel
            .node
            .pods()
            .into_iter()
            .map(|pod| (pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(), pod))
            .collect();
        let declared: BTreeMap<String, usize> = self.pods.keys().map(|it| (name(*it), *it)).collect();
        let mut wrong: Vec<String> = there
            .iter()
            .filter(|(name, _)| !declared.contains_key(*name))
            .map(|(name, pod)| format!("{name} has no manifest and is there: {}", pod["status"]))
            .collect();
        let mut ips: BTreeMap<usize, Vec<IpAddr>> = BTreeMap::new();
        for (name, number) in declared {
            let Some(pod) = there.get(&name) else {
                wrong.push(format!("{name} has a manifest and is not there"));
                continue;
            };
            let expected = &self.pods[&number];
            let annotations = expected.annotations();
            let same = annotations
                .as_object()
                .into_iter()
                .flatten()
                .all(|(key, value)| &pod["metadata"]["annotations"][key] == value);
            let version = &pod["spec"]["containers"][0]["env"][1]["value"];
            let same = same && version.as_str().and_then(|it| it.parse().ok()) == Some(expected.version);
            if same && condition(pod, "Ready") == Some(true) && pod["metadata"]["deletionTimestamp"].is_null() {
                ips.insert(number, pods::ips(pod));
            } else {
                wrong.push(format!(
                    "{name} shall be {expected:?} and is {} {}",
                    pod["metadata"]["annotations"], pod["status"]
                ));
            }
        }
        if wrong.is_empty() { self.kernel.differences(&self.pods, &ips) } else { wrong }
    }
}
