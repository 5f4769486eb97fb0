//! What is counted of the way to an API server, and how long the node's certificates hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::text::{Kind, Page};
use crate::cluster::certificates::ServerCertificate;

/// The counts. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Server {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By host, method and code.
    requests: BTreeMap<(String, String, String), u64>,
    /// Until when the certificate holds by which the API server knows the node.
    client: Option<Timestamp>,
    /// What the node shows to those who ask it.
    shown: Option<ServerCertificate>,
}

impl Server {
    /// Counts a request; one without an answer has none of its codes.
    pub fn note(&self, host: &str, method: &str, code: Option<u16>) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        *self.lock().requests.entry((host.to_owned(), method.to_owned(), code)).or_default() += 1;
    }

    /// Until when the certificate holds by which the API server knows the node; none where it is not the node's to renew.
    pub fn set_client(&self, until: Option<Timestamp>) {
        self.lock().client = until;
    }

    /// What the node shows to those who ask it.
    pub fn set_shown(&self, certificate: ServerCertificate) {
        self.lock().shown = Some(certificate);
    }

    /// Writes them, under kubelet's names.
    pub fn write(&self, page: &mut Page, now: Timestamp) {
        let inner = self.lock();
        let name = "rest_client_requests_total";
        let help = "Number of HTTP requests, partitioned by status code, method, and host.";
        if !inner.requests.is_empty() {
            page.family(name, Kind::Counter, help);
        }
        for ((host, method, code), count) in &inner.requests {
            page.sample(name, &[("code", code), ("host", host), ("method", method)], *count as f64);
        }
        let shown = inner.shown.as_ref().and_then(ServerCertificate::until);
        for (name, until, whose) in [
            ("kubelet_certificate_manager_client_ttl_seconds", inner.client, "client"),
            ("kubelet_certificate_manager_server_ttl_seconds", shown, "server"),
        ] {
            let help = format!("Seconds until the node's {whose} certificate expires, negative if it has.");
            let Some(until) = until else { continue };
            page.single(name, Kind::Gauge, &help, until.duration_since(now).as_secs_f64());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_counted_by_their_answers_and_certificates_by_what_is_left() {
        let server = Server::default();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let text = || {
            let mut page = Page::default();
            server.write(&mut page, now);
            page.finish()
        };
        assert_eq!(text(), "", "a node by itself has none of it");
        server.note("10.0.0.1:6443", "GET", Some(200));
        server.note("10.0.0.1:6443", "GET", Some(200));
        server.note("10.0.0.1:6443", "PATCH", None);
        server.set_client(Some("2026-01-01T00:01:30Z".parse().unwrap()));
        let text = text();
        for line in [
            "rest_client_requests_total{code=\"200\",host=\"10.0.0.1:6443\",method=\"GET\"} 2\n",
            "rest_client_requests_total{code=\"<error>\",host=\"10.0.0.1:6443\",method=\"PATCH\"} 1\n",
            "kubelet_certificate_manager_client_ttl_seconds 90\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
