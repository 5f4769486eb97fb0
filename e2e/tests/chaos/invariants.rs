//! What must hold, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::leaks::{After, Leak};
use e2e::{finished, inspect, patience};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::world::{PORT, World};

/// How long the node may take to notice, heal and tell.
fn healing() -> Duration {
    patience(Duration::from_secs(20))
}

impl World {
    /// Everything that can be said of a node in the middle of its work.
    pub fn check(&mut self) {
        if self.is_full() {
            // Nothing is promised of what cannot be written down.
            return;
        }
        self.say(&format!("check {} pods", self.count()));
        let said = self.said();
        let (patience, begin) = (healing(), Instant::now());
        loop {
            let (wrong, reached) = self.wrong();
            if wrong.is_empty() {
                self.say(&format!("all is well; {reached} addresses answer"));
                break;
            }
            assert!(begin.elapsed() < patience, "after {patience:?} still:\n{}\n{}", wrong.join("\n"), self.told());
            std::thread::sleep(Duration::from_millis(200));
        }
        self.logs_hold(&said);
    }

    /// What does not hold at this moment: it may be about to; and at how many addresses pods were reached.
    fn wrong(&mut self) -> (Vec<String>, usize) {
        let pods = self.node.pods();
        let marks = self.marks();
        let mut wrong = Vec::new();
        let mut addresses: BTreeMap<String, &str> = BTreeMap::new();
        for living in &mut self.runs {
            // One that has ended is looked at when it is reaped.
            if !living.run.is_running() {
                continue;
            }
            let lines = living.run.lines();
            for name in &living.pods {
                let up = !finished::of(&lines, &format!("{name}/c")).is_empty();
                let Some(pod) = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str()) else {
                    if up {
                        wrong.push(format!("{name} was up, and nothing is known of it"));
                    }
                    continue;
                };
                let state = &pod["status"]["containerStatuses"][0]["state"];
                if state["running"].is_object() && !marks.contains_key(name.as_str()) {
                    wrong.push(format!("{name} is said to run, and has no process: {state}"));
                }
                if state["running"].is_null() && state["terminated"].is_null() && state["waiting"].is_null() && up {
                    wrong.push(format!("{name} was up and neither runs nor has ended: {state}"));
                }
                if state["running"].is_object() {
                    for address in ips(pod) {
                        if let Some(other) = addresses.insert(address.clone(), name) {
                            wrong.push(format!("{name} and {other} both have {address}"));
                        }
                    }
                }
            }
        }
        let reached = addresses.iter().filter_map(|(address, name)| Some((address.parse::<IpAddr>().ok()?, *name)));
        let reached: Vec<(IpAddr, &str)> = reached.collect();
        wrong.extend(self.node.host().within(|| {
            reached
                .iter()
                .filter_map(|(address, name)| Some(format!("{name}: {}", answers(*address, name).err()?)))
                .collect::<Vec<_>>()
        }));
        (wrong, reached.len())
    }

    /// What the living runs have said about their pods.
    fn told(&self) -> String {
        let lines = self.runs.iter().flat_map(|living| living.run.lines()).filter(|line| line.error);
        lines.map(|line| format!("  {}\n", line.text)).collect()
    }

    /// A living process of each pod's container.
    fn marks(&self) -> BTreeMap<String, Pid> {
        let mut marks = BTreeMap::new();
        for pid in inspect::processes(&self.node) {
            if let Some(mark) = inspect::environment(pid).iter().find_map(|entry| entry.strip_prefix("MARK=")) {
                marks.insert(mark.to_owned(), pid);
            }
        }
        marks
    }

    /// What was printed of each pod until now: whoever has read it counts on it.
    fn said(&mut self) -> Vec<(String, Vec<String>)> {
        let mut said = Vec::new();
        for living in &self.runs {
            let lines = living.run.lines();
            said.extend(living.pods.iter().map(|name| (name.clone(), finished::of(&lines, &format!("{name}/c")))));
        }
        said
    }

    /// Every line that was printed is in the pod's logs, which may have been removed with it.
    fn logs_hold(&self, said: &[(String, Vec<String>)]) {
        let directories = std::fs::read_dir(&self.node.log_dir).into_iter().flatten().flatten();
        let directories: Vec<_> = directories.map(|entry| entry.path()).collect();
        for (name, lines) in said {
            let prefix = format!("default_{name}_");
            let own = |path: &&std::path::PathBuf| {
                path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix))
            };
            let Some(directory) = directories.iter().find(own) else { continue };
            let Some(logged) = logged(&directory.join("c")) else { continue };
            let missing: Vec<&String> = lines.iter().filter(|line| !logged.contains(line.as_str())).collect();
            assert!(missing.is_empty(), "{name}: printed, and not in {}: {missing:?}", directory.display());
        }
    }

    /// The end: what lives is checked a last time, everything stops, and nothing is left but the images.
    pub fn finish(mut self) {
        self.actions += 1;
        self.free();
        self.check();
        self.say("stop everything");
        for living in &mut self.runs {
            if living.run.is_running() {
                living.run.signal(Signal::TERM);
            }
        }
        for living in std::mem::take(&mut self.runs) {
            let finished = living.run.wait();
            assert!(finished.status.code().is_some(), "{finished}");
        }
        self.node.coracle(["gc"]).exits(0);
        self.node.assert_nothing_left();
        self.node.assert_images(&self.images);
        self.node.coracle(["gc", "--all"]).exits(0);
        let left = self.node.scope().settle(After::GcAll, patience(Duration::from_secs(5)));
        assert!(left.is_empty(), "left behind:\n{}", Leak::list(&left));
        self.say("the end");
    }
}

/// The text of every line in a container's log files; none where the first is gone: those of former instances go with
/// them.
fn logged(directory: &Path) -> Option<BTreeSet<String>> {
    let mut logged = BTreeSet::new();
    let mut first = false;
    for file in std::fs::read_dir(directory).ok()? {
        let path = file.ok()?.path();
        let text = std::fs::read_to_string(&path).ok()?;
        first |= path.ends_with("0.log");
        logged.extend(text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()));
    }
    first.then_some(logged)
}

fn ips(pod: &Value) -> Vec<String> {
    let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
    ips.filter_map(|entry| Some(entry["ip"].as_str()?.to_owned())).collect()
}

/// Fetches the pod's name from it.
fn answers(address: IpAddr, name: &str) -> Result<(), String> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&(address, PORT).into(), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /name HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = fetch().map_err(|error| format!("{address} does not answer: {error}"))?;
    if text.trim_end().ends_with(&format!("\n{name}")) { Ok(()) } else { Err(format!("{address} answers {text:?}")) }
}
