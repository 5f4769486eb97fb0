//! Configurations, results of each version, what plug-ins are told, and how they fail.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::cache::{Attachment, Phase};
use super::config::{self, List, VERSIONS};
use super::exec::{self, Call, Failure};
use super::plugin::{self, Asker};
use super::request::{self, Ask, configuration, environment};
use super::{Memory, capabilities, chain, result};
use crate::network::{PortMapping, Protocol};
use crate::sandbox::{Dns, Request};

fn list(version: &str, plugins: Value) -> List {
    let text = json!({"cniVersion": version, "name": "net", "plugins": plugins}).to_string();
    List::parse(text.as_bytes(), Path::new("/etc/cni/net.d/10-net.conflist")).unwrap()
}

fn attachment(list: List, bin: &Path) -> Attachment {
    Attachment {
        version: 1,
        sandbox: "abc123".into(),
        pod: "shop/web".into(),
        phase: Phase::Adding,
        netns: "/run/coracle/ns/abc/net".into(),
        args: request::args("shop", "web", "abc123", "u-1").unwrap(),
        offered: [("portMappings".to_owned(), json!([{"hostPort": 80}])), ("dns".to_owned(), json!({}))].into(),
        bin_dirs: vec![bin.to_owned(), "/usr/lib/cni".into()],
        list,
        result: None,
    }
}

#[test]
fn a_configuration_is_read_or_what_is_wrong_with_it_is_said() {
    let parse = |value: Value| List::parse(value.to_string().as_bytes(), Path::new("/d/a.conflist"));
    let bridge = json!([{"type": "bridge"}]);
    let good = parse(json!({"cniVersion": "0.4.0", "name": "a.b-c_1", "disableCheck": "TRUE", "plugins": bridge}));
    let good = good.unwrap();
    assert_eq!((good.name.as_str(), good.disable_check, good.disable_gc), ("a.b-c_1", true, false));
    let single = parse(json!({"cniVersion": "0.3.1", "name": "one", "type": "ptp", "mtu": 1400})).unwrap();
    assert_eq!((single.plugins.len(), config::type_of(&single.plugins[0])), (1, "ptp"));
    assert_eq!(single.plugins[0]["mtu"], 1400);
    for (value, why) in [
        (json!([]), "it is no JSON"),
        (json!({"cniVersion": "1.0.0", "plugins": bridge}), "it has no name"),
        (json!({"cniVersion": "1.0.0", "name": 7, "plugins": bridge}), "name is no text"),
        (json!({"cniVersion": "1.0.0", "name": "../x", "plugins": bridge}), "the name \"../x\""),
        (json!({"cniVersion": "1.0.0", "name": "a", "plugins": {}}), "plugins is no list"),
        (json!({"cniVersion": "1.0.0", "name": "a", "plugins": [7]}), "a plug-in is no object"),
        (json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{}]}), "a plug-in has no type"),
        (json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "../sh"}]}), "not the name of a program"),
        (json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "/bin/sh"}]}), "not the name of a program"),
        (
            json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "b", "capabilities": {"x": 1}}]}),
            "capabilities of plug-in b",
        ),
        (json!({"cniVersion": "1.0.0", "name": "a", "disableGC": 1, "plugins": bridge}), "disableGC is neither"),
        (json!({"name": "a", "plugins": bridge}), "its cniVersion is none; spoken here are 0.3.0, "),
        (json!({"cniVersion": "0.2.0", "name": "a", "plugins": bridge}), "its cniVersion is 0.2.0"),
        (json!({"cniVersion": "1.0.0", "cniVersions": "2", "name": "a", "plugins": bridge}), "cniVersions is no list"),
    ] {
        let said = parse(value.clone()).unwrap_err();
        assert!(said.contains(why), "{value}: {said}");
    }
}

#[test]
fn the_latest_version_that_is_spoken_is_chosen() {
    for (named, chosen) in [
        (json!({"cniVersion": "0.3.1"}), "0.3.1"),
        (json!({"cniVersion": "0.4.0", "cniVersions": ["1.1.0", "1.0.0"]}), "1.1.0"),
        (json!({"cniVersions": ["0.4.0", "2.0.0"]}), "0.4.0"),
        (json!({"cniVersion": "9.9.9", "cniVersions": ["1.0.0"]}), "1.0.0"),
    ] {
        let mut text = named.clone();
        text["name"] = json!("a");
        text["plugins"] = json!([{"type": "b"}]);
        let list = List::parse(text.to_string().as_bytes(), Path::new("/x")).unwrap();
        assert_eq!(list.version, chosen, "{named}");
    }
    assert!(list("1.1.0", json!([])).speaks("1.1.0") && list("1.0.0", json!([])).speaks("0.4.0"));
    assert!(!list("0.3.1", json!([])).speaks("0.4.0"));
}

#[test]
fn the_first_valid_file_of_a_directory_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let none = config::first(&path("missing")).unwrap_err();
    assert_eq!(none, format!("there is no directory {}", path("missing").display()));
    let none = config::first(dir.path()).unwrap_err();
    assert_eq!(none, format!("there is no CNI configuration in {}", dir.path().display()));
    let valid = |name: &str| json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "bridge"}]}).to_string();
    fs::write(path("10-bad.conflist"), "{").unwrap();
    fs::write(path("05-note.txt"), valid("text")).unwrap();
    fs::create_dir(path("01-dir.conflist")).unwrap();
    let none = config::first(dir.path()).unwrap_err();
    assert!(none.starts_with("there is no valid CNI configuration in ") && none.contains("10-bad.conflist: it is no"));
    fs::write(path("30-late.conflist"), valid("late")).unwrap();
    fs::write(path("20-one.conf"), json!({"cniVersion": "0.4.0", "name": "one", "type": "ptp"}).to_string()).unwrap();
    fs::write(path("15-empty.json"), json!({"cniVersion": "0.4.0", "name": "e", "plugins": []}).to_string()).unwrap();
    let found = config::first(dir.path()).unwrap();
    assert_eq!((found.list.name.as_str(), found.list.file), ("one", path("20-one.conf")));
    let skipped: Vec<_> = found.skipped.into_iter().map(|(file, _)| file).collect();
    assert_eq!(skipped, [path("10-bad.conflist"), path("15-empty.json")]);
}

#[test]
fn plug_ins_of_a_list_may_be_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("net")).unwrap();
    for (name, kind) in [("2.conf", "tuning"), ("1.conf", "portmap"), ("3.txt", "no")] {
        fs::write(dir.path().join("net").join(name), json!({ "type": kind }).to_string()).unwrap();
    }
    let types = |list: Value| {
        fs::write(dir.path().join("10.conflist"), list.to_string()).unwrap();
        let list = config::first(dir.path()).map(|it| it.list)?;
        Ok::<_, String>(list.plugins.iter().map(|it| config::type_of(it).to_owned()).collect::<Vec<_>>())
    };
    let inline = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "bridge"}]});
    assert_eq!(types(inline.clone()).unwrap(), ["bridge", "portmap", "tuning"]);
    let mut only = inline;
    only["loadOnlyInlinedPlugins"] = json!(true);
    assert_eq!(types(only).unwrap(), ["bridge"]);
    assert_eq!(types(json!({"cniVersion": "1.1.0", "name": "net"})).unwrap(), ["portmap", "tuning"]);
    assert!(types(json!({"cniVersion": "1.1.0", "name": "other"})).unwrap_err().contains("it has no plug-ins"));
}

#[test]
fn a_plug_in_is_told_what_it_asks_for_and_nothing_else() {
    let list = list(
        "1.0.0",
        json!([{"type": "portmap", "snat": true, "capabilities": {"portMappings": true, "dns": false},
        "cni.dev/x": 1}]),
    );
    let offered = [("portMappings".to_owned(), json!([1])), ("dns".to_owned(), json!({}))].into();
    let previous = json!({"ips": []});
    let told = |ask| Value::Object(configuration(&list, &list.plugins[0], ask, &offered));
    let plain = json!({"type": "portmap", "snat": true, "name": "net", "cniVersion": "1.0.0",
        "runtimeConfig": {"portMappings": [1]}});
    assert_eq!(told(Ask::Add(None)), plain);
    let mut after = plain.clone();
    after["prevResult"] = previous.clone();
    assert_eq!(told(Ask::Add(Some(&previous))), after);
    assert_eq!(told(Ask::Del(Some(&previous))), after);
    assert_eq!(told(Ask::Check(&previous)), after);
    assert_eq!(told(Ask::Del(None)), plain);
    let gc = told(Ask::Gc(&["abc".to_owned()]));
    let valid = json!([{"containerID": "abc", "ifname": "eth0"}]);
    assert_eq!((&gc["cni.dev/valid-attachments"], &gc["cni.dev/attachments"]), (&valid, &valid));
    let old = self::list("0.3.1", json!([{"type": "ptp"}]));
    let del = configuration(&old, &old.plugins[0], Ask::Del(Some(&previous)), &offered);
    assert!(!del.contains_key("prevResult") && !del.contains_key("runtimeConfig"), "{del:?}");
}

#[test]
fn the_environment_says_who_the_pod_is() {
    let attachment = attachment(list("1.0.0", json!([{"type": "ptp"}])), Path::new("/opt/cni/bin"));
    let args =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc123;K8S_POD_UID=u-1";
    let expected = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc123"),
        ("CNI_NETNS", "/run/coracle/ns/abc/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
    ];
    assert_eq!(environment(&attachment, "ADD", true), expected.map(|(name, value)| (name, value.to_owned())));
    let gone = environment(&attachment, "DEL", false);
    assert!(gone.contains(&("CNI_NETNS", String::new())) && gone.contains(&("CNI_COMMAND", "DEL".to_owned())));
    for bad in ["a;b", "a=b", "a\nb"] {
        assert!(request::args(bad, "n", "s", "u").is_err(), "{bad:?}");
    }
}

#[test]
fn a_pod_offers_ports_bandwidth_ranges_and_name_servers() {
    let port = PortMapping { protocol: Protocol::Udp, container_port: 53, host_port: 5353, host_ip: None };
    let at = PortMapping { host_ip: Some("127.0.0.1".parse().unwrap()), protocol: Protocol::Tcp, ..port };
    let rates = [("ingress", "8M"), ("egress", "64G")];
    let request = Request {
        ports: vec![port, at],
        annotations: rates.map(|(way, rate)| (format!("kubernetes.io/{way}-bandwidth"), rate.to_owned())).into(),
        dns: Some(Dns { servers: vec!["192.0.2.1".into()], ..Dns::default() }),
        ..Request::default()
    };
    let ranges = ["10.1.2.3/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let offered = capabilities::of(&request, &ranges).unwrap();
    assert_eq!(
        offered["portMappings"],
        json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": ""},
            {"hostPort": 5353, "containerPort": 53, "protocol": "tcp", "hostIP": "127.0.0.1"}])
    );
    let most = u32::MAX;
    assert_eq!(
        offered["bandwidth"],
        json!({"ingressRate": 8_000_000, "ingressBurst": 1 << 20, "egressRate": 64_000_000_000_u64, "egressBurst": most})
    );
    assert_eq!(offered["ipRanges"], json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}]]));
    assert_eq!(offered["dns"], json!({"servers": ["192.0.2.1"], "searches": [], "options": []}));
    let names: Vec<String> = capabilities::of(&Request::default(), &[]).unwrap().into_keys().collect();
    assert_eq!(names, ["io.kubernetes.cri.pod-annotations"]);
}

#[test]
fn results_of_every_version_are_read_and_told_on_in_the_lists() {
    let interfaces = json!([{"name": "cni0", "mac": "0a:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/run/ns/net"}]);
    let v6 = json!({"address": "fd00::2/64", "interface": 1, "gateway": "fd00::1"});
    let v4 = json!({"address": "10.1.0.2/24", "interface": 1});
    let (mut old6, mut old4) = (v6.clone(), v4.clone());
    (old6["version"], old4["version"]) = (json!("6"), json!("4"));
    let host = json!({"address": "10.1.0.1/24", "interface": 0});
    let expected: Vec<IpAddr> = ["10.1.0.2", "fd00::2"].map(|it| it.parse().unwrap()).to_vec();
    for said in VERSIONS {
        let ips = if said < "1" { json!([old6, old4, host]) } else { json!([v6, v4, host]) };
        let printed = json!({"cniVersion": said, "interfaces": interfaces, "ips": ips, "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["192.0.2.1", "not an address"], "domain": "lan", "options": ["ndots:2"]}});
        for spoken in VERSIONS {
            let list = list(spoken, json!([{"type": "bridge"}]));
            let read = result::read(printed.to_string().as_bytes(), &list).unwrap();
            assert_eq!((&read["cniVersion"], &read["routes"]), (&json!(spoken), &printed["routes"]));
            let family = if spoken < "1" { json!("6") } else { Value::Null };
            assert_eq!(read["ips"][0]["version"], family, "{said} for {spoken}");
            let outcome = result::outcome(&read).unwrap();
            assert_eq!(outcome.addresses, expected, "{said} for {spoken}");
            let dns = outcome.dns.unwrap();
            assert_eq!((dns.servers, dns.searches), (vec!["192.0.2.1".to_owned()], vec!["lan".to_owned()]));
        }
    }
}

#[test]
fn a_result_that_says_nothing_of_the_pod_is_refused() {
    let list = list("1.0.0", json!([{"type": "bridge"}]));
    for (printed, why) in [("", "it printed no result"), ("[", "is no result"), (r#"{"ips": 7}"#, "is no result")] {
        let said = result::read(printed.as_bytes(), &list).unwrap_err().to_string();
        assert!(said.contains(why), "{printed:?}: {said}");
    }
    for (result, why) in [
        (json!({}), "it gave the pod no address on eth0"),
        (json!({"interfaces": [{"name": "cni0"}], "ips": [{"address": "10.0.0.1/8", "interface": 0}]}), "no address"),
        (json!({"ips": [{"address": "10.0.0.1/8", "interface": 3}]}), "on interface 3, which is none"),
        (json!({"ips": [{"address": "ten/8"}]}), "\"ten/8\" is no address"),
    ] {
        let said = result::outcome(&result).unwrap_err();
        assert!(said.contains(why), "{result}: {said}");
    }
    let plain = result::outcome(&json!({"ips": [{"address": "10.0.0.1/8"}], "dns": {}, "interfaces": null})).unwrap();
    assert_eq!((plain.addresses.len(), plain.dns), (1, None));
}

/// A directory of scripts that are plug-ins.
fn scripts(all: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in all {
        let path = dir.path().join(name);
        // Written by another process: whatever this one starts meanwhile would hold a file open that it writes itself, and
        // what is open for writing cannot be started.
        let text = format!("#!/bin/sh\n{script}\n");
        let write = Command::new("sh").args(["-c", r#"printf %s "$2" > "$1""#, "sh"]).arg(&path).arg(text).status();
        assert!(write.unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn asker(dirs: &[PathBuf]) -> Asker<'_> {
    Asker { dirs, limit: Duration::from_secs(60), cgroup: None }
}

#[test]
fn plug_ins_follow_each_other_and_are_undone_in_reverse() {
    let note = r#"cat > "${0%/*}/$CNI_COMMAND.${0##*/}"; echo "$CNI_COMMAND ${0##*/}" >> "${0%/*}/order";"#;
    let first = format!(
        r#"{note} [ $CNI_COMMAND != ADD ] || echo '{{"cniVersion":"1.0.0","ips":[{{"address":"10.0.0.2/24"}}]}}'"#
    );
    let second = format!(
        r#"{note} [ $CNI_COMMAND != ADD ] || echo '{{"ips":[{{"address":"10.0.0.2/24"}},{{"address":"fd00::2/64"}}]}}'"#
    );
    let dir = scripts(&[("first", &first), ("second", &second)]);
    let dirs = [dir.path().to_owned()];
    let mut attachment = attachment(list("1.0.0", json!([{"type": "first"}, {"type": "second"}])), dir.path());
    let (result, outcome) = chain::add(&asker(&dirs), &attachment).unwrap();
    assert_eq!(outcome.addresses.len(), 2);
    let told = |file: &str| serde_json::from_slice::<Value>(&fs::read(dir.path().join(file)).unwrap()).unwrap();
    assert_eq!(told("ADD.first").get("prevResult"), None);
    assert_eq!(told("ADD.second")["prevResult"]["ips"], json!([{"address": "10.0.0.2/24"}]));
    attachment.result = Some(result.clone());
    chain::check(&asker(&dirs), &attachment).unwrap();
    chain::del(&asker(&dirs), &attachment, true).unwrap();
    assert_eq!((&told("DEL.first")["prevResult"], &told("CHECK.second")["prevResult"]), (&result, &result));
    let order = fs::read_to_string(dir.path().join("order")).unwrap();
    let expected = ["ADD first", "ADD second", "CHECK first", "CHECK second", "DEL second", "DEL first"];
    assert_eq!(order.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn one_that_fails_to_undo_keeps_no_other_from_it() {
    let dir = scripts(&[
        ("deaf", "exec true"),
        ("lost", r#"echo '{"code": 3, "msg": "unknown"}'; exit 1"#),
        ("bad", r#"echo '{"code": 11, "msg": "busy", "details": "come  again"}'; exit 1"#),
        ("worse", "echo oh no >&2; exit 9"),
        ("last", r#"cat > "${0%/*}/reached""#),
    ]);
    let dirs = [dir.path().to_owned()];
    let kinds = json!([{"type": "last"}, {"type": "worse"}, {"type": "lost"}, {"type": "bad"}, {"type": "gone"},
        {"type": "deaf"}]);
    let attachment = attachment(list("1.0.0", kinds), dir.path());
    let said = chain::del(&asker(&dirs), &attachment, false).unwrap_err().to_string();
    for part in [
        "DEL of CNI plug-in bad (network net of /etc/cni/net.d/10-net.conflist): busy; come again (code 11)",
        "DEL of CNI plug-in worse (network net of /etc/cni/net.d/10-net.conflist): it ended with exit status: 9: oh no",
        "there is no program gone in ",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("unknown") && dir.path().join("reached").exists(), "{said}");
}

#[test]
fn a_plug_in_is_looked_for_in_its_directories_alone() {
    let dir = scripts(&[("good", "true")]);
    fs::write(dir.path().join("text"), "").unwrap();
    let dirs = [dir.path().join("none"), dir.path().to_owned()];
    assert_eq!(plugin::find("good", &dirs).unwrap(), dir.path().join("good"));
    for name in ["text", "missing", "", "..", "../bin/sh", "/bin/sh"] {
        assert!(matches!(plugin::find(name, &dirs), Err(Failure::Missing { .. })), "{name:?}");
    }
}

#[test]
fn versions_are_asked_for_once_and_those_who_say_nothing_are_believed() {
    let count = r#"echo x >> "${0%/*}/count"; echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'"#;
    let dir = scripts(&[("old", count), ("mute", "exit 1")]);
    let dirs = [dir.path().to_owned()];
    let memory = Memory::default();
    let verify = |version: &str, kind: &str| plugin::verify(&memory, &list(version, json!([{"type": kind}])), &dirs);
    assert!(verify("0.4.0", "old").is_ok() && verify("0.3.1", "old").is_ok() && verify("1.1.0", "mute").is_ok());
    let said = verify("1.0.0", "old").unwrap_err().to_string();
    assert!(said.contains("it is of cniVersion 1.0.0, and plug-in old (") && said.ends_with("speaks 0.3.1, 0.4.0"));
    assert_eq!(fs::read_to_string(dir.path().join("count")).unwrap().lines().count(), 1);
    assert!(verify("1.0.0", "missing").unwrap_err().to_string().contains("--cni-bin-dir"));
}

#[test]
fn status_and_gc_are_of_the_newest_version() {
    let note = r#"cat > "${0%/*}/$CNI_COMMAND""#;
    let dir = scripts(&[("ready", note), ("sick", r#"echo '{"code": 50, "msg": "not yet"}'; exit 1"#)]);
    let dirs = [dir.path().to_owned()];
    let limit = Duration::from_secs(60);
    let of = |version: &str, kind: &str| list(version, json!([{"type": kind}]));
    chain::status(&of("1.0.0", "sick"), &dirs, limit).unwrap();
    assert!(chain::status(&of("1.1.0", "sick"), &dirs, limit).unwrap_err().to_string().contains("not yet (code 50)"));
    chain::status(&of("1.1.0", "ready"), &dirs, limit).unwrap();
    let valid = ["abc".to_owned()];
    assert!(!chain::collects(&of("1.0.0", "ready")));
    let disabled = List { disable_gc: true, ..of("1.1.0", "ready") };
    assert!(!chain::collects(&disabled) && chain::collects(&of("1.1.0", "ready")));
    chain::gc(&of("1.1.0", "ready"), &dirs, limit, &valid).unwrap();
    assert!(fs::read_to_string(dir.path().join("GC")).unwrap().contains(r#""containerID":"abc""#));
}

fn run(dir: &Path, name: &str, limit: Duration) -> Result<exec::Ended, Failure> {
    let program = dir.join(name);
    let environment = [("CNI_COMMAND", "ADD".to_owned())];
    // More than a pipe holds: one that does not read it must not block anybody.
    let input = vec![b' '; 1 << 18];
    exec::run(&Call { program: &program, environment: &environment, input: &input, cgroup: None, limit })
}

#[test]
fn time_and_output_are_bounded() {
    let dir = scripts(&[
        ("hangs", "sleep 1000 & sleep 1000"),
        ("writes", "yes"),
        ("complains", "yes | head -c 10000000 >&2; echo '{}'"),
        ("leaves", "sleep 1000 & echo $! > \"${0%/*}/left\"; echo '{}'"),
    ]);
    let long = Duration::from_secs(600);
    let hung = run(dir.path(), "hangs", Duration::from_millis(300)).unwrap_err();
    assert_eq!(hung.to_string(), "it took longer than 0.3 s and was killed");
    assert!(matches!(run(dir.path(), "writes", long), Err(Failure::TooMuch)));
    let ended = run(dir.path(), "complains", long).unwrap();
    assert_eq!((ended.printed.as_slice(), ended.complaint.len() <= 1024), (b"{}\n".as_slice(), true));
    // What it has left behind has its pipes: nobody waits for that.
    assert_eq!(run(dir.path(), "leaves", long).unwrap().printed, b"{}\n");
    let left: i32 = fs::read_to_string(dir.path().join("left")).unwrap().trim().parse().unwrap();
    let left = rustix::process::Pid::from_raw(left).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}
