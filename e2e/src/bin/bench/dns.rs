//! What the name server answers: how many questions a second, and how long one takes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::manifest::several;
use e2e::netns::{Host, OUTSIDE};
use e2e::pods::{Pod, keeper};
use e2e::{Node, debian};
use serde_json::json;

use crate::coracle::stop;
use crate::report::Row;

/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(1);

/// Questions that a client has open at a time, where it has several.
const OPEN: usize = 32;

/// All rows.
pub fn rows(runs: usize, pods: usize) -> anyhow::Result<Vec<Row>> {
    let node = Node::with_busybox().map_err(anyhow::Error::msg)?;
    let upstream = Upstream::start(node.outside())?;
    let file = node.dir().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {}\n", OUTSIDE[0])).context("write a resolv.conf")?;
    let mut rows = Vec::new();
    for count in [2, pods] {
        let names = (0..count).map(|number| format!("bench-{number}"));
        let all: Vec<_> = names.map(|name| keeper(&name, json!({}))).collect();
        let run = node.run_with(several(&all), &["--resolv-conf", &file.to_string_lossy()]);
        for number in 0..count {
            node.wait_for_phase(&format!("bench-{number}"), "Running");
        }
        let client = Pod::find(&node, "bench-0");
        let server = SocketAddr::new(server(&node)?, 53);
        for (what, name) in [("a pod's name", "bench-1.default.svc.cluster.local"), ("another name, kept", "a.example")]
        {
            for open in [1, OPEN] {
                let all = (0..runs).map(|_| ask(&client.network, server, name, open));
                let all = all.collect::<anyhow::Result<Vec<f64>>>()?;
                let what = format!("answers a second, {what}, {count} pods, {open} open");
                rows.push(Row::new(&what, "1/s", "coracle", all));
            }
        }
        drop(client);
        stop(run);
    }
    // It changes a setting of its host, which a node's would have to have back.
    let host = Host::new()?;
    let peer = debian::program("dnsmasq", "dnsmasq-base").map(|program| dnsmasq(&host, &program, runs));
    let (name, what) = ("dnsmasq", "answers a second, a name of its own");
    match peer {
        Ok(samples) => {
            for (open, samples) in [1, OPEN].into_iter().zip(samples?) {
                rows.push(Row::new(&format!("{what}, {open} open"), "1/s", name, samples));
            }
        }
        Err(why) => rows.push(Row::absent(what, "1/s", name, &why)),
    }
    drop(upstream);
    Ok(rows)
}

fn server(node: &Node) -> anyhow::Result<IpAddr> {
    let text = node.exec("bench-0", "c", &["cat", "/etc/resolv.conf"]).stdout();
    let line = text.lines().find_map(|it| it.strip_prefix("nameserver ")).context("the pod has no name server")?;
    Ok(line.trim().parse()?)
}

/// Answers a second of dnsmasq on a host of its own.
fn dnsmasq(host: &Host, program: &Path, runs: usize) -> anyhow::Result<[Vec<f64>; 2]> {
    let mut command = Command::new(program);
    command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--port=5353", "--conf-file=/dev/null"]);
    command.args(["--pid-file=", "--user=root", "--address=/bench.example/192.0.2.9"]);
    let mut run = host.spawn(command);
    let server: SocketAddr = ([127, 0, 0, 1], 5353).into();
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(host, server, "bench.example", 1).is_err() {
        ensure!(Instant::now() < deadline && run.is_running(), "dnsmasq does not answer");
    }
    let measure = |open| (0..runs).map(|_| ask(host, server, "bench.example", open)).collect::<anyhow::Result<_>>();
    let samples = [measure(1)?, measure(OPEN)?];
    run.signal(rustix::process::Signal::TERM);
    run.wait();
    Ok(samples)
}

/// How many answers a second come to a client that has so many questions open.
fn ask(host: &Host, server: SocketAddr, name: &str, open: usize) -> anyhow::Result<f64> {
    let socket = host.within(|| UdpSocket::bind("0.0.0.0:0"))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let question = question(name);
    let mut answer = [0; 512];
    for _ in 0..open {
        socket.send(&question)?;
    }
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < TIME {
        let length = socket.recv(&mut answer).context("an answer was lost")?;
        ensure!(length > question.len() && answer[3] & 0xf == 0 && answer[7] == 1, "it is no answer with an address");
        count += 1;
        socket.send(&question)?;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// A name server of the outside that knows one address.
struct Upstream {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Upstream {
    fn start(host: &Host) -> anyhow::Result<Self> {
        let socket = host.within(|| UdpSocket::bind((OUTSIDE[0], 53)))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                // The question alone, without what comes behind it.
                let end = buffer[12..length].iter().position(|it| *it == 0).map_or(length, |it| it + 17);
                let mut answer = buffer[..end].to_vec();
                answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 9]);
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
