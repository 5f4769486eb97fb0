//! What makes no sense, or is too much.

use e2e::manifest::keeper;
use e2e::{Node, need};

use super::client::{Cluster, NODE};

#[test]
fn what_makes_no_sense_is_refused_in_kubelet_s_words() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    cluster.agent.write("web.yaml", keeper("web"));
    cluster.agent.wait_for_running("web");
    let client = cluster.admin();
    let uid = "00000000-0000-0000-0000-000000000000";
    let foreign_uid = format!("/portForward/default/other-{NODE}/{uid}");
    for (method, path, code, said) in [
        ("GET", "/containerLogs/default/other/c", 404, "pod \"other\" does not exist"),
        ("GET", "/containerLogs/other/web/c", 404, "pod \"web\" does not exist"),
        ("GET", "/containerLogs/default/web-/c", 404, "pod \"web-\" does not exist"),
        ("GET", "/containerLogs/default/web/d", 404, "container \"d\" not found in pod \"web\""),
        ("GET", "/containerLogs/default/web/c?previous=true", 400, "not found"),
        ("GET", "/containerLogs/default/web/c?tailLines=-1", 400, "tailLines"),
        ("GET", "/containerLogs/default/web/c?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 400, "at most one of"),
        ("GET", "/containerLogs/default/web", 404, "404: Page Not Found"),
        ("POST", "/containerLogs/default/web/c", 405, "405: Method Not Allowed"),
        ("POST", "/exec/default/web/c?command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("POST", "/exec/default/web/c?output=1", 400, "at least one command"),
        ("POST", "/exec/default/web/d?output=1&command=ls", 404, "container not found (\"d\")"),
        ("POST", "/exec/default/other/c?output=1&command=ls", 404, "pod does not exist"),
        ("POST", "/attach/default/web/c", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("POST", &foreign_uid, 404, "pod does not exist"),
        ("POST", "/portForward/default/web?port=0", 400, "unable to parse \"0\" as a port"),
        ("POST", "/portForward/default/web?port=99999", 400, "unable to parse \"99999\" as a port"),
        ("POST", "/run/default/web/c", 400, "there is no command"),
        ("POST", "/run/default/web/c?cmd=false", 500, "command 'false' exited with 1"),
        ("GET", "/run/default/web/c?cmd=true", 405, "405: Method Not Allowed"),
        ("POST", "/checkpoint/default/web/c", 501, "no container is checkpointed here"),
        ("GET", "/checkpoint/default/web/c", 405, "405: Method Not Allowed"),
        ("PUT", "/pods", 405, "405: Method Not Allowed"),
        ("GET", "/debug/pprof/", 404, "404: Page Not Found"),
        ("GET", "/healthz/nonsense", 404, "404 page not found"),
        ("GET", "/a%zz", 400, "the path cannot be read"),
    ] {
        let answer = client.ask(method, path, "");
        assert_eq!(answer.code, code, "{method} {path}: {answer:?}");
        assert!(answer.body.contains(said), "{method} {path}: {answer:?}");
        assert!(answer.head.contains("content-type: text/plain"), "{method} {path}: {answer:?}");
    }
    // Without an upgrade there is no session, and the pod is none the worse.
    let plain = client.ask("POST", "/exec/default/web/c?output=1&command=ls", "");
    assert_eq!(plain.code, 400, "{plain:?}");
    assert_eq!(client.ask("POST", "/run/default/web/c?cmd=echo%20still", "").body, "still\n");
}

#[test]
fn what_is_too_large_is_refused_and_the_agent_goes_on() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    let client = cluster.admin();
    let body = "x".repeat(70_000);
    let answer = client.ask("POST", "/stats/summary", &body);
    assert_eq!((answer.code, answer.body.as_str()), (413, "the request is larger than 65536 bytes"));
    let head = "GET /pods HTTP/1.1\r\nHost: node\r\nConnection: close\r\n";
    let chunked = format!(
        "POST /stats/summary HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n{body}\r\n0\r\n\r\n"
    );
    assert_eq!(client.send(chunked.as_bytes()).unwrap().code, 413, "of a length that is not said");
    let endless = format!("{head}X: {}\r\n\r\n", "x".repeat(400_000));
    let refused = client.send(endless.as_bytes());
    assert!(refused.as_ref().is_ok_and(|it| it.code == 431) || refused.is_err(), "{refused:?}");
    assert_eq!(client.get("/healthz").body, "ok");
}
