//! Collects what is found in one source.

use crate::diagnostic::{Diagnostic, Severity, window};
use crate::path::Path;
use crate::yaml::Mark;
use std::collections::HashSet;

/// Nobody reads more, and a hostile file must not cost more.
const MOST: usize = 500;

/// The findings of one source, in the order in which they are made.
pub(crate) struct Report<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    found: Vec<Diagnostic>,
    left_out: usize,
    /// Fields already known to be wrong: what follows from that is not worth a second message.
    settled: HashSet<Path>,
    /// An API server says it, not a manifest.
    of_cluster: bool,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Report<'a> {
        let lines = text.trim_start_matches('\u{feff}').lines().collect();
        Report { file, lines, found: Vec::new(), left_out: 0, settled: HashSet::new(), of_cluster: false }
    }

    /// The report of what an API server says, which has checked it.
    pub(crate) fn of_cluster(self, of_cluster: bool) -> Self {
        Report { of_cluster, ..self }
    }

    pub(crate) fn is_of_cluster(&self) -> bool {
        self.of_cluster
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        at: Mark,
        path: &Path,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        if severity == Severity::Error {
            self.settle(path);
        }
        if self.is_full() {
            self.pass();
            return;
        }
        let line = self.lines.get(at.line - 1).copied().unwrap_or_default();
        let (source_line, caret) = window(line, at.column);
        let room = source_line.chars().count().saturating_sub(caret - 1);
        self.found.push(Diagnostic {
            severity,
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            path: path.to_string(),
            message: message.into(),
            help,
            source_line,
            width: at.width.min(room).max(1),
            caret,
        });
    }

    /// Whether further findings are only counted: what they would say need not be worked out.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MOST
    }

    /// Counts a finding that is not shown.
    pub(crate) fn pass(&mut self) {
        self.left_out += 1;
    }

    /// The name of the source.
    pub(crate) fn file(&self) -> &str {
        self.file
    }

    /// Marks a field as dealt with.
    pub(crate) fn settle(&mut self, path: &Path) {
        self.settled.insert(path.clone());
    }

    /// Whether this field, or one that it is part of, is dealt with.
    pub(crate) fn is_settled(&self, path: &Path) -> bool {
        !self.settled.is_empty() && path.ancestry().any(|path| self.settled.contains(&path))
    }

    /// A new object begins: its paths start over.
    pub(crate) fn next_object(&mut self) {
        self.settled.clear();
    }

    /// Whether an error was found since `mark` findings were there.
    pub(crate) fn errors_since(&self, mark: usize) -> bool {
        self.left_out > 0 || self.found[mark.min(self.found.len())..].iter().any(|d| d.severity == Severity::Error)
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// Everything, in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        if self.left_out > 0 {
            let at = Mark { line: self.lines.len().max(1), column: 1, width: 1 };
            let message = format!("{} more findings are not shown", self.left_out);
            self.found.truncate(MOST - 1);
            self.add(Severity::Error, at, &Path::default(), message, None);
        }
        self.found
    }
}
