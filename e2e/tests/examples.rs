//! Every example is run, and does what it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use e2e::agent::{condition, status_of};
use e2e::manifest::{pod, tool};
use e2e::{Finished, Node, Run, inspect, need};
use rustix::process::Signal;
use serde_json::json;

/// Run by tests of their own: of the first steps, of published ports, of the network, and of the agent.
const ELSEWHERE: [&str; 10] = [
    "ambassador",
    "hello",
    "host-port",
    "network-policy",
    "order",
    "private-network",
    "restart-on-change",
    "service",
    "three-tiers",
    "three-tiers-remote",
];

/// Run here.
const HERE: [&str; 21] = [
    "claim",
    "deadline",
    "debug",
    "hooks",
    "host-network",
    "host-path",
    "image-volume",
    "init-and-volumes",
    "last-words",
    "links",
    "names",
    "probes",
    "projected",
    "registry",
    "resources",
    "restart",
    "restart-rules",
    "security",
    "shared-pid",
    "sidecar",
    "variables",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(directory().join(format!("{name}.yaml"))).expect("the example is there")
}

fn start(node: &Node, name: &str) -> Run {
    node.start(["run".into(), directory().join(format!("{name}.yaml"))])
}

fn run(node: &Node, name: &str) -> Finished {
    start(node, name).wait()
}

fn stop(mut run: Run) -> Finished {
    run.signal(Signal::TERM);
    run.wait()
}

/// What a server says to a client in its container, as soon as it listens.
#[track_caller]
fn fetch(node: &Node, pod: &str, container: &str, url: &str) -> Finished {
    let args = ["/bin/coracle", "tool", "fetch", "--timeout", "60s", url];
    let answer = inspect::wait_for(|| Some(node.exec(pod, container, &args)).filter(|it| it.status.success()));
    answer.unwrap_or_else(|| panic!("{pod} never serves {url}"))
}

#[test]
fn every_example_is_run_by_some_test() {
    let files: BTreeSet<String> = std::fs::read_dir(directory())
        .expect("there are examples")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let named: BTreeSet<String> = HERE.iter().chain(&ELSEWHERE).map(|name| (*name).to_owned()).collect();
    assert_eq!(files, named);
}

#[test]
fn a_claim_keeps_what_it_holds() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "claim").exits(0).says("claim/reader | kept by the claim");
    run(&node, "claim").exits(0);
    let file = node.root_dir.join("claims/default/data/file");
    assert_eq!(std::fs::read_to_string(file).expect("it is kept"), "kept by the claim\n");
}

#[test]
fn a_deadline_ends_its_pod() {
    need!(e2e::skip::root());
    let node = Node::new();
    let run = start(&node, "deadline");
    let finished = run.wait();
    assert!(finished.text().contains("DeadlineExceeded"), "{finished}");
}

#[test]
fn a_debugger_sees_the_processes_of_its_target() {
    need!(e2e::skip::root());
    let node = Node::new();
    let finished = run(&node, "debug").exits(0);
    assert!(finished.text().contains("debug/debugger | /bin/coracle\0tool\0sleep"), "{finished}");
}

#[test]
fn hooks_are_run_at_start_and_before_the_stop() {
    need!(e2e::skip::root());
    let node = Node::new();
    let run = start(&node, "hooks");
    let begun = || node.exec("hooks", "web", &["/bin/coracle", "tool", "cat", "/tmp/started"]).stdout();
    inspect::wait_until("what the hook has written", || begun() == "by the hook\n");
    let asked = std::time::Instant::now();
    stop(run).exits(0);
    assert!(asked.elapsed() >= std::time::Duration::from_secs(1), "nobody waited for the hook before the stop");
}

#[test]
fn a_server_on_the_hosts_network_answers() {
    need!(e2e::skip::root());
    let node = Node::new();
    let run = start(&node, "host-network");
    node.wait_for_phase("host-network", "Running");
    fetch(&node, "host-network", "web", "http://127.0.0.1:8080/").says("hello from host-network at ");
    stop(run);
}

#[test]
fn files_of_the_host_are_read() {
    need!(e2e::skip::root());
    let node = Node::new();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the kernel has booted");
    run(&node, "host-path").exits(0).says(&format!("host-path/reader | {}", boot.trim()));
}

#[test]
fn a_linked_pod_finds_the_other_by_name_and_by_variable() {
    need!(e2e::skip::root());
    let node = Node::new();
    let mut run = start(&node, "links");
    run.wait_for("links-web/by-name | hello from links-db");
    run.wait_for("links-web/by-variable | hello from links-db");
    stop(run).exits(0);
}

#[test]
fn a_program_is_run_from_an_image_volume() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "image-volume").exits(0).says("image-volume/reader | run from the volume");
}

#[test]
fn variables_and_files_reach_their_containers() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "init-and-volumes")
        .exits(0)
        .says("prepared by init-and-volumes")
        .says("init-and-volumes/variables | MESSAGE=blue boat")
        .says("init-and-volumes/variables | SECRET_password=0644");
}

#[test]
fn last_words_are_in_the_status() {
    need!(e2e::skip::root());
    let node = Node::new();
    let keeper = pod("keeper", json!({"containers": [tool("c", &["sleep", "inf"])]}));
    let run = node.run(format!("{}\n---\n{keeper}", text("last-words")));
    let ended = node.wait_for_phase("last-words", "Failed");
    let message = |name: &str| {
        let state = &status_of(&ended, name).expect("the container has a status")["state"]["terminated"];
        state["message"].as_str().unwrap_or_else(|| panic!("{name} has no last words: {ended:#}")).trim().to_owned()
    };
    assert_eq!(message("writes"), "all is well");
    assert!(message("logs").contains("/nowhere: No such file"), "{ended:#}");
    stop(run).exits(1);
}

#[test]
fn a_pod_has_its_names() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "names")
        .exits(0)
        .says("names/names | boat.harbour.default.svc.cluster.local")
        .says("192.0.2.10\tlighthouse")
        .says("nameserver 192.0.2.53")
        .says("search example.com")
        .says("options ndots:2");
}

#[test]
fn a_probed_server_becomes_ready() {
    need!(e2e::skip::root());
    let node = Node::new();
    let run = start(&node, "probes");
    let pod = node.wait_for_pod("probes", "ready", |pod| condition(pod, "Ready") == Some(true));
    let web = status_of(&pod, "web").expect("the container has a status");
    assert_eq!((&web["started"], &web["ready"], &web["restartCount"]), (&true.into(), &true.into(), &0.into()));
    stop(run);
}

#[test]
fn sources_are_projected() {
    need!(e2e::skip::root());
    let node = Node::new();
    let finished = run(&node, "projected").exits(0);
    assert!(finished.text().contains("projected/reader | blues3cretapp=\"example\"64"), "{finished}");
}

#[test]
fn an_image_is_there_without_its_registry() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "registry").exits(0).says("registry/pulled | pulled if not present");
}

#[test]
fn a_bounded_pod_is_burstable() {
    need!(e2e::skip::root());
    let node = Node::new();
    let finished = run(&node, "resources").exits(0);
    let score = finished.of("resources/bounded").first().and_then(|line| line.parse::<i32>().ok());
    assert!(score.is_some_and(|score| (3..1000).contains(&score)), "{finished}");
}

#[test]
fn what_fails_is_started_again() {
    need!(e2e::skip::root());
    let node = Node::new();
    let run = start(&node, "restart");
    let pod = node.wait_for_pod("restart", "restarted", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    });
    assert_eq!(pod["spec"]["restartPolicy"], "OnFailure");
    stop(run);
}

#[test]
fn rules_decide_about_a_restart() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "restart-rules").exits(7).never_says("restart 1");
    let again = node.run(text("restart-rules").replace("\"7\"", "\"42\""));
    node.wait_for_pod("restart-rules", "restarted", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64().is_some_and(|count| count >= 2)
    });
    stop(again);
}

#[test]
fn a_confined_server_serves() {
    need!(e2e::skip::root());
    let node = Node::new();
    let run = start(&node, "security");
    node.wait_for_phase("security", "Running");
    fetch(&node, "security", "confined", "http://127.0.0.1:80/");
    stop(run);
}

#[test]
fn containers_share_their_processes() {
    need!(e2e::skip::root());
    let node = Node::new();
    // However long this takes.
    let run = node.run(text("shared-pid").replace("\"5\"", "\"inf\""));
    let sleeping = || {
        let mut all = inspect::processes(&node);
        all.retain(|pid| inspect::command_line(*pid).ends_with("tool sleep inf"));
        Some(all).filter(|all| all.len() == 2)
    };
    let both = inspect::wait_for(sleeping).expect("both containers run");
    let namespaces: BTreeSet<_> = both
        .iter()
        .map(|pid| std::fs::read_link(format!("/proc/{}/ns/pid", pid.as_raw_nonzero())).expect("it runs"))
        .collect();
    assert_eq!(namespaces.len(), 1, "one cannot see the other");
    for pid in both {
        let inside = inspect::status(pid, "NSpid").expect("it runs");
        assert_ne!(inside.split_whitespace().last(), Some("1"), "{inside}");
    }
    stop(run);
}

#[test]
fn a_sidecar_is_there_before_the_others() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "sidecar").exits(0).says("sidecar/main | hello from the sidecar");
}

#[test]
fn a_variable_from_a_file_names_a_part_of_a_volume() {
    need!(e2e::skip::root());
    let node = Node::new();
    run(&node, "variables").exits(0).says("variables/reader | for blue");
}
