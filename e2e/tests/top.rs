//! `coracle top`: what pods use.

use e2e::manifest::{pod, several, tool, with};
use e2e::{Finished, Node, need};
use rustix::process::Signal;
use serde_json::json;

/// The lines of a table, by the words in their columns.
fn rows(shown: &Finished) -> Vec<Vec<String>> {
    shown.stdout().lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The number in a cell: `12m`, `34Mi`.
#[track_caller]
fn number(cell: &str, unit: &str) -> u64 {
    let number = cell.strip_suffix(unit).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{cell:?} is not a number of {unit}"))
}

#[test]
fn pods_and_containers_show_what_they_use() {
    need!(e2e::skip::root());
    let node = Node::new();
    let busy = json!({
        "initContainers": [with(tool("beside", &["sleep", "inf"]), json!({"restartPolicy": "Always"}))],
        "containers": [tool("spin", &["spin"]), tool("eat", &["eat", "40Mi"])],
    });
    let idle = json!({"containers": [tool("c", &["eat", "1Mi"])]});
    let mut other = pod("elsewhere", idle.clone());
    other["metadata"]["namespace"] = "other".into();
    let mut run = node.run(several(&[pod("busy", busy), pod("idle", idle), other]));
    run.wait_for("busy/eat | holding");
    run.wait_for("idle/c | holding");
    run.wait_for("elsewhere/c | holding");
    for name in ["busy", "idle"] {
        node.wait_for_phase(name, "Running");
    }

    let pods = node.coracle(["top"]).exits(0);
    let table = rows(&pods);
    assert_eq!(table[0], ["NAME", "CPU(cores)", "MEMORY(bytes)"], "{pods}");
    assert_eq!(table.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["NAME", "busy", "idle"], "{pods}");
    let cpu = |row: usize| number(&table[row][1], "m");
    assert!(cpu(1) > cpu(2) && number(&table[1][2], "Mi") >= 40, "{pods}");
    assert!(number(&table[2][2], "Mi") < 40, "{pods}");

    let shown = node.coracle(["top", "pods", "busy", "--containers", "--sort-by", "cpu"]).exits(0);
    let table = rows(&shown);
    assert_eq!(table[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"], "{shown}");
    assert_eq!(table[1][..2], ["busy", "spin"], "{shown}");
    assert_eq!(table.len(), 4, "{shown}");
    let eat = table.iter().find(|row| row[1] == "eat").unwrap_or_else(|| panic!("no row\n{shown}"));
    assert!(number(&eat[3], "Mi") >= 40, "{shown}");

    let all = node.coracle(["top", "pod", "-A", "--no-headers", "--sort-by", "memory", "--sum"]).exits(0);
    let table = rows(&all);
    assert_eq!((table.len(), table[0][..2].join("/")), (4, "default/busy".to_owned()), "{all}");
    assert!(table.iter().any(|row| row[..2] == ["other", "elsewhere"]), "{all}");
    assert!(number(&table[3][1], "Mi") >= number(&table[0][3], "Mi"), "{all}");

    node.coracle(["top", "pods", "nobody"]).exits(125).says("pods \"nobody\" not found");
    run.signal(Signal::TERM);
    run.wait();
    node.coracle(["top"]).exits(0).says("No resources found in default namespace.");
}
