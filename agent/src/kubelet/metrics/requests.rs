//! What clients have asked kubelet's API, counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;

use crate::node::metrics::{Histogram, Kind, Page};

/// Upper bounds of the durations that are told apart, in seconds: Prometheus' usual ones.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Methods that are counted by their names.
const METHODS: [&str; 8] = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"];

type Key = (&'static str, &'static str);

/// The counts. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    by_path: Arc<Mutex<BTreeMap<Key, Counts>>>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    in_flight: u64,
    /// Those that are answered.
    took: Histogram<{ BOUNDS.len() }>,
    all: u64,
}

/// A request that is being answered; it has been when this is dropped.
pub struct Counted {
    requests: Requests,
    key: Key,
    begun: Instant,
}

impl Requests {
    /// A request has come. `path` is what its path begins with.
    pub fn begin(&self, method: &Method, path: &'static str) -> Counted {
        let method = METHODS.into_iter().find(|it| *it == method.as_str()).unwrap_or("other");
        let key = (method, path);
        let mut all = self.lock();
        let counts = all.entry(key).or_default();
        (counts.all, counts.in_flight) = (counts.all + 1, counts.in_flight + 1);
        Counted { requests: self.clone(), key, begun: Instant::now() }
    }

    fn end(&self, key: Key, took: Duration) {
        let mut all = self.lock();
        let counts = all.entry(key).or_default();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        counts.took.note(took.as_secs_f64(), &BOUNDS);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Counts>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes them, under kubelet's names.
    pub fn write(&self, page: &mut Page) {
        let all = self.lock().clone();
        let labels = |(method, path): &Key| {
            let long = if ["exec", "attach"].contains(path) { "true" } else { "false" };
            [("long_running", long), ("method", *method), ("path", *path), ("server_type", "readwrite")]
        };
        let name = "kubelet_http_inflight_requests";
        page.family(name, Kind::Gauge, "Number of the inflight http requests");
        all.iter().for_each(|(key, counts)| page.sample(name, &labels(key), counts.in_flight as f64));
        let name = "kubelet_http_requests_duration_seconds";
        page.family(name, Kind::Histogram, "Duration in seconds to serve http requests");
        all.iter().for_each(|(key, counts)| counts.took.write(page, name, &labels(key), &BOUNDS));
        let name = "kubelet_http_requests_total";
        page.family(name, Kind::Counter, "Number of the http requests received since the server started");
        all.iter().for_each(|(key, counts)| page.sample(name, &labels(key), counts.all as f64));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.requests.end(self.key, self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_while_they_go_on_and_after() {
        let (requests, odd) = (Requests::default(), Method::from_bytes(b"BREW").unwrap_or_default());
        let one = requests.begin(&Method::GET, "pods");
        drop(requests.begin(&Method::GET, "pods"));
        drop(requests.begin(&odd, "exec"));
        let text = |requests: &Requests| {
            let mut page = Page::default();
            requests.write(&mut page);
            page.finish()
        };
        let during = text(&requests);
        for line in [
            "kubelet_http_inflight_requests{long_running=\"false\",method=\"GET\",path=\"pods\",server_type=\"readwrite\"} 1\n",
            "kubelet_http_requests_total{long_running=\"false\",method=\"GET\",path=\"pods\",server_type=\"readwrite\"} 2\n",
            "kubelet_http_requests_total{long_running=\"true\",method=\"other\",path=\"exec\",server_type=\"readwrite\"} 1\n",
        ] {
            assert!(during.contains(line), "{line}\n{during}");
        }
        drop(one);
        let after = text(&requests);
        let pods = "{long_running=\"false\",method=\"GET\",path=\"pods\",server_type=\"readwrite\"}";
        assert!(after.contains(&format!("kubelet_http_inflight_requests{pods} 0\n")), "{after}");
        assert!(after.contains(&format!("kubelet_http_requests_duration_seconds_count{pods} 2\n")), "{after}");
    }
}
