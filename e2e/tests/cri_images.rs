//! Images as a kubelet and crictl see them.

use std::time::Duration;

use e2e::cri::proto::*;
use e2e::cri::{Cri, Endpoint};
use e2e::registry::{Access, Content, Fault, Hostile, PASSWORD, Target, USER};
use e2e::{BUSYBOX, Node, deadline, fixtures, need};
use serde_json::json;
use tonic::{Code, Status};

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.into(), ..Default::default() })
}

fn list(cri: &Cri) -> Vec<Image> {
    cri.client().list_images(Default::default()).expect("it serves").images
}

fn status(cri: &Cri, image: &str) -> Option<Image> {
    cri.client().image_status(ImageStatusRequest { image: spec(image), verbose: false }).expect("it serves").image
}

fn remove(cri: &Cri, image: &str) -> Result<(), Status> {
    cri.client().remove_image(RemoveImageRequest { image: spec(image) }).map(drop)
}

fn pull(cri: &Cri, image: &str, auth: Option<AuthConfig>) -> Result<String, Status> {
    let request = PullImageRequest { image: spec(image), auth, sandbox_config: None };
    cri.client().pull_image(request).map(|answer| answer.image_ref)
}

#[test]
fn one_image_of_three_names_is_listed_once_and_goes_with_the_last() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let names = ["coracle.test/a:1", "coracle.test/a:2", "docker.io/library/short:latest"];
    for name in names {
        need!(node.import_variant(name, json!({"Cmd": ["true"]}), &[]));
    }
    let cri = Cri::start(&node);
    let [image] = &list(&cri)[..] else { panic!("not one image: {:#?}", list(&cri)) };
    assert_eq!(image.repo_tags, names);
    assert!(image.id.starts_with("sha256:") && image.size > 0 && !image.pinned, "{image:#?}");
    let digest = image.repo_digests[0].strip_prefix("coracle.test/a@").expect("of that repository").to_owned();
    assert_eq!(image.repo_digests, [format!("coracle.test/a@{digest}"), format!("docker.io/library/short@{digest}")]);
    let hex = &image.id["sha256:".len()..];
    for name in [names[0], "short", &image.repo_digests[0], &image.id, hex, &hex[..12]] {
        assert_eq!(status(&cri, name).as_ref(), Some(image), "{name}");
    }
    for name in ["coracle.test/a:3", "nothing", &"0".repeat(64), &format!("sha256:{}", "0".repeat(64))] {
        assert_eq!(status(&cri, name), None, "{name}");
        remove(&cri, name).expect("what is not there is removed");
    }
    remove(&cri, names[1]).expect("it is removed");
    assert_eq!(list(&cri)[0].repo_tags, [names[0], names[2]]);
    remove(&cri, hex).expect("it is removed, with all names");
    assert!(list(&cri).is_empty());
    assert_eq!(status(&cri, names[0]), None);
}

#[test]
fn a_tag_that_moves_leaves_the_old_image_its_digest() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let cri = Cri::start(&node);
    need!(node.import_variant("coracle.test/moves:1", json!({"Cmd": ["old"]}), &[]));
    let old = list(&cri).remove(0);
    need!(node.import_variant("coracle.test/moves:1", json!({"Cmd": ["new"]}), &[]));
    let images = list(&cri);
    assert_eq!(images.len(), 2);
    let left = images.iter().find(|it| it.id == old.id).expect("it stays");
    assert!(left.repo_tags.is_empty(), "{left:#?}");
    assert_eq!(left.repo_digests, old.repo_digests);
    assert_eq!(status(&cri, &old.repo_digests[0]).expect("by its digest").id, old.id);
    assert_ne!(status(&cri, "coracle.test/moves:1").expect("by its tag").id, old.id);
    remove(&cri, &old.id).expect("it is removed");
    assert_eq!(list(&cri).len(), 1);
}

#[test]
fn the_user_of_an_image_is_a_number_or_a_name() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let cri = Cri::start(&node);
    for (user, uid, name) in [
        ("", None, ""),
        ("0", Some(0), ""),
        ("1000", Some(1000), ""),
        ("1000:2000", Some(1000), ""),
        ("1000:users", Some(1000), ""),
        ("nobody", None, "nobody"),
        ("nobody:1000", None, "nobody"),
    ] {
        need!(node.import_variant("coracle.test/user:1", json!({"User": user}), &[]));
        let image = status(&cri, "coracle.test/user:1").expect("it is there");
        assert_eq!((image.uid.map(|it| it.value), image.username.as_str()), (uid, name), "{user:?}");
    }
}

#[test]
fn what_is_in_use_or_built_in_stays() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let id = cri.create_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["true"]));
    let error = remove(&cri, BUSYBOX).expect_err("it is in use");
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    cri.remove_container(&id);
    remove(&cri, BUSYBOX).expect("nobody uses it");
    let tools = pull(&cri, "coracle.local/tools", None).expect("it is always there");
    let image = status(&cri, "coracle.local/tools").expect("it is there");
    assert!(image.pinned && image.id == tools, "{image:#?}");
    for name in ["coracle.local/tools", tools.as_str()] {
        assert_eq!(remove(&cri, name).expect_err("it is built in").code(), Code::FailedPrecondition);
    }
}

#[test]
fn an_image_shows_its_configuration() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let answer = cri.client().image_status(ImageStatusRequest { image: spec(BUSYBOX), verbose: true });
    let info = &answer.expect("it serves").info["info"];
    let info: serde_json::Value = serde_json::from_str(info).expect("it is JSON");
    assert!(info["chainID"].as_str().is_some_and(|it| it.starts_with("sha256:")), "{info:#}");
    assert_eq!(info["imageSpec"]["os"], "linux");
    assert!(info["imageSpec"]["rootfs"]["diff_ids"][0].is_string(), "{info:#}");
    let streamed = cri.client().stream_images(Default::default()).expect("a stream");
    assert_eq!(streamed.iter().map(|it| it.images.len()).sum::<usize>(), list(&cri).len());
}

fn hostile(node: &Node) -> Result<Hostile, String> {
    e2e::skip::root()?;
    let image = fixtures::busybox_image("e2e/image:1", json!({"Cmd": ["echo", "pulled"]}))?;
    Ok(Hostile::start(node, Content::oci(&image).map_err(|error| error.to_string())?))
}

#[test]
fn a_pull_takes_the_callers_credentials_and_says_what_is_wrong_in_kubelets_words() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let registry = need!(hostile(&node));
    let cri = Cri::start(&node);
    let id = pull(&cri, &registry.reference(), None).expect("it is there");
    assert_eq!(status(&cri, &registry.reference()).map(|it| it.id), Some(id.clone()));
    remove(&cri, &id).expect("it is removed");
    let missing = pull(&cri, &format!("{}/e2e/nothing:1", registry.host()), None).expect_err("it is not there");
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    registry.require(Access::Basic);
    let refused = pull(&cri, &registry.reference(), None).expect_err("nobody is let in");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let auth = AuthConfig { username: USER.into(), password: PASSWORD.into(), ..Default::default() };
    pull(&cri, &registry.reference(), Some(auth)).expect("it is let in");
    let nobody = pull(&cri, "127.0.0.1:1/e2e/image:1", None).expect_err("nobody listens there");
    assert_eq!(nobody.code(), Code::Unavailable, "{nobody}");
    assert!(nobody.message().starts_with("RegistryUnavailable"), "{nobody}");
    for wrong in ["", "a/UPPER", "a b"] {
        assert_eq!(pull(&cri, wrong, None).expect_err("it is no name").code(), Code::InvalidArgument, "{wrong:?}");
    }
}

#[test]
fn a_pull_that_nobody_waits_for_ends() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let registry = need!(hostile(&node));
    registry.always(Target::Layer(0), Fault::Slow(1024, Duration::from_millis(50)));
    let cri = Cri::start(&node);
    let begin = || {
        let request = PullImageRequest { image: spec(&registry.reference()), ..Default::default() };
        let mut client = cri.client().images();
        cri.client().spawn(async move { client.pull_image(request).await })
    };
    let calls = [begin(), begin()];
    registry.wait_for_served(Target::Layer(0), 8 * 1024);
    let [first, second] = calls;
    first.abort();
    // The other one still waits for it.
    let served = registry.served(Target::Layer(0));
    registry.wait_for_served(Target::Layer(0), served + 8 * 1024);
    second.abort();
    let end = std::time::Instant::now() + deadline();
    loop {
        let served = registry.served(Target::Layer(0));
        std::thread::sleep(Duration::from_millis(500));
        if registry.served(Target::Layer(0)) == served {
            break;
        }
        assert!(std::time::Instant::now() < end, "it goes on downloading");
    }
    assert_eq!(status(&cri, &registry.reference()), None);
}
