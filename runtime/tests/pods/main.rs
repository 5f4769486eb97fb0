//! Sandboxes and containers of the runtime, driven through its services in memory, on the real kernel.
//!
//! The built-in image is made from the running binary, which is this one: its applets are at the end.
#![allow(clippy::unwrap_used, missing_docs)]

mod applets;
mod cases;
mod network;
mod node;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|it| it == "tool") {
        return applets::run(&args[2..]);
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: runtime/tests/pods: needs root");
        return ExitCode::SUCCESS;
    }
    if args.get(1).is_some_and(|it| it == "victim") {
        return network::victim(&args[2..]);
    }
    let filter = args.iter().skip(1).find(|it| !it.starts_with('-')).cloned().unwrap_or_default();
    // A host of the tests' own: routes, sysctls and rules of the machine stay as they are.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let zygote = runtime::zygote::prepare().unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(network::loopback_up());
    let node = node::Node::open(zygote);
    let mut failed = 0;
    for (name, case) in cases::ALL.iter().chain(network::ALL).filter(|(name, _)| name.contains(&filter)) {
        let begin = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tokio.block_on(case(&node))));
        println!("{name} ... {} ({:?})", if outcome.is_ok() { "ok" } else { "FAILED" }, begin.elapsed());
        failed += u32::from(outcome.is_err());
    }
    drop(node);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
