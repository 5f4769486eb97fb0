//! Parts of volumes: what is made, what leads out, and how they go away.

use std::fs;
use std::os::unix::fs::symlink;

use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use serde_json::{Value, json};

/// A container that mounts parts of the volume `v`: where, which part, and whether only to read.
fn container(name: &str, script: &str, mounts: &[(&str, &str, bool)]) -> Value {
    let mount = |(at, sub, read_only): &(&str, &str, bool)| json!({"name": "v", "mountPath": at, "subPath": sub, "readOnly": read_only});
    with(shell(name, script), json!({"volumeMounts": mounts.iter().map(mount).collect::<Vec<_>>()}))
}

fn of_host(dir: &std::path::Path) -> Value {
    json!([{"name": "v", "hostPath": {"path": dir, "type": "Directory"}}])
}

#[test]
fn what_is_made_is_as_open_as_its_volume_for_whoever_runs_there() {
    let node = need!(Node::with_busybox());
    let script = "echo is $(stat -c '%a %g' /p); touch /p/file && echo file $(stat -c %u:%g /p/file)";
    for medium in ["", "Memory"] {
        for (group, is, file) in [(None, "777 0", "1000:1000"), (Some(123), "2777 123", "1000:123")] {
            let mut security = json!({"runAsUser": 1000, "runAsGroup": 1000});
            if let Some(group) = group {
                security["fsGroup"] = json!(group);
            }
            let spec = json!({
                "securityContext": security,
                "volumes": [{"name": "v", "emptyDir": {"medium": medium}}],
                "containers": [container("c", script, &[("/p", "new/deep", false)])],
            });
            let finished = node.run_to_end(pod("made", spec)).exits(0);
            assert_eq!(finished.value("made/c", "is"), is, "{medium:?}\n{finished}");
            assert_eq!(finished.value("made/c", "file"), file, "{medium:?}\n{finished}");
        }
    }
}

#[test]
fn parts_are_directories_and_files_several_of_one_volume_and_only_read_where_it_says_so() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("data");
    fs::create_dir(dir.join("one")).expect("it is ours");
    fs::write(dir.join("one/file"), "inner").expect("it is ours");
    fs::write(dir.join("file"), "outer").expect("it is ours");
    let script = "echo dir $(cat /one/file); echo file $(cat /etc/file); echo more >> /etc/file && echo > /two/made; \
        touch /read/x 2>&1 | sed 's/^/dir-write /'; (echo x > /etc/read) 2>&1 | sed 's/^/file-write /'";
    let mounts = [
        ("/one", "one", false),
        ("/two", "two", false),
        ("/etc/file", "file", false),
        ("/read", "one", true),
        ("/etc/read", "file", true),
    ];
    let spec = json!({"volumes": of_host(&dir), "containers": [container("c", script, &mounts)]});
    let finished = node.run_to_end(pod("parts", spec)).exits(0);
    for (key, value) in [("dir", "inner"), ("file", "outer")] {
        assert_eq!(finished.value("parts/c", key), value, "{finished}");
    }
    for key in ["dir-write", "file-write"] {
        assert!(finished.value("parts/c", key).contains("Read-only"), "{key}\n{finished}");
    }
    assert!(dir.join("two/made").exists(), "{finished}");
    assert_eq!(fs::read_to_string(dir.join("file")).expect("it stays"), "outermore\n");
    node.assert_nothing_left();
}

#[test]
fn a_part_that_leads_out_of_its_volume_is_refused_and_nothing_is_made_there() {
    let node = need!(Node::with_busybox());
    let (dir, outside) = (node.make_dir("data"), node.make_dir("outside"));
    fs::write(outside.join("file"), "secret").expect("it is ours");
    let links = [("dir", outside.clone()), ("file", outside.join("file")), ("absent", outside.join("absent"))];
    for (name, target) in links {
        symlink(target, dir.join(name)).expect("it is ours");
    }
    symlink("../outside", dir.join("up")).expect("it is ours");
    for sub in ["dir", "file", "absent", "absent/deeper", "up", "up/file"] {
        let mount = container("c", "echo ran; cat /p /p/file", &[("/p", sub, false)]);
        let spec = json!({"volumes": of_host(&dir), "containers": [mount]});
        node.run_to_end(pod("out", spec)).exits(125).says("the subPath").never_says("| ran").never_says("secret");
    }
    let climbs =
        json!({"volumes": of_host(&dir), "containers": [container("c", "echo ran", &[("/p", "../outside", false)])]});
    node.run_to_end(pod("out", climbs)).exits(2).says("subPath").never_says("| ran");
    assert_eq!(fs::read_dir(&outside).expect("it is ours").count(), 1);
    node.assert_nothing_left();
}

#[test]
fn parts_are_found_again_by_a_container_that_restarts_and_given_back_though_they_are_gone() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("data");
    fs::create_dir(dir.join("part")).expect("it is ours");
    fs::write(dir.join("file"), "").expect("it is ours");
    // The second time it removes what is mounted, from the volume's other side.
    let script = "[ -s /file ] || { echo again > /part/mark; echo x > /file; exit 1; }; \
        cat /part/mark; rm -r /v/part && echo removed";
    let mut whole = container("c", script, &[("/part", "part", false), ("/file", "file", false)]);
    whole["volumeMounts"].as_array_mut().expect("a list").push(json!({"name": "v", "mountPath": "/v"}));
    let mut pod = pod("again", json!({"volumes": of_host(&dir), "containers": [whole]}));
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    let run = node.run_with(pod, &["--restart-backoff", "initial=100ms,max=100ms"]);
    run.wait().exits(0).says("| again").says("| removed");
    assert!(!dir.join("part").exists() && dir.join("file").exists());
    node.assert_nothing_left();
}
