//! Everything of the node is on one disk, and that is full: pods end, are stopped and lose their shims all the same.

use e2e::loopfs::Ballast;
use e2e::manifest::{keeper, several};
use e2e::{Finished, Node, Run, inspect};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pod whose process is found by its environment.
fn marked(name: &str) -> Value {
    let mut pod = keeper(name);
    pod["spec"]["containers"][0]["env"] = json!([{"name": "MARK", "value": name}]);
    pod
}

/// Runs two pods, fills the disk and does `what`; how the run ended while the disk was still full.
fn on_a_full_disk(what: impl FnOnce(&Node, &mut Run)) -> Option<Finished> {
    let node = match Node::on_small_disk(32, 8000) {
        Ok(node) => node,
        Err(why) => {
            e2e::skip::announce(&why);
            return None;
        }
    };
    let images = node.images();
    let mut run = node.run(several(&[marked("one"), marked("two")]));
    run.wait_for("one/c | up");
    run.wait_for("two/c | up");
    let full = Ballast::fill(node.disk().expect("a small disk"));
    what(&node, &mut run);
    let finished = run.wait();
    drop(full);
    node.coracle(["gc"]).exits(0);
    node.assert_nothing_left();
    node.assert_images(&images);
    Some(finished)
}

#[test]
fn exits_are_told() {
    let kill = |node: &Node, _: &mut Run| {
        for name in ["one", "two"] {
            inspect::kill(inspect::process_with_environment(node, &format!("MARK={name}")).expect("it runs"));
        }
    };
    if let Some(finished) = on_a_full_disk(kill) {
        finished.exits(137).says("one/c: exited with code 137").says("two/c: exited with code 137");
    }
}

#[test]
fn pods_are_stopped() {
    if let Some(finished) = on_a_full_disk(|_, run| run.signal(Signal::TERM)) {
        assert!(finished.status.code().is_some(), "{finished}");
        finished.never_says("error:");
    }
}

#[test]
fn a_lost_shim_is_told() {
    let kill = |node: &Node, run: &mut Run| {
        let process = inspect::process_with_environment(node, "MARK=one").expect("it runs");
        inspect::kill(inspect::shim_of(process).expect("it has a shim"));
        run.wait_for("one/c: exited with code 255");
        run.signal(Signal::TERM);
    };
    if let Some(finished) = on_a_full_disk(kill) {
        finished.exits(255);
    }
}
