//! `coracle cp`, `apply` and `explain`.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::agent::{Agent, container_id};
use e2e::archive::Layer;
use e2e::manifest::{keeper, pod, several, shell, with};
use e2e::{Node, need};
use serde_json::json;

#[test]
fn cp_brings_files_out_of_a_container_and_into_it() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let script = "mkdir -p /d/sub; echo one > /d/a; echo two > /d/sub/b; chmod 750 /d/sub/b; ln -s /etc /d/s; echo up; exec sleep 1000";
    agent.write("web.yaml", pod("web", json!({"containers": [shell("c", script)]})));
    agent.wait_for_running("web");
    node.wait_for_output("web", "c", "up");
    let here = node.make_dir("here");
    let path = |name: &str| here.join(name).display().to_string();
    let cp = |from: &str, to: &str| node.coracle(["cp", from, to]);

    cp("web:/d", &path("new")).exits(0).says("the link d/s -> /etc is left out");
    assert_eq!(fs::read_to_string(here.join("new/a")).ok().as_deref(), Some("one\n"));
    assert_eq!(fs::read_to_string(here.join("new/sub/b")).ok().as_deref(), Some("two\n"));
    assert!(fs::symlink_metadata(here.join("new/s")).is_err());
    // Into a directory, under its own name; the namespace as kubectl writes it.
    cp("default/web:/d/a", &here.display().to_string()).exits(0);
    assert_eq!(fs::read_to_string(here.join("a")).ok().as_deref(), Some("one\n"));

    fs::write(here.join("new/a"), "three\n").expect("it is ours");
    cp(&path("new"), "web:/tmp").exits(0);
    assert_eq!(node.exec("web", "c", &["cat", "/tmp/new/a", "/tmp/new/sub/b"]).exits(0).stdout(), "three\ntwo\n");
    cp(&path("a"), "web:/d/sub/renamed").exits(0);
    assert_eq!(node.exec("web", "c", &["cat", "/d/sub/renamed"]).exits(0).stdout(), "one\n");

    cp("web:/nothing", &path("x")).exits(125).says("tar in the container ended");
    cp("web:/d", "web:/e").exits(125).says("a path of this machine");
    cp(&path("none"), "web:/tmp").exits(125).says("No such file");
}

#[test]
fn nothing_that_a_container_sends_leaves_the_destination() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let archives = node.make_dir("archives");
    let archive = |file: &str, layer: Layer| fs::write(archives.join(file), &**layer.finish()).expect("it is ours");
    archive("other.tar", Layer::new().file("evil/f", 0o644, b"x"));
    archive("climbs.tar", Layer::new().file("d/../../evil", 0o644, b"x"));
    archive("absolute.tar", Layer::new().file("/evil", 0o644, b"x"));
    archive("link.tar", Layer::new().symlink("d", "..").file("d/evil", 0o644, b"x"));
    // A `tar` of the container's own that answers with another archive than it was asked for.
    let script = "mkdir /bin2; cp -a /bin/. /bin2/; rm /bin/tar; \
                  printf '#!/bin2/sh\\nexec /bin2/cat /archives/now.tar\\n' > /bin/tar; chmod 755 /bin/tar; echo up; exec sleep 1000";
    let mount = json!({"volumeMounts": [{"name": "archives", "mountPath": "/archives"}]});
    let volumes = json!([{"name": "archives", "hostPath": {"path": archives}}]);
    agent.write("web.yaml", pod("web", json!({"containers": [with(shell("c", script), mount)], "volumes": volumes})));
    agent.wait_for_running("web");
    node.wait_for_output("web", "c", "up");
    for (file, refused) in [
        ("other.tar", Some("evil/f, which is not in d: nothing more is copied")),
        ("climbs.tar", Some("which leaves the destination: nothing more is copied")),
        ("absolute.tar", Some("nothing more is copied")),
        ("link.tar", None),
    ] {
        fs::copy(archives.join(file), archives.join("now.tar")).expect("it is there");
        let above = node.make_dir(&format!("above-{file}"));
        let here = above.join("deep/here");
        fs::create_dir_all(&here).expect("it is ours");
        let copied = node.coracle(["cp", "web:/d", &here.display().to_string()]);
        let files = files_below(&above);
        match refused {
            Some(why) => {
                copied.exits(125).says(why);
                assert_eq!(files, Vec::<PathBuf>::new(), "{file}");
            }
            // The link is left out: what lay behind it lies in a directory of its name, below the destination.
            None => assert_eq!(files, [here.join("d/evil")], "{copied}"),
        }
    }
    assert!(!Path::new("/evil").exists());
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("it is there").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn apply_writes_into_the_agents_directory_and_shows_what_changes() {
    let node = need!(Node::with_busybox());
    let agent = Agent::start(&node);
    let apply = |args: &[&str]| node.coracle(["apply"].iter().chain(args));
    let given = node.make_dir("given");
    let write = |name: &str, text: String| {
        fs::write(given.join(name), text).expect("the directory is writable");
        given.join(name).display().to_string()
    };
    let web = |word: &str| {
        pod("web", json!({"containers": [shell("c", &format!("echo {word}; exec sleep 1000"))]})).to_string()
    };
    let file = write("web.json", web("one"));
    apply(&["-f", &file, "--dry-run"]).exits(0).says("Pod default/web is new").says("would be written");
    assert!(!agent.path("web.json").exists());
    apply(&["-f", &file]).exits(0).says("Pod default/web is new");
    let before = agent.wait_for_running("web");
    apply(&["-f", &file]).exits(0).says("is unchanged");

    // Another name, the same pod: it is changed where it is.
    let file = write("other.json", web("two"));
    apply(&["-f", &file]).exits(0).says("container c restarts");
    assert!(!agent.path("other.json").exists());
    agent.wait_for("web", "another instance", |pod| {
        container_id(pod, "c").is_some_and(|id| Some(id) != container_id(&before, "c"))
    });

    let bad = write("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {container: []}\n".into());
    apply(&["-f", &bad]).exits(2).says("unknown field `container`").says("nothing was written");
    assert!(!agent.path("bad.yaml").exists());

    let both = write("both.json", several(&[keeper("a"), keeper("b")]).to_string());
    apply(&["-f", &both]).exits(0);
    agent.wait_for_running("a");
    agent.wait_for_running("b");
    let one = write("one.json", keeper("a").to_string());
    apply(&["-f", &one]).exits(125).says("also has Pod default/b").says("--prune");
    apply(&["-f", &one, "--prune"]).exits(0).says("Pod default/b stops, and is removed");
    agent.wait_until_gone("b");
}

#[test]
fn apply_needs_a_directory_that_an_agent_follows() {
    let node = need!(Node::with_busybox());
    let manifest = node.manifest(keeper("web")).display().to_string();
    node.coracle(["apply", "-f", &manifest]).exits(125).says("no agent has run since the last boot");
    let single = node.make_dir("manifests").join("only.yaml");
    let mut agent = Agent::prepare_bare(&node, ["--pod-manifest-path".into(), single.into_os_string()]);
    agent.write("only.yaml", keeper("only"));
    agent.restart();
    node.coracle(["apply", "-f", &manifest]).exits(125).says("only.yaml, which is no directory");
}

#[test]
fn explain_says_what_a_field_is_and_whether_it_runs_here() {
    let node = Node::new();
    let said = node.coracle(["explain", "pod.spec.containers.livenessProbe"]).exits(0).stdout();
    assert!(said.contains("FIELD:    livenessProbe <Probe>") && said.contains("HERE:     runs"), "{said}");
    assert!(said.contains("periodSeconds <integer>"), "{said}");
    node.coracle(["explain", "pod.spec.container"]).exits(125).says("did you mean `containers`?");
    node.coracle(["explain"]).exits(0).says("persistentvolumeclaim");
    node.coracle(["completion", "bash"]).exits(0).says("explain");
}
