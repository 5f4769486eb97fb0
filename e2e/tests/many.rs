//! Several processes on one state directory: runs, a pull and a collection, all at once, and some of them killed.

use std::time::Duration;

use e2e::manifest::{pod, several, shell, with};
use e2e::random::Random;
use e2e::registry::DockerRegistry;
use e2e::{Node, Run, fixtures, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const ROUNDS: usize = 20;

/// Two short pods of a run's own, with volumes.
fn short_pods(run: &str) -> String {
    let container = with(
        shell("c", "echo here > /e/x; cat /e/x; sleep 0.05; echo done"),
        json!({"volumeMounts": [{"name": "e", "mountPath": "/e"}]}),
    );
    let spec = json!({"containers": [container, shell("b", "true")], "volumes": [{"name": "e", "emptyDir": {}}]});
    several(&[pod(&format!("{run}-1"), spec.clone()), pod(&format!("{run}-2"), spec)])
}

fn pull(node: &Node, reference: &str) -> Run {
    node.start(["image", "pull", reference])
}

/// A registry with an image of some megabytes, and that image's reference.
fn registry(node: &Node) -> Result<(DockerRegistry, String), String> {
    let registry = DockerRegistry::open(node)?;
    let reference = registry.push(node, &fixtures::big(8, 400)?, "test/big:1")?;
    Ok((registry, reference))
}

/// Removes the pulled image, if it is there.
fn forget(node: &Node, reference: &str) {
    if node.images().iter().any(|image| image.to_string().contains(reference)) {
        node.coracle(["image", "rm", reference]).exits(0);
    }
}

#[test]
fn two_runs_a_pull_and_a_collection_started_together_all_succeed() {
    let node = need!(Node::with_busybox());
    let (_registry, reference) = need!(registry(&node));
    let images = node.images();
    let mut random = Random::announced("together");
    for round in 0..ROUNDS {
        let runs = ["one", "two"].map(|name| (name, node.run(short_pods(name))));
        let pulled = pull(&node, &reference);
        std::thread::sleep(random.below(Duration::from_millis(150)));
        let collected = node.start(["gc"]);
        for (name, run) in runs {
            let finished = run.wait().exits(0);
            for container in [format!("{name}-1/c"), format!("{name}-2/c")] {
                assert_eq!(finished.of(&container), ["here", "done"], "round {round}\n{finished}");
            }
        }
        pulled.wait().exits(0);
        collected.wait().exits(0);
        node.assert_nothing_left();
        forget(&node, &reference);
        node.assert_images(&images);
    }
}

#[test]
fn killed_together_they_leave_nothing_that_gc_does_not_find() {
    let node = need!(Node::with_busybox());
    let (_registry, reference) = need!(registry(&node));
    let images = node.images();
    let mut random = Random::announced("killed together");
    for round in 0..ROUNDS {
        let started =
            [node.run(short_pods("one")), node.run(short_pods("two")), pull(&node, &reference), node.start(["gc"])];
        let mut victims: Vec<(Duration, bool, Run)> = started
            .into_iter()
            .map(|run| (random.below(Duration::from_millis(300)), !random.number().is_multiple_of(3), run))
            .collect();
        victims.sort_by_key(|(instant, ..)| *instant);
        println!(
            "round {round}: {:?}",
            victims.iter().map(|(at, killed, run)| (at, killed, run.pid())).collect::<Vec<_>>()
        );
        let mut now = Duration::ZERO;
        for (instant, killed, run) in &mut victims {
            std::thread::sleep(instant.saturating_sub(now));
            now = *instant;
            if *killed && run.is_running() {
                run.signal(Signal::KILL);
            }
        }
        for (_, killed, run) in victims {
            let finished = run.wait();
            // One that was let live is not hurt by the others' deaths.
            assert!(killed || finished.status.success(), "round {round}\n{finished}");
        }
        node.coracle(["gc"]).exits(0);
        node.assert_nothing_left();
        forget(&node, &reference);
        node.assert_images(&images);
    }
    let rerun: Vec<Value> = node.pods();
    assert!(rerun.is_empty(), "{rerun:?}");
    node.run_to_end(short_pods("last")).exits(0);
}
