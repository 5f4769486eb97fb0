//! Commands in a container, by ExecSync.

use std::time::Duration;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, ExecAction};
use tonic::{Code, Status};

use super::{ActionError, Answer, MAX_ANSWER, Subject};
use crate::channel::Cri;
use crate::engine::config::expand::expand;

/// What a runtime may take over a command's own time before it counts as lost.
const SLACK: Duration = Duration::from_secs(5);

/// How a command ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, with its exit code and what it printed.
    Exited(i32, String),
    /// It was killed for it took too long.
    TimedOut(String),
}

impl Ended {
    /// A probe's command that fails tells why on its output.
    pub fn answer(self) -> Answer {
        match self {
            Ended::Exited(0, _) => Answer::Passed,
            Ended::Exited(code, output) if output.is_empty() => {
                Answer::Failed(format!("the command ended with {code} and printed nothing"))
            }
            Ended::Exited(_, output) => Answer::Failed(output),
            Ended::TimedOut(message) => Answer::Failed(message),
        }
    }

    /// A hook's command is judged in the same way, but its exit code says more than its output.
    pub fn answer_of_hook(self) -> Answer {
        match self {
            Ended::Exited(0, _) => Answer::Passed,
            Ended::Exited(code, output) => {
                Answer::Failed(format!("command exited with {code}, message: {:?}", output.trim_end()))
            }
            Ended::TimedOut(message) => Answer::Failed(message),
        }
    }
}

/// Runs `exec` in the container of `subject`.
pub async fn run(
    cri: &Cri,
    subject: &Subject,
    exec: &ExecAction,
    limit: Option<Duration>,
) -> Result<Ended, ActionError> {
    let cmd = command(exec, &subject.container);
    let late = || Ended::TimedOut(format!("command {:?} timed out", cmd.join(" ")));
    // The CRI counts in seconds, and 0 is no limit.
    let seconds = limit.map_or(0, |limit| i64::try_from(limit.as_millis().div_ceil(1000)).unwrap_or(i64::MAX));
    let request = cri::ExecSyncRequest { container_id: subject.id.clone(), cmd: cmd.clone(), timeout: seconds };
    let mut runtime = cri.runtime.clone();
    let call = runtime.exec_sync(request);
    let answer = match limit {
        Some(limit) => match tokio::time::timeout(limit + SLACK, call).await {
            Ok(answer) => answer,
            Err(_) => return Ok(late()),
        },
        None => call.await,
    };
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok(Ended::Exited(answer.exit_code, printed(&answer.stdout, &answer.stderr)))
        }
        Err(status) if timed_out(&status) => Ok(late()),
        Err(status) => {
            let reason = status.message().to_owned();
            Err(ActionError::Runtime { container: subject.container.name.clone(), reason })
        }
    }
}

/// The command as it is run: references to variables that have a plain value are expanded, and no others.
fn command(exec: &ExecAction, container: &Container) -> Vec<String> {
    let env = container.env.as_deref().unwrap_or_default();
    let resolve = |name: &[u8]| {
        let var = env.iter().rev().find(|var| var.name.as_bytes() == name && var.value_from.is_none())?;
        Some(var.value.as_deref().unwrap_or_default().as_bytes())
    };
    let expanded = |word: &String| String::from_utf8_lossy(&expand(word.as_bytes(), resolve)).into_owned();
    exec.command.iter().flatten().map(expanded).collect()
}

fn timed_out(status: &Status) -> bool {
    // Older runtimes say it in words alone.
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Unknown && status.message().contains("deadline exceeded"))
}

/// What a command printed, the beginning of it.
fn printed(stdout: &[u8], stderr: &[u8]) -> String {
    let mut all = stdout[..stdout.len().min(MAX_ANSWER)].to_vec();
    all.extend_from_slice(&stderr[..stderr.len().min(MAX_ANSWER - all.len())]);
    String::from_utf8_lossy(&all).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_variables_with_a_plain_value_are_expanded_in_a_command() {
        let container: Container = serde_json::from_value(json!({
            "name": "a",
            "env": [
                {"name": "PLAIN", "value": "1"}, {"name": "REF", "value": "$(PLAIN)"},
                {"name": "FROM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ]
        }))
        .unwrap();
        let words = ["$(PLAIN)", "$(FROM)", "$(NONE)", "$$(PLAIN)", "$(REF)"].map(str::to_owned);
        let expanded = command(&ExecAction { command: Some(words.to_vec()) }, &container);
        assert_eq!(expanded, ["1", "$(FROM)", "$(NONE)", "$(PLAIN)", "$(PLAIN)"]);
    }

    #[test]
    fn what_a_command_prints_is_cut() {
        assert_eq!(printed(b"out ", b"err"), "out err");
        assert_eq!(printed(&[b'a'; MAX_ANSWER + 1], b"err").len(), MAX_ANSWER);
        assert_eq!(printed(&[b'a'; MAX_ANSWER - 1], b"err").len(), MAX_ANSWER);
    }

    #[test]
    fn a_failure_without_words_says_its_code() {
        assert_eq!(Ended::Exited(0, "x".into()).answer(), Answer::Passed);
        assert_eq!(Ended::Exited(2, "no such file".into()).answer(), Answer::Failed("no such file".into()));
        let silent = Ended::Exited(2, String::new()).answer();
        assert_eq!(silent, Answer::Failed("the command ended with 2 and printed nothing".into()));
        let hook = Ended::Exited(2, "no\n".into()).answer_of_hook();
        assert_eq!(hook, Answer::Failed("command exited with 2, message: \"no\"".into()));
    }
}
