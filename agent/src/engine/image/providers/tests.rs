#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::*;

fn config(change: impl FnOnce(&mut Value)) -> String {
    let mut provider = json!({
        "name": "plug", "matchImages": ["*.example.com"], "defaultCacheDuration": "1h",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "args": ["get"], "env": [{"name": "PLACE", "value": "here"}]
    });
    change(&mut provider);
    let api_version = "kubelet.config.k8s.io/v1";
    json!({"apiVersion": api_version, "kind": "CredentialProviderConfig", "providers": [provider]}).to_string()
}

/// Providers whose one program is this script; it notes each call in `calls`.
struct Bench {
    dir: tempfile::TempDir,
    providers: Providers,
}

fn bench(script: &str) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("plug");
    let calls = dir.path().join("calls");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$* $PLACE\" >> {}\n{script}\n", calls.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, config(|_| ())).unwrap();
    let providers = Providers::open(&file, dir.path()).unwrap();
    Bench { dir, providers }
}

impl Bench {
    async fn ask(&self, image: &str) -> Keyring {
        let mut keyring = Keyring::default();
        self.providers.add_to(&mut keyring, image).await;
        keyring
    }

    fn calls(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().lines().count()
    }
}

fn answer(kind: &str, duration: Option<&str>) -> String {
    let answer = json!({
        "kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": kind, "cacheDuration": duration,
        "auth": {"*.example.com": {"username": "u", "password": "hunter2"}}
    });
    format!("cat > /dev/null; echo '{answer}'")
}

#[tokio::test]
async fn an_answer_is_good_for_what_it_says_and_as_long_as_it_says() {
    let images = ["a.example.com/x:1", "a.example.com/x:1", "a.example.com/y:1", "b.example.com/x:1"];
    for (kind, duration, calls) in [
        ("Image", None, 3),
        ("Registry", None, 2),
        ("Global", None, 1),
        ("Global", Some("0s"), 4),
        ("Global", Some("10m"), 1),
    ] {
        let bench = bench(&answer(kind, duration));
        for image in images {
            let keyring = bench.ask(image).await;
            assert_eq!(keyring.problems, Vec::<String>::new());
            assert_eq!(keyring.lookup(image)[0].cri().password, "hunter2");
        }
        assert_eq!(bench.calls(), calls, "{kind} {duration:?}");
    }
}

#[tokio::test]
async fn a_provider_is_asked_as_kubelet_asks_it_and_only_for_its_images() {
    let script = "cat > \"$0.request\"; exit 3";
    let bench = bench(script);
    bench.ask("nginx").await;
    bench.ask("example.com/x").await;
    assert_eq!(bench.calls(), 0);
    bench.ask("a.example.com/x").await;
    let request = std::fs::read_to_string(bench.dir.path().join("plug.request")).unwrap();
    let request: Value = serde_json::from_str(&request).unwrap();
    let expected = json!({"kind": "CredentialProviderRequest", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "image": "a.example.com/x"});
    assert_eq!(request, expected);
    assert_eq!(std::fs::read_to_string(bench.dir.path().join("calls")).unwrap(), "get here\n");
}

#[tokio::test]
async fn a_provider_that_fails_is_told_without_its_secrets_and_asked_again() {
    for (script, expected) in [
        ("echo no access >&2; exit 1", "it failed with exit status: 1: no access"),
        ("echo '{\"password\": hunter2}'", "its answer cannot be read"),
        ("echo '{\"kind\": \"Other\", \"apiVersion\": \"v1\"}'", "its answer is no CredentialProviderResponse"),
        (&answer("Nothing", None), "it did not return a valid cacheKeyType: \"Nothing\""),
        (&answer("Image", Some("soon")), "its cacheDuration is no duration"),
    ] {
        let bench = bench(script);
        let keyring = bench.ask("a.example.com/x").await;
        let problem = &keyring.problems[0];
        assert!(problem.starts_with(&format!("credential provider plug: {expected}")), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
        bench.ask("a.example.com/x").await;
        assert_eq!(bench.calls(), 2);
    }
}

#[test]
fn a_configuration_that_cannot_be_used_says_where() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (|it| it["name"] = json!("a/b"), "providers[0].name: "),
        (|it| it["matchImages"] = json!([]), "providers[0].matchImages: "),
        (|it| it["apiVersion"] = json!("v1"), "providers[0].apiVersion: "),
        (|it| it["defaultCacheDuration"] = json!("long"), "providers[0].defaultCacheDuration: "),
        (|it| it["tokenAttributes"] = json!({}), "providers[0].tokenAttributes: "),
        (|it| it["other"] = json!(1), "providers[0]: unknown field `other`"),
    ];
    for (change, expected) in cases {
        let error = config::read(&config(change)).unwrap_err();
        assert!(error.contains(expected.trim_end()), "{expected}: {error}");
    }
    assert!(config::read("kind: Other\napiVersion: v1\n").is_err());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, config(|_| ())).unwrap();
    let error = Providers::open(&file, dir.path()).unwrap_err().to_string();
    assert!(error.contains("/plug is not there, or cannot be run"), "{error}");
}
