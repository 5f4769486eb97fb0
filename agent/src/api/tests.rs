//! Requests and answers, over a connection in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::ACCEPT;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::serve::connection;
use super::{Api, Control, Doing, Error, Identity};
use crate::access::{Access, WATCHERS};
use crate::channel::{Cri, in_memory};
use crate::store::{Kind, Store};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What was asked of the pods.
#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl Control for Asked {
    fn delete_pod<'a>(&'a self, namespace: &'a str, name: &'a str, grace: Option<Duration>) -> Doing<'a, String> {
        self.0.lock().unwrap().push(format!("delete {namespace}/{name} {grace:?}"));
        Box::pin(async { Ok("it comes from \"web.yaml\"".into()) })
    }

    fn restart<'a>(&'a self, namespace: &'a str, name: &'a str, container: Option<&'a str>) -> Doing<'a, ()> {
        self.0.lock().unwrap().push(format!("restart {namespace}/{name} {container:?}"));
        Box::pin(async move {
            match container {
                Some("x") => Err(Error::BadRequest("no such container".into())),
                _ => Ok(()),
            }
        })
    }

    fn why<'a>(&'a self, namespace: &'a str, name: &'a str) -> Doing<'a, Value> {
        Box::pin(async move { Ok(json!({"pod": format!("{namespace}/{name}"), "causes": []})) })
    }
}

struct Bench {
    store: Store,
    api: Api,
    asked: Arc<Asked>,
}

impl Bench {
    fn new() -> Self {
        let (store, asked) = (Store::new(1000), Arc::new(Asked::default()));
        let cri = Cri::new(in_memory(tonic::service::Routes::default()));
        let api = Api::new(Access::new(store.clone(), cri, None, "/nowhere".into()), asked.clone());
        Self { store, api, asked }
    }

    async fn connect(&self, identity: Option<Arc<Identity>>) -> SendRequest<Full<Bytes>> {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        tokio::spawn(connection(self.api.clone(), server, identity, place));
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn send(&self, method: Method, path: &str, accept: &str, body: &str) -> Response<Incoming> {
        let request = Request::builder().method(method).uri(path).header(ACCEPT, accept);
        let request = request.body(Full::from(body.to_owned())).unwrap();
        self.connect(None).await.send_request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.send(Method::GET, path, "application/json", "").await).await
    }

    /// The names in a list.
    async fn names(&self, path: &str) -> Vec<String> {
        let (code, list) = self.get(path).await;
        assert_eq!(code, StatusCode::OK, "{list}");
        let items = list["items"].as_array().unwrap().iter();
        items.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

async fn read(response: Response<Incoming>) -> (StatusCode, Value) {
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
}

/// The next line of a watch.
async fn line(body: &mut Incoming) -> Value {
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    serde_json::from_slice(&frame).unwrap()
}

fn pod(namespace: &str, name: &str, phase: &str, labels: &[(&str, &str)]) -> Pod {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let pod = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}"), "labels": labels},
        "spec": {"containers": [{"name": "c"}]}, "status": {"phase": phase},
    });
    serde_json::from_value(pod).unwrap()
}

#[tokio::test]
async fn what_is_served_is_discovered() {
    let bench = Bench::new();
    assert_eq!(bench.get("/api").await.1["versions"], json!(["v1"]));
    let groups = bench.get("/apis").await.1["groups"].clone();
    let groups: Vec<_> = groups.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(groups, ["discovery.k8s.io", "networking.k8s.io", "coracle.dev"]);
    let policies = bench.get("/apis/networking.k8s.io/v1").await.1["resources"].clone();
    assert_eq!(policies[0]["name"], "networkpolicies");
    assert_eq!(policies.as_array().unwrap().len(), 1);
    let resources = bench.get("/api/v1").await.1["resources"].clone();
    let names: Vec<_> = resources.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    for name in ["pods", "events", "nodes", "configmaps", "namespaces", "pods/log", "pods/exec", "pods/restart"] {
        assert!(names.contains(&name), "{name}");
    }
    assert_eq!(bench.get("/readyz").await, (StatusCode::OK, json!("ok")));
    let (code, status) = bench.get("/apis/apps/v1/deployments").await;
    assert_eq!((code, &status["reason"]), (StatusCode::NOT_FOUND, &json!("NotFound")));
}

#[tokio::test]
async fn lists_are_of_a_namespace_selected_and_in_parts() {
    let bench = Bench::new();
    for (namespace, name, tier) in [("a", "p", "x"), ("a", "q", "y"), ("b", "r", "x"), ("b", "s", "x")] {
        bench.store.put(pod(namespace, name, "Running", &[("tier", tier)]));
    }
    assert_eq!(bench.names("/api/v1/pods").await, ["p", "q", "r", "s"]);
    assert_eq!(bench.names("/api/v1/namespaces/b/pods").await, ["r", "s"]);
    assert_eq!(bench.names("/api/v1/pods?labelSelector=tier%3Dx&fieldSelector=metadata.name!=p").await, ["r", "s"]);
    let first = bench.get("/api/v1/pods?limit=3&labelSelector=tier%3Dx").await.1;
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["metadata"].get("continue"), None);
    let first = bench.get("/api/v1/pods?limit=2").await.1;
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    // What comes between two parts is in neither, but after the version of both.
    bench.store.put(pod("a", "a", "Running", &[]));
    let path = format!("/api/v1/pods?limit=2&continue={}", first["metadata"]["continue"].as_str().unwrap());
    let second = bench.get(&path).await.1;
    assert_eq!(second["items"][1]["metadata"]["name"], "s");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"].get("continue"), None);
    let (code, status) = bench.get("/api/v1/pods?continue=nonsense").await;
    assert_eq!((code, status["message"].as_str()), (StatusCode::BAD_REQUEST, Some("continue key is not valid")));
}

#[tokio::test]
async fn tables_have_rows_of_what_their_clients_ask_for() {
    let bench = Bench::new();
    bench.store.put(pod("default", "p", "Running", &[]));
    let path = "/api/v1/namespaces/default/pods";
    let table = read(bench.send(Method::GET, path, TABLE, "").await).await.1;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["rows"][0]["cells"][0], "p");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = read(bench.send(Method::GET, &format!("{path}?includeObject=Object"), TABLE, "").await).await.1;
    assert_eq!(whole["rows"][0]["object"]["kind"], "Pod");
    let one = read(bench.send(Method::GET, &format!("{path}/p"), TABLE, "").await).await.1;
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_watch_shows_what_comes_into_and_leaves_its_selection() {
    let bench = Bench::new();
    bench.store.put(pod("default", "old", "Running", &[]));
    let since = bench.store.version();
    let path = format!("/api/v1/pods?watch=1&resourceVersion={since}&fieldSelector=status.phase%3DRunning");
    let mut body = bench.send(Method::GET, &path, "application/json", "").await.into_body();
    bench.store.put(pod("default", "p", "Pending", &[]));
    bench.store.put(ConfigMap { metadata: pod("default", "c", "", &[]).metadata, ..ConfigMap::default() });
    bench.store.put(pod("default", "p", "Running", &[]));
    bench.store.put(pod("default", "p", "Running", &[("a", "b")]));
    bench.store.put(pod("default", "p", "Failed", &[("a", "b")]));
    bench.store.remove::<Pod>("default", "p");
    bench.store.remove::<Pod>("default", "old");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let change = line(&mut body).await;
        seen.push(format!("{} {}", change["type"], change["object"]["metadata"]["name"]).replace('"', ""));
    }
    assert_eq!(seen, ["ADDED p", "MODIFIED p", "DELETED p", "DELETED old"]);
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let bench = Bench::new();
    bench.store.put(pod("default", "p", "Running", &[]));
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1";
    let mut body = bench.send(Method::GET, path, "application/json", "").await.into_body();
    assert_eq!(line(&mut body).await["type"], "ADDED");
    let end = line(&mut body).await;
    assert_eq!((&end["type"], &end["object"]["kind"]), (&json!("BOOKMARK"), &json!("Pod")));
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(end["object"]["metadata"]["resourceVersion"], bench.store.version().to_string());
    let mut table = bench.send(Method::GET, "/api/v1/pods?watch=true", TABLE, "").await.into_body();
    assert!(line(&mut table).await["object"]["columnDefinitions"].is_array());
    bench.store.put(pod("default", "p", "Failed", &[]));
    let second = line(&mut table).await;
    assert_eq!((&second["type"], &second["object"]["columnDefinitions"]), (&json!("MODIFIED"), &Value::Null));
}

#[tokio::test]
async fn a_watch_from_too_long_ago_is_gone_and_one_ends_in_time() {
    let bench = Bench::new();
    let (code, status) = bench.get("/api/v1/pods?watch=1&resourceVersion=5").await;
    assert_eq!((code, &status["reason"]), (StatusCode::GONE, &json!("Expired")));
    tokio::time::pause();
    let body = bench.send(Method::GET, "/api/v1/pods?watch=1&timeoutSeconds=3", "", "").await.into_body();
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn there_are_only_so_many_watches() {
    let bench = Bench::new();
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        watches.push(bench.send(Method::GET, "/api/v1/pods?watch=1", "", "").await);
    }
    let response = bench.send(Method::GET, "/api/v1/pods?watch=1", "", "").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    // A client that goes away makes room.
    watches.clear();
    while bench.get("/api/v1/pods?watch=1&timeoutSeconds=1").await.0 != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_writes_are_handed_on_and_all_others_refused() {
    let bench = Bench::new();
    bench.store.put(pod("default", "p", "Running", &[]));
    let path = "/api/v1/namespaces/default/pods/p";
    let response = bench.send(Method::DELETE, path, "", r#"{"gracePeriodSeconds": 7}"#).await;
    assert_eq!(response.headers()["warning"], r#"299 - "it comes from \"web.yaml\"""#);
    assert_eq!(read(response).await.1["metadata"]["name"], "p");
    let restart = format!("{path}/restart?container=c");
    assert_eq!(bench.send(Method::POST, &restart, "", "").await.status(), StatusCode::OK);
    assert_eq!(bench.get(&format!("{path}/why")).await.1["pod"], "default/p");
    let expected = ["delete default/p Some(7s)", "restart default/p Some(\"c\")"];
    assert_eq!(*bench.asked.0.lock().unwrap(), expected);
    bench.asked.0.lock().unwrap().clear();
    for (method, path, body, code) in [
        (Method::DELETE, path, r#"{"preconditions": {"uid": "another"}}"#, 409),
        (Method::DELETE, path, r#"{"dryRun": ["All"]}"#, 200),
        (Method::DELETE, path, "nonsense", 400),
        (Method::DELETE, path, &"x".repeat(100_000), 413),
        (Method::DELETE, "/api/v1/namespaces/default/pods/other", "", 404),
        (Method::DELETE, "/api/v1/namespaces/default/pods", "", 405),
        (Method::DELETE, "/api/v1/namespaces/default/configmaps/c", "", 405),
        (Method::POST, "/api/v1/namespaces/default/pods", "{}", 405),
        (Method::PUT, path, "{}", 405),
        (Method::PATCH, path, "{}", 405),
        (Method::POST, "/api/v1/namespaces/default/pods/other/restart", "", 404),
        (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "{}", 404),
    ] {
        let (got, status) = read(bench.send(method.clone(), path, "", body).await).await;
        assert_eq!(got.as_u16(), code, "{method} {path}: {status}");
        assert!(code == 200 || status["kind"] == "Status", "{status}");
    }
    assert_eq!(*bench.asked.0.lock().unwrap(), [""; 0]);
    let unknown = format!("{path}/restart?container=x");
    assert_eq!(bench.send(Method::POST, &unknown, "", "").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn sessions_that_cannot_begin_are_refused_with_the_reason() {
    let bench = Bench::new();
    bench.store.put(pod("default", "p", "Pending", &[]));
    let path = "/api/v1/namespaces/default/pods/p";
    for (part, code, why) in [
        ("exec?container=c&command=true&stdout=1", 400, "is not running: it has not started"),
        ("exec?container=x&command=true&stdout=1", 400, "container x is not valid for pod p"),
        ("attach?container=c&stdout=true", 400, "is not running"),
        ("attach?container=c&stdout=maybe", 400, "must be true or false"),
        ("log?container=c", 400, "is not available"),
        ("log?container=c&sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 400, "at most one of"),
        ("log?container=c&tailLines=-1", 400, "tailLines"),
        ("log?container=c&stream=Both", 400, "unsupported value"),
    ] {
        let (got, status) = bench.get(&format!("{path}/{part}")).await;
        let message = status["message"].as_str().unwrap_or_default();
        assert!(got.as_u16() == code && message.contains(why), "{part}: {got} {message}");
    }
}

#[tokio::test]
async fn who_does_not_say_the_token_learns_nothing() {
    let (bench, dir) = (Bench::new(), tempfile::tempdir().unwrap());
    let identity = Arc::new(Identity::open(dir.path()).unwrap());
    let token = std::fs::read_to_string(dir.path().join("token")).unwrap();
    for (said, code) in [(None, 401), (Some("Bearer wrong".to_owned()), 401), (Some(format!("Bearer {token}")), 200)] {
        for path in ["/api", "/readyz", "/api/v1/pods", "/"] {
            let mut request = Request::builder().uri(path);
            if let Some(said) = &said {
                request = request.header("authorization", said);
            }
            let mut client = bench.connect(Some(identity.clone())).await;
            let response = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
            let expected = if path == "/" && code == 200 { 404 } else { code };
            assert_eq!(response.status().as_u16(), expected, "{path} {said:?}");
        }
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let bench = Bench::new();
    let request = Request::builder().uri("/api").header("x", "y".repeat(100_000)).body(Full::default()).unwrap();
    let refused = bench.connect(None).await.send_request(request).await;
    assert!(refused.map_or(true, |response| response.status().is_client_error()));
}

#[test]
fn every_kind_is_known_by_its_type() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of_plural(kind.group(), kind.plural()), Some(kind), "{}", kind.name());
    }
}
