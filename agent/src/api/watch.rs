//! Watches: changes as they happen, one a line.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use hyper::Response;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Error;
use super::Inner;
use super::Query;
use super::read::Wanted;
use crate::access::body::{self, Body};
use crate::store::{Change, Object, Watch, What};

/// How long a watch goes on that does not say how long.
const USUAL: Duration = Duration::from_secs(3600);

/// How often a client that asks for it is told how far it has come.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// The mark of the bookmark after which a client has all that was there.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A watch that is being served.
struct Serving {
    wanted: Wanted,
    watch: Watch,
    /// Lines to be sent before what happens next.
    lines: VecDeque<Bytes>,
    /// Headings were sent.
    headed: bool,
    next_bookmark: Option<Instant>,
    end: Instant,
    over: bool,
    _place: OwnedSemaphorePermit,
}

/// Begins a watch.
pub fn answer(api: &Arc<Inner>, wanted: Wanted, query: &Query) -> Result<Response<Body>, Error> {
    let place = api.access.watcher()?;
    let initial = query.switch("sendInitialEvents")?;
    let bookmarks = query.switch("allowWatchBookmarks")?;
    let limit = query.seconds("timeoutSeconds")?.filter(|it| !it.is_zero()).unwrap_or(USUAL).min(USUAL);
    let since = match query.text("resourceVersion") {
        // Whatever is there counts as added.
        None | Some("0") => None,
        Some(_) if initial => None,
        Some(_) => query.number("resourceVersion")?,
    };
    let now = Instant::now();
    let (watch, there) = match since {
        Some(version) => (api.store.watch(wanted.kind, version)?, None),
        None => {
            let listed = api.store.objects(wanted.kind, wanted.namespace.as_deref());
            (api.store.watch(wanted.kind, listed.version)?, Some(listed.items))
        }
    };
    let mut serving = Serving {
        wanted,
        watch,
        lines: VecDeque::new(),
        headed: false,
        next_bookmark: bookmarks.then_some(now + BOOKMARKS),
        end: now + limit,
        over: false,
        _place: place,
    };
    for object in there.into_iter().flatten().filter(|it| serving.wanted.is(it)).collect::<Vec<_>>() {
        serving.line("ADDED", &object);
    }
    if initial {
        serving.bookmark(json!({INITIAL_END: "true"}));
    }
    Ok(body::json_coming(stream::unfold(serving, |mut serving| async {
        let line = serving.next().await?;
        Some((io::Result::Ok(line), serving))
    })))
}

impl Serving {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                next = timeout_at(self.end, self.watch.next()) => match next {
                    Ok(Ok(change)) => self.change(&change),
                    Ok(Err(gone)) => {
                        self.push(&json!({"type": "ERROR", "object": Error::from(gone).status()}));
                        self.over = true;
                    }
                    Err(_) => self.over = true,
                },
                () = at(self.next_bookmark) => {
                    self.next_bookmark = Some(Instant::now() + BOOKMARKS);
                    self.bookmark(json!(null));
                }
            }
        }
    }

    /// What a change is to a client that sees only what it selects.
    fn change(&mut self, change: &Change) {
        let before = change.before.as_ref().is_some_and(|it| self.wanted.is(it));
        let now = change.what != What::Deleted && self.wanted.is(&change.object);
        match (before, now) {
            (false, true) => self.line("ADDED", &change.object),
            (true, true) => self.line("MODIFIED", &change.object),
            (true, false) => self.line("DELETED", &change.object),
            (false, false) => {}
        }
    }

    fn line(&mut self, what: &str, object: &Object) {
        let shown = match self.wanted.table {
            Some(form) => {
                let metadata = json!({"resourceVersion": object.metadata().resource_version});
                let first = !std::mem::replace(&mut self.headed, true);
                let objects = std::slice::from_ref(object);
                form.table(self.wanted.kind, objects, &metadata, first, Timestamp::now())
            }
            None => json!(object),
        };
        self.push(&json!({"type": what, "object": shown}));
    }

    /// Says how far the client has come.
    fn bookmark(&mut self, annotations: Value) {
        let mut metadata = json!({"resourceVersion": self.watch.seen().to_string()});
        if !annotations.is_null() {
            metadata["annotations"] = annotations;
        }
        let object = match self.wanted.table {
            Some(form) => form.table(self.wanted.kind, &[], &metadata, false, Timestamp::now()),
            None => {
                let kind = self.wanted.kind;
                json!({"kind": kind.name(), "apiVersion": kind.group().api_version(), "metadata": metadata})
            }
        };
        self.push(&json!({"type": "BOOKMARK", "object": object}));
    }

    fn push(&mut self, line: &Value) {
        self.lines.push_back(format!("{line}\n").into());
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
