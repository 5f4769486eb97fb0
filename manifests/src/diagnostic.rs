//! What a reader is told about a manifest: where, what and how to put it right.

use std::fmt::Write as _;

/// How serious a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The manifest means something that would not be run as written: nothing of it may be created.
    Error,
    /// Something that has no effect here. The rest runs exactly as written.
    Warning,
}

impl Severity {
    /// The word that begins the printed form.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }

    fn ansi(self) -> &'static str {
        match self {
            Severity::Error => "\x1b[1;31m",
            Severity::Warning => "\x1b[1;33m",
        }
    }
}

/// One finding, with its place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The name of the source, as [`crate::Source::name`] gives it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The field within its object, such as `spec.containers[0].image`; empty for the object or the file itself.
    pub path: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it, or what was probably meant.
    pub help: Option<String>,
    /// The text of the line (a window of it, where the line is very long).
    pub source_line: String,
    /// How many characters the caret underlines.
    pub width: usize,
    /// Where in `source_line` the caret begins, from 1. Differs from `column` only in a window of a long line.
    pub(crate) caret: usize,
}

/// Lines longer than this (a whole JSON file on one line) are shown as a window around the caret.
const LONGEST_LINE: usize = 160;

/// The part of a line that is worth showing, and the caret's column in it.
pub(crate) fn window(line: &str, column: usize) -> (String, usize) {
    let printable = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    if line.len() <= LONGEST_LINE {
        return (line.chars().map(printable).collect(), column);
    }
    let start = column.saturating_sub(LONGEST_LINE / 2);
    // A hostile line is long and looked at often; of the usual ones, characters need not be counted.
    let from = match line.is_ascii() {
        true => start.min(line.len()),
        false => line.char_indices().nth(start).map_or(line.len(), |(byte, _)| byte),
    };
    (line[from..].chars().take(LONGEST_LINE).map(printable).collect(), column - start)
}

impl Diagnostic {
    /// The form for people: message, place, source line with a caret, help. Ends with a newline.
    pub fn render(&self, color: bool) -> String {
        let paint = |code: &'static str| if color { code } else { "" };
        let (bold, blue, reset) = (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[0m"));
        let loud = paint(self.severity.ansi());
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let mut out = String::new();
        let at = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{loud}{}{reset}{bold}: {at}{}{reset}", self.severity.as_str(), self.message);
        let _ = writeln!(out, "{gutter}{blue}-->{reset} {}:{}:{}", self.file, self.line, self.column);
        let _ = writeln!(out, "{gutter} {blue}|{reset}");
        let _ = writeln!(out, "{blue}{number} |{reset} {}", self.source_line);
        let _ = writeln!(out, "{gutter} {blue}|{reset} {loud}{}{reset}", self.carets());
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{gutter} {blue}={reset} {bold}help{reset}: {help}");
        }
        out
    }

    /// Blanks up to the place, then carets. Tabs stay tabs, so that a terminal puts both lines under each other.
    fn carets(&self) -> String {
        let before = self.source_line.chars().take(self.caret.saturating_sub(1));
        let mut line: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let room = self.source_line.chars().count().saturating_sub(self.caret.saturating_sub(1));
        line.extend(std::iter::repeat_n('^', self.width.clamp(1, room.max(1))));
        line
    }
}
