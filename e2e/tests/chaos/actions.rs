//! What may happen. The seed decides what, to whom and how long after the action before.

use std::process::Command;
use std::time::Duration;

use e2e::inspect;
use e2e::loopfs::Ballast;
use e2e::random::Random;
use rustix::process::{Pid, Signal, kill_process};

use super::world::{Living, World};

/// The most pods at one time.
const MOST: usize = 100;

impl World {
    /// One action and a pause. It takes three numbers whatever it comes to: the sequence is the seed's alone.
    pub fn act(&mut self, random: &mut Random) {
        let (what, which, pause) =
            (random.number() % 100, random.number() as usize, random.below(Duration::from_millis(300)));
        self.actions += 1;
        match what {
            0..36 if self.count() < MOST => self.start(1 + which % 6),
            0..43 => self.stop(which),
            43..49 => self.kill(which),
            49..57 => self.kill_one_of("shim", which, |command| command.starts_with("coracle-shim")),
            57..66 => self.kill_one_of("process", which, |command| command.starts_with("sh -c")),
            66..72 => self.spoil_rules(which),
            72..76 => self.fill(),
            76..84 => self.free(),
            84..89 => self.collect(),
            89..92 => self.exec(which),
            _ => self.check(),
        }
        self.reap();
        std::thread::sleep(pause);
    }

    fn stop(&mut self, which: usize) {
        let Some(mut living) = self.take(which) else { return };
        self.say(&format!("stop the run of {}", living.pods.join(" ")));
        if living.run.is_running() {
            living.run.signal(Signal::TERM);
        }
        let finished = living.run.wait();
        // The signal may have been faster than the run was at asking for it.
        let unbegun = finished.lines.is_empty();
        assert!(unbegun || finished.status.code().is_some(), "a run that was stopped ends by itself\n{finished}");
    }

    fn kill(&mut self, which: usize) {
        let Some(mut living) = self.take(which) else { return };
        self.say(&format!("kill the run of {}", living.pods.join(" ")));
        if living.run.is_running() {
            living.run.signal(Signal::KILL);
        }
        living.run.wait();
    }

    fn take(&mut self, which: usize) -> Option<Living> {
        (!self.runs.is_empty()).then(|| self.runs.swap_remove(which % self.runs.len()))
    }

    fn kill_one_of(&mut self, kind: &str, which: usize, is_it: impl Fn(&str) -> bool) {
        let mut found: Vec<(Pid, String)> =
            inspect::processes(&self.node).into_iter().map(|pid| (pid, inspect::command_line(pid))).collect();
        found.retain(|(_, command)| is_it(command));
        let Some((pid, command)) = found.get(which % found.len().max(1)) else { return };
        self.say(&format!("kill the {kind} {pid:?}: {}", command.chars().take(40).collect::<String>()));
        // ESRCH: it was faster.
        let _ = kill_process(*pid, Signal::KILL);
    }

    fn spoil_rules(&mut self, which: usize) {
        let Some(nft) = &self.nft else { return };
        let tables = self.node.host().within(e2e::leaks::network::tables);
        let mut command = Command::new(nft);
        match tables.first() {
            Some(table) if which.is_multiple_of(2) => command.args(["delete", "table", "inet", table]),
            _ => command.args(["flush", "ruleset"]),
        };
        self.say(&format!("{command:?} of {tables:?}"));
        // The table may have gone meanwhile.
        self.node.host().run(command);
    }

    fn fill(&mut self) {
        if self.is_full() {
            return;
        }
        self.say("fill the disk");
        self.ballast = Some(Ballast::fill(self.node.disk().expect("a small disk")));
    }

    pub fn free(&mut self) {
        if self.ballast.take().is_some() {
            self.say("free the disk");
        }
    }

    fn collect(&mut self) {
        self.say("gc");
        let collected = self.node.coracle(["gc"]);
        assert!(self.is_full() || collected.status.success(), "{collected}");
    }

    fn exec(&mut self, which: usize) {
        let Some(living) = self.runs.get(which % self.runs.len().max(1)) else { return };
        let name = living.pods[which % living.pods.len()].clone();
        self.say(&format!("exec in {name}"));
        // It may be gone, or not there yet; whatever it is, it is said at once.
        let finished = self.node.exec(&name, "c", &["cat", "/tmp/name"]);
        if finished.status.success() {
            assert_eq!(finished.stdout().trim(), name, "{finished}");
        }
    }

    /// Runs all of whose pods have ended are over by themselves.
    fn reap(&mut self) {
        let mut index = 0;
        while index < self.runs.len() {
            if self.runs[index].run.is_running() {
                index += 1;
                continue;
            }
            let living = self.runs.swap_remove(index);
            let finished = living.run.wait();
            self.say(&format!("the run of {} has ended: {}", living.pods.join(" "), finished.status));
            assert!(finished.status.code().is_some(), "nobody killed it\n{finished}");
        }
    }
}
