//! What a test makes go wrong with the answers.

use std::time::Duration;

/// How an answer goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, with a status and perhaps `Retry-After` in seconds; nothing is done.
    Status(u16, Option<u32>),
    /// It takes so long.
    Slow(Duration),
    /// It is done, and the connection ends before anything is said of it.
    Lost,
    /// Nothing is done, and nothing is ever said.
    Silent,
}

/// Which requests a fault is for. What is empty is any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which {
    /// `GET`, `PATCH` …
    pub method: &'static str,
    /// What the path contains.
    pub path: &'static str,
    /// Whether it is a watch.
    pub watch: Option<bool>,
}

impl Which {
    /// Every request.
    pub const ANY: Self = Self { method: "", path: "", watch: None };

    /// Requests by method and by what the path contains.
    pub const fn of(method: &'static str, path: &'static str) -> Self {
        Self { method, path, watch: None }
    }

    /// Whether a request is one of them.
    pub(super) fn is(&self, method: &str, path: &str, watch: bool) -> bool {
        (self.method.is_empty() || self.method == method)
            && path.contains(self.path)
            && self.watch.is_none_or(|it| it == watch)
    }
}

/// Faults that are still to happen.
#[derive(Debug, Default)]
pub(super) struct Faults {
    all: Vec<(Which, Fault, Option<usize>)>,
}

impl Faults {
    /// Adds one, for so many requests or for all.
    pub(super) fn add(&mut self, which: Which, fault: Fault, times: Option<usize>) {
        self.all.push((which, fault, times));
    }

    /// Nothing goes wrong any more.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// What goes wrong with a request.
    pub(super) fn next(&mut self, method: &str, path: &str, watch: bool) -> Option<Fault> {
        let found = self.all.iter_mut().find(|(which, _, _)| which.is(method, path, watch))?;
        let fault = found.1;
        if let Some(times) = &mut found.2 {
            *times = times.saturating_sub(1);
        }
        self.all.retain(|(_, _, times)| *times != Some(0));
        Some(fault)
    }
}
