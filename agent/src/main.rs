//! The `coracle` binary: applets first, for they start inside containers and carry nothing else; then the verbs.

mod access;
mod api;
mod channel;
mod cli;
mod cluster;
mod cri_socket;
mod csi;
mod devices;
mod engine;
mod events;
mod failure;
mod grpc_health;
mod host;
mod identity;
mod kubelet;
mod leftovers;
mod local;
mod logging;
mod logs;
mod net;
mod node;
mod printer;
mod privilege;
mod record;
mod size;
mod sources;
mod store;
mod tool;
mod verbs;
mod version;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(code) = tool::dispatch(std::env::args_os()) {
        return code;
    }
    let zygote = early_zygote();
    match cli::Cli::try_parse() {
        Ok(cli) => failure::report(cli.run(zygote)),
        Err(usage) => failure::usage(&usage),
    }
}

/// What shims are forked from, if the words ask for what starts pods.
///
/// It is made before the words are parsed in earnest: each shim has the memory that this process has now, and a parser
/// leaves a hundred kilobytes of it used and free in turns, of which a shim would make pages of its own. Without root the
/// verb says so itself; a word that only looks like the verb costs a process that ends at once.
fn early_zygote() -> Option<std::io::Result<runtime::zygote::Zygote>> {
    let starts_pods = |word: std::ffi::OsString| word == "run" || word == "cri" || word == "agent";
    let asked = std::env::args_os().any(starts_pods) && rustix::process::geteuid().is_root();
    asked.then(runtime::zygote::prepare)
}
