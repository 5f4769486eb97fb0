//! What the pod network costs: at a pod's start, with many pods, and in throughput.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::manifest::{command, pod, several};
use e2e::netns::{HOST, Host};
use e2e::pods::{Pod, keeper};
use e2e::{Node, Run, inspect};
use serde_json::{Value, json};

use crate::coracle::{private, since, stop};
use crate::report::Row;

/// What the server of the throughput rows listens on, and where that is published.
const PORT: u16 = 7000;
const PUBLISHED: u16 = 8080;

/// All rows.
pub fn rows(runs: usize) -> anyhow::Result<Vec<Row>> {
    let own = json!({});
    let host = json!({"hostNetwork": true});
    let mut rows = vec![
        Row::new("`run` until its one pod runs, on the flat network", "ms", "coracle", started(1, &own, runs)?),
        Row::new("`run` until its one pod runs, in the host's network", "ms", "coracle", started(1, &host, runs)?),
        Row::new("`run` until all of 50 pods run, on the flat network", "ms", "coracle", started(50, &own, 5)?),
        Row::new("`run` until all of 50 pods run, in the host's network", "ms", "coracle", started(50, &host, 5)?),
    ];
    rows.extend(growth()?);
    rows.extend(throughput()?);
    Ok(rows)
}

/// Pods that sleep; `spec` is laid over theirs.
pub fn sleepers(names: impl Iterator<Item = usize>, spec: &Value) -> Vec<Value> {
    let one = |number: usize| {
        let base = json!({"containers": [command("c", &["sleep", "1000"])]});
        pod(&format!("bench-{number}"), e2e::manifest::with(base, spec.clone()))
    };
    names.map(one).collect()
}

/// Starts a run and waits until every pod of it has started: the run, and how long that took.
pub fn start(node: &Node, pods: &[Value]) -> (Run, f64) {
    let manifest = several(pods);
    let begun = Instant::now();
    let mut run = node.run(manifest);
    for pod in pods {
        run.wait_for(&format!("{}/c: started", pod["metadata"]["name"].as_str().unwrap_or_default()));
    }
    let took = since(begun);
    (run, took)
}

fn started(pods: usize, spec: &Value, runs: usize) -> anyhow::Result<Vec<f64>> {
    let node = Node::with_busybox().map_err(anyhow::Error::msg)?;
    let pods = sleepers(0..pods, spec);
    let mut samples = Vec::new();
    for _ in 0..=runs {
        let (run, took) = start(&node, &pods);
        samples.push(took);
        stop(run);
    }
    Ok(samples.split_off(1))
}

/// From none to 200 pods in four runs of 50 that all stay: the time for a pod, and the memory.
fn growth() -> anyhow::Result<Vec<Row>> {
    let node = Node::with_busybox().map_err(anyhow::Error::msg)?;
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    let before = available()?;
    for batch in 0..4 {
        let numbers = batch * 50..(batch + 1) * 50;
        let what = format!("time a pod, pods {} to {}", numbers.start + 1, numbers.end);
        let (run, took) = start(&node, &sleepers(numbers, &json!({})));
        rows.push(Row::new(&what, "ms", "coracle", vec![took / 50.0]));
        runs.push(run);
    }
    let used = before - available()?;
    rows.push(Row::new("memory of the machine a pod, at 200", "KiB", "coracle", vec![used / 200.0]));
    let mut pss = 0.0;
    for pid in inspect::processes(&node) {
        pss += proportional(pid.as_raw_nonzero().get()).unwrap_or(0.0);
    }
    rows.push(Row::new("of it in processes of the pod (PSS)", "KiB", "coracle", vec![pss / 200.0]));
    let of_runs = runs.iter().map(|run| private(run.pid()).map(|(clean, dirty)| clean + dirty));
    let of_runs = of_runs.collect::<anyhow::Result<Vec<f64>>>()?;
    rows.push(Row::new("private memory of a `run` of 50 pods", "KiB", "coracle", of_runs));
    runs.into_iter().for_each(stop);
    Ok(rows)
}

/// What the machine could still give, in KiB.
fn available() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    field(&text, "MemAvailable").context("/proc/meminfo has no MemAvailable")
}

/// Pss of a process, in KiB.
pub fn proportional(pid: i32) -> Option<f64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss")
}

pub fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// One TCP stream, through everything there is between two places.
fn throughput() -> anyhow::Result<Vec<Row>> {
    let node = Node::with_busybox().map_err(anyhow::Error::msg)?;
    let outside = node.outside();
    let ports = json!({"ports": [{"containerPort": PORT, "hostPort": PUBLISHED}]});
    let (run, _) = start(&node, &[keeper("server", ports), keeper("client", json!({}))]);
    let (server, client) = (Pod::find(&node, "server"), Pod::find(&node, "client"));
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let mut ways = vec![
        ("loopback of the host", node.host(), node.host(), SocketAddr::new(v4, PORT)),
        ("pod to pod", &client.network, &server.network, SocketAddr::new(server.v4(), PORT)),
        ("host to pod", node.host(), &server.network, SocketAddr::new(server.v4(), PORT)),
        ("host to 127.0.0.1 at a hostPort", node.host(), &server.network, SocketAddr::new(v4, PUBLISHED)),
        ("neighbour to a hostPort", outside, &server.network, SocketAddr::new(HOST[0], PUBLISHED)),
    ];
    if server.ips.len() > 1 {
        ways.push(("pod to pod, IPv6", &client.network, &server.network, SocketAddr::new(server.v6(), PORT)));
        ways.push(("host to [::1] at a hostPort, by the relay", node.host(), &server.network, (v6, PUBLISHED).into()));
    }
    let mut rows = Vec::new();
    for (what, from, to, at) in ways {
        let samples = (0..3).map(|_| stream(from, to, at)).collect::<anyhow::Result<Vec<f64>>>();
        let samples = samples.with_context(|| format!("throughput: {what}"))?;
        rows.push(Row::new(&format!("throughput, {what}"), "MB/s", "coracle", samples));
    }
    stop(run);
    Ok(rows)
}

/// Sends for a second to `at`, which leads to `to`; the megabytes that arrive in a second.
fn stream(from: &Host, to: &Host, at: SocketAddr) -> anyhow::Result<f64> {
    const CHUNK: usize = 256 * 1024;
    let listener = to.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))).context("listen")?;
    let receiver = std::thread::spawn(move || -> std::io::Result<f64> {
        let (mut stream, _) = listener.accept()?;
        let (mut buffer, mut bytes, begun) = (vec![0; CHUNK], 0, Instant::now());
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()),
                read => bytes += read,
            }
        }
    });
    let mut stream = from.within(|| TcpStream::connect_timeout(&at, Duration::from_secs(10))).context("connect")?;
    let (buffer, begun) = (vec![0; CHUNK], Instant::now());
    while begun.elapsed() < Duration::from_secs(1) {
        stream.write_all(&buffer).context("send")?;
    }
    drop(stream);
    let rate = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?.context("receive")?;
    ensure!(rate > 0.0, "nothing arrived");
    Ok(rate)
}
