//! Volumes: what is mounted, how, and what of it the host sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::loopfs::Mounted;
use e2e::manifest::{pod, shell, with};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pod `vol` with one container that mounts `volume` at /v as `mount` says.
fn mounting(script: &str, volume: Value, mount: Value, container: Value) -> Value {
    let mount = with(json!({"name": "v", "mountPath": "/v"}), mount);
    let container = with(with(shell("c", script), json!({"volumeMounts": [mount]})), container);
    pod("vol", json!({"containers": [container], "volumes": [with(json!({"name": "v"}), volume)]}))
}

fn host_path(path: &std::path::Path, kind: &str) -> Value {
    json!({"hostPath": {"path": path, "type": kind}})
}

#[test]
fn a_host_directory_is_read_and_written() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("data");
    fs::write(dir.join("in"), "from the host").expect("a file");
    let script = "cat /v/in; echo; echo back > /v/out";
    node.run_to_end(mounting(script, host_path(&dir, "Directory"), json!({}), json!({})))
        .exits(0)
        .says("from the host");
    assert_eq!(fs::read_to_string(dir.join("out")).expect("the container wrote it"), "back\n");
}

#[test]
fn a_host_path_that_is_not_of_its_type_is_refused() {
    let node = need!(Node::with_busybox());
    let (dir, file) = (node.make_dir("dir"), node.dir().join("file"));
    fs::write(&file, "").expect("a file");
    let missing = node.dir().join("missing");
    for (path, kind) in
        [(&dir, "File"), (&file, "Directory"), (&missing, "Directory"), (&file, "Socket"), (&file, "CharDevice")]
    {
        let text = path.to_string_lossy().into_owned();
        node.run_to_end(mounting("echo ran", host_path(path, kind), json!({}), json!({})))
            .exits(125)
            .says(&text)
            .never_says("| ran");
    }
    let made = node.dir().join("made/deeper");
    node.run_to_end(mounting("echo ran", host_path(&made, "DirectoryOrCreate"), json!({}), json!({}))).exits(0);
    assert_eq!(fs::metadata(&made).expect("it was made").permissions().mode() & 0o7777, 0o755);
}

#[test]
fn a_read_only_mount_refuses_writes_below_it_only_when_recursive() {
    let mut node = need!(Node::with_busybox());
    let dir = node.make_dir("data");
    let inner = node.make_dir("data/inner");
    let mounted = need!(Mounted::new(&["-t", "tmpfs", "none"], &inner));
    node.on_drop(move || drop(mounted));
    let script =
        "touch /v/x 2>&1 | sed 's/^/top /'; touch /v/inner/x 2>&1 | sed 's/^/inner /'; ls /v/inner | sed 's/^/have /'";
    let plain =
        node.run_to_end(mounting(script, host_path(&dir, "Directory"), json!({"readOnly": true}), json!({}))).exits(0);
    assert!(plain.value("vol/c", "top").contains("Read-only"), "{plain}");
    assert_eq!(
        plain.value("vol/c", "have"),
        "x",
        "a submount is writable unless the mount is recursively read-only\n{plain}"
    );
    fs::remove_file(inner.join("x")).expect("the container made it");
    let recursive = json!({"readOnly": true, "recursiveReadOnly": "Enabled"});
    let recursive = node.run_to_end(mounting(script, host_path(&dir, "Directory"), recursive, json!({}))).exits(0);
    assert!(recursive.value("vol/c", "top").contains("Read-only"), "{recursive}");
    assert!(recursive.value("vol/c", "inner").contains("Read-only"), "{recursive}");
}

/// A directory that is a shared mount of its own.
fn shared_dir(node: &mut Node) -> Result<std::path::PathBuf, String> {
    let dir = node.make_dir("shared");
    let text = dir.to_string_lossy().into_owned();
    let mounted = Mounted::new(&["--bind", &text], &dir)?;
    mounted.change("--make-shared")?;
    node.on_drop(move || drop(mounted));
    fs::create_dir(dir.join("later")).expect("a directory");
    Ok(dir)
}

#[test]
fn a_later_mount_of_the_host_appears_only_with_host_to_container() {
    let mut node = need!(Node::with_busybox());
    let dir = need!(shared_dir(&mut node));
    for (propagation, expected) in [("None", "nothing"), ("HostToContainer", "mounted")] {
        let script =
            "echo up; until [ -e /v/go ]; do sleep 0.05; done; [ -e /v/later/mark ] && echo mounted || echo nothing";
        let mount = json!({"mountPropagation": propagation});
        let mut run = node.run(mounting(script, host_path(&dir, "Directory"), mount, json!({})));
        run.wait_for("up");
        let mounted = need!(Mounted::new(&["-t", "tmpfs", "none"], &dir.join("later")));
        fs::write(dir.join("later/mark"), "").expect("a file");
        fs::write(dir.join("go"), "").expect("a file");
        run.wait().exits(0).says(&format!("| {expected}"));
        drop(mounted);
        fs::remove_file(dir.join("go")).expect("just made");
    }
}

#[test]
fn a_containers_mount_reaches_the_host_only_with_bidirectional() {
    let mut node = need!(Node::with_busybox());
    let dir = need!(shared_dir(&mut node));
    let privileged = json!({"securityContext": {"privileged": true}});
    for (propagation, expected) in [("HostToContainer", false), ("Bidirectional", true)] {
        let script = "mount -t tmpfs none /v/later && touch /v/later/mark && echo up; until [ -e /v/go ]; do sleep 0.05; done; umount /v/later";
        let mount = json!({"mountPropagation": propagation});
        let mut run = node.run(mounting(script, host_path(&dir, "Directory"), mount, privileged.clone()));
        run.wait_for("| up");
        assert_eq!(dir.join("later/mark").exists(), expected, "{propagation}");
        fs::write(dir.join("go"), "").expect("a file");
        run.wait().exits(0);
        fs::remove_file(dir.join("go")).expect("just made");
    }
}

#[test]
fn an_empty_dir_in_memory_is_a_tmpfs_of_its_size() {
    let node = need!(Node::with_busybox());
    let script = "echo kind $(stat -f -c %T /v); dd if=/dev/zero of=/v/f bs=1M count=3 2>&1 | tail -1; echo kib $(df -k /v | tail -1 | awk '{print $2}')";
    let volume = json!({"emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}});
    let finished = node.run_to_end(mounting(script, volume, json!({}), json!({})));
    assert_eq!(finished.value("vol/c", "kind"), "tmpfs", "{finished}");
    assert_eq!(finished.value("vol/c", "kib"), "2048", "{finished}");
}

#[test]
fn an_empty_dir_is_empty_open_to_all_and_gone_afterwards() {
    let node = need!(Node::with_busybox());
    let script = "echo mode $(stat -c %a /v); echo count $(ls -A /v | wc -l); echo x > /v/file";
    for _ in 0..2 {
        let finished = node.run_to_end(mounting(script, json!({"emptyDir": {}}), json!({}), json!({}))).exits(0);
        assert_eq!(finished.value("vol/c", "mode"), "777", "{finished}");
        assert_eq!(finished.value("vol/c", "count"), "0", "{finished}");
        node.assert_nothing_left();
    }
}

#[test]
fn an_empty_dir_survives_its_containers_restart() {
    let node = need!(Node::with_busybox());
    let mut pod = mounting(
        "cat /v/mark && exit 0; echo survived > /v/mark; exit 1",
        json!({"emptyDir": {}}),
        json!({}),
        json!({}),
    );
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    node.run_with(pod, &["--restart-backoff", "initial=100ms,max=100ms"]).wait().exits(0).says("survived");
}

#[test]
fn a_sub_path_mounts_a_part_of_the_volume_and_cannot_climb() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("data");
    node.make_dir("data/part");
    fs::write(dir.join("part/file"), "inside").expect("a file");
    std::os::unix::fs::symlink("/etc", dir.join("out")).expect("a link");
    let look = "cat /v/file; echo; ls /v";
    node.run_to_end(mounting(look, host_path(&dir, "Directory"), json!({"subPath": "part"}), json!({})))
        .exits(0)
        .says("inside");
    let climbs = node.run_to_end(mounting(look, host_path(&dir, "Directory"), json!({"subPath": "out"}), json!({})));
    assert!(!climbs.text().contains("passwd"), "a link in the volume led to the host's /etc\n{climbs}");
}

#[test]
fn a_mount_over_a_symlink_of_the_image_stays_in_the_image() {
    let node = need!(Node::with_busybox());
    let marker = node.make_dir("victim");
    let layer = e2e::archive::Layer::new().symlink("v", &format!("../../../../..{}", marker.display())).finish();
    need!(node.import_variant("coracle.test/link:1", json!({}), &[layer]));
    let container = json!({"image": "coracle.test/link:1"});
    // Whether the mount follows the link inside the image or is refused, the host's directory is not touched.
    node.run_to_end(mounting("echo x > /v/file", json!({"emptyDir": {}}), json!({}), container));
    assert_eq!(fs::read_dir(&marker).expect("it is there").count(), 0);
}

#[test]
fn a_secret_that_is_mounted_does_not_lie_in_the_records() {
    let node = need!(Node::with_busybox());
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "unmistakable"}});
    let pod = mounting(
        "cat /v/k; echo; echo up; exec sleep 1000",
        json!({"secret": {"secretName": "s"}}),
        json!({}),
        json!({"env": [{"name": "SECRET", "value": "1"}]}),
    );
    let mut run = node.run(e2e::manifest::several(&[secret, pod]));
    run.wait_for("| up");
    let pid = inspect::process_with_environment(&node, "SECRET=1").expect("the container runs");
    assert!(inspect::command_line(pid).contains("sleep"));
    let found = std::process::Command::new("grep")
        .args(["-rlF", "--include=*.json", "unmistakable"])
        .arg(&node.state_dir)
        .output()
        .expect("grep");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found, "", "the secret lies in the records");
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn containers_share_an_empty_dir_of_each_medium_whoever_they_are() {
    let node = need!(Node::with_busybox());
    let mounts = json!([{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]);
    let one = |name: &str, user: u32, script: &str| {
        with(shell(name, script), json!({"volumeMounts": mounts, "securityContext": {"runAsUser": user}}))
    };
    let write = "for dir in disk memory; do for mode in 644 666 777; do f=/$dir/$(id -u)-$mode; \
        echo of $(id -u) > $f && chmod $mode $f || exit 3; done; done";
    let look = "for f in /*/0-* /*/1001-*; do echo $f $(stat -c '%a %u' $f) $(cat $f); done; \
        echo kind $(stat -f -c %T /memory); (echo > /disk/0-644) 2>/dev/null || echo closed; \
        echo more > /disk/0-666 && echo open";
    let spec = json!({
        "initContainers": [one("root", 0, write), one("user", 1001, write)],
        "containers": [one("c", 1001, look)],
        "volumes": [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}],
    });
    let finished = node.run_to_end(pod("vol", spec)).exits(0).says("| closed").says("| open");
    for dir in ["disk", "memory"] {
        for user in ["0", "1001"] {
            for mode in ["644", "666", "777"] {
                let found = finished.value("vol/c", &format!("/{dir}/{user}-{mode}"));
                assert_eq!(found, format!("{mode} {user} of {user}"), "{finished}");
            }
        }
    }
    assert_eq!(finished.value("vol/c", "kind"), "tmpfs", "{finished}");
}

#[test]
fn a_socket_and_a_device_of_the_host_are_used_where_they_are_asked_for() {
    let node = need!(Node::with_busybox());
    let path = node.dir().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    node.run_to_end(mounting("[ -S /v ] && echo socket", host_path(&path, "Socket"), json!({}), json!({})))
        .exits(0)
        .says("| socket");
    drop(listener);
    let zero = std::path::Path::new("/dev/zero");
    let script = "[ -c /v ] && head -c 3 /v | wc -c | sed 's/^/bytes /'";
    let finished = node.run_to_end(mounting(script, host_path(zero, "CharDevice"), json!({}), json!({}))).exits(0);
    assert_eq!(finished.value("vol/c", "bytes"), "3", "{finished}");
}
