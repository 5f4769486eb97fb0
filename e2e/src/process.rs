//! A started command with its output captured line by line, and a deadline on everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::finished::{Dump, Finished, Line};
use crate::{deadline, patience};

#[derive(Default)]
struct Captured {
    lines: Vec<Line>,
    open: usize,
}

#[derive(Default)]
struct Capture {
    captured: Mutex<Captured>,
    changed: Condvar,
}

impl Capture {
    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.captured.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static, error: bool) {
        self.lock().open += 1;
        let capture = Arc::clone(self);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
                line.clear();
                capture.lock().lines.push(Line { error, text });
                capture.changed.notify_all();
            }
            capture.lock().open -= 1;
            capture.changed.notify_all();
        });
    }

    /// Waits until `done` is true of the capture, at most until `deadline`.
    fn wait(&self, deadline: Instant, mut done: impl FnMut(&Captured) -> bool) -> bool {
        let mut captured = self.lock();
        while !done(&captured) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            captured = match self.changed.wait_timeout(captured, left) {
                Ok((captured, _)) => captured,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}

/// What can be started as a [`Run`]: a plain command here, or one that belongs to a host.
pub trait Start {
    /// The command itself, to redirect its streams.
    fn command(&mut self) -> &mut Command;

    /// Starts it where it belongs.
    fn start(&mut self) -> std::io::Result<Child>;
}

impl Start for Command {
    fn command(&mut self) -> &mut Command {
        self
    }

    fn start(&mut self) -> std::io::Result<Child> {
        self.spawn()
    }
}

/// A running command. Dropping it kills it.
pub struct Run {
    child: Child,
    started: Instant,
    command: String,
    capture: Arc<Capture>,
}

impl Run {
    /// Starts `command` with its output captured and nothing on its standard input unless `input` is given.
    pub fn start(start: &mut impl Start, input: Option<&[u8]>) -> Self {
        let command = start.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let shown = format!("{command:?}");
        let started = Instant::now();
        let mut child = start.start().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let capture = Arc::new(Capture::default());
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            capture.follow(stdout, false);
            capture.follow(stderr, true);
        }
        if let (Some(input), Some(mut stdin)) = (input.map(<[u8]>::to_vec), child.stdin.take()) {
            // On a thread: the command may print more than a pipe holds before it reads. It may also not read at all.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        Self { child, started, command: shown, capture }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What was printed so far.
    pub fn lines(&self) -> Vec<Line> {
        self.capture.lock().lines.clone()
    }

    /// Waits until some line contains `text` and returns that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_within(text, deadline())
    }

    /// Waits at most `limit` until some line contains `text` and returns that line.
    pub fn wait_for_within(&mut self, text: &str, limit: Duration) -> String {
        let mut found = None;
        let deadline = Instant::now() + limit;
        self.capture.wait(deadline, |captured| {
            found = captured.lines.iter().find(|line| line.text.contains(text)).map(|line| line.text.clone());
            found.is_some() || captured.open == 0
        });
        found.unwrap_or_else(|| self.fail(&format!("no output contained {text:?}")))
    }

    /// Waits at most `limit` until `count` lines contain `text`.
    pub fn wait_for_lines(&mut self, text: &str, count: usize, limit: Duration) {
        let (mut looked, mut found) = (0, 0);
        self.capture.wait(Instant::now() + limit, |captured| {
            found += captured.lines[looked..].iter().filter(|line| line.text.contains(text)).count();
            looked = captured.lines.len();
            found >= count || captured.open == 0
        });
        if found < count {
            self.fail(&format!("{found} lines contained {text:?}, not {count}"));
        }
    }

    /// Sends a signal; a command that has ended already is an error of the test.
    pub fn signal(&mut self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.command));
    }

    /// Whether the command still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end of the command and of its output.
    pub fn wait(self) -> Finished {
        self.wait_within(deadline())
    }

    /// Waits at most `limit` for the end of the command and of its output.
    pub fn wait_within(self, limit: Duration) -> Finished {
        self.finish(limit, patience(Duration::from_secs(5)))
    }

    fn finish(mut self, limit: Duration, letting_go: Duration) -> Finished {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => self.fail("still running"),
                Err(error) => self.fail(&format!("cannot be waited for: {error}")),
            }
        };
        let elapsed = self.started.elapsed();
        // Whoever keeps the pipe open after the command's end has inherited a descriptor that is none of its business.
        let closed = self.capture.wait(Instant::now() + letting_go, |captured| captured.open == 0);
        if !closed {
            self.fail("ended, but another process still holds its output open");
        }
        Finished { command: self.command.clone(), status, lines: self.lines(), elapsed }
    }

    fn fail(&mut self, what: &str) -> ! {
        let running = self.is_running();
        // Failing anyway: an error here means it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let elapsed = self.started.elapsed();
        panic!(
            "{}\n{what} after {elapsed:?} ({})\n{}",
            self.command,
            if running { "it ran until killed now" } else { "it had ended" },
            Dump(&self.lines())
        );
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run {
        Run::start(Command::new("sh").args(["-c", script]), None)
    }

    fn panic_of(action: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(action).expect_err("it fails");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn output_is_captured_by_line_and_stream() {
        let finished = sh("echo 'pod/c | one'; echo 'pod/c | two' >&2; printf 'pod/d | '; exit 3").wait().exits(3);
        assert_eq!(finished.stdout(), "pod/c | one\npod/d | \n");
        assert_eq!(finished.stderr(), "pod/c | two\n");
        let mut lines = finished.of("pod/c");
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(finished.of("pod/d"), [""]);
    }

    #[test]
    fn what_outlives_its_deadline_is_killed_and_shown() {
        let said = panic_of(|| drop(sh("echo begun; exec sleep 60").wait_within(Duration::from_millis(300))));
        assert!(said.contains("still running") && said.contains("begun"), "{said}");
    }

    #[test]
    fn what_never_says_a_text_is_killed_and_shown() {
        let said =
            panic_of(|| drop(sh("echo begun; exec sleep 60").wait_for_within("over", Duration::from_millis(300))));
        assert!(said.contains("\"over\"") && said.contains("begun"), "{said}");
    }

    #[test]
    fn lines_are_waited_for_until_there_are_enough() {
        let script = "for n in 1 2 3 4; do echo line $n; echo other; sleep 0.05; done; sleep 60";
        let mut run = sh(script);
        run.wait_for_lines("line", 4, deadline());
        assert!(run.is_running());
        let said = panic_of(|| sh("echo line").wait_for_lines("line", 2, deadline()));
        assert!(said.contains("1 lines contained \"line\", not 2"), "{said}");
    }

    #[test]
    fn a_child_that_keeps_the_output_open_is_found() {
        let said = panic_of(|| drop(sh("sleep 8 & exit 0").finish(deadline(), Duration::from_millis(300))));
        assert!(said.contains("still holds its output"), "{said}");
    }

    #[test]
    fn input_is_passed() {
        let finished = Run::start(Command::new("cat").arg("-"), Some(b"typed")).wait().exits(0);
        assert_eq!(finished.stdout(), "typed\n");
    }
}
