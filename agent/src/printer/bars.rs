//! Progress of many transfers: live bars on a terminal; otherwise a line for each that ends, and now and then one for what
//! takes long.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use super::human;

/// A terminal is redrawn no more often than this.
const FRAME: Duration = Duration::from_millis(50);
const BAR: usize = 24;
/// Without a terminal, a transfer says where it stands no more often than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// A rate over less time than this is noise.
const RATE_AFTER: Duration = Duration::from_millis(500);

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its turn has not come.
    Waiting,
    /// Bytes come in.
    Moving,
    /// All bytes are here; they are being unpacked.
    Unpacking,
    /// It is over.
    Done,
    /// There was nothing to do.
    Exists,
}

/// Where one transfer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is transferred; a new label is a new bar.
    pub label: String,
    /// What it does.
    pub stage: Stage,
    /// Bytes so far.
    pub bytes: u64,
    /// Of these, the ones that an earlier attempt brought.
    pub resumed: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Step {
    fn ended(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Exists)
    }

    fn outcome(&self) -> String {
        let total = human::bytes(self.total);
        match (self.stage, self.resumed) {
            (Stage::Exists, _) => format!("{}: already here", self.label),
            (_, 0) => format!("{}: {total}", self.label),
            (_, resumed) => {
                format!("{}: {total}, {} of it from an earlier attempt", self.label, human::bytes(resumed))
            }
        }
    }
}

/// A transfer under way, and where it stood when its bytes began to come.
#[derive(Debug)]
struct Active {
    step: Step,
    began: Option<(Instant, u64)>,
    said: Instant,
}

impl Active {
    fn new(step: Step, now: Instant) -> Self {
        let mut active = Self { began: None, said: now, step };
        active.note_begin(now);
        active
    }

    fn take(&mut self, step: Step, now: Instant) {
        self.step = step;
        self.note_begin(now);
    }

    fn note_begin(&mut self, now: Instant) {
        if self.began.is_none() && self.step.stage == Stage::Moving {
            self.began = Some((now, self.step.bytes));
        }
    }

    fn rate(&self, now: Instant) -> Option<u64> {
        let (at, bytes) = self.began?;
        let elapsed = now.duration_since(at);
        let moved = self.step.bytes.saturating_sub(bytes);
        (elapsed >= RATE_AFTER).then(|| (moved as f64 / elapsed.as_secs_f64()) as u64)
    }

    fn line(&self, now: Instant) -> String {
        let Step { label, bytes, total, .. } = &self.step;
        match self.step.stage {
            Stage::Waiting => format!("{label}: waiting"),
            Stage::Unpacking => format!("{label}: unpacking {}", human::bytes(*total)),
            Stage::Moving | Stage::Done | Stage::Exists => {
                let filled = ((*bytes).min(*total) as f64 / (*total).max(1) as f64 * BAR as f64) as usize;
                let bar = format!("{:-<BAR$}", "=".repeat(filled));
                format!("{label}: [{bar}] {}", self.amount(now))
            }
        }
    }

    /// How much of how much has come, and how fast.
    fn amount(&self, now: Instant) -> String {
        let rate = self.rate(now).map(|rate| format!(", {}/s", human::bytes(rate))).unwrap_or_default();
        format!("{} of {}{rate}", human::bytes(self.step.bytes), human::bytes(self.step.total))
    }

    /// Where it stands, if it is time to say so where nothing is drawn.
    fn report(&mut self, now: Instant) -> Option<String> {
        if self.step.stage != Stage::Moving || now.duration_since(self.said) < PATIENCE {
            return None;
        }
        self.said = now;
        Some(format!("{}: {}", self.step.label, self.amount(now)))
    }
}

/// Draws steps as they come in. Ended ones scroll up, so only those under way are redrawn.
#[derive(Debug)]
pub struct Bars<W: Write> {
    out: W,
    /// Columns and rows of the terminal; `None` without one.
    size: Option<fn() -> (usize, usize)>,
    active: Vec<Active>,
    ended: Vec<String>,
    drawn: usize,
    last: Option<Instant>,
}

impl Bars<io::Stderr> {
    /// Bars on standard error, live if it is a terminal.
    pub fn stderr() -> Self {
        // A dumb terminal cannot move its cursor.
        let live = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self::new(io::stderr(), live.then_some(stderr_size))
    }
}

fn stderr_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

impl<W: Write> Bars<W> {
    fn new(out: W, size: Option<fn() -> (usize, usize)>) -> Self {
        Self { out, size, active: Vec::new(), ended: Vec::new(), drawn: 0, last: None }
    }

    /// Takes in a step. Failing to draw is no reason to fail what is drawn, so nothing is reported.
    pub fn update(&mut self, step: Step, now: Instant) {
        if self.ended.contains(&step.label) {
            return;
        }
        if step.ended() {
            self.active.retain(|other| other.step.label != step.label);
            let _ = self.scroll(&step.outcome(), now);
            self.ended.push(step.label);
        } else {
            match self.active.iter_mut().find(|other| other.step.label == step.label) {
                Some(slot) => {
                    slot.take(step, now);
                    let report = if self.size.is_none() { slot.report(now) } else { None };
                    if let Some(line) = report {
                        let _ = self.scroll(&line, now);
                    }
                }
                None => self.active.push(Active::new(step, now)),
            }
        }
        if self.size.is_some() && self.last.is_none_or(|last| now.duration_since(last) >= FRAME) {
            self.last = Some(now);
            let _ = self.redraw(now);
        }
    }

    /// Says something beside the bars.
    pub fn note(&mut self, text: &str, now: Instant) {
        let _ = self.scroll(text, now);
    }

    /// Everything has come: what is still drawn has ended, too.
    pub fn finish(mut self) {
        let now = Instant::now();
        for active in std::mem::take(&mut self.active) {
            let _ = self.scroll(&active.step.outcome(), now);
        }
    }

    /// Nothing more will come: takes the bars that are still drawn away.
    pub fn abandon(mut self) {
        self.active.clear();
        if self.size.is_some() {
            let _ = self.redraw(Instant::now());
        }
    }

    /// Writes a line that stays.
    fn scroll(&mut self, line: &str, now: Instant) -> io::Result<()> {
        if self.size.is_some() {
            self.rewind()?;
        }
        writeln!(self.out, "{line}")?;
        if self.size.is_some() { self.redraw(now) } else { Ok(()) }
    }

    fn rewind(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A", self.drawn)?;
            self.drawn = 0;
        }
        write!(self.out, "\r\x1b[J")
    }

    /// Draws what is under way. A line that wrapped, or more of them than the screen has, could not be taken back.
    fn redraw(&mut self, now: Instant) -> io::Result<()> {
        self.rewind()?;
        let (columns, rows) = self.size.map_or((80, 24), |size| size());
        let room = rows.saturating_sub(2).max(1);
        // Those that move come first: when there is no room for all, the ones that wait are counted.
        let mut order: Vec<&Active> = self.active.iter().collect();
        order.sort_by_key(|active| active.step.stage == Stage::Waiting);
        let shown = if order.len() > room { room - 1 } else { order.len() };
        let mut lines: Vec<String> = order.iter().take(shown).map(|active| active.line(now)).collect();
        if order.len() > shown {
            lines.push(format!("and {} more", order.len() - shown));
        }
        for line in &lines {
            let fitting: String = line.chars().take(columns.saturating_sub(1)).collect();
            writeln!(self.out, "{fitting}")?;
        }
        self.drawn = lines.len();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn step(label: &str, bytes: u64, total: u64) -> Step {
        let stage = if bytes < total { Stage::Moving } else { Stage::Done };
        Step { label: label.into(), stage, bytes, resumed: 0, total }
    }

    fn live(size: fn() -> (usize, usize)) -> Bars<Vec<u8>> {
        Bars::new(Vec::new(), Some(size))
    }

    /// What stands on the terminal after the last redraw.
    fn screen(bars: &Bars<Vec<u8>>) -> Vec<String> {
        let text = String::from_utf8(bars.out.clone()).unwrap();
        text.rsplit("\x1b[J").next().unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn without_a_terminal_each_transfer_is_one_line_when_it_ends() {
        let mut out = Vec::new();
        let mut bars = Bars::new(&mut out, None);
        let now = Instant::now();
        bars.update(step("a", 0, 2_000_000), now);
        bars.update(step("b", 500, 1000), now);
        bars.note("a mirror is down", now);
        bars.update(Step { resumed: 500_000, ..step("a", 2_000_000, 2_000_000) }, now);
        bars.update(step("a", 2_000_000, 2_000_000), now);
        bars.update(Step { stage: Stage::Exists, ..step("c", 0, 7) }, now);
        bars.finish();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a mirror is down\na: 2MB, 500kB of it from an earlier attempt\nc: already here\nb: 1kB\n"
        );
    }

    #[test]
    fn without_a_terminal_what_takes_long_says_so_now_and_then() {
        let mut out = Vec::new();
        let mut bars = Bars::new(&mut out, None);
        let now = Instant::now();
        for second in 0..=25 {
            bars.update(step("a", second * 1_000_000, 50_000_000), now + Duration::from_secs(second));
        }
        bars.abandon();
        assert_eq!(String::from_utf8(out).unwrap(), "a: 10MB of 50MB, 1MB/s\na: 20MB of 50MB, 1MB/s\n");
    }

    #[test]
    fn on_a_terminal_bars_are_redrawn_in_place() {
        let mut bars = live(|| (80, 24));
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

    #[test]
    fn a_stage_has_its_own_words_and_the_rate_counts_new_bytes_alone() {
        let mut bars = live(|| (80, 24));
        let now = Instant::now();
        bars.update(Step { stage: Stage::Waiting, ..step("b", 0, 5000) }, now);
        bars.update(step("a", 1_000_000, 4_000_000), now);
        bars.update(step("a", 3_000_000, 4_000_000), now + Duration::from_secs(2));
        let bar = "=".repeat(18) + &"-".repeat(6);
        assert_eq!(screen(&bars), [format!("a: [{bar}] 3MB of 4MB, 1MB/s"), "b: waiting".into()]);
        let unpacking = Step { stage: Stage::Unpacking, ..step("a", 4_000_000, 4_000_000) };
        bars.update(unpacking, now + Duration::from_secs(3));
        assert_eq!(screen(&bars), ["a: unpacking 4MB", "b: waiting"]);
    }

    #[test]
    fn bars_stay_within_the_screen() {
        let mut bars = live(|| (12, 5));
        let now = Instant::now();
        for (number, label) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            bars.update(step(label, 1, 1000), now + FRAME * u32::try_from(number).unwrap());
        }
        assert_eq!(screen(&bars), ["a: [-------", "b: [-------", "and 3 more"]);
        bars.abandon();
    }
}
