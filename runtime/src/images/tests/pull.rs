//! Pulling from a registry of the tests' own, which answers as each test has it.

mod server;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use self::server::{Answer, Server};
use super::craft::{self, E};
use crate::images::{
    Digest, Error, ImageStore, Imported, Kind, Limits, PullEvent, PullRequest, Puller, RegistryOptions, Timeouts,
};

/// A store, and a registry with one image of two layers.
struct Bench {
    root: tempfile::TempDir,
    server: Server,
    layers: Vec<Digest>,
    manifest: Digest,
}

fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(400),
        back_off: Duration::from_millis(5),
        max_back_off: Duration::from_millis(20),
        max_retry_after: Duration::from_millis(50),
        attempts: 4,
    }
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start();
        let noise: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let base =
            craft::tar(&[E::dir("etc/"), E::file("etc/name", "base"), E { data: noise, ..E::file("noise", "") }]);
        let top = craft::tar(&[E::file("etc/top", "top"), E::file("etc/.wh.name", "")]);
        let (manifest, layers) =
            server.publish("team/app", "1", &[craft::gzip(&base), craft::gzip(&top)], &[base, top]);
        Bench { root: tempfile::tempdir().unwrap(), server, layers, manifest }
    }

    fn store(&self) -> ImageStore {
        ImageStore::open(self.root.path()).unwrap()
    }

    fn puller(&self) -> Puller {
        let options = RegistryOptions {
            config_dirs: vec![self.root.path().join("certs.d")],
            auth_files: vec![self.root.path().join("config.json")],
            timeouts: timeouts(),
        };
        Puller::new(self.store(), options)
    }

    fn request(&self, name: &str) -> PullRequest {
        let reference = format!("{}/{name}", self.server.address());
        PullRequest { reference, auth: None, platform: String::new(), limits: Limits::default() }
    }

    fn pull(&self) -> Result<Imported, Arc<Error>> {
        wait(self.puller().pull(self.request("team/app:1")).unwrap().image())
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.unwrap() })
}

#[test]
fn an_image_is_pulled_unpacked_and_its_blobs_kept() {
    let bench = Bench::new();
    let pulled = bench.pull().unwrap();
    let store = bench.store();
    let image = store.resolve(&format!("{}/team/app:1", bench.server.address())).unwrap();
    assert_eq!(image.id, pulled.id);
    assert_eq!(image.digests, [format!("{}/team/app@{}", bench.server.address(), bench.manifest)]);
    assert_eq!(std::fs::read_to_string(image.layers[1].join("etc/top")).unwrap(), "top");
    for layer in &bench.layers {
        let kept = std::fs::read(store.path().join("blobs/sha256").join(layer.hex())).unwrap();
        assert_eq!(Digest::of(&kept), *layer);
    }
    assert_eq!(std::fs::read_dir(store.path().join("blobs/partial")).unwrap().count(), 0);
    assert_eq!(store.verify().unwrap(), Default::default());
    let before = bench.server.blobs_asked();
    assert_eq!(bench.pull().unwrap().id, pulled.id);
    assert_eq!(bench.server.blobs_asked(), before, "nothing that is here comes again");
}

fn status(code: u16) -> Answer {
    Answer::Status(code, Vec::new(), String::new())
}

/// Bytes of layers that the registry sent.
fn sent(bench: &Bench) -> usize {
    let is_layer = |path: &str| bench.layers.iter().any(|layer| path.contains(layer.hex()));
    bench.server.log().iter().filter(|seen| is_layer(&seen.path)).map(|seen| seen.sent).sum()
}

fn size(bench: &Bench) -> usize {
    let blobs = bench.root.path().join("images/blobs/sha256");
    bench.layers.iter().map(|layer| std::fs::metadata(blobs.join(layer.hex())).unwrap().len() as usize).sum()
}

#[test]
fn a_connection_that_breaks_or_stalls_goes_on_from_where_it_was() {
    for trick in [Answer::Cut(100_000), Answer::Stall(100_000)] {
        let bench = Bench::new();
        let big = bench.layers[0].hex().to_owned();
        bench.server.trick(&big, &[trick.clone(), Answer::Cut(50_000)]);
        bench.pull().unwrap();
        assert_eq!(sent(&bench), size(&bench), "{trick:?}: no byte came twice");
        let ranges: Vec<String> =
            bench.server.log().iter().filter_map(|seen| seen.headers.get("range").cloned()).collect();
        assert_eq!(ranges, ["bytes=100000-", "bytes=150000-"]);
    }
}

#[test]
fn a_pull_that_failed_is_gone_on_with_by_the_next() {
    let bench = Bench::new();
    let big = bench.layers[0].hex().to_owned();
    let cuts: Vec<Answer> = std::iter::once(Answer::Cut(200_000)).chain((0..4).map(|_| status(503))).collect();
    bench.server.trick(&big, &cuts);
    let error = bench.pull().unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().contains("503"), "{error}");
    let partial = bench.root.path().join("images/blobs/partial").join(&big);
    assert_eq!(std::fs::metadata(&partial).unwrap().len(), 200_000);
    bench.pull().unwrap();
    assert_eq!(sent(&bench), size(&bench));
}

#[test]
fn a_registry_that_ignores_ranges_or_has_none_there_is_pulled_from_all_the_same() {
    for trick in [Answer::NoRange, status(416)] {
        let bench = Bench::new();
        let big = bench.layers[0].hex().to_owned();
        bench.server.trick(&big, &[Answer::Cut(100_000), trick.clone()]);
        bench.pull().unwrap_or_else(|error| panic!("{trick:?}: {error}"));
    }
}

#[test]
fn a_partial_that_is_wrong_is_thrown_away_and_a_liar_is_an_error() {
    let bench = Bench::new();
    let big = bench.layers[0].hex().to_owned();
    let partial = bench.root.path().join("images/blobs/partial");
    bench.store();
    std::fs::write(partial.join(&big), vec![7; 5000]).unwrap();
    bench.pull().unwrap();

    let bench = Bench::new();
    bench.server.trick(&big, &[Answer::Lie, Answer::Lie]);
    let error = bench.pull().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("digest"), "{error}");
    let store = bench.store();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
    bench.pull().unwrap();
}

#[test]
fn a_busy_registry_is_waited_for_and_a_final_answer_is_not() {
    let bench = Bench::new();
    let retry = vec![("retry-after".to_owned(), "1".to_owned())];
    bench.server.trick("/manifests/", &[Answer::Status(429, retry, String::new()), status(503)]);
    bench.server.trick("/blobs/", &[status(500), status(502)]);
    bench.pull().unwrap();

    let rows = [
        (404, Kind::NotFound, "does not have it: gone (GONE)"),
        (403, Kind::Unauthenticated, "denies access: gone (GONE)"),
        (400, Kind::Invalid, "400 Bad Request: gone (GONE)"),
    ];
    for (code, kind, words) in rows {
        let bench = Bench::new();
        let body = r#"{"errors":[{"code":"GONE","message":"gone"}]}"#.to_owned();
        bench.server.trick("/manifests/", &[Answer::Status(code, Vec::new(), body)]);
        let error = bench.pull().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("team/app:1"), "{text}");
        assert_eq!(bench.server.log().len(), 1, "{:?}", bench.server.log());
    }
}

#[test]
fn credentials_are_found_sent_and_never_follow_a_redirect() {
    let bench = Bench::new();
    bench.server.guard("Basic bWU6c2VjcmV0", "Basic realm=\"x\"");
    let error = bench.pull().unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(error.to_string().contains("no credentials for") && error.to_string().contains("config.json"), "{error}");
    let auths = json!({ "auths": { bench.server.address(): { "auth": "bWU6c2VjcmV0" } } });
    std::fs::write(bench.root.path().join("config.json"), auths.to_string()).unwrap();

    let elsewhere = Server::start();
    let big = bench.layers[0].hex().to_owned();
    let path = format!("/v2/team/app/blobs/sha256:{big}");
    elsewhere.put("/storage/blob", "", &bench.server.content(&path));
    let location = format!("http://{}/storage/blob", elsewhere.address());
    bench.server.trick(&big, &[Answer::Status(307, vec![("location".into(), location)], String::new())]);
    bench.pull().unwrap();
    assert!(elsewhere.log().iter().all(|seen| !seen.headers.contains_key("authorization")), "{:?}", elsewhere.log());
    assert_eq!(elsewhere.log().len(), 1);
}

#[test]
fn a_token_is_fetched_with_the_credentials_and_renewed_when_it_is_stale() {
    let bench = Bench::new();
    let address = bench.server.address();
    let challenge =
        format!("Bearer realm=\"http://{address}/token\",service=\"reg\",scope=\"repository:team/app:pull\"");
    bench.server.guard("Bearer t1", &challenge);
    bench.server.put("/token", "application/json", br#"{"token":"t1","expires_in":60}"#);
    bench.pull().unwrap();
    let asked: Vec<_> = bench.server.log().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 1, "one token serves for all");
    assert!(asked[0].path.contains("scope=repository%3Ateam%2Fapp%3Apull") && asked[0].path.contains("service=reg"));

    let bench = Bench::new();
    let address = bench.server.address();
    let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"reg\"");
    bench.server.guard("Bearer t2", &challenge);
    bench.server.put("/token", "application/json", br#"{"access_token":"t2"}"#);
    bench.server.trick("/token", &[Answer::Status(200, Vec::new(), r#"{"token":"stale"}"#.into())]);
    let auth = crate::images::RegistryAuth { identity_token: "idt".into(), ..Default::default() };
    let request = PullRequest { auth: Some(auth), ..bench.request("team/app:1") };
    wait(bench.puller().pull(request).unwrap().image()).unwrap();
    let asked: Vec<_> = bench.server.log().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|seen| seen.method == "POST" && seen.body.contains("refresh_token=idt")), "{asked:?}");
}

#[test]
fn mirrors_are_tried_in_order_and_told_which_registry_is_meant() {
    let bench = Bench::new();
    let (dead, mirror) = ("http://127.0.0.1:1", Server::start());
    let toml = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"{dead}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        mirror.address(),
        bench.server.address()
    );
    let dir = bench.root.path().join("certs.d/registry.example");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("hosts.toml"), toml).unwrap();
    let request = PullRequest { reference: "registry.example/team/app:1".into(), ..bench.request("") };
    wait(bench.puller().pull(request).unwrap().image()).unwrap();
    assert!(mirror.log().iter().all(|seen| seen.path.ends_with("?ns=registry.example")));
    let image = bench.store().resolve("registry.example/team/app:1").unwrap();
    assert_eq!(image.references[0].domain(), "registry.example");
}

#[test]
fn an_index_gives_the_image_of_the_platform_and_keeps_the_indexes_digest() {
    let bench = Bench::new();
    let host = crate::images::platform::architecture();
    let entry = |digest: &str, architecture: &str| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                "platform": { "os": "linux", "architecture": architecture } })
    };
    let other = Digest::of(b"other");
    let index = |entries: Vec<serde_json::Value>| {
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries })
            .to_string()
    };
    let text = index(vec![entry(other.as_str(), "s390x"), entry(bench.manifest.as_str(), host)]);
    let digest = bench.server.put_manifest("team/app", "multi", &text);
    wait(bench.puller().pull(bench.request("team/app:multi")).unwrap().image()).unwrap();
    let store = bench.store();
    let image = store.resolve(&format!("{}/team/app:multi", bench.server.address())).unwrap();
    assert_eq!(image.digests, [format!("{}/team/app@{digest}", bench.server.address())]);
    let by_digest = format!("{}/team/app@{digest}", bench.server.address());
    assert_eq!(store.resolve(&by_digest).unwrap().id, image.id);
    let pulled = wait(bench.puller().pull(bench.request(&format!("team/app:any@{digest}"))).unwrap().image()).unwrap();
    assert_eq!(pulled.references[0].to_string(), by_digest);

    bench.server.put_manifest("team/app", "alien", &index(vec![entry(other.as_str(), "s390x")]));
    let error = wait(bench.puller().pull(bench.request("team/app:alien")).unwrap().image()).unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
}

#[test]
fn what_is_no_image_for_us_is_said_to_be_so() {
    let bench = Bench::new();
    let layer = |kind: &str, urls: serde_json::Value| {
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": bench.manifest, "size": 1 },
                "layers": [{ "mediaType": kind, "digest": bench.manifest, "size": 1, "urls": urls }] })
    };
    let rows = [
        (json!({ "schemaVersion": 1, "name": "x", "fsLayers": [] }), "schema 1"),
        (layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", json!(["https://a/b"])), "https://a/b"),
        (layer("application/x-who-knows", json!(null)), "cannot be unpacked"),
        (json!({ "schemaVersion": 2, "manifests": [], "layers": [] }), "at once"),
        (
            json!({ "schemaVersion": 2, "mediaType": "application/vnd.who.knows+json", "layers": [] }),
            "no container image",
        ),
        (
            json!({ "schemaVersion": 2, "layers": [], "config": { "mediaType": "application/x-chart", "digest": bench.manifest,
                 "size": 1 } }),
            "artifact",
        ),
    ];
    for (manifest, words) in rows {
        bench.server.put_manifest("team/app", "odd", &manifest.to_string());
        let error = wait(bench.puller().pull(bench.request("team/app:odd")).unwrap().image()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), Kind::Invalid);
    }
}

#[test]
fn two_that_want_one_image_pull_it_once() {
    let bench = Bench::new();
    let (first, second) = (bench.puller(), bench.puller());
    let request = || bench.request("team/app:1");
    wait(async {
        // Two of one process and one of another.
        let all = [first.pull(request()).unwrap(), first.pull(request()).unwrap(), second.pull(request()).unwrap()];
        for image in futures_util::future::join_all(all.map(|it| it.image())).await {
            image.unwrap();
        }
    });
    assert_eq!(sent(&bench), size(&bench));
    let asked = bench.server.log().iter().filter(|seen| seen.path.contains("/manifests/1")).count();
    assert!(asked <= 4, "{asked}");
}

#[test]
fn a_pull_that_nobody_wants_any_more_stops_and_leaves_its_part() {
    let bench = Bench::new();
    let big = bench.layers[0].hex().to_owned();
    bench.server.trick(&big, &[Answer::Stall(300_000)]);
    let puller = bench.puller();
    wait(async {
        let mut one = puller.pull(bench.request("team/app:1")).unwrap();
        let other = puller.pull(bench.request("team/app:1")).unwrap();
        loop {
            match one.next().await.unwrap() {
                PullEvent::Layer(0, layer) if layer.bytes > 0 => break,
                PullEvent::Done(result) => panic!("{result:?}"),
                _ => {}
            }
        }
        drop((one, other));
    });
    // The next one waits until the last has let go, and goes on. What was on its way when that happened comes again, which
    // on a slow machine may be most of it.
    bench.pull().unwrap();
    let again = sent(&bench) - size(&bench);
    assert!(again < 300_000, "{again} bytes came twice: nothing was kept");
}

#[test]
fn an_export_has_the_digests_that_were_pulled() {
    use crate::images::Format;
    let bench = Bench::new();
    let pulled = bench.pull().unwrap();
    let store = bench.store();
    let name = pulled.references[0].to_string();
    for format in [Format::Oci, Format::Docker] {
        let path = bench.root.path().join(format!("{format:?}.tar"));
        store.export(std::slice::from_ref(&name), &path, format, &mut |_, _| {}).unwrap();
        let other = tempfile::tempdir().unwrap();
        let copy = ImageStore::open(other.path()).unwrap();
        let imported = copy.import(&path, None, &Limits::default(), &mut |_| {}).unwrap();
        assert_eq!((&imported[0].id, &imported[0].references), (&pulled.id, &pulled.references));
        for layer in &bench.layers {
            assert!(copy.path().join("blobs/sha256").join(layer.hex()).exists(), "{format:?}");
        }
        if format == Format::Oci {
            assert_eq!(
                copy.resolve(&name).unwrap().digests,
                [format!("{}@{}", pulled.references[0].repository(), bench.manifest)]
            );
        }
    }
    std::fs::write(store.path().join("blobs/sha256").join(bench.layers[1].hex()), "damaged").unwrap();
    let path = bench.root.path().join("damaged.tar");
    let error = store.export(std::slice::from_ref(&name), &path, Format::Oci, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert_eq!(store.verify().unwrap().quarantined.len(), 1);
    assert!(store.resolve(&name).is_ok(), "the image itself is as good as it was");
    let path = bench.root.path().join("again.tar");
    let error = store.export(&[name], &path, Format::Oci, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("is not kept"), "{error}");
    assert!(!path.exists());
}

#[test]
fn removing_an_image_removes_its_blobs_and_spares_shared_ones() {
    let bench = Bench::new();
    let pulled = bench.pull().unwrap();
    let store = bench.store();
    assert!(store.usage().unwrap().bytes > size(&bench) as u64 * 3 / 2);
    std::fs::write(store.path().join("blobs/partial/abc"), "x").unwrap();
    store.sweep().unwrap();
    assert!(store.path().join("blobs/partial/abc").exists(), "a young part is kept");
    store.remove(pulled.id.as_str(), &|_| false).unwrap();
    assert_eq!(std::fs::read_dir(store.path().join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(store.discard_partials(true).unwrap(), 1);
}

#[test]
fn what_is_built_in_is_never_looked_up() {
    let bench = Bench::new();
    let request = PullRequest { reference: "coracle.local/other".into(), ..bench.request("") };
    let error = wait(bench.puller().pull(request).unwrap().image()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(bench.server.log().is_empty());
}
