//! A directory that looks like a kubelet's: what pods that mount it find there, and what becomes of what they mount.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::agent::Agent;
use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

const KEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// Where a DaemonSet has the kubelet's directory.
const INSIDE: &str = "/var/lib/kubelet";

/// A pod whose container runs `script` and mounts volumes: each with what the mount says besides its name.
fn mounting(name: &str, script: &str, volumes: &[(Value, Value)], more: Value) -> Value {
    let named = |index: usize, it: &Value| with(json!({"name": format!("v{index}")}), it.clone());
    let sources: Vec<Value> = volumes.iter().enumerate().map(|(index, it)| named(index, &it.0)).collect();
    let mounts: Vec<Value> = volumes.iter().enumerate().map(|(index, it)| named(index, &it.1)).collect();
    let container = with(with(shell("c", script), json!({"volumeMounts": mounts})), more);
    let mut pod = pod(name, json!({"containers": [container], "volumes": sources}));
    pod["spec"]["restartPolicy"] = json!("Always");
    pod
}

fn directory(path: &Path, propagation: &str) -> (Value, Value) {
    (
        json!({"hostPath": {"path": path, "type": "Directory"}}),
        json!({"mountPath": INSIDE, "mountPropagation": propagation}),
    )
}

/// What the kernel has mounted below a directory.
fn mounts_below(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(dir)).map(str::to_owned).collect()
}

fn compat(node: &Node) -> PathBuf {
    node.root_dir.with_file_name("kubelet")
}

fn start<'n>(node: &'n Node) -> Agent<'n> {
    let dir = compat(node).into_os_string();
    Agent::start_with(node, ["--kubelet-compat-dir".into(), dir])
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().expect("a pod has a uid")
}

#[test]
fn who_mounts_a_kubelets_directory_finds_the_pods_volumes_in_it() {
    let node = need!(Node::on_shared_mount());
    let mut agent = start(&node);
    let own = (json!({"emptyDir": {}}), json!({"mountPath": "/logs"}));
    agent.write("web.yaml", mounting("web", &format!("echo hello > /logs/app.log; {KEEPS}"), &[own], json!({})));
    let web = agent.wait_for_running("web");
    let collector = [directory(&compat(&node), "HostToContainer")];
    agent.write("collector.yaml", mounting("collector", KEEPS, &collector, json!({})));
    agent.wait_for_running("collector");
    let read = |path: &str| node.exec("collector", "c", &["cat", &format!("{INSIDE}/{path}")]).exits(0).stdout();
    let of_web = format!("pods/{}", uid(&web));
    assert_eq!(read(&format!("{of_web}/volumes/kubernetes.io~empty-dir/v0/app.log")), "hello\n");
    assert!(read(&format!("{of_web}/etc-hosts")).contains("web"));
    for dir in ["plugins", "plugins_registry", "device-plugins"] {
        node.exec("collector", "c", &["test", "-d", &format!("{INSIDE}/{dir}")]).exits(0);
    }

    // A mount that comes later than the one who looks.
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "word"}});
    agent.write("secret.yaml", secret);
    let volume = (json!({"secret": {"secretName": "s"}}), json!({"mountPath": "/s"}));
    agent.write("late.yaml", mounting("late", KEEPS, &[volume], json!({})));
    let late = agent.wait_for_running("late");
    let key = format!("pods/{}/volumes/kubernetes.io~secret/v0/key", uid(&late));
    assert_eq!(read(&key).trim_end(), "word");
    // It goes here, too, when its pod does.
    agent.remove("late.yaml");
    agent.wait_until_gone("late");
    assert!(!compat(&node).join("pods").join(uid(&late)).exists());

    // The directory outlives the agent, and another agent makes no second one of it.
    agent.kill();
    agent.restart();
    assert_eq!(mounts_below(&compat(&node)), [compat(&node).join("pods").to_str().expect("UTF-8")]);
    for name in ["web", "collector"] {
        agent.remove(&format!("{name}.yaml"));
        agent.wait_until_gone(name);
    }
    agent.remove("secret.yaml");
    agent.stop();
    let gone = node.coracle(["gc", "--all"]).exits(0);
    gone.says("look like a kubelet's");
    assert_eq!(mounts_below(&compat(&node)), Vec::<String>::new());
}

#[test]
fn what_a_driver_mounts_for_a_pod_is_the_hosts_until_the_pod_ends() {
    let node = need!(Node::on_shared_mount());
    let mut agent = start(&node);
    agent.write("web.yaml", mounting("web", KEEPS, &[], json!({})));
    let web = agent.wait_for_running("web");
    let both = [directory(&compat(&node), "Bidirectional")];
    let privileged = json!({"securityContext": {"privileged": true}});
    agent.write("driver.yaml", mounting("driver", KEEPS, &both, privileged));
    agent.wait_for_running("driver");
    let target = format!("pods/{}/volumes/kubernetes.io~csi/v/mount", uid(&web));
    let inside = format!("{INSIDE}/{target}");
    node.exec("driver", "c", &["mkdir", "-p", &inside]).exits(0);
    node.exec("driver", "c", &["mount", "-t", "tmpfs", "driver", &inside]).exits(0);
    node.exec("driver", "c", &["touch", &format!("{inside}/file")]).exits(0);
    assert!(node.root_dir.join(&target).join("file").exists(), "the agent's own directory has it");
    agent.remove("driver.yaml");
    agent.wait_until_gone("driver");
    assert!(node.root_dir.join(&target).join("file").exists(), "it is the pod's, not the driver's");
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    let root = node.root_dir.join("pods");
    assert_eq!(mounts_below(&root), Vec::<String>::new());
    agent.stop();
    node.coracle(["gc", "--all"]).exits(0);
}

#[test]
fn an_agent_that_is_told_nothing_of_it_takes_it_away_and_pods_keep_their_volumes() {
    let node = need!(Node::on_shared_mount());
    let mut agent = start(&node);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "word"}});
    agent.write("secret.yaml", secret);
    let volume = (json!({"secret": {"secretName": "s"}}), json!({"mountPath": "/s"}));
    agent.write("web.yaml", mounting("web", KEEPS, &[volume], json!({})));
    let web = agent.wait_for_running("web");
    agent.stop();
    let mut agent = Agent::start(&node);
    assert_eq!(mounts_below(&compat(&node)), Vec::<String>::new());
    let key = node.root_dir.join("pods").join(uid(&web)).join("volumes/kubernetes.io~secret/v0/key");
    assert_eq!(fs::read_to_string(key).expect("the volume is still there"), "word");
    for file in ["web.yaml", "secret.yaml"] {
        agent.remove(file);
    }
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_kubelets_own_directory_and_a_mount_that_hands_nothing_on_are_refused() {
    let node = need!(Node::on_shared_mount());
    let refused = |dir: &Path, said: &str| {
        let flag = ["--kubelet-compat-dir".into(), dir.as_os_str().to_owned()];
        let mut agent = Agent::prepare(&node, flag);
        agent.launch();
        agent.wait().exits(125).says("--kubelet-compat-dir").says(said);
        assert_eq!(mounts_below(dir), Vec::<String>::new());
    };
    let used = compat(&node);
    fs::create_dir_all(used.join("pods/0000-uid")).expect("it is ours");
    refused(&used, "0000-uid is there: it is a kubelet's");
    refused(&node.root_dir.join("pods/in"), "would be mounted in itself");
    let memory = node.dir().join("memory");
    rustix::mount::mount_change(&memory, rustix::mount::MountPropagationFlags::PRIVATE).expect("it is ours");
    let fresh = used.with_file_name("fresh");
    refused(&fresh, &format!("run mount --make-shared {}", memory.display()));
}
