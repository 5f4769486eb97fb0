//! What verbs print: lines, tables as kubectl draws them, JSON and YAML, colour where it is wanted.

mod bars;
mod columns;
pub mod human;
mod table;

use std::io::{self, Write};

use serde::Serialize;

pub use self::bars::{Bars, Stage, Step};
pub use self::columns::Columns;
pub use self::table::Table;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR says otherwise
    Auto,
    /// Even into a pipe
    Always,
    /// Not at all
    Never,
}

impl Color {
    /// Makes this the rule for everything that the process prints.
    pub fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::AlwaysAnsi,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }

    /// Whether text that is written to `stream` shall be coloured.
    pub fn wanted(self, stream: &impl anstream::stream::RawStream) -> bool {
        match self {
            Self::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Printing failed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Who reads our output has closed it; nothing is wrong.
    #[error("standard output is closed")]
    Closed,
    /// Anything else, a full disk for one.
    #[error("write to standard output")]
    Write(#[source] io::Error),
    /// A value does not fit the format.
    #[error("write the answer as {0}: {1}")]
    Format(&'static str, String),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Write(error) }
    }
}

/// Standard output. Unlike `println!` it does not panic when nobody reads.
pub struct Printer<W: Write> {
    out: W,
}

impl Printer<anstream::Stdout> {
    /// Prints to standard output, by the colour rule in force.
    pub fn stdout() -> Self {
        Self { out: anstream::stdout() }
    }
}

impl<W: Write> Printer<W> {
    /// Prints one line.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), OutputError> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &[u8]) -> Result<(), OutputError> {
        self.out.write_all(text)?;
        Ok(self.out.flush()?)
    }

    /// Prints a table.
    pub fn table(&mut self, table: &Table) -> Result<(), OutputError> {
        self.text(table.render().as_bytes())
    }

    /// Prints a value as indented JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(value).map_err(|e| OutputError::Format("JSON", e.to_string()))?;
        self.line(text)
    }

    /// Prints a value as YAML.
    pub fn yaml(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_yaml::to_string(value).map_err(|e| OutputError::Format("YAML", e.to_string()))?;
        self.text(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_failure() {
        assert!(matches!(Printer { out: Gone }.line("x"), Err(OutputError::Closed)));
    }

    #[test]
    fn values_print_as_json_and_yaml() {
        let value = serde_json::json!({"a": [1]});
        let mut printer = Printer { out: Vec::new() };
        printer.json(&value).unwrap();
        printer.yaml(&value).unwrap();
        assert_eq!(String::from_utf8(printer.out).unwrap(), "{\n  \"a\": [\n    1\n  ]\n}\na:\n- 1\n");
    }
}
