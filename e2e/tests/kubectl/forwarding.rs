//! port-forward.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use e2e::kubectl::Cluster;
use e2e::manifest::pod;
use serde_json::json;

crate::by_both! {
    ports_of_a_pod_are_forwarded_many_times
    a_port_that_nobody_listens_on_is_told
}

fn serving(text: &str) -> serde_json::Value {
    let args = ["serve", "--port", "8080", "--text", text];
    let probe = json!({"periodSeconds": 1, "tcpSocket": {"port": 8080}});
    pod(
        "web",
        json!({"containers": [{"name": "c", "image": "coracle.local/tools", "args": args, "readinessProbe": probe}]}),
    )
}

/// The port that kubectl has chosen.
pub fn port(line: &str) -> u16 {
    line.split("127.0.0.1:").nth(1).and_then(|it| it.split(' ').next()).unwrap().parse().unwrap()
}

/// What a page says, by a forwarded port.
pub fn fetch(cluster: &Cluster, port: u16, path: &str) -> String {
    cluster.node.host().within(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(e2e::deadline())).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

fn ports_of_a_pod_are_forwarded_many_times(cluster: &Cluster) {
    cluster.run(&serving("hello through a tunnel"));
    let mut forwarding = cluster.start_kubectl(["port-forward", "pod/web", ":8080"]);
    let port = port(&forwarding.wait_for("Forwarding from 127.0.0.1:"));
    std::thread::scope(|scope| {
        let fetching: Vec<_> = (0..8).map(|_| scope.spawn(|| fetch(cluster, port, "/"))).collect();
        for one in fetching {
            let text = one.join().unwrap();
            assert!(text.starts_with("HTTP/1.1 200") && text.contains("hello through a tunnel"), "{text}");
        }
    });
    assert!(fetch(cluster, port, "/").contains("hello through a tunnel"));
    assert!(forwarding.is_running());
}

fn a_port_that_nobody_listens_on_is_told(cluster: &Cluster) {
    cluster.run(&serving("x"));
    let mut forwarding = cluster.start_kubectl(["port-forward", "pod/web", ":9"]);
    let port = port(&forwarding.wait_for("Forwarding from 127.0.0.1:"));
    cluster.node.host().within(|| {
        let mut nothing = Vec::new();
        // It may be closed before connect() has returned.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(e2e::deadline())).unwrap();
            let _ = stream.read_to_end(&mut nothing);
        }
        assert!(nothing.is_empty());
    });
    forwarding.wait_for("cannot connect to port 9 in the pod");
}
