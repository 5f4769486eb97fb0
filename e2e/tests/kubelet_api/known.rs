//! Who is let in.

use e2e::apiserver::{Grant, User};
use e2e::{Node, need};

use super::client::Cluster;

/// How often the API server was asked for reviews of a kind.
fn reviews(cluster: &Cluster<'_>, kind: &str) -> usize {
    let path = format!("/{kind}");
    cluster.server.requests().iter().filter(|it| it.method == "POST" && it.path.ends_with(&path)).count()
}

#[test]
fn nobody_is_let_in_who_is_not_known() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    let paths = [
        "/healthz",
        "/pods",
        "/metrics",
        "/metrics/resource",
        "/metrics/cadvisor",
        "/metrics/probes",
        "/stats/summary",
        "/configz",
        "/logs/",
        "/runningpods/",
        "/containerLogs/a/b/c",
        "/whatever",
        "/",
        "/logs/%2e%2e/x",
    ];
    for client in [
        cluster.nobody(),
        cluster.stranger(),
        cluster.nobody().says("Authorization: Bearer nonsense"),
        cluster.nobody().says("Authorization: Bearer"),
        cluster.nobody().says("Authorization: Basic YWRtaW46YWRtaW4="),
    ] {
        for path in paths {
            let answer = client.get(path);
            assert_eq!((answer.code, answer.body.as_str()), (401, "Unauthorized"), "{path}");
        }
        for path in ["/exec/a/b/c?command=x&output=1", "/run/a/b/c", "/portForward/a/b", "/checkpoint/a/b/c"] {
            assert_eq!(client.ask("POST", path, "").code, 401, "{path}");
        }
    }
    assert_eq!(cluster.admin().get("/healthz").body, "ok");
}

#[test]
fn a_token_is_asked_about_once_and_makes_up_for_a_certificate_that_nobody_vouches_for() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    cluster.server.token("secret", User::new("monitor", &["watchers"]));
    cluster.server.grant(Grant::new("watchers", &["get"], &["nodes/metrics"]));
    cluster.server.forget();
    for client in [cluster.nobody(), cluster.stranger()] {
        let client = client.says("Authorization: Bearer secret");
        for _ in 0..2 {
            assert_eq!(client.get("/metrics/resource").code, 200);
        }
        assert_eq!(client.get("/pods").code, 403);
    }
    assert_eq!(reviews(&cluster, "tokenreviews"), 1, "{}", cluster.server.told());
    // One for `metrics`, and one each for the two rights by which pods may be seen.
    assert_eq!(reviews(&cluster, "subjectaccessreviews"), 3, "{}", cluster.server.told());
}

#[test]
fn what_is_known_counts_while_the_api_server_is_gone_and_nothing_else_does() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node);
    cluster.server.token("secret", User::new("monitor", &["system:masters"]));
    let client = || cluster.nobody().says("Authorization: Bearer secret");
    assert_eq!(client().get("/metrics/resource").code, 200);
    cluster.server.stop();
    assert_eq!(client().get("/metrics/resource").code, 200, "it was allowed of late");
    assert_eq!(cluster.nobody().says("Authorization: Bearer other").get("/metrics/resource").code, 401);
    let refused = cluster.client(&User::new("somebody", &[])).get("/metrics/resource");
    assert_eq!(refused.code, 500);
    let expected = "Authorization error (user=somebody, verb=get, resource=nodes, subresource=metrics)";
    assert_eq!(refused.body, expected);
}
