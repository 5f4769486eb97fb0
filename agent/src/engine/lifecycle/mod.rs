//! Hooks: what a container is told right after it started (postStart) and before it is stopped (preStop).

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::action::{Actions, Answer, Subject};

/// How long a hook's connection may take to come about, where the hook has no other limit.
const CONNECT: Duration = Duration::from_secs(30);

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Beside the container's own process, right after it started.
    PostStart,
    /// Before the container's own process is asked to end; its time is part of the grace.
    PreStop,
}

impl Hook {
    /// kubelet's word for its failure.
    pub fn failed(self) -> &'static str {
        match self {
            Hook::PostStart => "FailedPostStartHook",
            Hook::PreStop => "FailedPreStopHook",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::PostStart => "postStart",
            Hook::PreStop => "preStop",
        })
    }
}

/// A hook that did not do what it shall.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookFailure {
    /// It was done, and went wrong.
    #[error("{action} hook of container {container} failed: {reason}")]
    Failed {
        /// What it is: `exec`, `httpGet` …
        action: &'static str,
        /// The container.
        container: String,
        /// What went wrong.
        reason: String,
    },
    /// It was still going on when its time was over.
    #[error("{action} hook of container {container} did not end within {limit:?}")]
    TimedOut {
        /// What it is: `exec`, `httpGet` …
        action: &'static str,
        /// The container.
        container: String,
        /// Its time.
        limit: Duration,
    },
}

/// Runs a hook. `limit` is what is left of the grace of a container that is being stopped; a postStart hook has none, and
/// is to be dropped when its container ends.
pub async fn run(
    actions: &Actions,
    handler: &LifecycleHandler,
    subject: &Subject,
    limit: Option<Duration>,
) -> Result<(), HookFailure> {
    let action = name(handler);
    let container = subject.container.name.clone();
    let work = carry_out(actions, handler, subject, limit);
    let done = match limit {
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => return Err(HookFailure::TimedOut { action, container, limit }),
        },
        None => work.await,
    };
    done.map_err(|reason| HookFailure::Failed { action, container, reason })
}

async fn carry_out(
    actions: &Actions,
    handler: &LifecycleHandler,
    subject: &Subject,
    limit: Option<Duration>,
) -> Result<(), String> {
    let outcome = if let Some(exec) = &handler.exec {
        actions.hook_exec(subject, exec, limit).await
    } else if let Some(get) = &handler.http_get {
        actions.hook_http(subject, get).await
    } else if let Some(tcp) = &handler.tcp_socket {
        actions.tcp(subject, tcp, limit.unwrap_or(CONNECT)).await
    } else if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        Ok(Answer::Passed)
    } else {
        return Err("it names no action: exec, httpGet, tcpSocket or sleep".into());
    };
    match outcome {
        Ok(Answer::Passed) => Ok(()),
        Ok(Answer::Warned(warning)) => {
            tracing::warn!(container = subject.container.name, warning, "a hook did not go as it was meant to");
            Ok(())
        }
        Ok(Answer::Failed(reason)) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}

fn name(handler: &LifecycleHandler) -> &'static str {
    match handler {
        LifecycleHandler { exec: Some(_), .. } => "exec",
        LifecycleHandler { http_get: Some(_), .. } => "httpGet",
        LifecycleHandler { tcp_socket: Some(_), .. } => "tcpSocket",
        LifecycleHandler { sleep: Some(_), .. } => "sleep",
        _ => "empty",
    }
}
