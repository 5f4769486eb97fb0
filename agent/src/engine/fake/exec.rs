//! Commands that end by a script.

use std::collections::VecDeque;
use std::time::Duration;

use cri_proto::cri;
use tokio::time::{sleep, timeout};
use tonic::{Response, Status};

use super::{Answer, Fake};

/// How one run of a command goes.
#[derive(Clone, Debug)]
pub enum Exec {
    /// It ends after a while, with a code and what it printed.
    Ends { after: Duration, code: i32, output: &'static str },
    /// The runtime cannot run it.
    Broken(&'static str),
}

impl Exec {
    /// It ends at once with a code.
    pub fn code(code: i32) -> Self {
        Exec::Ends { after: Duration::ZERO, code, output: "" }
    }

    /// A command without a script: `sleep N` and `exit N` do what they say, any other one is done at once.
    fn by_its_words(words: &[String]) -> Self {
        let number = words.get(1).and_then(|word| word.parse::<u32>().ok()).unwrap_or(0);
        match words[0].as_str() {
            "sleep" => Exec::Ends { after: Duration::from_secs(number.into()), code: 0, output: "" },
            "exit" => Exec::code(i32::try_from(number).unwrap()),
            _ => Exec::code(0),
        }
    }
}

impl Fake {
    /// How runs of a command go, by its first word; the last one goes on for ever.
    pub fn execs(&self, command: &str, execs: impl IntoIterator<Item = Exec>) {
        self.world().execs.insert(command.to_owned(), VecDeque::from_iter(execs));
    }

    pub(super) async fn run_exec(&self, request: cri::ExecSyncRequest) -> Answer<cri::ExecSyncResponse> {
        let cri::ExecSyncRequest { container_id, cmd, timeout: limit } = request;
        self.note(format!("exec {container_id} {}", cmd.join(" ")));
        let exec = {
            let mut world = self.world();
            let execs = world.execs.entry(cmd[0].clone()).or_default();
            if execs.len() > 1 { execs.pop_front() } else { execs.front().cloned() }
        };
        match exec.unwrap_or_else(|| Exec::by_its_words(&cmd)) {
            Exec::Ends { after, code, output } => {
                let limit = if limit > 0 { limit.unsigned_abs() } else { u64::from(u32::MAX) };
                let ended = timeout(Duration::from_secs(limit), sleep(after)).await;
                ended.map_err(|_| Status::deadline_exceeded("context deadline exceeded"))?;
                let stdout = output.as_bytes().to_vec();
                Ok(Response::new(cri::ExecSyncResponse { stdout, stderr: vec![], exit_code: code }))
            }
            Exec::Broken(why) => Err(Status::internal(why)),
        }
    }
}
