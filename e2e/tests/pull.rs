//! Images from a real registry, with and without authentication, and what `run` does to get them.

use std::path::PathBuf;
use std::time::Duration;

use e2e::archive::{Image, Layer, Packing};
use e2e::manifest::{pod, several};
use e2e::pty::Session;
use e2e::random::Random;
use e2e::registry::{
    AUTH, Access, Content, DockerRegistry, Fault, Hostile, PASSWORD, Target, USER, docker_config, hosts_toml, inside,
};
use e2e::{Finished, Node, Run, debian, fixtures, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pod named `p` whose container `c` has this image and policy and runs what the image says.
fn image_pod(image: &str, policy: &str) -> Value {
    pod("p", json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": policy}]}))
}

/// A busybox image that says `text`, as an archive of the node's.
fn saying(node: &Node, text: &str) -> Result<PathBuf, String> {
    let image = fixtures::busybox_image("e2e/says:1", json!({"Cmd": ["echo", text]}))?;
    let path = node.dir().join(format!("{text}.tar"));
    image.write_oci(&path, Packing::Gzip).map_err(|error| error.to_string())?;
    Ok(path)
}

fn hostile(node: &Node) -> Result<Hostile, String> {
    e2e::skip::root()?;
    let image = fixtures::busybox_image("e2e/image:1", json!({"Cmd": ["echo", "pulled"]}))?;
    Ok(Hostile::start(node, Content::oci(&image).map_err(|error| error.to_string())?))
}

/// `image pull` with a docker `config.json`.
fn pull_with_config(node: &Node, config: &std::path::Path, reference: &str) -> Finished {
    let mut command = node.command(["image", "pull", reference]);
    command.env("DOCKER_CONFIG", config);
    Run::start(&mut command, None).wait()
}

#[test]
fn busybox_pulls_and_runs() {
    let node = Node::new();
    let registry = need!(DockerRegistry::open(&node));
    let reference = need!(registry.push(&node, &need!(fixtures::busybox()), "test/busybox:1"));
    let pulled = node.coracle(["image", "pull", &reference]).exits(0).says(&reference).says("digest: sha256:");
    let image = node.images().remove(0);
    assert!(pulled.stdout().contains(image["id"].as_str().expect("an id")), "{pulled}");
    let digest = image["repoDigests"][0].as_str().expect("a digest").to_owned();
    assert!(digest.starts_with(&format!("{}/test/busybox@sha256:", registry.host)), "{image}");
    assert_eq!(node.coracle(["image", "pull", "--quiet", &reference]).exits(0).text().trim(), image["id"]);
    let spec = json!({"containers": [{"name": "c", "image": digest, "command": ["echo", "ran"]}]});
    node.run_to_end(pod("p", spec)).exits(0).says("p/c | ran").never_says("pulling");
    node.assert_nothing_left();
}

#[test]
fn run_pulls_by_itself_and_says_how_it_goes() {
    let node = Node::new();
    let registry = need!(DockerRegistry::open(&node));
    let reference = need!(registry.push(&node, &need!(saying(&node, "hello")), "test/says:1"));
    let finished = node.run_to_end(image_pod(&reference, "IfNotPresent")).exits(0).says("p/c | hello");
    finished.says(&format!("p/c: pulling image {reference}")).says(&format!("p/c: pulled image {reference} in "));
    node.assert_nothing_left();
}

#[test]
fn nginx_pulls_and_serves_its_page() {
    let node = Node::new();
    let registry = need!(DockerRegistry::open(&node));
    let curl = need!(debian::program("curl", "curl"));
    let root = node.make_dir("nginx");
    let port = 18_080;
    need!(fixtures::nginx_root(&root, port));
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", &root).expect("the root is readable");
    let mut image = need!(fixtures::busybox_image("e2e/nginx:1", json!({"Cmd": ["nginx", "-g", "daemon off;"]})));
    image.layers.push(std::sync::Arc::new(tar.into_inner().expect("in memory")));
    let archive = node.dir().join("nginx.tar");
    image.write_oci(&archive, Packing::Gzip).expect("the archive is written");
    let reference = need!(registry.push(&node, &archive, "test/nginx:1"));
    let mut spec = image_pod(&reference, "Always");
    spec["spec"]["hostNetwork"] = json!(true);
    let mut run = node.run(spec);
    run.wait_for("p/c: started");
    let mut command = inside(&node, curl);
    command.args(["-sS", "--fail", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]);
    command.arg(format!("http://127.0.0.1:{port}/"));
    Run::start(&mut command, None).wait().exits(0).says("Welcome to nginx!");
    run.signal(Signal::INT);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn a_registry_with_authentication_wants_credentials_and_takes_them_from_each_place() {
    let node = Node::new();
    let registry = need!(DockerRegistry::with_auth(&node));
    let reference = need!(registry.push(&node, &need!(fixtures::busybox()), "team/busybox:1"));
    let pull = |args: &[&str]| node.coracle([&["image", "pull"], args, &[reference.as_str()]].concat());
    pull(&[]).exits(125).says("credentials");
    pull(&["--creds", "puller:wrong"]).exits(125).never_says("wrong");
    let forget = || drop(node.coracle(["image", "rm", &reference]).exits(0));
    pull(&["--creds", &format!("{USER}:{PASSWORD}")]).exits(0).never_says(PASSWORD);
    forget();
    let typed = Run::start(&mut node.command(["image", "pull", "--creds", USER, &reference]), Some(b"secret\n"));
    typed.wait().exits(0).never_says(PASSWORD);
    forget();
    pull_with_config(&node, &docker_config(&node, &registry.host, AUTH), &reference).exits(0).never_says(PASSWORD);
    forget();
    // base64 of "puller:wrong".
    let wrong = docker_config(&node, &registry.host, "cHVsbGVyOndyb25n");
    pull_with_config(&node, &wrong, &reference).exits(125).says(&registry.host);
}

#[test]
fn a_password_is_asked_for_on_the_terminal_and_not_shown() {
    let node = Node::new();
    let registry = need!(DockerRegistry::with_auth(&node));
    let reference = need!(registry.push(&node, &need!(fixtures::busybox()), "team/busybox:1"));
    let mut session = Session::start(&node, &["image", "pull", "--creds", USER, &reference]);
    session.wait_for("password of puller: ");
    session.type_in("secret\r");
    let (status, seen) = session.wait();
    assert!(status.success() && !seen.contains(PASSWORD), "{seen}");
    let mut session = Session::start(&node, &["image", "pull", "--creds", USER, &reference]);
    session.wait_for("password of puller: ");
    session.type_in("\x03");
    assert_eq!(session.wait().0.code(), Some(130));
}

#[test]
fn a_pods_secrets_open_the_registry() {
    let node = Node::new();
    let registry = need!(DockerRegistry::with_auth(&node));
    let reference = need!(registry.push(&node, &need!(saying(&node, "hello")), "team/says:1"));
    let secret = |auth: &str| {
        let config = json!({"auths": {&registry.host: {"auth": auth}}}).to_string();
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred"},
               "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}})
    };
    let mut wants = image_pod(&reference, "Always");
    node.run_to_end(&wants).exits(125).says("ErrImagePull").says("credentials");
    wants["spec"]["imagePullSecrets"] = json!([{"name": "regcred"}]);
    node.run_to_end(&wants).exits(125).says("imagePullSecrets: Secret \"regcred\" is not there");
    node.run_to_end(several(&[secret("cHVsbGVyOndyb25n"), wants.clone()])).exits(125).says("ErrImagePull");
    node.run_to_end(several(&[secret(AUTH), wants])).exits(0).says("p/c | hello").never_says(PASSWORD);
    node.assert_nothing_left();
}

#[test]
fn the_pull_policy_decides_what_a_changed_tag_means() {
    let node = Node::new();
    let registry = need!(DockerRegistry::open(&node));
    let reference = need!(registry.push(&node, &need!(saying(&node, "first")), "test/says:1"));
    node.run_to_end(image_pod(&reference, "Never")).exits(125).says("ErrImageNeverPull");
    node.run_to_end(image_pod(&reference, "IfNotPresent")).exits(0).says("p/c | first");
    need!(registry.push(&node, &need!(saying(&node, "second")), "test/says:1"));
    node.run_to_end(image_pod(&reference, "Never")).exits(0).says("p/c | first");
    node.run_to_end(image_pod(&reference, "IfNotPresent")).exits(0).says("p/c | first");
    node.run_to_end(image_pod(&reference, "Always")).exits(0).says("p/c | second");
    // Nothing has changed: the registry is asked, and there is nothing to say about it.
    node.run_to_end(image_pod(&reference, "Always")).exits(0).says("p/c | second").never_says("pulling");
}

#[test]
fn an_image_that_the_registry_does_not_have_ends_the_run() {
    let node = Node::new();
    let registry = need!(DockerRegistry::open(&node));
    let reference = format!("{}/no/such:1", registry.host);
    node.run_to_end(image_pod(&reference, "IfNotPresent")).exits(125).says("ErrImagePull").says(&reference);
    node.coracle(["image", "pull", &reference]).exits(125).says(&reference);
    node.assert_nothing_left();
}

#[test]
fn a_registry_that_is_down_is_waited_for() {
    let node = Node::new();
    let mut registry = need!(DockerRegistry::open(&node));
    let reference = need!(registry.push(&node, &need!(saying(&node, "hello")), "test/says:1"));
    registry.stop();
    let mut run = node.run_with(image_pod(&reference, "IfNotPresent"), &["--restart-backoff", "initial=500ms"]);
    run.wait_for("p/c: ErrImagePull, trying again in 500ms");
    let waiting = node.wait_for_pod("p", "waiting for its image", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].is_string()
    });
    assert_eq!(waiting["status"]["phase"], "Pending");
    registry.start(&node);
    run.wait().exits(0).says("p/c | hello");
    node.assert_nothing_left();
}

#[test]
fn mirrors_come_first_and_one_that_is_down_is_passed_over() {
    let node = Node::new();
    let mut mirror = need!(DockerRegistry::open(&node));
    let origin = need!(DockerRegistry::open(&node));
    let archive = need!(saying(&node, "hello"));
    need!(mirror.push(&node, &archive, "team/says:1"));
    need!(origin.push(&node, &archive, "team/says:1"));
    // A name that nobody resolves: only the file says where it is.
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        origin.host, mirror.host
    );
    let dir = hosts_toml(&node, "registry.invalid", &text);
    let dir = dir.to_str().expect("an ASCII path");
    let pull = || node.coracle(["image", "pull", "--registry-config-dir", dir, "registry.invalid/team/says:1"]);
    pull().exits(0);
    assert_eq!(node.images()[0]["repoTags"], json!(["registry.invalid/team/says:1"]));
    node.coracle(["image", "rm", "registry.invalid/team/says:1"]).exits(0);
    mirror.stop();
    pull().exits(0);
    let args = ["--registry-config-dir", dir];
    node.run_with(image_pod("registry.invalid/team/says:1", "Always"), &args).wait().exits(0).says("p/c | hello");
}

#[test]
fn many_who_want_one_image_pull_it_once() {
    let node = Node::new();
    let registry = need!(hostile(&node));
    registry.always(Target::Layer(0), Fault::Slow(64 * 1024, Duration::from_millis(20)));
    let reference = registry.reference();
    let container = json!({"containers": [{"name": "c", "image": reference, "imagePullPolicy": "IfNotPresent"}]});
    let pods = |names: [&str; 2]| several(&names.map(|name| pod(name, container.clone())));
    let runs = [node.run(pods(["a", "b"])), node.run(pods(["c", "d"]))];
    let pull = node.start(["image", "pull", &reference]);
    for run in runs {
        run.wait().exits(0).says("/c | pulled");
    }
    pull.wait().exits(0);
    let content = registry.content();
    assert_eq!(registry.served(Target::Layer(0)), content.layer_size(0), "{:#?}", registry.all_requests());
    assert_eq!(registry.requests(Target::Layer(0)).iter().filter(|request| request.method == "GET").count(), 1);
    node.assert_nothing_left();
}

#[test]
fn an_interrupt_ends_a_run_that_pulls() {
    let node = Node::new();
    let registry = need!(hostile(&node));
    registry.always(Target::Layer(0), Fault::Slow(1024, Duration::from_millis(200)));
    let mut run = node.run(image_pod(&registry.reference(), "Always"));
    run.wait_for("p/c: pulling image");
    registry.wait_for_served(Target::Layer(0), 4096);
    run.signal(Signal::INT);
    run.wait().never_says("| pulled");
    node.assert_nothing_left();
}

#[test]
fn credentials_that_are_refused_end_the_run_and_an_overload_does_not() {
    let node = Node::new();
    let registry = need!(hostile(&node));
    registry.require(Access::Nobody);
    node.run_to_end(image_pod(&registry.reference(), "Always")).exits(125).says("ErrImagePull");
    registry.require(Access::Open);
    registry.always(Target::Tagged, Fault::Status(503, vec![]));
    let args = ["--restart-backoff", "initial=200ms"];
    let mut run = node.run_with(image_pod(&registry.reference(), "Always"), &args);
    run.wait_for("p/c: ErrImagePull, trying again in 200ms");
    registry.heal();
    run.wait().exits(0).says("p/c | pulled");
}

#[test]
fn a_terminal_shows_a_bar_for_each_layer() {
    let node = Node::new();
    need!(e2e::skip::root());
    let mut random = Random::seeded(5);
    let noise: Vec<u8> = (0..250_000).flat_map(|_| random.number().to_le_bytes()).collect();
    let layers = vec![Layer::new().file("a", 0o644, b"x").finish(), Layer::new().file("b", 0o644, &noise).finish()];
    let image = Image { reference: "e2e/image:1".into(), layers, config: json!({"Cmd": ["/none"]}) };
    let registry = Hostile::start(&node, Content::oci(&image).expect("blobs"));
    registry.always(Target::Layer(1), Fault::Slow(64 * 1024, Duration::from_millis(100)));
    let session = Session::start(&node, &["image", "pull", &registry.reference()]);
    session.wait_for("layer 2/2");
    session.wait_for("B/s");
    session.wait_for(&registry.content().id());
    let (status, seen) = session.wait();
    assert!(status.success() && seen.contains("[=") && seen.contains("layer 1/2"), "{seen}");
}

#[test]
fn wrong_words_are_refused_before_anybody_is_asked() {
    need!(e2e::skip::root());
    let node = Node::new();
    node.coracle(["image", "pull", "--platform", "arm64", "x"]).exits(2).says("OS/ARCH");
    node.coracle(["image", "pull", "a:b:c"]).exits(125).says("a:b:c");
    let finished = node.run_to_end(image_pod("a:b:c", "Always")).says("a:b:c").never_says("pulling");
    assert!(matches!(finished.status.code(), Some(2 | 125)), "{finished}");
}
