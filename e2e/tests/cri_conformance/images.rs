//! Images; ids and tags are among the first seven.

use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use e2e::registry::{DockerRegistry, PASSWORD, USER};
use e2e::{BUSYBOX, fixtures, need};
use serde_json::json;

use crate::harness::tests;
use crate::tools::{Pod, image, unique};

tests![
    images_are_listed_with_what_they_are,
    images_are_listed_by_name,
    images_are_streamed_as_they_are_listed,
    an_image_that_is_not_there_has_no_status,
    more_is_told_of_an_image_when_asked_for,
    an_image_has_a_user,
    an_image_is_pulled_and_removed,
    an_image_is_pulled_by_its_digest,
    credentials_are_used,
    what_cannot_be_pulled_is_an_error,
    an_image_in_use_runs_on_when_it_is_removed,
    the_filesystem_of_images_is_told,
];

fn status(endpoint: &dyn Endpoint, name: &str) -> Option<Image> {
    let request = ImageStatusRequest { image: image(name), verbose: false };
    endpoint.client().image_status(request).expect("ImageStatus answers").image
}

fn images_are_listed_with_what_they_are(endpoint: &dyn Endpoint) {
    let images = endpoint.client().list_images(ListImagesRequest::default()).expect("ListImages answers").images;
    let busybox = images.iter().find(|it| it.repo_tags.iter().any(|tag| tag == BUSYBOX)).expect("it was imported");
    assert!(busybox.id.starts_with("sha256:") && busybox.id.len() == 71, "{}", busybox.id);
    assert!(busybox.size > 100_000, "{}", busybox.size);
    assert_eq!(status(endpoint, BUSYBOX).map(|it| it.id), Some(busybox.id.clone()));
}

fn images_are_listed_by_name(endpoint: &dyn Endpoint) {
    let by = |name: &str| {
        let filter = Some(ImageFilter { image: image(name) });
        endpoint.client().list_images(ListImagesRequest { filter }).expect("ListImages answers").images
    };
    assert_eq!(by(BUSYBOX).len(), 1);
    assert!(by("conformance.test/none:1").is_empty());
}

fn images_are_streamed_as_they_are_listed(endpoint: &dyn Endpoint) {
    let filter = Some(ImageFilter { image: image(BUSYBOX) });
    let streamed = endpoint.client().stream_images(StreamImagesRequest { filter }).expect("StreamImages answers");
    let streamed: Vec<String> = streamed.into_iter().flat_map(|it| it.images).map(|it| it.id).collect();
    assert_eq!(streamed, [status(endpoint, BUSYBOX).expect("it was imported").id]);
}

fn an_image_that_is_not_there_has_no_status(endpoint: &dyn Endpoint) {
    assert!(status(endpoint, "conformance.test/none:1").is_none());
    assert!(status(endpoint, &format!("sha256:{}", "a".repeat(64))).is_none());
}

fn more_is_told_of_an_image_when_asked_for(endpoint: &dyn Endpoint) {
    let request = ImageStatusRequest { image: image(BUSYBOX), verbose: true };
    let info = endpoint.client().image_status(request).expect("ImageStatus answers").info;
    let text = info.get("info").unwrap_or_else(|| panic!("{info:#?}"));
    serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
}

fn an_image_has_a_user(endpoint: &dyn Endpoint) {
    for (tag, user, uid, username) in [
        ("number", "1000", Some(1000), ""),
        ("group", "1000:2000", Some(1000), ""),
        ("name", "www-data", None, "www-data"),
    ] {
        let name = format!("conformance.test/user:{tag}");
        let built = need!(fixtures::busybox_image(&name, json!({"User": user})));
        let path = endpoint.make_dir("archives").join(format!("user-{tag}.tar"));
        built.write_oci(&path, e2e::archive::Packing::Gzip).expect("the directory is writable");
        endpoint.import(&path, &name);
        let shown = status(endpoint, &name).expect("it was imported");
        assert_eq!((shown.uid.map(|it| it.value), shown.username.as_str()), (uid, username), "{user}");
        let pod = Pod::new(endpoint);
        let said = pod.says("id -u", |config| config.image = image(&name));
        assert_eq!(said, if tag == "name" { "33" } else { "1000" });
    }
}

fn pull(endpoint: &dyn Endpoint, name: &str, auth: Option<AuthConfig>) -> Result<String, tonic::Status> {
    let request = PullImageRequest { image: image(name), auth, sandbox_config: None };
    endpoint.client().pull_image(request).map(|it| it.image_ref)
}

/// An image that nobody else has, in a registry.
fn pushed(endpoint: &dyn Endpoint, registry: &DockerRegistry) -> Result<String, String> {
    let name = unique("pulled");
    let built = fixtures::busybox_image("conformance.test/pulled:1", json!({"Labels": {"name": name}}))?;
    let path = endpoint.make_dir("archives").join(format!("{name}.tar"));
    built.write_oci(&path, e2e::archive::Packing::Gzip).map_err(|error| error.to_string())?;
    registry.push(endpoint.node(), &path, &format!("conformance/{name}:1"))
}

fn remove(endpoint: &dyn Endpoint, name: &str) {
    endpoint.client().remove_image(RemoveImageRequest { image: image(name) }).expect("RemoveImage answers");
}

fn an_image_is_pulled_and_removed(endpoint: &dyn Endpoint) {
    let registry = need!(DockerRegistry::open(endpoint.node()));
    let name = need!(pushed(endpoint, &registry));
    let reference = pull(endpoint, &name, None).expect("it is pulled");
    let shown = status(endpoint, &name).expect("it was pulled");
    assert_eq!(shown.repo_tags, std::slice::from_ref(&name));
    let digest = shown.repo_digests.first().expect("a registry's image has a digest").clone();
    let repository = name.rsplit_once(':').expect("it has a tag").0;
    assert!(digest.starts_with(&format!("{repository}@sha256:")), "{digest}");
    for handle in [&reference, &digest, &shown.id] {
        assert_eq!(status(endpoint, handle).map(|it| it.id), Some(shown.id.clone()), "{handle}");
    }
    pull(endpoint, &name, None).expect("again is no error");
    let pod = Pod::new(endpoint);
    assert_eq!(pod.says("echo runs", |config| config.image = image(&reference)), "runs");
    drop(pod);
    remove(endpoint, &name);
    assert!(status(endpoint, &name).is_none());
    remove(endpoint, &name);
    remove(endpoint, &shown.id);
}

fn an_image_is_pulled_by_its_digest(endpoint: &dyn Endpoint) {
    let registry = need!(DockerRegistry::open(endpoint.node()));
    let name = need!(pushed(endpoint, &registry));
    pull(endpoint, &name, None).expect("it is pulled");
    let digest = status(endpoint, &name).expect("it was pulled").repo_digests.remove(0);
    remove(endpoint, &status(endpoint, &name).expect("it was pulled").id);
    assert!(status(endpoint, &digest).is_none());
    pull(endpoint, &digest, None).expect("it is pulled");
    let shown = status(endpoint, &digest).expect("it was pulled");
    assert!(shown.repo_tags.is_empty() && shown.repo_digests == [digest.clone()], "{shown:#?}");
    remove(endpoint, &shown.id);
}

fn credentials_are_used(endpoint: &dyn Endpoint) {
    let registry = need!(DockerRegistry::with_auth(endpoint.node()));
    let name = need!(pushed(endpoint, &registry));
    pull(endpoint, &name, None).expect_err("it wants to know who asks");
    let auth =
        |password: &str| Some(AuthConfig { username: USER.into(), password: password.into(), ..Default::default() });
    pull(endpoint, &name, auth("wrong")).expect_err("the password is wrong");
    pull(endpoint, &name, auth(PASSWORD)).expect("it is pulled");
    remove(endpoint, &name);
    let auth = Some(AuthConfig { auth: e2e::registry::AUTH.into(), ..Default::default() });
    pull(endpoint, &name, auth).expect("the other spelling is the same");
    remove(endpoint, &name);
}

fn what_cannot_be_pulled_is_an_error(endpoint: &dyn Endpoint) {
    let registry = need!(DockerRegistry::open(endpoint.node()));
    let missing = format!("{}/conformance/none:1", registry.host);
    let refused = pull(endpoint, &missing, None).expect_err("it is not there");
    assert!(refused.message().contains("conformance/none"), "{refused}");
    pull(endpoint, "127.0.0.1:1/nobody/listens:1", None).expect_err("nobody listens there");
    pull(endpoint, "NOT A NAME", None).expect_err("it is no reference");
}

fn an_image_in_use_runs_on_when_it_is_removed(endpoint: &dyn Endpoint) {
    let registry = need!(DockerRegistry::open(endpoint.node()));
    let name = need!(pushed(endpoint, &registry));
    pull(endpoint, &name, None).expect("it is pulled");
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| config.image = image(&name));
    // Refused, or gone while the container keeps its root: either way it runs on.
    let _ = endpoint.client().remove_image(RemoveImageRequest { image: image(&name) });
    assert_eq!(endpoint.output(&id, &["cat", "/etc/group"]).lines().next(), Some("root:x:0:"));
    drop(pod);
    remove(endpoint, &name);
}

fn the_filesystem_of_images_is_told(endpoint: &dyn Endpoint) {
    let answer = endpoint.client().image_fs_info(ImageFsInfoRequest {}).expect("ImageFsInfo answers");
    let [usage] = answer.image_filesystems.as_slice() else { panic!("{answer:#?}") };
    let place = &usage.fs_id.as_ref().expect("it has a place").mountpoint;
    assert!(std::path::Path::new(place).is_dir(), "{place}");
    assert!(usage.timestamp > 1_600_000_000_000_000_000, "{usage:?}");
    assert!(usage.inodes_used.as_ref().is_some_and(|it| it.value > 0), "{usage:?}");
}
