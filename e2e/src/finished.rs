//! What a command printed and how it ended, with the assertions that tests make of it.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

/// One line of output.
#[derive(Clone, Debug)]
pub struct Line {
    /// Whether it came from standard error.
    pub error: bool,
    /// The line, without its newline.
    pub text: String,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All that it printed.
    pub lines: Vec<Line>,
    /// From its start to its end.
    pub elapsed: Duration,
}

impl Finished {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Asserts that some line contains `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.lines.iter().any(|line| line.text.contains(text)), "nothing says {text:?}\n{self}");
        self
    }

    /// Asserts that no line contains `text`.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        assert!(!self.lines.iter().any(|line| line.text.contains(text)), "something says {text:?}\n{self}");
        self
    }

    /// Standard output and standard error, each line with its newline.
    pub fn text(&self) -> String {
        join(self.lines.iter())
    }

    /// Standard output alone.
    pub fn stdout(&self) -> String {
        join(self.lines.iter().filter(|line| !line.error))
    }

    /// Standard error alone.
    pub fn stderr(&self) -> String {
        join(self.lines.iter().filter(|line| line.error))
    }

    /// What the container `POD/CONTAINER` printed, without the prefix.
    pub fn of(&self, container: &str) -> Vec<String> {
        of(&self.lines, container)
    }

    /// The rest of the first line of `container` that begins with `key` and a blank.
    #[track_caller]
    pub fn value(&self, container: &str, key: &str) -> String {
        let prefix = format!("{key} ");
        let lines = self.of(container);
        let found = lines.iter().find_map(|line| if line == key { Some("") } else { line.strip_prefix(&prefix) });
        found.unwrap_or_else(|| panic!("{container} printed no {key:?}\n{self}")).trim().to_owned()
    }
}

/// The lines that `POD/CONTAINER` printed, without the prefix.
pub fn of(lines: &[Line], container: &str) -> Vec<String> {
    let split = lines.iter().filter_map(|line| line.text.split_once(" | ").or(line.text.split_once(" |")));
    split.filter(|(prefix, _)| prefix.trim() == container).map(|(_, text)| text.to_owned()).collect()
}

fn join<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    lines.flat_map(|line| [line.text.as_str(), "\n"]).collect()
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{} after {:?}\n{}", self.command, self.status, self.elapsed, Dump(&self.lines))
    }
}

/// Output as a failure shows it: the end of it, for a chatty pod may have printed megabytes.
pub(crate) struct Dump<'a>(pub(crate) &'a [Line]);

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.0.len().saturating_sub(200);
        if skipped > 0 {
            writeln!(f, "  … {skipped} lines before")?;
        }
        for line in &self.0[skipped..] {
            let text: String = line.text.chars().take(400).collect();
            writeln!(f, "  {} {text}", if line.error { "stderr|" } else { "stdout|" })?;
        }
        Ok(())
    }
}
