//! get -w, and waiting.

use std::time::{Duration, Instant};

use e2e::Run;
use e2e::kubectl::Cluster;
use e2e::manifest::keeper;
use serde_json::Value;

crate::by_both! {
    changes_are_shown_as_they_happen
    one_can_wait_for_a_condition
    a_watch_goes_on_from_what_a_client_has_and_says_where_that_is
}

fn changes_are_shown_as_they_happen(cluster: &Cluster) {
    cluster.run(&keeper("one"));
    let mut table = cluster.start_kubectl(["get", "pods", "-w"]);
    table.wait_for("one ");
    let names = cluster.start_kubectl(["get", "pods", "--watch-only", "-o", "name"]);
    let mut other = cluster.start_kubectl(["get", "pods", "-w", "--field-selector", "metadata.name=one"]);
    other.wait_for("one ");
    cluster.run(&keeper("two"));
    wait_for_row(&table, "two", "ContainerCreating");
    wait_for_row(&table, "two", "Running");
    // It may have begun when all of that was over: only what happens from now on is sure to be shown.
    let mut two = keeper("two");
    let mut round = 0;
    e2e::inspect::wait_until("pod/two among the changes", || {
        round += 1;
        two["metadata"]["labels"] = serde_json::json!({"round": round.to_string()});
        cluster.write("two.yaml", &two);
        std::thread::sleep(Duration::from_millis(200));
        names.lines().iter().any(|line| line.text == "pod/two")
    });
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
    let waiting = |args: &'static [&'static str]| cluster.start_kubectl(["wait", "--timeout=240s"].iter().chain(args));
    cluster.write("web.yaml", keeper("web"));
    cluster.wait_for("web", "there", |_| true);
    waiting(&["--for=condition=Ready", "pod/web"]).wait().exits(0).says("pod/web condition met");
    let mut gone = waiting(&["-v=6", "--for=delete", "pod/web"]);
    // From here on it cannot miss the end.
    gone.wait_for("watch=true");
    cluster.remove("web.yaml");
    gone.wait().exits(0);
}

fn a_watch_goes_on_from_what_a_client_has_and_says_where_that_is(cluster: &Cluster) {
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let watch = |query: &str| {
        let got = cluster.text(["get", "--raw", &format!("/api/v1/namespaces/default/pods?watch=true&{query}")]);
        got.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let is = |event: &Value, what: &str, pod: &str| event["type"] == what && event["object"]["metadata"]["name"] == pod;
    cluster.run(&keeper("one"));
    let listed = cluster.text(["get", "--raw", "/api/v1/namespaces/default/pods"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    cluster.run(&keeper("two"));

    // From a list on: what came after it, and nothing of what it had.
    let events = watch(&format!("resourceVersion={}&timeoutSeconds=1", version(&listed)));
    assert!(
        events.iter().any(|it| is(it, "ADDED", "two")) && events.iter().any(|it| is(it, "MODIFIED", "two")),
        "{events:#?}"
    );
    assert!(events.iter().all(|it| !is(it, "ADDED", "one") && it["type"] != "BOOKMARK"), "{events:#?}");

    // With what is there first, a bookmark that says that this was all, and where to go on.
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let events = watch(initial);
    let mark =
        events.iter().position(|it| it["type"] == "BOOKMARK").unwrap_or_else(|| panic!("no bookmark: {events:#?}"));
    let bookmark = &events[mark]["object"];
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{bookmark:#}");
    assert_eq!(bookmark["kind"], "Pod");
    for name in ["one", "two"] {
        assert!(events[..mark].iter().any(|it| is(it, "ADDED", name)), "{name}: {events:#?}");
    }
    cluster.remove("one.yaml");
    cluster.wait_until_gone("one");
    let events = watch(&format!("resourceVersion={}&timeoutSeconds=1", version(bookmark)));
    assert!(
        events.iter().any(|it| is(it, "DELETED", "one")) && events.iter().all(|it| it["type"] != "ADDED"),
        "{events:#?}"
    );

    // What nobody knows any more, or not yet.
    for unknown in ["1", "999999999999999999"] {
        let path = format!("/api/v1/pods?watch=true&resourceVersion={unknown}");
        let gone = cluster.kubectl(["get", "--raw", &path]).exits(1).stderr();
        assert!(gone.contains("too old resource version") && gone.contains("Expired"), "{gone}");
    }
}
