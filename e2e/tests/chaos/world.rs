//! What there is: a node on a small disk, the runs that live, and what is known of them.

use std::path::PathBuf;
use std::time::Instant;

use e2e::loopfs::Ballast;
use e2e::manifest::{pod, several, shell, with};
use e2e::{Node, Run, debian};
use serde_json::{Value, json};

/// Where every pod answers.
pub const PORT: u16 = 8080;

/// Enough for a hundred pods, and quickly filled.
const MEGABYTES: u64 = 96;
const INODES: u32 = 60_000;

/// One `coracle run` that has not been waited for.
pub struct Living {
    pub run: Run,
    pub pods: Vec<String>,
}

pub struct World {
    pub node: Node,
    pub images: Vec<Value>,
    pub runs: Vec<Living>,
    /// Holds all that is free, while the disk is full.
    pub ballast: Option<Ballast>,
    /// nftables' own tool, if it is here.
    pub nft: Option<PathBuf>,
    pub actions: usize,
    names: usize,
    started: Instant,
}

impl World {
    pub fn new() -> Result<Self, String> {
        let node = Node::on_small_disk(MEGABYTES, INODES)?;
        let nft = debian::program("nft", "nftables").ok();
        let images = node.images();
        let started = Instant::now();
        Ok(Self { node, images, runs: Vec::new(), ballast: None, nft, actions: 0, names: 0, started })
    }

    /// Says what is done: a failure shows it all.
    pub fn say(&self, what: &str) {
        println!("{:9.3} #{} {what}", self.started.elapsed().as_secs_f64(), self.actions);
    }

    /// Pods of runs that live, or that have not been found dead.
    pub fn count(&self) -> usize {
        self.runs.iter().map(|living| living.pods.len()).sum()
    }

    pub fn is_full(&self) -> bool {
        self.ballast.is_some()
    }

    /// Starts a run of `count` pods, every other one of which restarts.
    pub fn start(&mut self, count: usize) {
        let pods: Vec<String> = (0..count)
            .map(|_| {
                self.names += 1;
                format!("p{}", self.names)
            })
            .collect();
        self.say(&format!("run {}", pods.join(" ")));
        let manifests: Vec<Value> = pods.iter().enumerate().map(|(index, name)| talker(name, index % 2 == 1)).collect();
        let run = self.node.run_with(several(&manifests), &["--restart-backoff", "initial=100ms,max=500ms"]);
        self.runs.push(Living { run, pods });
    }
}

/// A pod that says that it is up, answers at [`PORT`], and goes on talking; on a full disk it waits for room.
fn talker(name: &str, restarts: bool) -> Value {
    let script = format!(
        "until {{ echo {name} > /tmp/name; }} 2>/dev/null && [ -s /tmp/name ]; do sleep 0.2; done; \
         httpd -p {PORT} -h /tmp; echo up; \
         i=0; while :; do i=$((i+1)); echo tick $i; sleep 1; done"
    );
    let container = with(shell("c", &script), json!({"env": [{"name": "MARK", "value": name}]}));
    let policy = if restarts { "Always" } else { "Never" };
    pod(name, json!({"restartPolicy": policy, "containers": [container]}))
}
