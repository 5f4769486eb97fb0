//! Progress of many transfers: live bars on a terminal, a line for each that ends otherwise.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use super::human;

/// A terminal is redrawn no more often than this.
const FRAME: Duration = Duration::from_millis(50);
const BAR: usize = 24;

/// Where one transfer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is transferred; a new label is a new bar.
    pub label: String,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
    /// There was nothing to do.
    pub exists: bool,
}

impl Step {
    fn ended(&self) -> bool {
        self.exists || self.bytes >= self.total
    }

    fn outcome(&self) -> String {
        let what = if self.exists { "already here".to_owned() } else { human::bytes(self.total) };
        format!("{}: {what}", self.label)
    }

    fn bar(&self) -> String {
        let filled = (self.bytes.min(self.total) as f64 / self.total.max(1) as f64 * BAR as f64) as usize;
        let (bar, size) = (format!("{:-<BAR$}", "=".repeat(filled)), human::bytes(self.total));
        format!("{}: [{bar}] {} of {size}", self.label, human::bytes(self.bytes))
    }
}

/// Draws steps as they come in. Ended ones scroll up, so only those under way are redrawn.
#[derive(Debug)]
pub struct Bars<W: Write> {
    out: W,
    live: bool,
    active: Vec<Step>,
    ended: Vec<String>,
    drawn: usize,
    last: Option<Instant>,
}

impl Bars<io::Stderr> {
    /// Bars on standard error, live if it is a terminal.
    pub fn stderr() -> Self {
        // A dumb terminal cannot move its cursor.
        let live = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self::new(io::stderr(), live)
    }
}

impl<W: Write> Bars<W> {
    fn new(out: W, live: bool) -> Self {
        Self { out, live, active: Vec::new(), ended: Vec::new(), drawn: 0, last: None }
    }

    /// Takes in a step. Failing to draw is no reason to fail what is drawn, so nothing is reported.
    pub fn update(&mut self, step: Step, now: Instant) {
        if self.ended.contains(&step.label) {
            return;
        }
        if step.ended() {
            self.active.retain(|other| other.label != step.label);
            let _ = self.finish_line(&step);
            self.ended.push(step.label);
        } else {
            match self.active.iter_mut().find(|other| other.label == step.label) {
                Some(slot) => *slot = step,
                None => self.active.push(step),
            }
        }
        if self.live && self.last.is_none_or(|last| now.duration_since(last) >= FRAME) {
            self.last = Some(now);
            let _ = self.redraw();
        }
    }

    /// Everything has come: what is still drawn has ended, too.
    pub fn finish(mut self) {
        for step in std::mem::take(&mut self.active) {
            let _ = self.finish_line(&step);
        }
    }

    /// Nothing more will come: takes the bars that are still drawn away.
    pub fn abandon(mut self) {
        self.active.clear();
        if self.live {
            let _ = self.redraw();
        }
    }

    fn finish_line(&mut self, step: &Step) -> io::Result<()> {
        if self.live {
            self.rewind()?;
        }
        writeln!(self.out, "{}", step.outcome())?;
        if self.live { self.redraw() } else { Ok(()) }
    }

    fn rewind(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A", self.drawn)?;
            self.drawn = 0;
        }
        write!(self.out, "\r\x1b[J")
    }

    fn redraw(&mut self) -> io::Result<()> {
        self.rewind()?;
        for step in &self.active {
            writeln!(self.out, "{}", step.bar())?;
        }
        self.drawn = self.active.len();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn step(label: &str, bytes: u64, total: u64) -> Step {
        Step { label: label.into(), bytes, total, exists: false }
    }

    #[test]
    fn without_a_terminal_each_transfer_is_one_line_when_it_ends() {
        let mut out = Vec::new();
        let mut bars = Bars::new(&mut out, false);
        let now = Instant::now();
        bars.update(step("a", 0, 2_000_000), now);
        bars.update(step("b", 500, 1000), now);
        bars.update(step("a", 2_000_000, 2_000_000), now);
        bars.update(step("a", 2_000_000, 2_000_000), now);
        bars.update(Step { exists: true, ..step("c", 0, 7) }, now);
        bars.finish();
        assert_eq!(String::from_utf8(out).unwrap(), "a: 2MB\nc: already here\nb: 1kB\n");
    }

    #[test]
    fn on_a_terminal_bars_are_redrawn_in_place() {
        let mut bars = Bars::new(Vec::new(), true);
        let now = Instant::now();
        bars.update(step("a", 0, 1000), now);
        bars.update(step("a", 1, 1000), now + Duration::from_millis(1)); // within one frame: not drawn
        bars.update(step("a", 500, 1000), now + FRAME);
        bars.update(step("a", 1000, 1000), now + FRAME);
        let text = String::from_utf8(bars.out).unwrap();
        assert_eq!(
            text,
            format!(
                "\r\x1b[Ja: [{empty}] 0B of 1kB\n\x1b[1A\r\x1b[Ja: [{half}] 500B of 1kB\n\x1b[1A\r\x1b[Ja: 1kB\n\r\x1b[J",
                empty = "-".repeat(24),
                half = "=".repeat(12) + &"-".repeat(12)
            )
        );
    }
}
