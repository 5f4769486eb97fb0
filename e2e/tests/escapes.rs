//! What a container must not reach: descriptors of the host, and the host's own binary.

use std::path::PathBuf;

use e2e::archive::{Layer, digest};
use e2e::manifest::{command, keeper, pod, script, shell, with};
use e2e::{BUSYBOX, Node, binary, need};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn the_first_process_has_exactly_the_descriptors_0_1_and_2() {
    let node = need!(Node::with_busybox());
    let list = "ls -1 /proc/$$/fd; exit 0";
    for more in [json!({}), json!({"shareProcessNamespace": true}), json!({"hostPID": true})] {
        let spec = with(json!({"containers": [shell("c", list)]}), more.clone());
        let finished = node.run_to_end(pod("fds", spec)).exits(0);
        assert_eq!(finished.of("fds/c"), ["0", "1", "2"], "with {more}\n{finished}");
    }
}

#[test]
fn a_container_with_stdin_and_a_terminal_has_exactly_the_descriptors_0_1_and_2() {
    let node = need!(Node::with_busybox());
    let list = "ls -1 /proc/$$/fd; exit 0";
    let spec = json!({"containers": [with(shell("c", list), json!({"stdin": true, "tty": true}))]});
    let finished = node.run_to_end(pod("fds", spec)).exits(0);
    let lines: Vec<String> = finished.of("fds/c").iter().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(lines, ["0", "1", "2"], "{finished}");
}

#[test]
fn an_exec_has_exactly_the_descriptors_0_1_and_2() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(keeper("fds"));
    run.wait_for("up");
    let list = "ls -1 /proc/$$/fd; exit 0";
    let finished = node.exec("fds", "c", &["sh", "-c", list]).exits(0);
    assert_eq!(finished.stdout(), "0\n1\n2\n", "{finished}");
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn standard_input_is_empty_unless_asked_for() {
    let node = need!(Node::with_busybox());
    node.run_to_end(script("cat; echo end $(readlink /proc/self/fd/0)")).exits(0).says("test/c | end /dev/null");
}

#[test]
fn a_working_directory_among_the_descriptors_is_refused() {
    let node = need!(Node::with_busybox());
    // The number that leaked differs by runtime and version; the attack tries them all.
    for fd in 3..12 {
        let dir = format!("/proc/self/fd/{fd}");
        let spec = json!({"containers": [with(command("c", &["sh", "-c", "echo in $(pwd); ls ../../.."]), json!({"workingDir": dir}))]});
        let finished = node.run_to_end(pod("cwd", spec)).exits(125).never_says("| in ");
        assert!(finished.text().contains(&dir), "the error does not name {dir}\n{finished}");
    }
    node.assert_nothing_left();
}

#[test]
fn an_images_working_directory_among_the_descriptors_is_refused() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/cwd:1", json!({"WorkingDir": "/proc/self/fd/7"}), &[]));
    let spec =
        json!({"containers": [{"name": "c", "image": "coracle.test/cwd:1", "command": ["sh", "-c", "echo in"]}]});
    node.run_to_end(pod("cwd", spec)).exits(125).says("/proc/self/fd/7").never_says("| in");
}

#[test]
fn a_working_directory_that_is_a_symlink_to_a_descriptor_is_refused() {
    let node = need!(Node::with_busybox());
    let layer = Layer::new().symlink("door", "/proc/self/fd/7").finish();
    need!(node.import_variant("coracle.test/door:1", json!({}), &[layer]));
    let container = json!({
        "name": "c", "image": "coracle.test/door:1", "command": ["sh", "-c", "echo in $(pwd)"], "workingDir": "/door",
    });
    let finished = node.run_to_end(pod("cwd", json!({"containers": [container]}))).says("/door").never_says("| in ");
    assert!(matches!(finished.status.code(), Some(125 | 128)), "{finished}");
}

/// A node with a copy of the binary that nobody else runs, so that only Coracle's own care protects it.
fn node_with_own_binary() -> Result<(Node, PathBuf, String), String> {
    e2e::skip::root()?;
    let archive = e2e::fixtures::busybox()?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?.keep();
    let copy = dir.join("coracle");
    std::fs::copy(binary::coracle(), &copy).map_err(|error| error.to_string())?;
    let node = Node::with_binary(copy.clone());
    node.import(&archive);
    let before = digest(&std::fs::read(&copy).map_err(|error| error.to_string())?);
    Ok((node, copy, before))
}

fn assert_untouched(copy: &PathBuf, before: &str) {
    let after = digest(&std::fs::read(copy).expect("the binary is there"));
    assert_eq!(after, before, "the host's binary was written");
}

/// Opens every process' executable that it can see and writes to it, again and again, by each way in.
const ATTACK: &str = r#"
attack() {
  for p in /proc/[0-9]*; do
    case "$(readlink $p/exe)" in /bin/*|/usr/bin/*|"") continue;; esac
    echo seen $(readlink $p/exe)
    ( exec 5<$p/exe && echo overwritten > /proc/self/fd/5 ) 2>>/tmp/err && echo WROTE
    ( echo overwritten >> $p/exe ) 2>>/tmp/err && echo WROTE
  done
}
"#;

#[test]
fn an_entrypoint_that_is_proc_self_exe_cannot_write_the_hosts_binary() {
    let (node, copy, before) = need!(node_with_own_binary());
    let layer =
        Layer::new().file("interpreted", 0o755, b"#!/proc/self/exe\n").symlink("linked", "/proc/self/exe").finish();
    need!(node.import_variant("coracle.test/self:1", json!({}), &[layer]));
    let attack =
        format!("{ATTACK} end=$(( $(date +%s) + 4 )); while [ $(date +%s) -lt $end ]; do attack; done; echo over");
    let spec = json!({"shareProcessNamespace": true, "containers": [
        with(shell("attacker", &attack), json!({"securityContext": {"privileged": true}})),
        {"name": "interpreted", "image": "coracle.test/self:1", "command": ["/interpreted"]},
        {"name": "linked", "image": "coracle.test/self:1", "command": ["/linked"]},
        {"name": "direct", "image": "coracle.test/self:1", "command": ["/proc/self/exe"]},
    ]});
    let mut run = node.run(pod("attack", spec));
    node.wait_for_pod("attack", "attacking", |pod| pod["status"]["phase"] != "Pending");
    for program in ["/interpreted", "/linked", "/proc/self/exe", "true"] {
        for _ in 0..5 {
            // Each may fail in its own way; what counts is the binary.
            node.exec("attack", "attacker", &[program]);
        }
    }
    run.wait_for("attacker | over");
    let finished = run.wait();
    // Process 1 of the shared namespace is Coracle's: if the attack did not see it, it tried nothing.
    finished.says("attacker | seen").never_says("WROTE");
    assert_untouched(&copy, &before);
    drop(node);
    std::fs::remove_dir_all(copy.parent().expect("a directory")).expect("it is ours");
}

#[test]
fn with_the_hosts_pid_namespace_the_shim_and_the_agent_cannot_be_written() {
    let (node, copy, before) = need!(node_with_own_binary());
    let attack = format!("{ATTACK} echo begin; attack | grep WROTE; echo over");
    // The whole host is in view: only what runs our binary is attacked.
    let attack = attack.replace("/bin/*|/usr/bin/*|\"\") continue", "*coracle*) ;; *) continue");
    let mut pod = pod("attack", json!({"hostPID": true, "containers": [{"name": "c", "image": BUSYBOX}]}));
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", attack]);
    node.run_to_end(pod).says("over").never_says("WROTE");
    assert_untouched(&copy, &before);
    drop(node);
    std::fs::remove_dir_all(copy.parent().expect("a directory")).expect("it is ours");
}
