use proptest::prelude::*;

use crate::images::{Digest, Reference};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn short_names_are_completed_as_docker_does() {
    for (text, full) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("me/app", "docker.io/me/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx:a", "docker.io/library/nginx:a"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:2", "localhost:5000/app:2"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("10.0.0.1:5000/a__b.c-d---e", "10.0.0.1:5000/a__b.c-d---e:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("[fe80::1]/app", "[fe80::1]/app:latest"),
        ("Registry/app", "Registry/app:latest"),
        ("app:TAG_1.x-y", "docker.io/library/app:TAG_1.x-y"),
        ("coracle.local/tools", "coracle.local/tools:latest"),
    ] {
        assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
    }
}

#[test]
fn digests_stand_for_a_tag_or_beside_one() {
    let with = Reference::parse(&format!("nginx@sha256:{HEX}")).unwrap();
    assert_eq!(with.to_string(), format!("docker.io/library/nginx@sha256:{HEX}"));
    assert_eq!((with.tag(), with.digest().map(Digest::hex)), (None, Some(HEX)));
    let both = Reference::parse(&format!("nginx:1@sha256:{HEX}")).unwrap();
    assert_eq!((both.tag(), both.domain(), both.path()), (Some("1"), "docker.io", "library/nginx"));
    assert_eq!(both.repository(), "docker.io/library/nginx");
}

#[test]
fn what_is_no_reference_is_refused_with_a_reason() {
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_name = format!("a/{}", "n".repeat(255));
    for (text, reason) in [
        ("", "empty"),
        (HEX, "an id, not a name"),
        ("Nginx", "lower-case"),
        ("a/B", "lower-case"),
        ("a b", "character"),
        ("a//b", "empty"),
        ("/a", "empty"),
        ("a/", "empty"),
        ("-a", "separator"),
        ("a-", "separator"),
        ("a..b", "separators"),
        ("a___b", "separators"),
        ("a._b", "separators"),
        ("a:", "tag is empty"),
        ("a:-t", "tag"),
        ("a:t+1", "tag"),
        ("a:b:c", "character"),
        (&long_tag, "128"),
        (&long_name, "255"),
        ("host:port/a", "port"),
        ("host:/a", "port"),
        ("-host.x/a", "host name"),
        ("host..x/a", "host name"),
        ("[::1/a", "bracket"),
        ("[zz]:1/a", "IPv6"),
        ("[::1]x/a", "port"),
        ("a@sha256:12", "digest"),
        ("a@md5:d41d8cd98f00b204e9800998ecf8427e", "digest"),
        ("a@", "digest"),
        ("../a", "host name"),
        ("a\n", "character"),
        ("ä", "character"),
    ] {
        let error = Reference::parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_reference_or_an_error(text in "\\PC{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }
    }

    #[test]
    fn the_full_form_is_its_own_full_form(
        domain in "([a-z0-9]{1,8}\\.){1,2}[a-z]{2,4}(:[0-9]{2,5})?",
        path in "[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,8}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        let text = format!("{domain}/{path}:{tag}");
        let reference = Reference::parse(&text).unwrap();
        if reference.domain() != "docker.io" {
            prop_assert_eq!(reference.to_string(), text);
        }
    }
}
