//! One voice for each container: its log's lines and what is said about it, in the order in which they happened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::lines;
use super::output::Output;
use crate::engine::config::names::PodKey;
use crate::engine::notice::{Event, Notice};
use crate::logs::{Assembler, Entry, Follower, Stream};

/// Colours of containers, one after the other.
const PALETTE: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::BrightCyan];

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Colors {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Everybody's voices.
#[derive(Debug)]
pub struct Voices {
    output: Output,
    colors: Colors,
    /// Pods whose name alone does not tell.
    qualified: bool,
    voices: BTreeMap<(PodKey, String), Voice>,
}

#[derive(Debug)]
struct Voice {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

enum Order {
    Follow(PathBuf),
    Say(String),
}

impl Voices {
    /// Voices that speak through `output`; `qualified` puts the namespace before each pod's name.
    pub fn new(output: Output, colors: Colors, qualified: bool) -> Self {
        Voices { output, colors, qualified, voices: BTreeMap::new() }
    }

    /// Says what happened, after everything that the container wrote before.
    pub async fn tell(&mut self, notice: Notice) {
        let container = match &notice.event {
            Event::Pull { container, .. }
            | Event::Started { container, .. }
            | Event::Exited { container, .. }
            | Event::Unhealthy { container, .. }
            | Event::ProbeWarning { container, .. }
            | Event::HookFailed { container, .. }
            | Event::Killing { container, .. }
            | Event::Waiting { container, .. } => Some(container.clone()),
            Event::Failed { container, .. } => container.clone(),
            Event::Reachable { .. }
            | Event::Held { .. }
            | Event::Resize { .. }
            | Event::BeginsAgain { .. }
            | Event::Evicted { .. }
            | Event::Warning(_)
            | Event::SandboxLost
            | Event::Ended(_) => None,
        };
        let text = lines::of(&notice.event);
        let Some(container) = container else {
            if let Some(text) = text {
                self.output.say(&format!("{}: {text}", self.pod(&notice.pod))).await;
            }
            return;
        };
        let label = format!("{}/{container}", self.pod(&notice.pod));
        let follow = match notice.event {
            Event::Started { log, .. } => Some(Order::Follow(log)),
            _ => None,
        };
        let said = text.map(|text| Order::Say(format!("{label}: {text}")));
        let voice = self.voice((notice.pod, container), label);
        for order in [said, follow].into_iter().flatten() {
            // A voice ends only when its orders do.
            let _ = voice.orders.send(order).await;
        }
    }

    /// Waits until everything written is printed.
    pub async fn finish(self) {
        for (_, voice) in self.voices {
            drop(voice.orders);
            if let Err(error) = voice.task.await {
                tracing::error!(%error, "a container's output broke off");
            }
        }
    }

    fn pod(&self, key: &PodKey) -> String {
        if self.qualified { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() }
    }

    fn voice(&mut self, key: (PodKey, String), label: String) -> &Voice {
        let color = PALETTE[self.voices.len() % PALETTE.len()];
        let (output, colors) = (self.output.clone(), self.colors);
        self.voices.entry(key).or_insert_with(|| {
            let (orders, received) = mpsc::channel(16);
            let speaker = Speaker { output, prefixes: prefixes(&label, color, colors), follower: None };
            Voice { orders, task: tokio::spawn(speaker.speak(received)) }
        })
    }
}

/// The prefixes on standard output and standard error.
fn prefixes(label: &str, color: AnsiColor, colors: Colors) -> [Vec<u8>; 2] {
    let style = Style::new().fg_color(Some(color.into()));
    [colors.stdout, colors.stderr].map(|colored| {
        let text = if colored { format!("{style}{label} |{style:#} ") } else { format!("{label} | ") };
        text.into_bytes()
    })
}

struct Speaker {
    output: Output,
    prefixes: [Vec<u8>; 2],
    follower: Option<(Follower, Assembler)>,
}

impl Speaker {
    async fn speak(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let order = match &mut self.follower {
                Some((follower, _)) => tokio::select! {
                    order = orders.recv() => Some(order),
                    () = follower.changed() => None,
                },
                None => Some(orders.recv().await),
            };
            // Whatever is said about a container comes after what it wrote itself.
            self.drain().await;
            match order {
                None => {}
                Some(Some(Order::Say(line))) => self.output.say(&line).await,
                Some(Some(Order::Follow(path))) => {
                    self.end().await;
                    self.follower = Some((Follower::new(path), Assembler::default()));
                    // What was written before it was followed wakes nobody.
                    self.drain().await;
                }
                Some(None) => return self.end().await,
            }
        }
    }

    /// Prints what is in the log now.
    async fn drain(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        while let Some((follower, assembler)) = &mut self.follower {
            let count = match follower.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) => {
                    self.follower = None;
                    return self.output.say(&format!("error: cannot read a container's log: {error}")).await;
                }
            };
            let mut entries = Vec::new();
            assembler.push(&buffer[..count], |entry| entries.push(entry));
            self.print(entries).await;
        }
    }

    /// The log of this instance is complete.
    async fn end(&mut self) {
        if let Some((_, mut assembler)) = self.follower.take() {
            let mut entries = Vec::new();
            assembler.finish(|entry| entries.push(entry));
            self.print(entries).await;
        }
    }

    /// Prints lines, those of one stream in a row at once.
    async fn print(&self, entries: Vec<Entry>) {
        for group in entries.chunk_by(|a, b| a.stream == b.stream) {
            let stderr = group.first().is_some_and(|entry| entry.stream == Stream::Stderr);
            let prefix = &self.prefixes[usize::from(stderr)];
            let mut bytes = Vec::new();
            for entry in group {
                bytes.extend_from_slice(prefix);
                bytes.extend_from_slice(&entry.content);
                bytes.push(b'\n');
            }
            self.output.send(stderr, bytes).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_coloured_where_wanted() {
        let [out, err] = prefixes("p/c", AnsiColor::Cyan, Colors { stdout: true, stderr: false });
        assert_eq!(out, b"\x1b[36mp/c |\x1b[0m ");
        assert_eq!(err, b"p/c | ");
    }
}
