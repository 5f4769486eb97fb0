//! Connections to ports in pods.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::cri::{Cri, Endpoint};
use e2e::netns::Host;
use e2e::{Node, inspect, need};
use runtime::streaming::portforward::Forwarded;
use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::{WIRES, port_forward, ports, within};
use crate::pod_with;

/// Sends it all, ends, and reads to the end: what came back, and what went wrong.
async fn exchange(connection: Forwarded, input: &[u8]) -> (Vec<u8>, String) {
    let Forwarded { mut receiver, mut sender, mut error } = connection;
    let send = async {
        // An end that comes first is told by what is read.
        let _ = sender.write_all(input).await;
        let _ = sender.shutdown().await;
    };
    let (mut back, mut wrong) = (Vec::new(), String::new());
    let receive = async {
        let _ = receiver.read_to_end(&mut back).await;
        let _ = error.read_to_string(&mut wrong).await;
    };
    within(async { tokio::join!(send, receive) }).await;
    (back, wrong)
}

/// Listens in the network of the pod whose container runs `command`, for as long as the test runs.
fn listen(command: &str, address: (&str, u16), serve: fn(TcpStream)) {
    let pid = inspect::wait_for(|| process(command)).unwrap_or_else(|| panic!("nobody runs {command:?}"));
    let host = Host::of_process(pid).expect("the process has a network");
    let listener = host.within(|| TcpListener::bind(address)).expect("the port is free");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
}

fn process(command: &str) -> Option<Pid> {
    let is = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).replace('\0', " ").trim_end() == command
    };
    let entries = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is).and_then(Pid::from_raw)
}

/// Sends back what comes, to its end.
fn echo(connection: TcpStream) {
    let _ = std::io::copy(&mut &connection, &mut &connection);
}

/// Says nothing more before it has heard anything, and keeps what it hears.
fn hear(mut connection: TcpStream) {
    let _ = connection.shutdown(std::net::Shutdown::Write);
    let mut heard = 0;
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        heard += length;
    }
    HEARD.fetch_add(heard, Ordering::SeqCst);
}

static HEARD: AtomicUsize = AtomicUsize::new(0);

#[test]
fn megabytes_go_both_ways_over_many_connections_and_a_closed_port_is_said() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let (_, sandbox, _) = pod_with(&cri, "exec sleep 198765", |_| {});
    listen("sleep 198765", ("127.0.0.1", 7777), echo);
    listen("sleep 198765", ("::1", 7778), echo);
    listen("sleep 198765", ("127.0.0.1", 7779), hear);
    let input: Vec<u8> = (0..16 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for wire in WIRES {
        let url = port_forward(&cri, &sandbox);
        cri.client().block_on(async {
            let client = ports(&cri, &url, wire);
            let (back, wrong) = exchange(client.connect(7777).await.unwrap(), &input).await;
            assert!(back == input, "{wire:?}: {} bytes came back; {wrong}", back.len());
            assert_eq!(wrong, "");
            let mut many = Vec::new();
            for n in 0..30u8 {
                let connection = client.connect(7777).await.unwrap();
                many.push(tokio::spawn(async move { exchange(connection, &vec![n; 50_000]).await }));
            }
            for (n, one) in many.into_iter().enumerate() {
                assert_eq!(one.await.unwrap(), (vec![n as u8; 50_000], String::new()), "{wire:?}");
            }
            let (_, wrong) = exchange(client.connect(9).await.unwrap(), b"").await;
            assert!(wrong.contains("cannot connect to port 9") && wrong.contains("refused"), "{wire:?}: {wrong}");
            // Others are as they were.
            assert_eq!(exchange(client.connect(7777).await.unwrap(), b"x").await.0, b"x");
            // What listens on IPv6 alone is found.
            assert_eq!(exchange(client.connect(7778).await.unwrap(), b"6").await, (b"6".to_vec(), String::new()));
            // One that ends its side at once hears all the same.
            let before = HEARD.load(Ordering::SeqCst);
            exchange(client.connect(7779).await.unwrap(), &input).await;
            let all = async {
                while HEARD.load(Ordering::SeqCst) < before + input.len() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            within(all).await;
        });
    }
}
