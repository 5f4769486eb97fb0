//! Logs of containers.

use std::time::Duration;

use e2e::cri::proto::*;
use e2e::cri::{Endpoint, Entry, Stream};
use tonic::Code;

use crate::harness::tests;
use crate::tools::Pod;

tests![
    both_outputs_are_logged_in_their_format,
    a_long_line_is_split,
    a_line_without_an_end_is_kept,
    a_log_is_reopened,
    a_log_of_what_does_not_run_is_not_reopened,
    nothing_is_lost_of_much,
    nothing_is_lost_at_the_end,
    bytes_are_kept_as_they_are,
];

fn both_outputs_are_logged_in_their_format(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "echo one; echo two >&2; echo; echo ' three '");
    pod.run_to_end(&config);
    let entries = endpoint.logs(&pod.config, &config);
    // Between two streams there is no order.
    let of =
        |stream: Stream| entries.iter().filter(move |it| it.stream == stream).map(|it| (it.full, it.text.as_str()));
    assert_eq!(of(Stream::Stdout).collect::<Vec<_>>(), [(true, "one"), (true, ""), (true, " three ")]);
    assert_eq!(of(Stream::Stderr).collect::<Vec<_>>(), [(true, "two")]);
    let times: Vec<&str> = entries.iter().filter(|it| it.stream == Stream::Stdout).map(|it| it.time.as_str()).collect();
    assert!(times.is_sorted() && times.iter().all(|time| time.len() >= 20 && &time[10..11] == "T"), "{times:?}");
}

fn a_long_line_is_split(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo after");
    pod.run_to_end(&config);
    let entries = endpoint.logs(&pod.config, &config);
    let (last, parts) = entries.split_last().expect("something was logged");
    assert_eq!((last.text.as_str(), last.full), ("after", true));
    assert_eq!(parts.iter().map(|it| it.text.len()).sum::<usize>(), 40_000);
    assert!(parts.len() >= 3 && parts.iter().all(|it| it.text.len() <= 16 * 1024), "{}", parts.len());
    assert_eq!(parts.iter().filter(|it| it.full).count(), 1, "one line has one end");
    assert!(parts.last().is_some_and(|it| it.full));
}

fn a_line_without_an_end_is_kept(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "printf 'no end'");
    pod.run_to_end(&config);
    let entries = endpoint.logs(&pod.config, &config);
    let text: String = entries.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(text, "no end");
}

fn a_log_is_reopened(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done");
    let id = pod.run(&config);
    endpoint.wait_for_log(&pod.config, &config, "line 10");
    let path = endpoint.log_file(&pod.config, &config);
    let old = path.with_extension("log.old");
    std::fs::rename(&path, &old).expect("the log is there");
    let request = ReopenContainerLogRequest { container_id: id.clone() };
    endpoint.client().reopen_container_log(request).expect("ReopenContainerLog answers");
    // When it has answered, the old file gets nothing more.
    let before = std::fs::read(&old).expect("the log is there");
    endpoint.wait_for_log(&pod.config, &config, "line ");
    std::thread::sleep(Duration::from_millis(300));
    endpoint.stop_container(&id, 0);
    assert_eq!(std::fs::read(&old).expect("the log is there").len(), before.len());
    assert!(before.ends_with(b"\n"), "its last line is whole");
    let texts = |path: &std::path::Path| Entry::read(path).into_iter().map(|it| it.text).collect::<Vec<_>>();
    let all = [texts(&old), texts(&path)].concat();
    let expected: Vec<String> = (1..=all.len()).map(|number| format!("line {number}")).collect();
    assert_eq!(all, expected, "no line is lost or twice");
}

fn a_log_of_what_does_not_run_is_not_reopened(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.create(&pod.script("c", "true"));
    let request = ReopenContainerLogRequest { container_id: id };
    endpoint.client().reopen_container_log(request).expect_err("it does not run");
    let request = ReopenContainerLogRequest { container_id: "f".repeat(64) };
    let unknown = endpoint.client().reopen_container_log(request).expect_err("there is none");
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
}

fn nothing_is_lost_of_much(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "seq 1 50000; exec sleep 1000");
    pod.run(&config);
    assert_counts_to_50_000(&endpoint.wait_for_log(&pod.config, &config, "50000"));
}

fn nothing_is_lost_at_the_end(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "seq 1 50000");
    pod.run_to_end(&config);
    // All is in the file when the container is said to have ended.
    assert_counts_to_50_000(&endpoint.logs(&pod.config, &config));
}

fn assert_counts_to_50_000(entries: &[Entry]) {
    assert_eq!(entries.len(), 50_000);
    let wrong = entries.iter().zip(1..).find(|(entry, number)| entry.text != number.to_string());
    assert!(wrong.is_none(), "{wrong:?}");
}

fn bytes_are_kept_as_they_are(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let config = pod.script("c", "printf 'a\\000b\\377c\\n'");
    pod.run_to_end(&config);
    let bytes = std::fs::read(endpoint.log_file(&pod.config, &config)).expect("the log is there");
    assert!(bytes.ends_with(b" stdout F a\0b\xffc\n"), "{}", String::from_utf8_lossy(&bytes));
}
