//! What a kubelet relies on, asked of Coracle and of Debian's containerd: the oracle that shows each test to be right.
//!
//! A test is a function of an [`Endpoint`](e2e::cri::Endpoint). All tests share one Coracle and one containerd, on nodes
//! of their own, so that this target has a harness of its own ([`harness`]); it takes the arguments of the usual one.
//! Where the two differ, [`differences`] says why.

mod differences;
mod harness;
mod tools;

mod containers;
mod cpu_and_memory;
mod events;
mod first_seven;
mod identity;
mod images;
mod input;
mod logs;
mod mounts;
mod namespaces;
mod pods;
mod runtime;
mod security;
mod stats;

use std::process::ExitCode;

use harness::Test;

fn main() -> ExitCode {
    let tests: Vec<&Test> = [
        first_seven::TESTS,
        runtime::TESTS,
        pods::TESTS,
        containers::TESTS,
        namespaces::TESTS,
        identity::TESTS,
        security::TESTS,
        cpu_and_memory::TESTS,
        mounts::TESTS,
        logs::TESTS,
        images::TESTS,
        stats::TESTS,
        events::TESTS,
        input::TESTS,
    ]
    .into_iter()
    .flatten()
    .collect();
    harness::run(&tests)
}
