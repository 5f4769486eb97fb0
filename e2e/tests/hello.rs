//! The first thing that a user tries.

use std::path::Path;
use std::process::Command;

use e2e::{Node, Run, need};

#[test]
fn the_first_example_runs_without_a_network_and_leaves_nothing() {
    need!(e2e::skip::root());
    let node = Node::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples/hello.yaml");
    let inner = node.command(["run".as_ref(), example.as_os_str()]);
    let mut command = Command::new("unshare");
    let inner = inner.inner();
    command.arg("--net").arg(inner.get_program()).args(inner.get_args());
    let finished = Run::start(&mut command, None).wait().exits(0);
    let printed = finished.stdout();
    let line = printed.lines().find(|line| line.contains(" | ")).unwrap_or_else(|| panic!("no output\n{finished}"));
    assert!(line.starts_with("hello/"), "the prefix is not POD/CONTAINER: {line}");
    node.assert_nothing_left();
}

#[test]
fn a_manifest_is_read_from_standard_input() {
    need!(e2e::skip::root());
    let node = Node::new();
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: typed}\nspec:\n  restartPolicy: Never\n  containers:\n  \
        - {name: c, image: coracle.local/tools, args: [echo, from a pipe]}\n";
    Run::start(&mut node.command(["run", "-"]), Some(manifest.as_bytes()))
        .wait()
        .exits(0)
        .says("typed/c | from a pipe");
}

#[test]
fn a_directory_is_read_and_name_chooses_among_its_pods() {
    need!(e2e::skip::root());
    let node = Node::new();
    let dir = node.make_dir("manifests");
    for name in ["one", "two"] {
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
             - {{name: c, image: coracle.local/tools, args: [echo, from {name}]}}\n"
        );
        std::fs::write(dir.join(format!("{name}.yaml")), manifest).expect("a file");
    }
    let dir = dir.to_string_lossy();
    node.coracle(["run", &dir]).exits(0).says("one/c | from one").says("two/c | from two");
    node.coracle(["run", &dir, "--name", "two"]).exits(0).says("two/c | from two").never_says("from one");
}

#[test]
fn bad_manifests_exit_2_and_create_nothing() {
    let node = Node::new();
    let file = node.manifest("apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec:\n  containres: []\n");
    node.coracle(["run".as_ref(), file.as_os_str()]).exits(2).says("did you mean `containers`?");
    node.assert_nothing_left();
}

#[test]
fn an_unreadable_file_is_named() {
    let node = Node::new();
    node.coracle(["run", "/nonexistent/pod.yaml"]).exits(2).says("/nonexistent/pod.yaml");
}

#[test]
fn usage_errors_exit_2() {
    let node = Node::new();
    node.coracle(["run"]).exits(2);
    node.coracle(["no-such-verb"]).exits(2);
}
