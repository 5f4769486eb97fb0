//! Drives the built `coracle` binary as a user would, as root, on the real kernel.
//!
//! A test makes a [`Node`] (directories, a cgroup root and a network of its own), runs pods in it, and drops it: dropping collects
//! what is left with `coracle gc --all` and fails the test if the [leak checker](leaks) still finds anything.
//! What the machine cannot do is skipped with a printed reason ([`skip!`]).

pub mod agent;
pub mod apiserver;
pub mod archive;
pub mod binary;
pub mod controlplane;
pub mod cri;
pub mod csi;
pub mod debian;
pub mod deviceplugin;
pub mod finished;
pub mod fixtures;
pub mod helm;
pub mod inspect;
pub mod kubectl;
pub mod leaks;
pub mod loopfs;
pub mod manifest;
pub mod netns;
pub mod node;
pub mod pods;
pub mod process;
pub mod pty;
pub mod pypi;
pub mod random;
pub mod registry;
pub mod skip;
pub mod traffic;
pub mod vm;

pub use finished::Finished;
pub use node::{Node, StateDir};
pub use process::Run;

use std::time::Duration;

/// How long a test waits for one thing before it kills what runs and prints what was said until then.
pub fn deadline() -> Duration {
    patience(Duration::from_secs(60))
}

/// How much slower than a usual machine one may be that says nothing of itself: it may have others to serve. Nobody waits
/// for that where all goes well.
const SLOW: u32 = 4;

/// A time that is enough on a usual machine, as many times as `CORACLE_E2E_SLOW` says that this one is slower.
pub fn patience(usual: Duration) -> Duration {
    let factor = std::env::var("CORACLE_E2E_SLOW").ok().map(|text| text.parse().expect("CORACLE_E2E_SLOW is a number"));
    usual * factor.unwrap_or(SLOW)
}

/// The reference of the busybox image that [`fixtures::busybox`] makes.
pub const BUSYBOX: &str = "coracle.test/busybox:1";
