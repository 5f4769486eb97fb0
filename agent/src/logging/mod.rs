//! What the runtime, the engine and the agent have to say beside their results.

mod journal;
mod json;

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What is let through, in the agent.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people, on standard error
    #[default]
    Text,
    /// One JSON object a line, on standard error
    Json,
    /// To systemd's journal, with fields to search by
    Journald,
}

impl From<manifests::kubelet::LogFormat> for Format {
    fn from(format: manifests::kubelet::LogFormat) -> Self {
        match format {
            manifests::kubelet::LogFormat::Text => Format::Text,
            manifests::kubelet::LogFormat::Json => Format::Json,
            manifests::kubelet::LogFormat::Journald => Format::Journald,
        }
    }
}

/// Messages of a verb: warnings, or what RUST_LOG asks for.
pub fn of_verb() {
    tracing_subscriber::fmt()
        .with_env_filter(filter("warn"))
        .with_writer(io::stderr)
        .with_ansi(in_colour())
        .without_time()
        .with_target(false)
        .init();
}

/// Messages of the agent, at a verbosity as klog counts it; RUST_LOG comes first.
pub fn of_agent(format: Format, verbosity: u32) -> io::Result<()> {
    let (filter, handle) = reload::Layer::new(filter(level(verbosity)));
    // Only one agent is in a process.
    let _ = FILTER.set(handle);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Text => {
            let layer =
                tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(in_colour()).with_target(false);
            // The journal keeps the time itself.
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                registry.with(layer.without_time()).init();
            } else {
                registry.with(layer).init();
            }
        }
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).event_format(json::Json);
            registry.with(layer.fmt_fields(json::Fields)).init();
        }
        Format::Journald => registry.with(journal::Journal::open(journal::SOCKET.as_ref())?).init(),
    }
    Ok(())
}

/// Changes how much the agent says, unless RUST_LOG does.
pub fn set_verbosity(verbosity: u32) {
    if let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(filter(level(verbosity)))
    {
        tracing::warn!(%error, "how much is logged stays as it was");
    }
}

fn level(verbosity: u32) -> &'static str {
    match verbosity {
        // The client of the API server warns of every connection that breaks; the agent says once that the server is lost.
        0..=3 => "info,kube_client=error,kube_runtime=error",
        4..=5 => "debug",
        _ => "trace",
    }
}

/// Colours are for people: a file or a journal keeps none.
fn in_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}
