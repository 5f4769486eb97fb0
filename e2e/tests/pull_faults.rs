//! A registry that goes wrong: the right image or a clear error, and what has come once never comes again.

use std::time::Duration;

use e2e::archive::{Image, Layer};
use e2e::random::Random;
use e2e::registry::{Access, BASIC, Content, Fault, Hostile, PASSWORD, Request, Target, USER, architecture};
use e2e::{Finished, Node, Run, fixtures, need};
use rustix::process::Signal;
use serde_json::json;

/// The layer that faults are made for: it does not compress, so it is as long as it looks.
const NOISE: Target = Target::Layer(1);
const NOISE_BYTES: usize = 4 << 20;
/// Where transfers break.
const BREAK: usize = 1 << 20;
/// What may be under way when a transfer breaks.
const CHUNK: u64 = 256 * 1024;

fn image() -> Result<Image, String> {
    let mut random = Random::seeded(3);
    let noise: Vec<u8> = (0..NOISE_BYTES / 8).flat_map(|_| random.number().to_le_bytes()).collect();
    let mut image = fixtures::busybox_image("e2e/image:1", json!({"Cmd": ["echo", "pulled"]}))?;
    image.layers.push(Layer::new().file("noise", 0o644, &noise).finish());
    Ok(image)
}

fn content() -> Result<Content, String> {
    Content::oci(&image()?).map_err(|error| error.to_string())
}

/// A node and a registry that it has never asked.
fn both() -> Result<(Node, Hostile), String> {
    both_with(|content| content)
}

fn both_with(change: impl FnOnce(Content) -> Content) -> Result<(Node, Hostile), String> {
    e2e::skip::root()?;
    let node = Node::new();
    let registry = Hostile::start(&node, change(content()?));
    Ok((node, registry))
}

fn start(node: &Node, registry: &Hostile) -> Run {
    node.start(["image", "pull", &registry.reference()])
}

#[track_caller]
fn pull(node: &Node, registry: &Hostile) -> Finished {
    start(node, registry).wait_within(Duration::from_secs(120))
}

/// The pull succeeds, and the image is the one that the registry has.
#[track_caller]
fn succeeds(node: &Node, registry: &Hostile) -> Finished {
    let finished = pull(node, registry).exits(0).says(&registry.content().id());
    is_whole(node, registry);
    finished
}

/// The image is there with its name, and every blob is what its name says.
#[track_caller]
fn is_whole(node: &Node, registry: &Hostile) {
    let images = node.images();
    assert_eq!(images.len(), 1, "{images:?}");
    assert_eq!(images[0]["id"], registry.content().id());
    assert_eq!(images[0]["repoTags"], json!([registry.reference()]));
    node.assert_images(&images);
}

/// The pull fails with an error that says each of `words` and names the image, and leaves no image.
#[track_caller]
fn fails(node: &Node, registry: &Hostile, words: &[&str]) -> Finished {
    let finished = pull(node, registry).exits(125);
    let said = finished.stderr();
    for word in words.iter().chain([&registry.reference().as_str()]) {
        assert!(said.contains(word), "the error does not say {word:?}\n{finished}");
    }
    assert_eq!(node.images(), Vec::<serde_json::Value>::new(), "{finished}");
    finished
}

fn blob_requests(registry: &Hostile) -> Vec<Request> {
    registry.requests(NOISE).into_iter().filter(|request| matches!(request.status, 200 | 206)).collect()
}

/// Of the noise no more came than there is, but for what was under way at each break.
#[track_caller]
fn nothing_twice(registry: &Hostile, before: u64, breaks: u64) {
    let size = registry.content().layer_size(1);
    let served = before + registry.served(NOISE);
    assert!(served >= size && served <= size + breaks * CHUNK, "{served} of {size}: {:#?}", registry.all_requests());
}

#[test]
fn each_byte_comes_once_and_a_second_pull_brings_none() {
    let (node, registry) = need!(both());
    let finished = succeeds(&node, &registry);
    for layer in [0, 1] {
        assert_eq!(registry.served(Target::Layer(layer)), registry.content().layer_size(layer));
    }
    assert!(finished.stderr().contains("layer 2/2"), "no line for each layer\n{finished}");
    registry.forget();
    succeeds(&node, &registry);
    let bodies: Vec<Request> =
        registry.all_requests().into_iter().filter(|request| matches!(request.target, Target::Layer(_))).collect();
    assert!(bodies.is_empty(), "{bodies:#?}");
}

#[test]
fn docker_media_types_and_manifest_lists_are_pulled() {
    need!(e2e::skip::root());
    let docker = need!(Content::docker(&need!(image())).map_err(|error| error.to_string()));
    let platforms = [("linux", architecture()), ("plan9", "mips")];
    for content in [docker.clone(), docker.indexed(&platforms), need!(content()).indexed(&platforms)] {
        let node = Node::new();
        let registry = Hostile::start(&node, content);
        succeeds(&node, &registry);
    }
}

#[test]
fn a_transfer_that_breaks_off_goes_on_from_there() {
    for fault in [Fault::Truncate(BREAK), Fault::Reset(BREAK)] {
        let (node, registry) = need!(both());
        registry.once(NOISE, fault.clone());
        registry.once(NOISE, fault);
        succeeds(&node, &registry);
        let froms: Vec<_> = blob_requests(&registry).into_iter().map(|request| request.from.unwrap_or(0)).collect();
        assert_eq!(froms.len(), 3, "{froms:?}");
        assert!(froms[0] == 0 && froms[1] + CHUNK >= BREAK as u64 && froms[2] > froms[1], "{froms:?}");
        nothing_twice(&registry, 0, 2);
    }
}

#[test]
fn a_registry_that_falls_silent_is_asked_again_for_the_rest() {
    let (node, registry) = need!(both());
    registry.once(NOISE, Fault::Stall(BREAK));
    succeeds(&node, &registry);
    nothing_twice(&registry, 0, 1);
}

#[test]
fn a_pull_that_gives_up_leaves_what_it_has_to_the_next_one() {
    let (node, registry) = need!(both());
    registry.once(NOISE, Fault::Truncate(BREAK));
    registry.always(NOISE, Fault::Status(503, vec![]));
    fails(&node, &registry, &["503"]);
    let before = registry.served(NOISE);
    registry.heal();
    registry.forget();
    let finished = succeeds(&node, &registry);
    assert!(finished.stderr().contains("from an earlier attempt"), "{finished}");
    // The bodies of the errors do not count.
    let errors = before - BREAK as u64;
    nothing_twice(&registry, before - errors, 1);
}

#[test]
fn a_killed_pull_is_gone_on_with() {
    let (node, registry) = need!(both());
    registry.always(NOISE, Fault::Slow(64 * 1024, Duration::from_millis(50)));
    let mut run = start(&node, &registry);
    registry.wait_for_served(NOISE, BREAK as u64);
    run.signal(Signal::KILL);
    run.wait();
    assert_eq!(node.images(), Vec::<serde_json::Value>::new());
    let before = registry.served(NOISE);
    registry.heal();
    registry.forget();
    succeeds(&node, &registry);
    nothing_twice(&registry, before, 1);
}

#[test]
fn an_interrupted_pull_says_so_and_is_gone_on_with() {
    let (node, registry) = need!(both());
    registry.always(NOISE, Fault::Slow(64 * 1024, Duration::from_millis(50)));
    let mut run = start(&node, &registry);
    registry.wait_for_served(NOISE, BREAK as u64);
    run.signal(Signal::INT);
    run.wait().exits(130).says("the next pull goes on from there");
    let before = registry.served(NOISE);
    registry.heal();
    registry.forget();
    succeeds(&node, &registry);
    nothing_twice(&registry, before, 1);
}

#[test]
fn a_registry_without_ranges_sends_all_of_it_again() {
    let (node, registry) = need!(both());
    registry.once(NOISE, Fault::Truncate(BREAK));
    registry.once(NOISE, Fault::IgnoreRange);
    succeeds(&node, &registry);
}

#[test]
fn another_part_than_was_asked_for_does_not_spoil_the_image() {
    let (node, registry) = need!(both());
    registry.once(NOISE, Fault::Truncate(BREAK));
    registry.once(NOISE, Fault::WrongRange(10));
    // Either the answer is thrown away or it is an error; the next pull mends it.
    let finished = pull(&node, &registry);
    assert!(matches!(finished.status.code(), Some(0 | 125)), "{finished}");
    succeeds(&node, &registry);
}

#[test]
fn bytes_that_are_not_what_their_digest_says_are_refused_and_fetched_anew() {
    let platforms = [("linux", architecture())];
    for target in [NOISE, Target::Layer(0), Target::Config, Target::Manifest, Target::Tagged] {
        let (node, registry) = need!(both_with(|content| content.indexed(&platforms)));
        registry.always(target, Fault::Corrupt);
        let finished = fails(&node, &registry, &[]);
        let said = finished.stderr();
        if target != Target::Tagged {
            assert!(said.contains("sha256:"), "no digest is named for {target:?}\n{finished}");
        }
        registry.heal();
        succeeds(&node, &registry);
    }
}

#[test]
fn a_length_that_is_not_the_manifests_is_refused() {
    for fault in [Fault::Longer(5), Fault::Shorter(5)] {
        let (node, registry) = need!(both());
        registry.always(NOISE, fault);
        fails(&node, &registry, &[&registry.content().layer_digest(1)]);
        registry.heal();
        succeeds(&node, &registry);
    }
}

#[test]
fn a_manifest_without_end_is_given_up_early() {
    let (node, registry) = need!(both());
    registry.always(Target::Tagged, Fault::Endless);
    fails(&node, &registry, &[]);
    let served = registry.served(Target::Tagged);
    assert!(served < 200 << 20, "{served} bytes of a manifest were read");
}

#[test]
fn an_overloaded_registry_is_asked_again_when_it_says() {
    for target in [Target::Tagged, NOISE] {
        let (node, registry) = need!(both());
        registry.once(target, Fault::Status(429, vec![("Retry-After", "2".into())]));
        registry.once(target, Fault::Status(503, vec![]));
        let finished = succeeds(&node, &registry);
        assert!(finished.stderr().contains("trying again"), "{finished}");
        let requests: Vec<_> =
            registry.requests(target).into_iter().filter(|request| request.method == "GET").collect();
        let wait = requests[1].at.duration_since(requests[0].at);
        assert!(wait >= Duration::from_secs(2), "asked again after {wait:?}");
    }
}

#[test]
fn a_registry_that_stays_overloaded_is_an_error_that_says_so() {
    let (node, registry) = need!(both());
    registry.always(Target::Tagged, Fault::Status(503, vec![]));
    fails(&node, &registry, &["503"]);
    let asked = registry.requests(Target::Tagged).len();
    assert!((2..=20).contains(&asked), "it was asked {asked} times");
}

#[test]
fn a_registry_that_lets_nobody_in_is_not_asked_for_ever() {
    let (node, registry) = need!(both());
    registry.require(Access::Nobody);
    fails(&node, &registry, &["credentials"]);
    let creds = format!("{USER}:{PASSWORD}");
    let finished = node.coracle(["image", "pull", "--creds", &creds, &registry.reference()]).exits(125);
    assert!(!finished.stderr().contains(PASSWORD), "the password is in the output\n{finished}");
    assert!(registry.all_requests().len() <= 12, "{:#?}", registry.all_requests());
}

#[test]
fn each_way_of_authentication_is_spoken() {
    for access in [Access::Basic, Access::Bearer, Access::AnonymousBearer, Access::ShortBearer(2)] {
        let (node, registry) = need!(both());
        registry.require(access);
        let creds = format!("{USER}:{PASSWORD}");
        let finished = node.coracle(["image", "pull", "--creds", &creds, &registry.reference()]).exits(0);
        is_whole(&node, &registry);
        assert!(!finished.text().contains(PASSWORD), "{finished}");
    }
}

#[test]
fn a_token_server_that_fails_is_named() {
    let (node, registry) = need!(both());
    registry.require(Access::AnonymousBearer);
    registry.once(Target::Token, Fault::Status(503, vec![]));
    succeeds(&node, &registry);
    let (node, registry) = need!(both());
    registry.require(Access::AnonymousBearer);
    registry.always(Target::Token, Fault::Status(500, vec![]));
    fails(&node, &registry, &["token service 127.0.0.1", "500"]);
}

#[test]
fn credentials_do_not_follow_a_redirection_to_another_host() {
    let (node, registry) = need!(both());
    let store = Hostile::start_on(&node, "127.0.0.2", registry.content().clone());
    registry.require(Access::Basic);
    for target in [Target::Config, Target::Layer(0), NOISE] {
        registry.always(target, Fault::Redirect(store.host()));
    }
    let creds = format!("{USER}:{PASSWORD}");
    node.coracle(["image", "pull", "--creds", &creds, &registry.reference()]).exits(0);
    is_whole(&node, &registry);
    assert!(registry.all_requests().iter().any(|request| request.authorization.as_deref() == Some(BASIC)));
    let followed = store.all_requests();
    assert!(!followed.is_empty() && followed.iter().all(|request| request.authorization.is_none()), "{followed:#?}");
}

#[test]
fn an_index_without_this_platform_names_the_ones_that_it_has() {
    let (node, registry) = need!(both_with(|content| content.indexed(&[("plan9", "mips"), ("aix", "ppc64")])));
    fails(&node, &registry, &["plan9/mips", "aix/ppc64"]);
    // Asked for by name it is pulled, wherever it may run.
    let finished = node.coracle(["image", "pull", "--platform", "aix/ppc64", &registry.reference()]);
    assert!(!finished.status.success(), "nobody has that manifest\n{finished}");
}

#[test]
fn pulls_killed_at_random_instants_add_up_to_one() {
    let (node, registry) = need!(both());
    let mut random = Random::announced("pulls killed at random");
    registry.always(NOISE, Fault::Slow(64 * 1024, Duration::from_millis(20)));
    let mut kills = 0;
    while kills < 6 {
        let mut run = start(&node, &registry);
        std::thread::sleep(random.below(Duration::from_millis(900)));
        if !run.is_running() {
            break;
        }
        run.signal(Signal::KILL);
        run.wait();
        kills += 1;
    }
    registry.heal();
    succeeds(&node, &registry);
    nothing_twice(&registry, 0, kills);
}

#[test]
fn who_waits_for_a_pull_that_is_killed_goes_on_with_it() {
    let (node, registry) = need!(both());
    registry.always(NOISE, Fault::Slow(64 * 1024, Duration::from_millis(50)));
    let mut first = start(&node, &registry);
    registry.wait_for_served(NOISE, BREAK as u64);
    let second = start(&node, &registry);
    // It has asked what there is, and found it under way.
    registry.wait_for_requests(Target::Tagged, 2);
    first.signal(Signal::KILL);
    first.wait();
    second.wait().exits(0);
    is_whole(&node, &registry);
    nothing_twice(&registry, 0, 1);
}
