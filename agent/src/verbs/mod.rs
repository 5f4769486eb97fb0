//! The verbs, one module each: `Args` and `main`.

pub mod agent;
pub mod apply;
pub mod attach;
pub mod completion;
pub mod cp;
pub mod cri;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod explain;
pub mod gc;
pub mod get;
pub mod image;
pub mod logs;
pub mod port_forward;
pub mod restart;
pub mod run;
pub mod top;
pub mod validate;
pub mod version;
pub mod why;

use anyhow::Context as _;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names alone, one a line
    Name,
}

/// How an answer that is no list of objects is printed, where not as text.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Encoding {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Runs a verb's asynchronous part on this thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the async runtime")?;
    let outcome = rt.block_on(work);
    // A blocking call that still runs (a read of the terminal) must not keep the verb from ending.
    rt.shutdown_background();
    outcome
}
