//! get -w, and waiting.

use std::time::{Duration, Instant};

use e2e::Run;
use e2e::kubectl::Cluster;
use e2e::manifest::keeper;

crate::by_both! {
    changes_are_shown_as_they_happen
    one_can_wait_for_a_condition
}

fn changes_are_shown_as_they_happen(cluster: &Cluster) {
    cluster.run(&keeper("one"));
    let mut table = cluster.start_kubectl(["get", "pods", "-w"]);
    table.wait_for("one ");
    let mut names = cluster.start_kubectl(["get", "pods", "--watch-only", "-o", "name"]);
    let mut other = cluster.start_kubectl(["get", "pods", "-w", "--field-selector", "metadata.name=one"]);
    other.wait_for("one ");
    cluster.run(&keeper("two"));
    wait_for_row(&table, "two", "ContainerCreating");
    wait_for_row(&table, "two", "Running");
    names.wait_for("pod/two");
    cluster.remove("two.yaml");
    wait_for_row(&table, "two", "Terminating");
    cluster.remove("one.yaml");
    wait_for_row(&other, "one", "Terminating");
    assert!(other.lines().iter().all(|line| !line.text.starts_with("two")), "{:?}", other.lines());
    let headings = table.lines().iter().filter(|line| line.text.starts_with("NAME")).count();
    assert_eq!(headings, 1);
}

/// Waits until a pod was shown with a status.
fn wait_for_row(table: &Run, pod: &str, status: &str) {
    let end = Instant::now() + e2e::deadline();
    let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().get(2).is_some_and(|it| *it == status);
    while !table.lines().iter().any(|line| line.text.starts_with(pod) && row(&line.text)) {
        assert!(Instant::now() < end, "{pod} is never {status}: {:#?}", table.lines());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn one_can_wait_for_a_condition(cluster: &Cluster) {
    let waiting = |args: &'static [&'static str]| cluster.start_kubectl(["wait", "--timeout=60s"].iter().chain(args));
    let mut web = keeper("web");
    // A process 1 without a handler for the signal takes all its grace: the second client begins before it is gone.
    web["spec"]["terminationGracePeriodSeconds"] = e2e::patience(Duration::from_secs(5)).as_secs().into();
    cluster.write("web.yaml", web);
    cluster.wait_for("web", "there", |_| true);
    waiting(&["--for=condition=Ready", "pod/web"]).wait().exits(0).says("pod/web condition met");
    let gone = waiting(&["--for=delete", "pod/web"]);
    cluster.remove("web.yaml");
    gone.wait().exits(0);
}
