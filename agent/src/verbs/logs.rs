//! `coracle logs`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ContainerStatus;

use crate::access::names;
use crate::cli::Global;
use crate::engine::record::{self, PodRecord};
use crate::engine::time::parse_duration;
use crate::logs::{Assembler, Entry, Follower};
use crate::printer::OutputError;
use crate::record::{find, name_of};

/// How often to look whether a followed container has ended.
const LOOK: Duration = Duration::from_millis(250);

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Container; the pod's first by default
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Namespace of the pod, where its name alone does not tell
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Go on printing until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Print the instance before the last restart
    #[arg(short, long)]
    previous: bool,
    /// Begin with the last N lines; -1 for all
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,
    /// Leave out what is older, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// Print each line's time
    #[arg(long)]
    timestamps: bool,
    /// Pod
    #[arg(value_name = "POD")]
    pod: String,
    /// Container
    #[arg(value_name = "CONTAINER", conflicts_with = "container")]
    positional: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it as 30s, 10m or 1h30m".to_owned())
}

/// Prints a container's log.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let record = find(&global.state_dir, &global.this_boot()?, &args.pod, args.namespace.as_deref())?;
    let wanted = args.container.as_deref().or(args.positional.as_deref());
    let container = choose(&record, wanted)?;
    let path = path_of(&record, &container, args.previous)?;
    super::block_on(print(&args, global, &record, &container, path))?;
    Ok(ExitCode::SUCCESS)
}

/// The container that is meant: the first one unless named. What was chosen among several is said.
fn choose(record: &PodRecord, wanted: Option<&str>) -> anyhow::Result<String> {
    let names = names(&record.pod);
    match wanted {
        Some(name) if names.contains(&name) => Ok(name.to_owned()),
        Some(name) => {
            bail!("container {name} is not in pod {}; it has {}", name_of(record), names.join(", "))
        }
        None => {
            let Some(first) = names.first() else { bail!("pod {} has no containers", name_of(record)) };
            if names.len() > 1 {
                anstream::eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
            }
            Ok((*first).to_owned())
        }
    }
}

fn status_of<'a>(record: &'a PodRecord, container: &str) -> Option<&'a ContainerStatus> {
    let status = record.pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == container)
}

/// The log file of the newest instance, or of the one before it.
fn path_of(record: &PodRecord, container: &str, previous: bool) -> anyhow::Result<PathBuf> {
    let status = status_of(record, container);
    let attempt = status.map_or(0, |status| status.restart_count);
    // While it waits for its next start the newest instance is one that has ended.
    let attempt = if previous { attempt - 1 } else { attempt };
    if attempt < 0 {
        bail!("previous terminated container {container} in pod {} not found", name_of(record));
    }
    let started = status.is_some_and(|status| status.container_id.is_some());
    let path = record.log_directory.join(container).join(format!("{attempt}.log"));
    if !started && !path.exists() {
        let waiting = status.and_then(|status| status.state.as_ref()).and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or("it has not started");
        bail!("container {container} in pod {} is waiting to start: {reason}", name_of(record));
    }
    Ok(path)
}

async fn print(args: &Args, global: &Global, record: &PodRecord, container: &str, path: PathBuf) -> anyhow::Result<()> {
    let reading = || format!("read {}", path.display());
    let mut follower = match u64::try_from(args.tail) {
        Ok(lines) => Follower::tail(path.clone(), lines).with_context(reading)?,
        Err(_) => Follower::new(path.clone()),
    };
    if !follower.exists().with_context(reading)? && !args.follow {
        bail!("there is no log at {}", path.display());
    }
    let since = args.since.and_then(|since| Timestamp::now().checked_sub(since).ok());
    let mut out = Out { out: io::stdout().lock(), timestamps: args.timestamps, since, failure: None };
    let mut assembler = Assembler::default();
    let mut ended = !args.follow;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        loop {
            let count = follower.read(&mut buffer).with_context(reading)?;
            if count == 0 {
                break;
            }
            assembler.push(&buffer[..count], |entry| out.write(&entry));
            out.check()?;
        }
        if ended {
            break;
        }
        out.flush()?;
        // Known to be over before the last look at the file, so that nothing in it is missed.
        ended = tokio::time::timeout(LOOK, follower.changed()).await.is_err()
            && has_ended(global, record, container, &path);
    }
    assembler.finish(|entry| out.write(&entry));
    out.flush()
}

/// Whether the instance that writes to `path` has ended, or its pod is gone.
fn has_ended(global: &Global, record: &PodRecord, container: &str, path: &Path) -> bool {
    let Ok(boot_id) = global.this_boot() else { return false };
    let Ok((records, _)) = record::list_in_boot(&global.state_dir, &boot_id) else { return false };
    let same = records.iter().find(|known| known.pod.metadata.uid == record.pod.metadata.uid);
    let Some(status) = same.and_then(|known| status_of(known, container)) else { return true };
    let current = path_of_attempt(record, container, status.restart_count) == path;
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let ended = status.state.as_ref().is_some_and(|state| state.terminated.is_some())
        || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    !current || (ended && !running)
}

fn path_of_attempt(record: &PodRecord, container: &str, attempt: i32) -> PathBuf {
    record.log_directory.join(container).join(format!("{attempt}.log"))
}

struct Out<W> {
    out: W,
    timestamps: bool,
    since: Option<Timestamp>,
    failure: Option<io::Error>,
}

impl<W: Write> Out<W> {
    fn write(&mut self, entry: &Entry) {
        let old = |since: Timestamp| entry.time.parse::<Timestamp>().is_ok_and(|time| time < since);
        if self.failure.is_some() || self.since.is_some_and(old) {
            return;
        }
        let mut line = Vec::with_capacity(entry.content.len() + 40);
        if self.timestamps {
            line.extend_from_slice(entry.time.as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(&entry.content);
        line.push(b'\n');
        self.failure = self.out.write_all(&line).err();
    }

    fn check(&mut self) -> anyhow::Result<()> {
        match self.failure.take() {
            Some(error) => Err(OutputError::from(error).into()),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.check()?;
        self.out.flush().map_err(|error| OutputError::from(error).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::logs::Stream;
    use serde_json::{Value, json};

    fn record(statuses: Value) -> PodRecord {
        let pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}],
                "ephemeralContainers": [{"name": "e"}]},
            "status": {"containerStatuses": statuses}
        }));
        PodRecord { pod: pod.unwrap(), owner: "run:x".into(), boot_id: "b".into(), log_directory: "/logs/p".into() }
    }

    fn status(restarts: i32, id: Option<&str>) -> Value {
        json!([{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": restarts, "containerID": id}])
    }

    #[test]
    fn the_first_container_is_meant_unless_one_is_named() {
        let record = record(json!([]));
        assert_eq!(choose(&record, None).unwrap(), "a");
        for name in ["i", "e"] {
            assert_eq!(choose(&record, Some(name)).unwrap(), name);
        }
        let error = choose(&record, Some("x")).unwrap_err().to_string();
        assert_eq!(error, "container x is not in pod p; it has a, b, i, e");
    }

    #[test]
    fn the_file_is_the_newest_instances_or_the_one_before() {
        let running = record(status(2, Some("c://1")));
        assert_eq!(path_of(&running, "a", false).unwrap(), Path::new("/logs/p/a/2.log"));
        assert_eq!(path_of(&running, "a", true).unwrap(), Path::new("/logs/p/a/1.log"));
        let first = record(status(0, Some("c://1")));
        assert!(path_of(&first, "a", true).unwrap_err().to_string().starts_with("previous terminated container a"));
        let error = path_of(&record(status(0, None)), "a", false).unwrap_err().to_string();
        assert_eq!(error, "container a in pod p is waiting to start: it has not started");
    }

    #[test]
    fn old_lines_are_left_out_and_times_shown() {
        let since = Some("2026-11-22T10:00:00Z".parse().unwrap());
        let mut out = Out { out: Vec::new(), timestamps: true, since, failure: None };
        for time in ["2026-11-22T09:59:59.9Z", "2026-11-22T10:00:01.5Z"] {
            out.write(&Entry { time: time.into(), stream: Stream::Stdout, content: b"x".to_vec() });
        }
        assert_eq!(out.out, b"2026-11-22T10:00:01.5Z x\n");
    }
}
