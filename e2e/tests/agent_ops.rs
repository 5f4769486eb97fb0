//! The agent as a service: what it tells the service manager and whoever asks how it is, and what a service manager
//! may do to it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use e2e::agent::{Agent, container_id, restarts};
use e2e::manifest::{keeper, pod, shell};
use e2e::{Node, deadline, inspect, need};
use rustix::process::{Pid, Signal};
use serde_json::json;

const PORT: u16 = 10248;

/// Asks the agent over HTTP: the status, and the body.
fn ask(node: &Node, request: &str) -> (u16, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    // An agent that has just started may not listen yet.
    let connected = inspect::wait_for(|| node.host().within(|| TcpStream::connect(address)).ok());
    let answer = node.host().within(|| -> std::io::Result<String> {
        let mut stream = connected.ok_or(std::io::ErrorKind::ConnectionRefused)?;
        stream.set_read_timeout(Some(deadline()))?;
        stream.write_all(format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    let answer = answer.unwrap_or_else(|error| panic!("{request}: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no HTTP: {answer}"));
    (status, body.to_owned())
}

/// The value of a sample; the time behind it, which some have, is left out.
#[track_caller]
fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|it| it.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

#[test]
fn health_and_metrics_are_told_on_loopback() {
    let node = need!(Node::with_busybox());
    let mut agent = Agent::start(&node);
    let mut web = keeper("web");
    web["spec"]["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 60});
    agent.write("web.yaml", web);
    let web = agent.wait_for("web", "ready", |pod| e2e::agent::condition(pod, "Ready") == Some(true));
    assert_eq!(ask(&node, "GET /healthz"), (200, "ok".into()));
    assert_eq!(ask(&node, "GET /readyz").0, 200);
    let (_, verbose) = ask(&node, "GET /healthz?verbose");
    assert_eq!(verbose, "[+]ping ok\n[+]syncloop ok\n[+]runtime ok\nhealthz check passed\n");
    assert_eq!(ask(&node, "GET /healthz/syncloop").0, 200);
    assert_eq!(ask(&node, "GET /healthz/nothing").0, 404);
    assert_eq!(ask(&node, "POST /healthz").0, 405);
    let uid = web["metadata"]["uid"].as_str().expect("it has one");
    let probe = format!(
        "prober_probe_total{{container=\"c\",namespace=\"default\",pod=\"web\",pod_uid=\"{uid}\",\
         probe_type=\"Readiness\",result=\"successful\"}}"
    );
    inspect::wait_until("the probe among the metrics", || ask(&node, "GET /metrics").1.contains(&probe));
    let (status, page) = ask(&node, "GET /metrics");
    assert_eq!(status, 200);
    assert_eq!(sample(&page, "kubelet_running_pods"), 1.0);
    assert_eq!(sample(&page, "kubelet_running_containers{container_state=\"running\"}"), 1.0);
    assert_eq!(sample(&page, "kubelet_started_containers_total"), 1.0);
    assert_eq!(sample(&page, "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"}"), 1.0);
    assert!(sample(&page, &probe) >= 1.0);
    assert!(sample(&page, "process_resident_memory_bytes") > 1e6);
    let (_, usage) = ask(&node, "GET /metrics/resource");
    let labels = "{container=\"c\",namespace=\"default\",pod=\"web\"}";
    assert!(sample(&usage, &format!("container_memory_working_set_bytes{labels}")) > 0.0);
    assert!(sample(&usage, "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"}") > 0.0);
    assert_eq!(sample(&usage, "scrape_error"), 0.0);
    agent.stop();
}

#[test]
fn a_port_that_is_taken_is_waited_for_and_no_port_is_served_when_none_is_wanted() {
    let node = need!(Node::with_busybox());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let taken = node.host().within(|| std::net::TcpListener::bind(address)).expect("the port is free");
    let mut agent = Agent::prepare(&node, [] as [&str; 0]);
    agent.restart();
    let said = agent.wait_for_words("/healthz and /metrics cannot be served");
    assert!(said.contains("127.0.0.1:10248") && said.contains("--healthz-port"), "{said}");
    // Pods do not wait for it.
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    drop(taken);
    agent.wait_for_words("/healthz and /metrics are served now");
    assert_eq!(ask(&node, "GET /healthz"), (200, "ok".into()));
    agent.stop();
    agent.arg("--healthz-port=0");
    agent.restart();
    assert!(node.host().within(|| TcpStream::connect(address)).is_err());
    agent.stop();
}

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(node: &Node) -> Self {
        let path = node.dir().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the temporary directory is writable");
        socket.set_read_timeout(Some(deadline())).expect("a socket has a deadline");
        Self { socket, path }
    }

    /// Waits until it is told `what`; all that it is told with that.
    #[track_caller]
    fn wait_for(&self, what: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("never told {what}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == what) {
                return text;
            }
        }
    }
}

#[test]
fn the_service_manager_is_told_of_the_agents_life() {
    let node = need!(Node::with_busybox());
    let manager = Manager::new(&node);
    let mut agent = Agent::prepare(&node, [] as [&str; 0]);
    agent.env("NOTIFY_SOCKET", &manager.path.to_string_lossy());
    agent.env("WATCHDOG_USEC", "400000");
    agent.write("web.yaml", keeper("web"));
    agent.launch();
    assert!(manager.wait_for("READY=1").contains("\nSTATUS="));
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    agent.run().signal(Signal::HUP);
    assert!(manager.wait_for("RELOADING=1").contains("\nMONOTONIC_USEC="));
    manager.wait_for("READY=1");
    agent.wait_for_running("web");
    agent.stop();
    assert!(manager.wait_for("STOPPING=1").contains("leaving the pods running"));
    // What was told to the agent is not handed on to what it starts.
    assert!(
        inspect::processes(&node).iter().all(|pid| !inspect::environment(*pid).join(" ").contains("NOTIFY_SOCKET"))
    );
}

/// A cgroup in every hierarchy, as a service manager has one for a service.
struct Unit {
    dirs: Vec<PathBuf>,
}

impl Unit {
    fn new(name: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
        let points = text.lines().filter(cgroup).filter_map(|line| line.split(' ').nth(4));
        let mut unit = Self { dirs: Vec::new() };
        for point in points {
            let dir = Path::new(point).join(name);
            std::fs::create_dir(&dir).map_err(|error| format!("cannot make the cgroup {}: {error}", dir.display()))?;
            // A group of this hierarchy has to be given processors and memory before it takes a process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = std::fs::read_to_string(Path::new(point).join(file)) {
                    let _ = std::fs::write(dir.join(file), all);
                }
            }
            unit.dirs.push(dir);
        }
        if unit.dirs.is_empty() { Err("no cgroup hierarchy is mounted".into()) } else { Ok(unit) }
    }

    fn take(&self, pid: Pid) {
        for dir in &self.dirs {
            std::fs::write(dir.join("cgroup.procs"), pid.as_raw_nonzero().to_string())
                .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let texts = self.dirs.iter().map(|dir| std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default());
        let all: Vec<String> = texts.flat_map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        all.iter().filter_map(|it| Pid::from_raw(it.parse().ok()?)).collect()
    }

    /// Kills everything in it, in whatever hierarchy it is, until nothing is.
    fn kill(&self) {
        let killed = inspect::wait_for(|| {
            self.processes().into_iter().for_each(inspect::kill);
            self.processes().is_empty().then_some(())
        });
        assert!(killed.is_some(), "{:?} live on", self.processes());
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        for dir in &self.dirs {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// A process and all below it.
fn family(of: Pid) -> Vec<Pid> {
    let mut all = vec![of];
    let mut next = 0;
    while next < all.len() {
        let pid = all[next].as_raw_nonzero();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = threads.filter_map(|it| std::fs::read_to_string(it.path().join("children")).ok());
        let children: Vec<String> = children.collect();
        all.extend(
            children.iter().flat_map(|it| it.split_whitespace()).filter_map(|it| Pid::from_raw(it.parse().ok()?)),
        );
        next += 1;
    }
    all
}

#[test]
fn a_unit_that_is_killed_whole_takes_no_container_with_it() {
    let node = need!(Node::with_busybox());
    let unit = need!(Unit::new(&format!("{}-unit", node.cgroup_root)));
    let mut agent = Agent::start(&node);
    // As if it had been started there: nothing of a pod is there yet.
    family(agent.run().pid()).into_iter().for_each(|pid| unit.take(pid));
    let talks = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    for name in ["one", "two"] {
        let mut pod = pod(name, json!({"containers": [shell("c", talks)]}));
        pod["spec"]["containers"][0]["env"] = json!([{"name": "MARK", "value": name}]);
        agent.write(&format!("{name}.yaml"), pod);
    }
    let before = ["one", "two"].map(|name| agent.wait_for_running(name));
    let processes = ["one", "two"].map(|name| inspect::process_with_environment(&node, &format!("MARK={name}")));
    assert!(processes.iter().all(Option::is_some), "{processes:?}");
    for _ in 0..3 {
        assert!(unit.processes().contains(&agent.run().pid()), "the agent is in its unit");
        unit.kill();
        agent.kill();
        assert_eq!(
            ["one", "two"].map(|name| inspect::process_with_environment(&node, &format!("MARK={name}"))),
            processes
        );
        agent.restart();
        family(agent.run().pid()).into_iter().for_each(|pid| unit.take(pid));
    }
    for (name, before) in ["one", "two"].into_iter().zip(&before) {
        let after = agent.wait_for_running(name);
        assert_eq!(container_id(&after, "c"), container_id(before, "c"), "{name} is the same container");
        assert_eq!(restarts(&after, "c"), Some(0), "{name}");
        // And nothing of what it wrote is missing.
        let log = node.coracle(["logs", name]).exits(0);
        let numbers: Vec<u64> = log.stdout().lines().map(|line| line.parse().expect(line)).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{name}: {numbers:?}");
    }
    // A pod that comes later is no member of the unit either.
    agent.write("three.yaml", keeper("three"));
    agent.wait_for_running("three");
    unit.kill();
    agent.kill();
    agent.restart();
    assert_eq!(restarts(&agent.wait_for_running("three"), "c"), Some(0));
    agent.stop();
}

#[test]
fn the_unit_in_the_documents_is_one_that_systemd_takes() {
    let systemd_analyze = need!(e2e::debian::program("systemd-analyze", "systemd"));
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/coracle-agent.service");
    let text = std::fs::read_to_string(&unit).expect("the unit is there");
    for line in ["Type=notify", "Delegate=yes", "KillMode=process", "Restart=always"] {
        assert!(text.lines().any(|it| it == line), "{line}");
    }
    // The binary has to be where the unit says for the check.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copy = dir.path().join("coracle-agent.service");
    let binary = e2e::binary::coracle().display().to_string();
    std::fs::write(&copy, text.replace("/usr/local/bin/coracle", &binary)).expect("the directory is writable");
    let mut command = std::process::Command::new(systemd_analyze);
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&copy);
    let verified = command.output().expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("coracle-agent.service:"), "{said}");
}
