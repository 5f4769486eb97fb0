//! Containers' logs.

use std::io;
use std::path::PathBuf;

use futures_util::stream;
use hyper::Response;
use hyper::body::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{self, Body};
use super::error::Error;
use super::query::Query;
use super::{Access, target};
use crate::engine::config::names::{PodKey, log_path};
use crate::logs::{Assembler, Entry, Follower, Stream};
use crate::store::Store;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// What of a log a client wants to see.
#[derive(Clone, Debug, Default)]
pub struct Options {
    follow: bool,
    previous: bool,
    /// How many bytes are sent at most.
    most: Option<u64>,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<u64>,
    /// One of the two streams alone.
    stream: Option<Stream>,
}

/// One instance of a container.
#[derive(Clone, Debug)]
struct Instance {
    key: PodKey,
    container: String,
    number: i32,
}

impl Access {
    /// Answers with a container's log.
    pub fn log(&self, pod: &Pod, container: Option<&str>, options: Options) -> Result<Response<Body>, Error> {
        let container = target::choose(pod, container)?;
        let number = target::logged(pod, &container, options.previous)?;
        let key = PodKey::of(pod);
        let file = log_path(&container, u32::try_from(number).unwrap_or(0));
        let path = key.log_directory(&self.inner.log_dir).join(file);
        let place = if options.follow { Some(self.watcher()?) } else { None };
        let reading = Reading {
            store: self.inner.store.clone(),
            instance: Instance { key, container, number },
            most: options.most.unwrap_or(u64::MAX),
            options,
            path,
            source: None,
            assembler: Assembler::default(),
            last_look: false,
            _place: place,
        };
        Ok(body::text_coming(stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Ok(None) => None,
                Err(error) => {
                    // The client sees that the log breaks off; the reason is for the operator.
                    tracing::warn!(%error, path = %reading.path.display(), "a log cannot be read");
                    Some((Err(error), None))
                }
            }
        })))
    }
}

impl Options {
    /// Reads what a client says.
    pub fn parse(query: &Query) -> Result<Self, Error> {
        let since = match (query.seconds("sinceSeconds")?, query.time("sinceTime")?) {
            (Some(_), Some(_)) => {
                let why = "at most one of sinceTime or sinceSeconds may be specified";
                return Err(Error::BadRequest(why.into()));
            }
            (Some(seconds), None) => Timestamp::now().checked_sub(seconds).ok(),
            (None, time) => time,
        };
        let stream = match query.text("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            Some(other) => {
                let why = format!("stream: unsupported value {other:?}: supported are All, Stdout and Stderr");
                return Err(Error::BadRequest(why));
            }
        };
        let tail = query.number("tailLines")?;
        if tail.is_some() && stream.is_some() {
            return Err(Error::BadRequest("tailLines and specific stream are mutually exclusive for now".into()));
        }
        let (follow, timestamps) = (query.switch("follow")?, query.switch("timestamps")?);
        let (previous, most) = (query.switch("previous")?, query.number("limitBytes")?);
        Ok(Self { follow, previous, most, timestamps, since, tail, stream })
    }
}

/// A log that is being sent.
struct Reading {
    store: Store,
    instance: Instance,
    options: Options,
    most: u64,
    path: PathBuf,
    source: Option<Source>,
    assembler: Assembler,
    /// The instance had ended before what is read now was looked for.
    last_look: bool,
    _place: Option<OwnedSemaphorePermit>,
}

/// The file, and room for what is read of it.
struct Source {
    follower: Follower,
    buffer: Vec<u8>,
}

impl Reading {
    /// The next bytes to be sent; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.most > 0 {
            let count = self.read().await?;
            let mut out = Vec::new();
            let (options, source) = (&self.options, &self.source);
            if count > 0 {
                let read = source.as_ref().map_or(&[][..], |source| &source.buffer[..count]);
                self.assembler.push(read, |entry| options.write(&entry, &mut out));
            } else if self.last_look || !self.options.follow {
                self.assembler.finish(|entry| options.write(&entry, &mut out));
                let rest = self.limited(out);
                self.most = 0;
                return Ok((!rest.is_empty()).then_some(rest));
            } else {
                // Whether it has ended is known before the last look at the file, so that nothing in it is missed.
                self.last_look = self.ended();
                if !self.last_look
                    && let Some(source) = &mut self.source
                {
                    source.follower.changed().await;
                }
            }
            if !out.is_empty() {
                return Ok(Some(self.limited(out)));
            }
        }
        Ok(None)
    }

    /// Reads what comes next, on a thread that may wait for a disk.
    async fn read(&mut self) -> io::Result<usize> {
        let (source, path, tail) = (self.source.take(), self.path.clone(), self.options.tail);
        let work = tokio::task::spawn_blocking(move || {
            let mut source = match source {
                Some(source) => source,
                None => Source::open(path, tail)?,
            };
            let count = source.follower.read(&mut source.buffer)?;
            io::Result::Ok((source, count))
        });
        let (source, count) = work.await.map_err(io::Error::from)??;
        self.source = Some(source);
        Ok(count)
    }

    fn limited(&mut self, mut out: Vec<u8>) -> Bytes {
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        out.truncate(most);
        self.most -= out.len() as u64;
        out.into()
    }

    /// Whether the instance has ended, or its pod is gone.
    fn ended(&self) -> bool {
        let Instance { key, container, number } = &self.instance;
        let pod = self.store.get::<Pod>(&key.namespace, &key.name).filter(|pod| PodKey::of(pod) == *key);
        let Some(status) = pod.as_ref().and_then(|pod| target::status(pod, container)) else { return true };
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        status.restart_count != *number || !running
    }
}

impl Source {
    fn open(path: PathBuf, tail: Option<u64>) -> io::Result<Self> {
        let follower = match tail {
            Some(count) => Follower::tail(path, count)?,
            None => Follower::new(path),
        };
        Ok(Self { follower, buffer: vec![0; CHUNK] })
    }
}

impl Options {
    fn write(&self, entry: &Entry, out: &mut Vec<u8>) {
        let old = |since: Timestamp| entry.time.parse::<Timestamp>().is_ok_and(|time| time < since);
        if self.since.is_some_and(old) || self.stream.is_some_and(|it| it != entry.stream) {
            return;
        }
        if self.timestamps {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&entry.content);
        out.push(b'\n');
    }
}
