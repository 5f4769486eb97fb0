//! Containers' logs go on in new files, and no line is lost over it: not to the disk's end, not to a killed agent, not
//! to who reads along.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use e2e::agent::Agent;
use e2e::cri::Containerd;
use e2e::loopfs::Ballast;
use e2e::manifest::{pod, shell};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pod with one container.
fn talker(script: &str) -> Value {
    pod("talks", json!({"terminationGracePeriodSeconds": 1, "containers": [shell("c", script)]}))
}

/// An agent that keeps small logs.
fn agent<'n>(node: &'n Node, size: &str, files: u32) -> Agent<'n> {
    let config = node.dir().join("config.yaml");
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncontainerLogMonitorInterval: 3s\n\
         containerLogMaxSize: {size}\ncontainerLogMaxFiles: {files}\n\
         imageGCHighThresholdPercent: 100\nevictionHard: {{memory.available: 1Mi}}\n"
    );
    std::fs::write(&config, text).expect("the temporary directory is writable");
    Agent::start_with(node, ["--config".into(), config.into_os_string()])
}

/// The directory of the container's logs.
fn log_dir(node: &Node) -> Option<PathBuf> {
    let pods = std::fs::read_dir(&node.log_dir).ok()?.flatten();
    let pod = pods.map(|it| it.path()).find(|it| it.to_string_lossy().contains("default_talks_"))?;
    Some(pod.join("c"))
}

/// The container's log files, oldest first.
fn files(node: &Node) -> Vec<PathBuf> {
    let entries = log_dir(node).and_then(|dir| std::fs::read_dir(dir).ok());
    let mut files: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|it| it.path()).collect();
    files.retain(|it| !name(it).starts_with('.') && !name(it).ends_with(".tmp"));
    // The live file is the newest, and its name the shortest.
    let plain = |it: &PathBuf| name(it).trim_end_matches(".gz").to_owned();
    files.sort_by_key(|it| (name(it) == "0.log", plain(it), name(it)));
    // One that has just been compressed may be there in both forms.
    files.dedup_by_key(|it| plain(it));
    files
}

fn name(path: &Path) -> String {
    path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
}

fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut text = String::new();
    if name(path).ends_with(".gz") {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("a whole gzip file");
    } else {
        text = String::from_utf8(bytes).expect("the log is text");
    }
    text
}

/// What the container wrote, of all that is kept: whole lines.
fn lines(node: &Node) -> Vec<String> {
    let all = loop {
        let before = files(node);
        let all: String = before.iter().map(|file| text(file)).collect();
        // Otherwise one was renamed before it was read.
        if files(node) == before {
            break all;
        }
    };
    // What has no newline yet is being written.
    let whole = all.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
}

/// Asserts that numbered lines stand one after the other, and returns the first and last number.
#[track_caller]
fn assert_in_order(lines: &[String]) -> (u64, u64) {
    let numbers: Vec<u64> = lines.iter().map(|line| line.parse().expect(line)).collect();
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    let wrong = numbers.iter().zip(first..).find(|(number, expected)| *number != expected);
    assert_eq!(wrong, None, "between {first} and {last}");
    (first, last)
}

/// Waits until the container has written a line.
#[track_caller]
fn wait_for_line(node: &Node, line: &str) {
    let found = inspect::wait_for(|| lines(node).iter().any(|it| it == line).then_some(()));
    assert!(found.is_some(), "{line} is not written: {:?}", lines(node).last());
}

#[test]
fn files_have_their_size_and_number_and_the_newest_lines() {
    let node = need!(Node::with_busybox());
    let mut agent = agent(&node, "64Ki", 3);
    agent.write("talks.yaml", talker("seq 1 20000; exec sleep 1000"));
    wait_for_line(&node, "20000");
    let files = files(&node);
    let names: Vec<String> = files.iter().map(|it| name(it)).collect();
    assert_eq!(files.len(), 3, "{names:?}");
    for (file, name) in files.iter().zip(&names) {
        assert!(text(file).len() <= 64 << 10, "{name}");
        let stamp = name.strip_prefix("0.log").expect("it belongs to the log");
        let digits = stamp.trim_start_matches('.').split(['-', '.']).next().unwrap_or_default();
        assert!(stamp.is_empty() || (digits.len() == 8 && digits.parse::<u32>().is_ok()), "{names:?}");
    }
    let (first, last) = assert_in_order(&lines(&node));
    assert!(first > 1 && last == 20000, "{first} to {last}");
    agent.stop();
}

#[test]
fn who_follows_or_looks_back_goes_over_all_files() {
    let node = need!(Node::with_busybox());
    let mut agent = agent(&node, "16Ki", 10_000);
    agent.write("talks.yaml", talker("while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 1 20000; exec sleep 1000"));
    agent.wait_for_running("talks");
    let mut follow = node.start(["logs", "-f", "talks"]);
    node.exec("talks", "c", &["touch", "/tmp/go"]).exits(0);
    follow.wait_for("20000");
    let expected: Vec<String> = (1..=20000).map(|number| number.to_string()).collect();
    let followed: Vec<String> = follow.lines().into_iter().map(|line| line.text).collect();
    assert_eq!(assert_in_order(&followed), (1, 20000));
    assert!(files(&node).len() > 20, "{:?}", files(&node).len());
    // The agent compresses them by and by.
    let packed = || files(&node).iter().filter(|it| name(it).ends_with(".gz")).count();
    let done = inspect::wait_for(|| (packed() == files(&node).len() - 2).then_some(()));
    assert!(done.is_some(), "{} of {}", packed(), files(&node).len());
    assert_eq!(lines(&node), expected);
    let printed = node.coracle(["logs", "talks"]).exits(0);
    assert!(printed.stdout().lines().eq(&expected));
    let tail = node.coracle(["logs", "talks", "--tail", "5000"]).exits(0);
    assert!(tail.stdout().lines().eq(&expected[15_000..]));
    follow.signal(Signal::KILL);
    follow.wait();
    agent.stop();
}

#[test]
fn a_run_shows_every_line_over_rotations() {
    let node = need!(Node::with_busybox());
    // More than three files of the usual size.
    let script = "awk 'BEGIN { for (i = 1; i <= 32000; i++) printf \"%d %01000d\\n\", i, 0 }'";
    let finished = node.run_to_end(talker(script)).exits(0);
    let shown: Vec<String> =
        finished.of("talks/c").iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(assert_in_order(&shown), (1, 32_000));
}

#[test]
fn a_killed_agent_costs_no_line_and_nobody_need_be_there_to_go_on_in_a_new_file() {
    let node = need!(Node::with_busybox());
    let mut agent = agent(&node, "16Ki", 10_000);
    agent.write(
        "talks.yaml",
        talker("i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i; usleep 200; done; echo end; exec sleep 1000"),
    );
    wait_for_line(&node, "500");
    agent.kill();
    let before = files(&node).len();
    let more = inspect::wait_for(|| (files(&node).len() > before + 2).then_some(()));
    assert!(more.is_some(), "{before} files");
    agent.restart();
    agent.wait_for_running("talks");
    for _ in 0..3 {
        agent.kill();
        agent.restart();
    }
    node.exec("talks", "c", &["touch", "/tmp/stop"]).exits(0);
    wait_for_line(&node, "end");
    let mut kept = lines(&node);
    assert_eq!(kept.pop().as_deref(), Some("end"));
    assert_eq!(assert_in_order(&kept).0, 1);
    agent.stop();
}

#[test]
fn on_a_full_disk_what_is_written_stays_and_what_cannot_be_is_counted() {
    let node = need!(Node::on_small_disk(32, 8000));
    let mut agent = agent(&node, "16Ki", 10_000);
    agent.write("talks.yaml", talker("i=0; while :; do i=$((i+1)); echo $i; usleep 500; done"));
    wait_for_line(&node, "2000");
    let before = lines(&node);
    let full = Ballast::fill(node.disk().expect("a small disk"));
    // An exec, which writes nothing, shows that nothing hangs; and some lines cannot be written meanwhile.
    node.exec("talks", "c", &["sleep", "1"]).exits(0);
    drop(full);
    let lost = |lines: &[String]| -> u64 {
        lines.iter().filter_map(|it| it.strip_prefix("coracle: ")?.split(' ').next()?.parse::<u64>().ok()).sum()
    };
    let counted = inspect::wait_for(|| Some(lines(&node)).filter(|lines| lost(lines) > 0));
    assert!(counted.is_some(), "nothing was lost, or nobody says so");
    let written = inspect::wait_for(|| {
        let lines = lines(&node);
        lines
            .last()
            .is_some_and(|last| last.parse::<u64>().is_ok_and(|it| it > before.len() as u64 + 3000))
            .then_some(lines)
    });
    let lines = written.expect("it goes on");
    assert!(lines.starts_with(&before), "what had been written is there");
    let last: u64 = lines.iter().rev().find_map(|it| it.parse().ok()).expect("the last number");
    let numbers = lines.iter().filter(|it| it.parse::<u64>().is_ok()).count() as u64;
    assert_eq!(numbers + lost(&lines), last, "each line is there or counted");
    agent.stop();
}

#[test]
fn logs_are_linked_where_collectors_look_and_the_links_go_with_them() {
    let node = need!(Node::with_busybox());
    let links = node.dir().join("containers");
    let mut agent = agent(&node, "10Mi", 5);
    agent.stop();
    agent.arg("--log-links");
    agent.arg(&links);
    agent.restart();
    agent.write("talks.yaml", talker("echo here; exec sleep 1000"));
    let shown = agent.wait_for_running("talks");
    let id = e2e::agent::container_id(&shown, "c").expect("it runs");
    let id = id.rsplit('/').next().expect("an id");
    let link = links.join(format!("talks_default_c-{id}.log"));
    let read = inspect::wait_for(|| std::fs::read_to_string(&link).ok().filter(|it| it.contains(" here\n")));
    assert!(read.is_some(), "{} leads nowhere: {:?}", link.display(), std::fs::read_dir(&links).map(|it| it.count()));
    agent.remove("talks.yaml");
    agent.wait_until_gone("talks");
    let gone = inspect::wait_for(|| std::fs::symlink_metadata(&link).is_err().then_some(()));
    assert!(gone.is_some(), "{} is still there", link.display());
    agent.stop();
}

#[test]
fn on_another_runtime_files_are_renamed_and_opened_anew() {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    let mut agent = agent(&node, "8Ki", 4);
    agent.stop();
    agent.arg("--container-runtime-endpoint");
    agent.arg(containerd.socket());
    agent.restart();
    agent.write("talks.yaml", talker("i=0; while :; do i=$((i+1)); echo $i; usleep 2000; done"));
    agent.wait_for_running("talks");
    let packed = |files: &[PathBuf]| files.iter().filter(|it| name(it).ends_with(".gz")).count();
    let done = inspect::wait_for(|| Some(files(&node)).filter(|files| files.len() == 4 && packed(files) == 2));
    assert!(done.is_some(), "{:?}\nthe agent said:\n{}", files(&node), agent.said());
    assert!(assert_in_order(&lines(&node)).1 > 500);
    agent.remove("talks.yaml");
    agent.wait_until_gone("talks");
    agent.stop();
}
