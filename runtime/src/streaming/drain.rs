//! When to stop reading the output of a command that has ended: something that it left running may hold it for ever.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Output of an ended command is over when nothing has come for this long.
const SILENCE: Duration = Duration::from_millis(100);

/// It is over after this long in any case.
const LONGEST: Duration = Duration::from_secs(10);

/// Says that a command has ended.
#[derive(Debug)]
pub struct Drain {
    ended: watch::Sender<Option<Instant>>,
}

/// Hears it.
#[derive(Clone, Debug)]
pub struct Ended {
    ended: watch::Receiver<Option<Instant>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { ended: watch::Sender::new(None) }
    }
}

impl Drain {
    /// One that hears of the end.
    pub fn ended(&self) -> Ended {
        Ended { ended: self.ended.subscribe() }
    }

    /// The command has ended.
    pub fn end(&self) {
        self.ended.send_if_modified(|at| at.replace(Instant::now()).is_none());
    }
}

impl Ended {
    /// What a read comes to. `None` when the command has ended and its output has been silent, or has taken too long.
    pub async fn or<T>(&mut self, read: impl Future<Output = T>) -> Option<T> {
        let over = async {
            // Nobody who could say that it has ended: neither can it be waited for.
            let Ok(Some(at)) = self.ended.wait_for(Option::is_some).await.map(|at| *at) else { return };
            sleep_until((Instant::now() + SILENCE).min(at + LONGEST)).await;
        };
        tokio::select! {
            biased;
            read = read => Some(read),
            () = over => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_nothing_while_the_command_runs() {
        let drain = Drain::default();
        let mut ended = drain.ended();
        assert_eq!(ended.or(tokio::time::sleep(Duration::from_secs(3600))).await, Some(()));
        drain.end();
        assert_eq!(ended.or(tokio::time::sleep(SILENCE / 2)).await, Some(()));
        assert_eq!(ended.or(tokio::time::sleep(SILENCE * 2)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_running_does_not_hold_the_output_by_writing_all_the_time() {
        let drain = Drain::default();
        let mut ended = drain.ended();
        drain.end();
        let begin = Instant::now();
        while ended.or(tokio::time::sleep(SILENCE / 2)).await.is_some() {}
        assert!(begin.elapsed() <= LONGEST + SILENCE);
    }
}
