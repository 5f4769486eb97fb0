//! Plug-ins that fail, and processes that are killed while plug-ins are at work: no pod is half connected, and nothing is
//! left.

use std::fs;
use std::time::Duration;

use e2e::agent::Agent;
use e2e::pods::{Pod, end, keeper};
use e2e::{Node, StateDir, inspect, need, patience};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::plugins::{Plugins, wait_until};

fn to_str(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// As an agent keeps it.
fn kept(mut pod: Value) -> Value {
    pod["spec"]["restartPolicy"] = json!("Always");
    pod
}

#[test]
fn a_plug_in_that_fails_hangs_or_babbles_is_named_and_its_pod_not_half_connected() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let flags = plugins.flags();
    let flags = to_str(&flags);
    // Long enough for Debian's own on a busy machine.
    let limit = patience(Duration::from_secs(15)).as_secs();
    let hung = format!("it took longer than {limit} s and was killed");
    for (body, said) in [
        (
            r#"[ $CNI_COMMAND != ADD ] || { echo '{"code": 111, "msg": "no luck", "details": "today"}'; exit 1; }"#,
            "no luck; today (code 111)",
        ),
        ("[ $CNI_COMMAND != ADD ] || { echo sad words >&2; exit 3; }", "it ended with exit status: 3: sad words"),
        ("[ $CNI_COMMAND != ADD ] || sleep 1000", hung.as_str()),
        ("[ $CNI_COMMAND != ADD ] || yes", "it printed more than 1048576 bytes and was killed"),
        ("exit 0", "it printed no result"),
        ("[ $CNI_COMMAND != ADD ] || echo '{\"ips\": []}'", "it gave the pod no address on eth0"),
    ] {
        plugins.script("odd", body);
        plugins.write("10-odd.conflist", "1.0.0", json!([plugins.bridge(), {"type": "odd"}]));
        let limit = limit.to_string();
        let limit = if said == hung { &["--cni-timeout", limit.as_str()][..] } else { &[] };
        let run = node.run_with(keeper("odd", json!({})), &[&flags, limit].concat()).wait();
        run.exits(125).says("connect pod default/odd to the network").says("ADD of CNI plug-in odd").says(said);
        let asked = plugins.asked("odd");
        assert!(asked.last().is_some_and(|it| it.starts_with("DEL ")), "{said}: {asked:?}");
        node.assert_nothing_left();
        plugins.assert_nothing_left(&node);
    }
    plugins.write("10-odd.conflist", "1.0.0", json!([plugins.bridge(), {"type": "absent"}]));
    let run = node.run_with(keeper("odd", json!({})), &flags).wait();
    run.exits(125).says("there is no program absent in ").says("--cni-bin-dir");
    plugins.write("10-odd.conflist", "1.1.0", json!([plugins.bridge()]));
    node.run_with(keeper("odd", json!({})), &flags).wait().exits(125).says("of cniVersion 1.1.0").says("speaks 0.");
    plugins.assert_nothing_left(&node);
    node.assert_nothing_left();
}

#[test]
fn an_agent_tries_again_until_the_plug_in_is_well() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let sick = format!(
        "[ $CNI_COMMAND != ADD ] || [ -e {}/well ] || {{ echo '{{\"code\": 11, \"msg\": \"come again\"}}'; exit 1; }}\n\
         [ $CNI_COMMAND != ADD ] || pass",
        plugins.notes.display()
    );
    plugins.script("odd", &sick);
    plugins.write("10-odd.conflist", "1.0.0", json!([plugins.bridge(), {"type": "odd"}]));
    let mut flags = plugins.os_flags();
    flags.extend(["--restart-backoff".into(), "initial=200ms,max=1s,reset=1s".into()]);
    let mut agent = Agent::start_with(&node, flags);
    agent.write("web.yaml", kept(keeper("web", json!({}))));
    agent.wait_for_words("come again (code 11)");
    node.coracle(["why", "web"]).exits(0).says("come again (code 11)");
    fs::write(plugins.notes.join("well"), "").expect("it is writable");
    agent.wait_for_running("web");
    assert_eq!(plugins.leases().len(), Pod::find(&node, "web").ips.len(), "failed attempts gave theirs back");
    assert_eq!(plugins.told("odd", "ADD")["prevResult"]["interfaces"][0]["name"], "cni0");
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    plugins.assert_nothing_left(&node);
    agent.stop_with_nothing_left();
}

#[test]
fn what_a_killed_process_had_begun_is_taken_back_without_flags_and_files() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.script("slow", "[ $CNI_COMMAND != ADD ] || sleep 1000");
    plugins.write("10-slow.conflist", "1.0.0", json!([plugins.bridge(), {"type": "slow"}]));
    let mut run = node.run_with(keeper("slow", json!({})), &to_str(&plugins.flags()));
    wait_until("the plug-in is at it", || plugins.asked("slow").iter().any(|it| it.starts_with("ADD ")));
    assert!(!plugins.leases().is_empty(), "the one before it has given addresses");
    run.signal(Signal::KILL);
    run.wait();
    fs::remove_dir_all(&plugins.conf).expect("it is there");
    node.coracle(["gc"]).exits(0);
    assert!(
        plugins.asked("slow").last().is_some_and(|it| it.starts_with("DEL netns=/")),
        "{:?}",
        plugins.asked("slow")
    );
    plugins.assert_nothing_left(&node);
    node.assert_nothing_left();
}

#[test]
fn what_a_killed_agent_had_begun_is_taken_back_by_the_next() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let slow = format!(
        "[ $CNI_COMMAND != ADD ] || [ -e {}/well ] || sleep 1000\n[ $CNI_COMMAND != ADD ] || pass",
        plugins.notes.display()
    );
    plugins.script("slow", &slow);
    plugins.write("10-slow.conflist", "1.0.0", json!([plugins.bridge(), {"type": "slow"}]));
    let mut agent = Agent::start_with(&node, plugins.os_flags());
    agent.write("web.yaml", kept(keeper("web", json!({}))));
    wait_until("the plug-in is at it", || plugins.asked("slow").iter().any(|it| it.starts_with("ADD ")));
    agent.kill();
    fs::write(plugins.notes.join("well"), "").expect("it is writable");
    agent.restart();
    agent.wait_for_running("web");
    let web = Pod::find(&node, "web");
    let mut leases = plugins.leases();
    leases.sort();
    assert_eq!(
        (leases, plugins.asked("slow").iter().filter(|it| it.starts_with("DEL ")).count()),
        (web.ips.clone(), 1)
    );
    // Whoever serves next needs neither the flag nor the directory to let go of it.
    drop(web);
    agent.stop();
    fs::remove_dir_all(&plugins.conf).expect("it is there");
    let mut plain = Agent::start(&node);
    plain.wait_for_running("web");
    wait_until("who serves anew has pods checked", || plugins.asked("slow").iter().any(|it| it.starts_with("CHECK ")));
    assert_eq!(plugins.told("slow", "CHECK")["prevResult"], plugins.told("slow", "ADD")["prevResult"]);
    plain.remove("web.yaml");
    plain.wait_until_gone("web");
    plugins.assert_nothing_left(&node);
    plain.stop_with_nothing_left();
}

#[test]
fn addresses_of_before_a_reboot_are_given_back() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.script("note", "[ $CNI_COMMAND != ADD ] || pass");
    plugins.write("10-note.conflist", "1.0.0", json!([plugins.bridge(), {"type": "note"}]));
    for state in [StateDir::Emptied, StateDir::Kept] {
        let run = node.run_with(keeper("web", json!({})), &to_str(&plugins.flags()));
        let web = Pod::find(&node, "web");
        assert_eq!(plugins.leases().len(), web.ips.len());
        let told = plugins.told("note", "ADD")["prevResult"].clone();
        drop(web);
        node.cut_power(state);
        run.wait();
        assert!(!plugins.leases().is_empty(), "the disk has them still");
        node.coracle(["gc"]).exits(0).says("default/web");
        assert_eq!(plugins.asked("note").last().map(String::as_str), Some("DEL netns="), "{state:?}");
        assert_eq!(plugins.told("note", "DEL")["prevResult"]["ips"], told["ips"]);
        plugins.assert_nothing_left(&node);
    }
}

#[test]
fn a_pod_ends_although_a_plug_in_does_not_let_go_and_gc_tries_again() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    plugins.script("holds", "[ $CNI_COMMAND != ADD ] || pass\n[ $CNI_COMMAND != DEL ] || exit 7");
    plugins.write("10-holds.conflist", "1.0.0", json!([plugins.bridge(), {"type": "holds"}]));
    let mut run = node.run_with(keeper("web", json!({})), &to_str(&plugins.flags()));
    drop(Pod::find(&node, "web"));
    run.signal(Signal::TERM);
    run.wait().says("a pod was not disconnected as it should be");
    assert_eq!(plugins.leases(), Vec::<std::net::IpAddr>::new(), "the others have let go");
    node.coracle(["gc"]).exits(125).says("what CNI plug-ins had done for pod default/web").says("exit status: 7");
    plugins.script("holds", "exit 0");
    node.coracle(["gc"]).exits(0).says("what CNI plug-ins had done for pod default/web");
    plugins.assert_nothing_left(&node);
    node.assert_nothing_left();
}

#[test]
fn gc_tells_plug_ins_which_pods_there_are() {
    let mut node = need!(Node::with_busybox());
    let plugins = need!(Plugins::on(&mut node));
    let add = r#"case $CNI_COMMAND in
        VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}' ;;
        ADD) echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.88.0.9/24"}]}' ;;
    esac"#;
    plugins.script("new", add);
    plugins.write("10-new.conflist", "1.1.0", json!([{"type": "new"}]));
    let flags = plugins.flags();
    let run = node.run_with(keeper("web", json!({})), &to_str(&flags));
    let web = Pod::find(&node, "web");
    let id = plugins.told("new", "ADD");
    assert_eq!((&id["cniVersion"], id.get("prevResult")), (&json!("1.1.0"), None));
    node.coracle([&["gc"], &to_str(&flags)[..]].concat()).exits(0);
    let valid = plugins.told("new", "GC")["cni.dev/valid-attachments"].clone();
    assert_eq!((valid.as_array().map(Vec::len), &valid[0]["ifname"]), (Some(1), &json!("eth0")), "{valid}");
    assert!(inspect::process_with_environment(&node, "E2E_POD=web").is_some(), "its pod goes on");
    end(&node, run, web);
    node.coracle([&["gc"], &to_str(&flags)[..]].concat()).exits(0);
    assert_eq!(plugins.told("new", "GC")["cni.dev/valid-attachments"], json!([]));
}
