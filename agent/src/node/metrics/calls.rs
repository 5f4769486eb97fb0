//! Counts and times what is asked of the container runtime.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tower::{Service, util::BoxCloneSyncService};

use super::histogram::Histogram;
use super::text::{Kind, Page};
use crate::channel::{Channel, ChannelError};

/// Upper bounds of the durations that are told apart, in seconds: kubelet's.
const BOUNDS: [f64; 14] = [
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];

/// The label by which kubelet tells operations apart.
const LABEL: &str = "operation_type";

/// Requests that say nothing of how long they may take, and whose answer is one message.
const BRIEF: [&str; 18] = [
    "version",
    "status",
    "remove_podsandbox",
    "podsandbox_status",
    "list_podsandbox",
    "create_container",
    "start_container",
    "remove_container",
    "list_containers",
    "container_status",
    "update_container_resources",
    "reopen_container_log",
    "list_container_stats",
    "list_podsandbox_stats",
    "list_images",
    "image_status",
    "remove_image",
    "image_fs_info",
];

/// What was asked so far, by operation.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    by_operation: Arc<Mutex<BTreeMap<String, Tally>>>,
    /// How long a request may take, in milliseconds; 0 is for ever.
    patience: Arc<AtomicU64>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    errors: u64,
    took: Histogram<{ BOUNDS.len() }>,
}

impl Calls {
    /// The same channel, counted.
    pub fn counted(&self, inner: Channel) -> Channel {
        BoxCloneSyncService::new(Counted { inner, calls: self.clone() })
    }

    /// Sets how long a request may take that has no time of its own.
    pub fn set_timeout(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.patience.store(millis, Ordering::Relaxed);
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        let patience = Some(self.patience.load(Ordering::Relaxed)).filter(|it| *it > 0).map(Duration::from_millis)?;
        match operation {
            // As kubelet has it: a network may have to be made.
            "run_podsandbox" => Some(patience * 2),
            _ => BRIEF.contains(&operation).then_some(patience),
        }
    }

    fn note(&self, operation: String, took: Duration, failed: bool) {
        let mut all = self.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = all.entry(operation).or_default();
        tally.errors += u64::from(failed);
        tally.took.note(took.as_secs_f64(), &BOUNDS);
    }

    /// Writes them, under kubelet's names.
    pub fn write(&self, page: &mut Page) {
        let all = self.by_operation.lock().unwrap_or_else(PoisonError::into_inner).clone();

        page.family("kubelet_runtime_operations_total", Kind::Counter, "Requests to the container runtime.");
        for (operation, tally) in &all {
            page.sample("kubelet_runtime_operations_total", &[(LABEL, operation.as_str())], tally.took.count() as f64);
        }
        let name = "kubelet_runtime_operations_errors_total";
        page.family(name, Kind::Counter, "Requests to the container runtime that failed.");
        for (operation, tally) in all.iter().filter(|(_, tally)| tally.errors > 0) {
            page.sample(name, &[(LABEL, operation.as_str())], tally.errors as f64);
        }
        let name = "kubelet_runtime_operations_duration_seconds";
        page.family(name, Kind::Histogram, "How long requests to the container runtime took.");
        for (operation, tally) in &all {
            tally.took.write(page, name, &[(LABEL, operation.as_str())], &BOUNDS);
        }
    }
}

/// `/runtime.v1.RuntimeService/RunPodSandbox` as kubelet calls it: `run_podsandbox`.
fn operation(path: &str) -> String {
    let method = path.rsplit('/').next().unwrap_or_default().replace("PodSandbox", "Podsandbox");
    let mut name = String::with_capacity(method.len() + 4);
    for (index, letter) in method.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[derive(Clone)]
struct Counted {
    inner: Channel,
    calls: Calls,
}

impl Service<http::Request<tonic::body::Body>> for Counted {
    type Response = http::Response<tonic::body::Body>;
    type Error = ChannelError;
    type Future = BoxFuture<'static, Result<Self::Response, ChannelError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (calls, operation) = (self.calls.clone(), operation(request.uri().path()));
        let (begun, answer, limit) = (Instant::now(), self.inner.call(request), self.calls.timeout(&operation));
        Box::pin(async move {
            let answer = match limit {
                None => answer.await,
                Some(limit) => match tokio::time::timeout(limit, answer).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        let why = format!("the container runtime has not answered {operation} for {limit:?}");
                        Ok(tonic::Status::deadline_exceeded(why).into_http())
                    }
                },
            };
            // A call that fails at once says so in its headers; one whose stream fails later has been answered.
            let failed = match &answer {
                Ok(response) => response.headers().get("grpc-status").is_some_and(|status| status != "0"),
                Err(_) => true,
            };
            calls.note(operation, begun.elapsed(), failed);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_kubelet_s_names() {
        for (path, expected) in [
            ("/runtime.v1.RuntimeService/RunPodSandbox", "run_podsandbox"),
            ("/runtime.v1.RuntimeService/ListPodSandboxStats", "list_podsandbox_stats"),
            ("/runtime.v1.ImageService/PullImage", "pull_image"),
            ("/runtime.v1.RuntimeService/Version", "version"),
        ] {
            assert_eq!(operation(path), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_does_not_answer_is_not_waited_for() {
        let silent = tower::service_fn(|_: http::Request<tonic::body::Body>| {
            std::future::pending::<Result<http::Response<tonic::body::Body>, ChannelError>>()
        });
        let calls = Calls::default();
        let mut runtime = crate::channel::Cri::new(calls.counted(BoxCloneSyncService::new(silent))).runtime;
        calls.set_timeout(Duration::from_secs(5));
        let status = runtime.version(cri_proto::cri::VersionRequest::default()).await;
        let status = status.expect_err("nobody answers");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("has not answered version for 5s"), "{status}");
        let exec = runtime.exec_sync(cri_proto::cri::ExecSyncRequest::default());
        assert!(tokio::time::timeout(Duration::from_secs(3600), exec).await.is_err(), "that has a time of its own");
        assert_eq!(calls.by_operation.lock().map(|all| all["version"].errors).ok(), Some(1));
    }

    #[test]
    fn durations_are_counted_in_every_bucket_that_holds_them() {
        let calls = Calls::default();
        calls.note("version".into(), Duration::from_millis(6), false);
        calls.note("version".into(), Duration::from_secs(1000), true);
        let mut page = Page::default();
        calls.write(&mut page);
        let text = page.finish();
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"version\"} 2\n",
            "kubelet_runtime_operations_errors_total{operation_type=\"version\"} 1\n",
            "_bucket{operation_type=\"version\",le=\"0.005\"} 0\n",
            "_bucket{operation_type=\"version\",le=\"0.0125\"} 1\n",
            "_bucket{operation_type=\"version\",le=\"745.0580596923828\"} 1\n",
            "_bucket{operation_type=\"version\",le=\"+Inf\"} 2\n",
            "_count{operation_type=\"version\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
