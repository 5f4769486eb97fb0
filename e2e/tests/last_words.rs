//! Termination messages: where they are written, and what stands in for one.

use e2e::agent::{Agent, status_of};
use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

const FALLBACK: &str = "FallbackToLogsOnError";

#[test]
fn a_container_s_last_words_are_those_of_its_file_or_the_end_of_its_log() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let of = |name: &str, script: &str, more: Value| (name.to_owned(), with(shell("c", script), more));
    let rows = [
        (of("file", "echo -n DONE > /dev/termination-log", json!({})), "DONE"),
        (
            of(
                "elsewhere",
                "echo -n DONE > /dev/custom",
                json!({"terminationMessagePath": "/dev/custom", "securityContext": {"runAsUser": 1000}}),
            ),
            "DONE",
        ),
        (of("log", "echo -n DONE; exit 1", json!({"terminationMessagePolicy": FALLBACK})), "DONE"),
        (
            of(
                "both",
                "echo log; echo -n file > /dev/termination-log; exit 1",
                json!({"terminationMessagePolicy": FALLBACK}),
            ),
            "file",
        ),
        (of("good", "echo -n DONE", json!({"terminationMessagePolicy": FALLBACK})), ""),
        (
            of(
                "good-file",
                "echo log; echo -n OK > /dev/termination-log",
                json!({"terminationMessagePolicy": FALLBACK}),
            ),
            "OK",
        ),
        (of("only-file", "echo log; exit 1", json!({})), ""),
    ];
    for ((name, container), _) in &rows {
        agent.write(&format!("{name}.yaml"), pod(name, json!({"containers": [container]})));
    }
    for ((name, _), expected) in &rows {
        let over = agent
            .wait_for(name, "over", |pod| status_of(pod, "c").is_some_and(|it| it["state"]["terminated"].is_object()));
        let end = &status_of(&over, "c").unwrap_or(&Value::Null)["state"]["terminated"];
        assert_eq!(end["message"].as_str().unwrap_or_default(), *expected, "{name}: {end:#}");
    }
}
