//! The suites that the host runs too.

use std::time::Duration;

use e2e::need;
use e2e::vm::{Boot, Image, Machine};

use crate::{SLOW, all, alone, boot, prelude, sh};

/// A test binary, whole or in part.
struct Suite {
    /// Crate and test target.
    name: &'static str,
    /// Tests to run; all if empty.
    filter: &'static str,
    /// Whether CI runs it: what meets the kernel most, within CI's time.
    ci: bool,
}

const fn suite(name: &'static str, filter: &'static str, ci: bool) -> Suite {
    Suite { name, filter, ci }
}

/// What is promised about pods, and the runtime's own tests.
const SUITES: &[Suite] = &[
    suite("runtime/pods", "", true),
    suite("runtime/runtime", "cgroup::", true),
    suite("runtime/runtime", "seccomp::", false),
    suite("runtime/runtime", "images::", false),
    suite("runtime/runtime", "", false),
    suite("e2e/apparmor", "", true),
    suite("e2e/unified", "", true),
    suite("e2e/composite", "", true),
    suite("e2e/exec", "", true),
    suite("e2e/pid_namespaces", "", true),
    suite("e2e/security", "", true),
    suite("e2e/userns", "", true),
    suite("e2e/escapes", "", true),
    suite("e2e/nginx", "", true),
    suite("e2e/restarts", "", false),
    suite("e2e/stop", "", false),
    suite("e2e/logs", "", false),
    suite("e2e/volumes", "", false),
    suite("e2e/identity", "", false),
    suite("e2e/users", "", false),
    suite("e2e/failures", "", false),
    suite("e2e/hello", "", false),
    suite("e2e/verbs", "", false),
    suite("e2e/layer_attacks", "", false),
    suite("e2e/leak_checker", "", false),
    suite("e2e/kill", "", false),
];

/// On version 1 alone: what attaches, freezes and kills there goes other ways.
const SUITES_V1: &[Suite] = &[
    suite("runtime/pods", "", true),
    suite("runtime/runtime", "cgroup::", true),
    suite("e2e/exec", "", false),
    suite("e2e/restarts", "", false),
    suite("e2e/pid_namespaces", "", false),
    suite("e2e/composite", "", false),
    suite("e2e/stop", "", false),
    suite("e2e/security", "", false),
    suite("e2e/kill", "", false),
];

/// A suite that hangs is stopped, and the machine with it.
const LONGEST: Duration = Duration::from_secs(3600);

fn run(suites: &[Suite], how: &Boot<'_>) {
    let image = need!(Image::prepare());
    let _alone = alone();
    let named = std::env::var("CORACLE_VM_SUITES").unwrap_or_default();
    let chosen = |suite: &&Suite| {
        if named.is_empty() { suite.ci || all() } else { named.split_whitespace().any(|name| name == suite.name) }
    };
    let mut machine = boot(&image, how);
    let (mut times, mut failed) = (Vec::new(), Vec::new());
    for suite in suites.iter().filter(chosen) {
        let name = format!("{} {}", suite.name, suite.filter);
        match one(&mut machine, &image, suite) {
            Ok((elapsed, cost)) => {
                times.push(format!("{name}: {:.0} s, {:.0} s of processor", elapsed.as_secs_f64(), cost.as_secs_f64()));
            }
            Err(why) => {
                failed.push(format!("{name}: {why}"));
                // Whatever it was has done to the machine: the next suite finds a clean one.
                drop(machine);
                machine = boot(&image, how);
            }
        }
    }
    println!("{}", times.join("\n"));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs a suite; its skips are announced as this machine's.
fn one(machine: &mut Machine, image: &Image, suite: &Suite) -> Result<(Duration, Duration), String> {
    let binary = image.built.tests.get(suite.name).ok_or_else(|| format!("cargo built no test {}", suite.name))?;
    println!("vm: {} {}", suite.name, suite.filter);
    let before = machine.cost();
    // Cargo runs tests in their crate's directory.
    let script = format!(
        "export CORACLE_E2E_SLOW={SLOW} CORACLE_SKIP_LOG=/run/vm/skips; rm -f /run/vm/skips\n\
         {} {}\nstatus=$?\n[ -e /run/vm/skips ] && sed 's/^/@skip /' /run/vm/skips\nexit $status",
        binary.display(),
        suite.filter
    );
    let finished = machine.sh(&prelude(&script), LONGEST)?;
    for line in &finished.lines {
        if let Some(skip) = line.text.strip_prefix("@skip skipped: ") {
            e2e::skip::announce(&format!("in the virtual machine, {skip}"));
        }
    }
    let cost = machine.cost().saturating_sub(before);
    if finished.status.success() { Ok((finished.elapsed, cost)) } else { Err(failures(&finished)) }
}

/// The part of a test binary's output that names what failed and why.
fn failures(finished: &e2e::Finished) -> String {
    let lines = finished.lines.iter().map(|line| line.text.as_str());
    let tail: Vec<&str> = lines.skip_while(|line| *line != "failures:" && !line.contains("FAILED")).take(200).collect();
    format!("{}\n{}", finished.status, tail.join("\n"))
}

#[test]
fn the_suites_pass_on_cgroup_v2_alone() {
    run(SUITES, &Boot::default());
}

#[test]
fn the_suites_pass_on_cgroup_v1_alone() {
    run(SUITES_V1, &Boot { cgroup_v1: true, ..Boot::default() });
}

#[test]
fn a_pod_runs_where_the_root_is_an_initramfs() {
    let image = need!(Image::prepare());
    let _alone = alone();
    let mut machine = boot(&image, &Boot { initramfs_root: true, ..Boot::default() });
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/examples/hello.yaml");
    let script = format!(
        "grep ' / / ' /proc/self/mountinfo\ncoracle --root-dir /disk/coracle run {hello}\n\
         coracle --root-dir /disk/coracle gc --all"
    );
    sh(&mut machine, &script).exits(0).says("rootfs").says("hello/hello | hello from Coracle");
}
