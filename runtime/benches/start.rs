//! What the runtime alone takes: a sandbox, creating and starting a container, running a command in it, removing it.
//!
//! `cargo bench -p runtime`, as root. The calls go through the services in memory, as the agent's do. The pause between
//! rounds lets the kernel forget what it had warm, as a node that starts a container now and then would.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/pods/applets.rs"]
mod applets;
#[allow(dead_code)]
#[path = "../tests/pods/node.rs"]
mod node;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cri_proto::cri::{NamespaceMode, RemoveContainerRequest};

const ROUNDS: usize = 50;
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|it| it == "tool") {
        return applets::run(&args[2..]);
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: runtime/benches/start: needs root");
        return ExitCode::SUCCESS;
    }
    // A host of its own: what the machine's routes and rules are makes no difference, and stays as it is.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let zygote = runtime::zygote::prepare().unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = node::Node::open(zygote);
    tokio.block_on(measure(&node));
    ExitCode::SUCCESS
}

async fn measure(node: &node::Node) {
    let names = ["sandbox, new", "sandbox, known", "sandbox, host net", "create", "start", "exec of true", "remove"];
    let mut rows = names.map(|it| (it, Vec::new()));
    let mut both = Vec::new();
    // The first of everything makes the built-in image.
    let warm = node.sandbox("warm", NamespaceMode::Container).await;
    node.run(&warm, node.config("warm", &["true"])).await;
    for round in 0..ROUNDS {
        let mut times = Vec::new();
        // A pod of a name that was not there yet: its lease is written to the disk.
        let begin = Instant::now();
        let sandbox = node.sandbox(&format!("bench-{round}"), NamespaceMode::Container).await;
        times.push(begin.elapsed());
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        let known = node.sandbox("known", NamespaceMode::Container).await;
        times.push(begin.elapsed());
        tokio::time::sleep(PAUSE).await;
        let mut config = node.sandbox_config("host", NamespaceMode::Container);
        let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        context.namespace_options.as_mut().unwrap().network = NamespaceMode::Node as i32;
        let begin = Instant::now();
        let host = node.run_sandbox(config).await.unwrap();
        times.push(begin.elapsed());
        node.remove_sandbox(&known).await;
        node.remove_sandbox(&host).await;
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        let id = node.create(&sandbox, node.config("c", &["sleep"])).await.unwrap();
        times.push(begin.elapsed());
        let middle = Instant::now();
        node.start(&id).await.unwrap();
        times.push(middle.elapsed());
        both.push(begin.elapsed());
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        node.exec(&id, &["true"], 10).await.unwrap();
        times.push(begin.elapsed());
        let begin = Instant::now();
        node.cri.clone().remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
        times.push(begin.elapsed());
        node.remove_sandbox(&sandbox).await;
        for ((_, all), time) in rows.iter_mut().zip(times) {
            all.push(time);
        }
    }
    node.remove_sandbox(&warm).await;
    println!("{:<16} {:>10} {:>10}", "", "median µs", "p90 µs");
    for (name, times) in rows.into_iter().chain([("create + start", both)]) {
        print(name, times);
    }
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_micros();
    println!("{name:<16} {:>10} {:>10}", at(50), at(90));
}
