//! How a verb ends: its exit code, and what is said when it fails.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::printer::OutputError;
use crate::sources;

/// A failure of Coracle's own, as against one of the container's.
pub const OWN_FAILURE: u8 = 125;
/// Bad manifests or bad usage.
pub const BAD_INPUT: u8 = 2;

/// Turns a verb's outcome into the process's exit code, and says what failed.
pub fn report(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        // The reader has seen enough (`coracle image ls | head -1`): not a failure, and nobody is left to read of it.
        Err(error) if matches!(error.downcast_ref(), Some(OutputError::Closed)) => ExitCode::SUCCESS,
        Err(error) => {
            let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let mut lines = explain(&error).into_iter();
            anstream::eprintln!("{style}error:{style:#} {}", lines.next().unwrap_or_default());
            for cause in lines {
                anstream::eprintln!("  caused by: {cause}");
            }
            ExitCode::from(if error.is::<sources::Error>() { BAD_INPUT } else { OWN_FAILURE })
        }
    }
}

/// Prints a usage error, or the help that was asked for.
pub fn usage(message: &clap::Error) -> ExitCode {
    // When the terminal or pipe is gone nobody is left to tell.
    let _ = message.print();
    if message.use_stderr() { ExitCode::from(BAD_INPUT) } else { ExitCode::SUCCESS }
}

/// The failure and its causes, one line each. A cause that the line above already quotes is left out.
fn explain(error: &anyhow::Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        // A gRPC status prints its code and metadata, too; its message is what the runtime wrote for people.
        let text = match cause.downcast_ref::<tonic::Status>() {
            Some(status) if !status.message().is_empty() => status.message().to_owned(),
            _ => cause.to_string(),
        };
        if !lines.last().is_some_and(|above| above.contains(&text)) {
            lines.push(text);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_follow_in_order_and_are_not_repeated() {
        let error = anyhow!("no such file").context("open x: no such file").context("import image x");
        assert_eq!(explain(&error), ["import image x", "open x: no such file"]);
    }

    #[test]
    fn a_status_is_its_message() {
        let error = anyhow::Error::new(tonic::Status::not_found("image a is not here")).context("inspect image a");
        assert_eq!(explain(&error), ["inspect image a", "image a is not here"]);
    }
}
