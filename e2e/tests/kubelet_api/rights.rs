//! Who may do what.

use e2e::apiserver::{Grant, User};
use e2e::{Node, need};

use super::client::Cluster;

/// A path, and the rights that open it.
const PATHS: [(&str, &[&str]); 12] = [
    ("/healthz", &["healthz", "proxy"]),
    ("/healthz/ping", &["healthz", "proxy"]),
    ("/pods", &["pods", "proxy"]),
    ("/runningpods/", &["pods", "proxy"]),
    ("/configz", &["configz", "proxy"]),
    ("/stats/summary", &["stats"]),
    ("/metrics", &["metrics"]),
    ("/metrics/cadvisor", &["metrics"]),
    ("/metrics/resource", &["metrics"]),
    ("/metrics/probes", &["metrics"]),
    ("/logs/", &["log"]),
    ("/containerLogs/default/web/c", &["proxy"]),
];

#[test]
fn each_right_opens_what_kubelet_s_does() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    for right in ["healthz", "pods", "configz", "stats", "metrics", "log", "proxy", "checkpoint"] {
        let name = format!("holder-of-{right}");
        cluster.server.grant(Grant::new(&name, &["get"], &[&format!("nodes/{right}")]));
        let client = cluster.client(&User::new(&name, &[]));
        for (path, rights) in PATHS {
            let answer = client.get(path);
            assert_eq!(answer.code != 403, rights.contains(&right), "{right}: {path}: {answer:?}");
            if answer.code == 403 {
                let rights = rights.join(" ");
                let said = format!("Forbidden (user={name}, verb=get, resource=nodes, subresource(s)=[{rights}])\n");
                assert_eq!(answer.body, said);
            }
        }
    }
}

#[test]
fn reading_is_not_doing() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    cluster.server.grant(Grant::new("reader", &["get"], &["nodes/proxy", "nodes/checkpoint"]));
    let client = cluster.client(&User::new("reader", &[]));
    for path in ["/run/default/web/c", "/exec/default/web/c", "/attach/default/web/c", "/portForward/default/web"] {
        // A WebSocket begins with GET.
        for method in ["POST", "GET"] {
            let answer = client.ask(method, path, "");
            let said = "Forbidden (user=reader, verb=create, resource=nodes, subresource(s)=[proxy])\n";
            assert_eq!((answer.code, answer.body.as_str()), (403, said), "{method} {path}");
        }
    }
    assert_eq!(client.ask("POST", "/checkpoint/default/web/c", "").code, 403);
    for method in ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        assert_eq!(client.ask(method, "/pods", "").code, 403, "{method}");
    }
}
