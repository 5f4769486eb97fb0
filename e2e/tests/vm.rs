//! The tests of the runtime and of pods in a virtual machine, and what only a machine with a power switch can show.
//!
//! `CORACLE_VM=all` runs every suite and more power cuts (`just vm`); else those that fit into CI. `CORACLE_VM_SUITES`
//! names suites to run instead (`"e2e/exec runtime/pods"`).

mod vm {
    mod power;
    mod suites;
}

use std::sync::{Mutex, MutexGuard};

use e2e::Finished;
use e2e::vm::{Boot, Image, Machine};

/// How many times slower than a usual machine the emulated one may be.
const SLOW: u32 = 10;

/// One machine at a time: each has as many processors as small hosts have.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether everything is to be run, however long it takes.
fn all() -> bool {
    std::env::var_os("CORACLE_VM").is_some_and(|value| value == "all")
}

fn boot(image: &Image, boot: &Boot<'_>) -> Machine {
    Machine::boot(image, boot).unwrap_or_else(|error| panic!("the machine does not boot: {error}"))
}

/// Runs a script; `coracle` is in its path.
fn sh(machine: &mut Machine, script: &str) -> Finished {
    let finished = machine.sh(&prelude(script), e2e::patience(std::time::Duration::from_secs(300)));
    finished.unwrap_or_else(|error| panic!("{script}\n{error}"))
}

fn prelude(script: &str) -> String {
    format!("export NO_COLOR=1\n{script}")
}
