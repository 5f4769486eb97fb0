//! Whatever way a manifest comes, it is read once it is whole.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use e2e::agent::{Agent, condition, container_id};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

fn version(number: u32) -> Value {
    let env = json!({"env": [{"name": "VERSION", "value": number.to_string()}]});
    pod("web", json!({"restartPolicy": "Always", "containers": [with(shell("c", "exec sleep 1000"), env)]}))
}

#[track_caller]
fn wait_for_version(agent: &Agent<'_>, number: u32) -> Value {
    agent.wait_for("web", &format!("version {number}"), |pod| {
        pod["spec"]["containers"][0]["env"][0]["value"] == number.to_string().as_str()
            && pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
    })
}

fn sh(dir: &Path, script: &str, text: &Value) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(dir).env("TEXT", text.to_string()).status();
    assert!(status.expect("a shell").success(), "{script}");
}

#[test]
fn every_editors_way_of_writing_is_understood() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let ways = [
        // A shell.
        r#"printf %s "$TEXT" > web.yaml"#,
        // vim with backupcopy=yes: a copy, then in place.
        r#"cp web.yaml web.yaml~; printf %s "$TEXT" > web.yaml; rm web.yaml~"#,
        // vim with backupcopy=no: a probe, the old one aside, a new one.
        r#": > 4913; rm 4913; mv web.yaml web.yaml~; printf %s "$TEXT" > web.yaml; rm web.yaml~"#,
        // emacs: a lock that leads nowhere, a backup beside it.
        r#"ln -s me@here.1:2 .#web.yaml; cp web.yaml web.yaml~; printf %s "$TEXT" > web.yaml; rm .#web.yaml"#,
        // sed -i, git, rsync: a temporary that is moved into its place.
        r#"printf %s "$TEXT" > .web.yaml.Xy12; mv .web.yaml.Xy12 web.yaml"#,
        // A new file under the old name.
        r#"rm web.yaml; printf %s "$TEXT" > web.yaml"#,
        // A slow writer, in pieces.
        r#"( printf %s "$TEXT" | head -c 100; sleep 0.3; printf %s "$TEXT" | tail -c +101 ) > web.yaml"#,
        // A hard link.
        r#"printf %s "$TEXT" > new.txt; ln -f new.txt web.yaml; rm new.txt"#,
    ];
    for (number, way) in (1..).zip(ways) {
        sh(agent.manifests(), way, &version(number));
        wait_for_version(&agent, number);
        let said = agent.said();
        assert!(!said.contains("is not used"), "half of it was taken for the whole: {way}\n{said}");
    }
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    agent.write("web.yaml", version(1));
    let before = wait_for_version(&agent, 1);
    // The first half of it is a whole manifest.
    let file = fs::File::create(agent.path("web.yaml")).expect("the directory is writable");
    let write = |text: String| (&file).write_all(text.as_bytes()).expect("it is writable");
    write(format!("---\n{}\n", keeper("other")));
    agent.write("zzz.yaml", keeper("zzz"));
    agent.wait_for("zzz", "ready", |zzz| {
        // A writer that stops is given up some time.
        write("# to be continued\n".into());
        condition(zzz, "Ready") == Some(true)
    });
    assert!(node.pod("other").is_none(), "half a file was read");
    write(format!("---\n{}\n", version(1)));
    drop(file);
    agent.wait_for_running("other");
    assert_eq!(container_id(&before, "c"), container_id(&wait_for_version(&agent, 1), "c"));
}

#[test]
fn a_directory_as_config_maps_are_mounted_changes_at_once() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let dir = agent.manifests();
    let publish = |number: u32| {
        let data = dir.join(format!("..{number}"));
        fs::create_dir(&data).expect("the directory is writable");
        fs::write(data.join("web.yaml"), version(number).to_string()).expect("the directory is writable");
        symlink(format!("..{number}"), dir.join("..data_tmp")).expect("the directory is writable");
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("the directory is writable");
    };
    publish(1);
    symlink("..data/web.yaml", dir.join("web.yaml")).expect("the directory is writable");
    wait_for_version(&agent, 1);
    publish(2);
    wait_for_version(&agent, 2);
    fs::remove_dir_all(dir.join("..1")).expect("it is there");
    publish(3);
    wait_for_version(&agent, 3);
}

#[test]
fn a_directory_behind_a_link_is_followed_to_where_the_link_leads() {
    let node = need!(Node::with_busybox());
    let releases = node.make_dir("releases");
    for number in 1..=2 {
        fs::create_dir(releases.join(number.to_string())).expect("the directory is writable");
        let file = releases.join(format!("{number}/web.yaml"));
        fs::write(file, version(number).to_string()).expect("the directory is writable");
    }
    let current = releases.join("current");
    symlink("1", &current).expect("the directory is writable");
    let mut agent = Agent::prepare_bare(&node, ["--pod-manifest-path".into(), current.clone().into_os_string()]);
    agent.restart();
    let before = wait_for_version(&agent, 1);
    symlink("2", releases.join("new")).expect("the directory is writable");
    fs::rename(releases.join("new"), &current).expect("the directory is writable");
    let after = wait_for_version(&agent, 2);
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    fs::write(releases.join("2/web.yaml"), version(3).to_string()).expect("the directory is writable");
    wait_for_version(&agent, 3);
}

#[test]
fn a_single_file_is_followed() {
    let node = need!(Node::with_busybox());
    let file = node.make_dir("manifests").join("node.yaml");
    let mut agent = Agent::prepare_bare(&node, ["--pod-manifest-path".into(), file.clone().into_os_string()]);
    agent.restart();
    agent.write("node.yaml", version(1));
    agent.write("not-this.yaml", keeper("not-this"));
    wait_for_version(&agent, 1);
    agent.write("node.yaml", version(2));
    wait_for_version(&agent, 2);
    assert!(node.pod("not-this").is_none());
    agent.remove("node.yaml");
    agent.wait_until_gone("web");
}

/// Answers every request with what is in the file, or with a failure while there is none.
fn serve(listener: std::net::TcpListener, file: std::path::PathBuf) {
    use std::io::Read as _;
    for mut stream in listener.incoming().flatten() {
        let mut request = [0; 4096];
        let Ok(count) = stream.read(&mut request) else { continue };
        let asked = String::from_utf8_lossy(&request[..count]).to_lowercase();
        let answer = match fs::read_to_string(&file) {
            Ok(text) if asked.contains("x-token: secret") => {
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}", text.len())
            }
            _ => "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into(),
        };
        // Who asked may have been killed.
        let _ = stream.write_all(answer.as_bytes());
    }
}

#[test]
fn an_address_is_asked_again_and_again_and_its_failures_stop_nothing() {
    let node = need!(Node::with_busybox());
    let listener = node.host().within(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("a loopback");
    let url = format!("http://{}/pods", listener.local_addr().expect("it is bound"));
    let file = node.dir().join("answer.yaml");
    let answer = file.clone();
    std::thread::spawn(move || serve(listener, answer));
    let args = ["--manifest-url", &url, "--manifest-url-header", "X-Token: secret", "--http-check-frequency", "100ms"];
    let mut agent = Agent::prepare_bare(&node, args);
    agent.restart();
    let unreadable = |pod: &Value| pod["status"]["reason"] == "Unreadable";
    let failed = agent.wait_for("pods", "unreadable", unreadable);
    assert!(failed.to_string().contains("503"), "{failed:#}");
    let publish = |number: u32| {
        fs::write(file.with_extension("new"), version(number).to_string()).expect("the directory is writable");
        fs::rename(file.with_extension("new"), &file).expect("the directory is writable");
    };
    publish(1);
    let first = container_id(&wait_for_version(&agent, 1), "c");
    agent.wait_until_gone("pods");
    publish(2);
    wait_for_version(&agent, 2);
    let before = agent.wait_for("web", "another instance", |pod| {
        container_id(pod, "c").is_some_and(|id| Some(id) != first)
            && pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
    });
    fs::remove_file(&file).expect("it is there");
    agent.wait_for("pods", "unreadable", unreadable);
    agent.kill();
    agent.restart();
    assert_eq!(container_id(&before, "c"), container_id(&wait_for_version(&agent, 2), "c"));
}
