//! The verbs beside `run`: what a user asks from another terminal.

use std::path::Path;

use e2e::manifest::keeper;
use e2e::{BUSYBOX, Node, fixtures, need};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn every_example_is_valid() {
    let node = Node::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    node.coracle(["validate".as_ref(), "--strict".as_ref(), examples.as_os_str()]).exits(0);
}

#[test]
fn validate_shows_the_place_and_the_suggestion() {
    let node = Node::new();
    let file = node
        .manifest("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    imagee: x\n");
    let finished = node.coracle(["validate".as_ref(), file.as_os_str()]).exits(2).says("did you mean `image`?");
    finished.says(&format!("{}:7:5", file.display()));
}

#[test]
fn get_shows_the_pods_of_a_run_in_every_form() {
    let node = need!(Node::with_busybox());
    assert_eq!(node.pods(), Vec::<Value>::new());
    let mut run = node.run(keeper("shown"));
    run.wait_for("| up");
    node.wait_for_phase("shown", "Running");
    let table = node.coracle(["get", "pods"]).exits(0);
    let row = table.lines.iter().find(|line| line.text.contains("shown")).expect("a row");
    for word in ["1/1", "Running"] {
        assert!(row.text.contains(word), "no {word}\n{table}");
    }
    node.coracle(["get", "pods", "-o", "name"]).exits(0).says("pod/shown");
    node.coracle(["get", "pods", "-o", "yaml"]).exits(0).says("phase: Running");
    let pod = node.pod("shown").expect("it runs");
    assert_eq!(pod["kind"], "Pod", "{pod:#}");
    assert_eq!(pod["apiVersion"], "v1", "{pod:#}");
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["ready"], true, "{pod:#}");
    assert_eq!(status["restartCount"], 0, "{pod:#}");
    assert!(status["state"]["running"]["startedAt"].is_string(), "{pod:#}");
    run.signal(Signal::TERM);
    run.wait();
    assert_eq!(node.pods(), Vec::<Value>::new());
}

#[test]
fn images_are_listed_inspected_and_removed() {
    let node = need!(Node::with_busybox());
    node.coracle(["image", "ls"]).exits(0).says("coracle.test/busybox");
    let inspected = node.coracle(["image", "inspect", BUSYBOX]).exits(0);
    let inspected: Value = serde_json::from_str(&inspected.stdout()).expect("JSON");
    let archive = need!(fixtures::busybox_image(BUSYBOX, json!({})));
    // An image's id is its configuration's digest, whoever computes it.
    assert_eq!(inspected["status"]["id"], e2e::archive::digest(&archive.config_file()), "{inspected:#}");
    node.coracle(["image", "rm", BUSYBOX]).exits(0);
    node.coracle(["image", "inspect", BUSYBOX]).exits(125).says(BUSYBOX);
}

#[test]
fn the_built_in_image_is_listed_once_it_is_made_and_cannot_be_removed() {
    need!(e2e::skip::root());
    let node = Node::new();
    let container = json!({"name": "c", "image": "coracle.local/tools", "args": ["echo", "built in"]});
    node.run_to_end(e2e::manifest::pod("built", json!({"containers": [container]})))
        .exits(0)
        .says("built/c | built in");
    node.coracle(["image", "ls"]).exits(0).says("coracle.local/tools");
    node.coracle(["image", "rm", "coracle.local/tools"]).exits(125).says("built in");
}

#[test]
fn importing_again_changes_nothing() {
    let node = need!(Node::with_busybox());
    let images = node.images();
    node.import(&need!(fixtures::busybox()));
    node.assert_images(&images);
}

#[test]
fn both_archive_forms_give_the_same_image() {
    let node = need!(Node::with_busybox());
    let image = need!(fixtures::busybox_image("coracle.test/docker:1", json!({})));
    let path = node.dir().join("docker.tar");
    image.write_docker(&path).expect("the archive is written");
    node.import(&path);
    let id = |reference: &str| -> Value {
        let inspected = node.coracle(["image", "inspect", reference]).exits(0).stdout();
        serde_json::from_str::<Value>(&inspected).expect("JSON")["status"]["id"].clone()
    };
    assert_eq!(id("coracle.test/docker:1"), id(BUSYBOX));
}

#[test]
fn an_image_in_use_is_not_removed() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(keeper("user"));
    run.wait_for("| up");
    node.coracle(["image", "rm", BUSYBOX]).exits(125).says("in use");
    run.signal(Signal::TERM);
    run.wait();
    node.coracle(["image", "rm", BUSYBOX]).exits(0);
}

#[test]
fn doctor_names_what_it_found() {
    need!(e2e::skip::root());
    let node = Node::new();
    node.coracle(["doctor"]).exits(0).says("cgroup");
    let findings = node.coracle(["doctor", "-o", "json"]).exits(0).stdout();
    let findings: Value = serde_json::from_str(&findings).expect("JSON");
    assert!(findings.as_array().is_some_and(|findings| !findings.is_empty()), "{findings:#}");
}

#[test]
fn gc_on_a_clean_node_removes_nothing() {
    let node = need!(Node::with_busybox());
    let images = node.images();
    node.coracle(["gc"]).exits(0);
    node.coracle(["gc", "--all"]).exits(0);
    node.assert_images(&images);
}
