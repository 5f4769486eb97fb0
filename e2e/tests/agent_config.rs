//! The agent's settings: kubelet's configuration file, flags over it, and SIGHUP.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use e2e::agent::Agent;
use e2e::manifest::{keeper, pod, shell};
use e2e::{Finished, Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

/// What the machine's own disks and memory could set off is none of these tests' business.
const CALM: &str = "imageGCHighThresholdPercent: 100\nevictionHard: {memory.available: 1Mi}\n";

/// Writes a configuration below the node's directory.
fn configure(node: &Node, body: &str) -> PathBuf {
    let path = node.dir().join("config.yaml");
    std::fs::write(&path, format!("{HEAD}{body}{CALM}")).expect("the temporary directory is writable");
    path
}

/// An agent that is told of a configuration.
fn configured<'n>(node: &'n Node, body: &str) -> Agent<'n> {
    let path = configure(node, body);
    Agent::prepare(node, ["--config".into(), path.into_os_string()])
}

/// What an agent says that does not start.
fn refused(node: &Node, body: &str) -> Finished {
    let mut agent = configured(node, body);
    agent.write("web.yaml", keeper("web"));
    agent.launch();
    let finished = agent.wait().exits(2);
    assert_eq!(node.pods(), Vec::<Value>::new(), "{finished}");
    finished
}

#[test]
fn a_mistake_is_pointed_at_and_nothing_is_started() {
    let node = need!(Node::with_busybox());
    let file = node.dir().join("config.yaml").display().to_string();
    refused(&node, "maxPod: 5\n").says("unknown field `maxPod`").says(&format!("{file}:3:1")).says("maxPods");
    refused(&node, "containerLogMaxFiles: 1\nfileCheckFrequency: 1d\n")
        .says(&format!("{file}:3:23"))
        .says("`1` is less than 2")
        .says(&format!("{file}:4:21"))
        .says("`1d` is no duration");
    refused(&node, "featureGates: {NodeSwap: true}\n").says("there is no feature gate `NodeSwap`");
    refused(&node, "cpuManagerPolicy: static\n").says("`cpuManagerPolicy` is not run yet");
    refused(&node, "a: [\n").says(&file);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::prepare(&node, ["--config", "/nowhere/config.yaml"]);
    agent.launch();
    agent.wait().exits(125).says("/nowhere/config.yaml").says("No such file");
}

#[test]
fn what_has_no_meaning_here_is_a_warning_and_the_rest_counts() {
    let node = need!(Node::with_busybox());
    let manifests = node.make_dir("manifests");
    let body =
        format!("cgroupDriver: systemd\ncpuManagerReconcilePeriod: 10s\nstaticPodPath: {}\n", manifests.display());
    let config = configure(&node, &body);
    let mut agent = Agent::prepare_bare(&node, ["--config".into(), config.into_os_string()]);
    agent.write("web.yaml", keeper("web"));
    agent.restart();
    agent.wait_for_words("`cgroupDriver` has no effect");
    agent.wait_for_words("`cpuManagerReconcilePeriod` has no effect");
    agent.wait_for_running("web");
    agent.stop();
}

#[test]
fn a_container_that_fails_waits_no_longer_than_the_configuration_says() {
    let node = need!(Node::with_busybox());
    let mut agent = configured(&node, "crashLoopBackOff: {maxContainerRestartPeriod: 1s}\n");
    agent.write("fails.yaml", pod("fails", json!({"restartPolicy": "Always", "containers": [shell("c", "exit 1")]})));
    agent.restart();
    // By kubelet's own back-off this takes 70 seconds.
    agent.wait_for("fails", "restarted four times", |pod| e2e::agent::restarts(pod, "c") >= Some(4));
    agent.stop();
}

#[test]
fn sighup_reads_settings_and_manifests_again() {
    let node = need!(Node::with_busybox());
    let mut agent = configured(&node, "fileCheckFrequency: 1h\n");
    agent.restart();
    // Written by another name, elsewhere: nothing happens in the directory that is watched.
    let elsewhere = node.dir().join("elsewhere.yaml");
    std::fs::hard_link(agent.write("web.yaml", keeper("web")), &elsewhere).expect("one filesystem");
    agent.wait_for_running("web");
    let mut labelled = keeper("web");
    labelled["metadata"]["labels"] = json!({"read": "again"});
    std::fs::write(&elsewhere, labelled.to_string()).expect("it is ours");
    let body = "fileCheckFrequency: 2h\ncontainerLogMaxSize: 4Ki\ncontainerLogMaxFiles: 3\nhealthzPort: 10249\n\
                systemReserved: {cpu: 100m}\n";
    configure(&node, body);
    agent.run().signal(Signal::HUP);
    agent.wait_for_words("the settings were read again");
    agent.wait_for("web", "read again", |pod| pod["metadata"]["labels"]["read"] == "again");
    let later = agent.wait_for_words("count from the agent's next start on");
    assert!(later.contains("fileCheckFrequency") && !later.contains("containerLogMaxSize"), "{later}");
    let served = |port: u16| node.host().within(|| std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)));
    assert!(e2e::inspect::wait_for(|| served(10249).ok()).is_some(), "it is served where it is wanted now");
    e2e::inspect::wait_until("and not where it was", || served(10248).is_err());
    agent.write("talks.yaml", pod("talks", json!({"containers": [shell("c", "seq 1 2000; exec sleep 1000")]})));
    agent.wait_for_running("talks");
    let files = e2e::inspect::wait_for(|| Some(log_files(&node, "talks")).filter(|files| files.len() == 3));
    assert!(files.is_some(), "{:?}", log_files(&node, "talks"));
    // What it is told of the node follows, too; the node may be looked at a moment later.
    let left = std::thread::available_parallelism().expect("the machine has processors").get() * 1000 - 100;
    let mut told = shell("c", &format!("[ $CPU = {left} ] || exit 1; echo that is right; exec sleep 1000"));
    let cpu = json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}});
    told["env"] = json!([{"name": "CPU", "valueFrom": cpu}]);
    agent.write("told.yaml", pod("told", json!({"containers": [told]})));
    e2e::inspect::wait_until("it is told of what is left", || {
        node.coracle(["logs", "told"]).text().contains("that is right")
    });
    agent.stop();
}

#[test]
fn sighup_with_a_mistake_changes_nothing() {
    let node = need!(Node::with_busybox());
    let mut agent = configured(&node, "containerLogMaxSize: 4Ki\ncontainerLogMaxFiles: 3\n");
    agent.restart();
    configure(&node, "containerLogMaxSize: 1Mi\ncontainerLogMaxFile: 2\n");
    agent.run().signal(Signal::HUP);
    let told = agent.wait_for_words("unknown field `containerLogMaxFile`");
    assert!(told.contains("config.yaml:4:1"), "{told}");
    agent.wait_for_words("the settings stay as they were");
    agent.write("talks.yaml", pod("talks", json!({"containers": [shell("c", "seq 1 2000; exec sleep 1000")]})));
    agent.wait_for_running("talks");
    let files = e2e::inspect::wait_for(|| Some(log_files(&node, "talks")).filter(|files| files.len() == 3));
    assert!(files.is_some(), "{:?}", log_files(&node, "talks"));
    agent.stop();
}

#[test]
fn messages_are_json_when_they_are_asked_for() {
    let node = need!(Node::with_busybox());
    let mut agent = configured(&node, "logging: {format: json}\ncpuManagerReconcilePeriod: 10s\n");
    agent.write("web.yaml", keeper("web"));
    agent.restart();
    agent.wait_for_running("web");
    let finished = agent.stop();
    let lines: Vec<Value> = finished.stderr().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        assert!(line["ts"].is_string() && line["level"].is_string() && line["msg"].is_string(), "{line}");
    }
    let warning = lines.iter().find(|line| line["field"] == "cpuManagerReconcilePeriod").expect("the warning is told");
    assert_eq!(warning["level"], "warn");
    assert!(lines.iter().any(|line| line["pod"] == "default/web"), "{finished}");
}

#[test]
fn messages_go_to_the_journal_when_they_are_asked_for() {
    let node = need!(Node::with_busybox());
    let path = std::path::Path::new("/run/systemd/journal/socket");
    if UnixDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok()) {
        e2e::skip!("this machine has a journal of its own");
    }
    std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("/run is writable");
    // One that was left lying there.
    let _ = std::fs::remove_file(path);
    let journal = UnixDatagram::bind(path).expect("nobody listens there");
    let _remove = Remove(path);
    journal.set_read_timeout(Some(e2e::deadline())).expect("a socket has a deadline");
    let mut agent = Agent::prepare(&node, ["--logging-format", "journald"]);
    agent.write("web.yaml", keeper("web"));
    agent.launch();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = journal.recv(&mut buffer).expect("the journal is told of the pod");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        // Others of the machine may have found it, too.
        if !text.contains("SYSLOG_IDENTIFIER=coracle\n") {
            continue;
        }
        assert!(text.contains("PRIORITY="), "{text}");
        if text.contains("CORACLE_POD=default/web\n") {
            break;
        }
    }
    agent.wait_for_running("web");
    assert_eq!(agent.stop().stderr(), "");
}

struct Remove(&'static std::path::Path);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// The names of a container's log files.
fn log_files(node: &Node, pod: &str) -> Vec<String> {
    let pods = std::fs::read_dir(&node.log_dir).into_iter().flatten().flatten();
    let pod = pods.map(|it| it.path()).find(|it| it.to_string_lossy().contains(&format!("default_{pod}_")));
    let files = pod.and_then(|pod| std::fs::read_dir(pod.join("c")).ok());
    files.into_iter().flatten().flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect()
}
