//! The table of nftables and the relay, on the real kernel, in a network namespace of this process's own.
#![allow(clippy::unwrap_used, missing_docs)]

mod lab;
mod relations;
mod relay;
mod rules;
mod table;

use std::process::{Command, ExitCode};
use std::time::Instant;

/// A case.
pub type Case = (&'static str, fn(&lab::Lab));

/// Set in this process once it has a network namespace of its own.
const INSIDE: &str = "CORACLE_TEST_INSIDE";

fn main() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: runtime/tests/network: needs root");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_none() {
        for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            install(program, package);
        }
        if !is_there("ip") {
            println!("skipped: runtime/tests/network: needs iproute2 (`ip`)");
            return ExitCode::SUCCESS;
        }
        lab::enter_own_namespaces();
        // By its path, so that it is found on a mount of the new namespace: the zygote clones that.
        let this = std::env::current_exe().unwrap();
        let status = Command::new(this).args(std::env::args_os().skip(1)).env(INSIDE, "1").status();
        return if status.unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let filter = std::env::args().skip(1).find(|it| !it.starts_with('-')).unwrap_or_default();
    let zygote = runtime::zygote::prepare().unwrap();
    let lab = lab::Lab::new(zygote);
    let mut failed = 0;
    for (name, case) in table::ALL
        .iter()
        .chain(rules::ALL)
        .chain(relations::ALL)
        .chain(relay::ALL)
        .filter(|(name, _)| name.contains(&filter))
    {
        let begin = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&lab)));
        println!("{name} ... {} ({:?})", if outcome.is_ok() { "ok" } else { "FAILED" }, begin.elapsed());
        failed += u32::from(outcome.is_err());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-V").output().is_ok()
}

/// From Debian, while there still is a network. Where that fails, the tests that need it say so.
fn install(program: &str, package: &str) {
    if !is_there(program) {
        let arguments = ["-qq", "-y", "--no-install-recommends", "install", package];
        drop(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output());
    }
}
