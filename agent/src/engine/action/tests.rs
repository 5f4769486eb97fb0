//! Actions against servers on this machine's loopback: what they send, and what they make of what comes back.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::engine::fake::Fake;

const LIMIT: Duration = Duration::from_secs(10);
/// For what is not to be answered.
const SHORT: Duration = Duration::from_millis(200);

/// A server that answers each connection with the next of its answers, and keeps the requests.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answers: impl IntoIterator<Item = String>) -> Self {
        Self::start(answers, None).await
    }

    async fn tls(answers: impl IntoIterator<Item = String>) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self::start(answers, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(answers: impl IntoIterator<Item = String>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, answers): (_, Vec<String>) = (server.requests.clone(), answers.into_iter().collect());
        tokio::spawn(async move {
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    // A client that gives up is part of some tests.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, answer, &requests).await,
                        Err(_) => continue,
                    },
                    None => serve(stream, answer, &requests).await,
                }
            }
        });
        server
    }

    fn get(&self, more: Value) -> HTTPGetAction {
        let mut get = json!({"port": self.address.port()});
        get.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(get).unwrap()
    }

    async fn probe(&self, more: Value) -> Answer {
        actions().http(&subject(), &self.get(more), LIMIT).await.unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: String, requests: &Mutex<Vec<String>>) {
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    // What begins like TLS is answered, too: a server that speaks none finds no end in it.
    while !request.ends_with(b"\r\n\r\n") && request.first() != Some(&0x16) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    let stalls = answer.ends_with("STALL");
    let _ = stream.write_all(answer.trim_end_matches("STALL").as_bytes()).await;
    let _ = stream.flush().await;
    if stalls {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

fn actions() -> Actions {
    Actions::new(Cri::new(Fake::new().channel()))
}

fn subject() -> Subject {
    let container = json!({"name": "a", "ports": [{"containerPort": 1234, "name": "web"}, {"containerPort": 99}]});
    Subject {
        id: "a0".into(),
        container: Arc::new(serde_json::from_value(container).unwrap()),
        ips: vec!["127.0.0.1".into(), "::1".into()],
    }
}

fn answer(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nbody")
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 4\r\n\r\nbody")
}

fn failed(why: &str) -> Answer {
    Answer::Failed(why.to_owned())
}

#[tokio::test]
async fn the_status_code_is_the_answer() {
    for (status, expected) in [
        ("200 OK", Answer::Passed),
        ("204 No Content", Answer::Passed),
        ("304 Not Modified", Answer::Warned("Probe terminated redirects, Response body: body".into())),
        ("400 Bad Request", failed("HTTP probe failed with statuscode: 400")),
        ("404 Not Found", failed("HTTP probe failed with statuscode: 404")),
        ("503 Oh No", failed("HTTP probe failed with statuscode: 503")),
    ] {
        let reply = match status {
            "204 No Content" | "304 Not Modified" => format!("HTTP/1.1 {status}\r\n\r\n"),
            _ => answer(status),
        };
        let expected = match status {
            "304 Not Modified" => Answer::Warned("Probe terminated redirects, Response body: ".into()),
            _ => expected,
        };
        assert_eq!(Server::new([reply]).await.probe(json!({})).await, expected, "{status}");
    }
}

#[tokio::test]
async fn a_request_says_who_asks() {
    let server = Server::new([answer("200 OK")]).await;
    assert_eq!(server.probe(json!({"path": "/healthz?deep=1#top"})).await, Answer::Passed);
    let request = server.requests().remove(0).to_lowercase();
    let host = format!("host: {}\r\n", server.address);
    assert!(request.starts_with("get /healthz?deep=1 http/1.1\r\n"), "{request}");
    for line in [host.as_str(), "user-agent: kube-probe/1.", "accept: */*\r\n", "connection: close\r\n"] {
        assert!(request.contains(line), "{request}");
    }
}

#[tokio::test]
async fn headers_of_the_manifest_come_first() {
    let server = Server::new([answer("200 OK")]).await;
    let given = json!({"path": "a b", "httpHeaders": [
        {"name": "Host", "value": "web.example"}, {"name": "User-Agent", "value": "me"},
        {"name": "Accept", "value": ""}, {"name": "X-Twice", "value": "1"}, {"name": "X-Twice", "value": "2"},
    ]});
    assert_eq!(server.probe(given).await, Answer::Passed);
    let request = server.requests().remove(0).to_lowercase();
    assert!(request.starts_with("get /a%20b http/1.1\r\n") && !request.contains("accept:"), "{request}");
    for line in ["host: web.example\r\n", "user-agent: me\r\n", "x-twice: 1\r\n", "x-twice: 2\r\n"] {
        assert!(request.contains(line), "{request}");
    }
    assert!(!request.contains("127.0.0.1"), "{request}");
}

#[tokio::test]
async fn redirects_of_the_same_host_are_followed_and_others_are_a_warning() {
    let server = Server::new([redirect("/next?x=1"), redirect("last"), answer("500 No")]).await;
    assert_eq!(server.probe(json!({"path": "/a/b"})).await, failed("HTTP probe failed with statuscode: 500"));
    let lines: Vec<String> = server.requests().iter().map(|it| it.lines().next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["GET /a/b HTTP/1.1", "GET /next?x=1 HTTP/1.1", "GET /last HTTP/1.1"]);
    let away = Answer::Warned("Probe terminated redirects, Response body: body".into());
    for location in ["http://elsewhere.example/", "//elsewhere.example/x", "https://127.0.0.2/", "ftp://127.0.0.1/"] {
        assert_eq!(Server::new([redirect(location)]).await.probe(json!({})).await, away, "{location}");
    }
    let none = "HTTP/1.1 302 Found\r\ncontent-length: 4\r\n\r\nbody".to_owned();
    assert_eq!(Server::new([none]).await.probe(json!({})).await, away);
}

#[tokio::test]
async fn a_redirect_to_another_port_names_it_and_a_relative_one_keeps_the_name_given() {
    let other = Server::new([answer("200 OK")]).await;
    let named = json!({"httpHeaders": [{"name": "Host", "value": "web.example"}]});
    let first = Server::new([redirect("/x"), redirect(&format!("http://{}/y", other.address))]).await;
    assert_eq!(first.probe(named).await, Answer::Passed);
    assert!(first.requests().iter().all(|request| request.contains("host: web.example\r\n")));
    let last = other.requests().remove(0);
    assert!(last.starts_with("GET /y ") && last.contains(&format!("host: {}\r\n", other.address)), "{last}");
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let server = Server::new((0..20).map(|_| redirect("/"))).await;
    let url = format!("http://{}/", server.address);
    assert_eq!(server.probe(json!({})).await, failed(&format!("Get {url:?}: stopped after 10 redirects")));
    assert_eq!(server.requests().len(), 10);
}

#[tokio::test]
async fn https_is_spoken_with_anybody() {
    let server = Server::tls([answer("200 OK"), answer("500 No")]).await;
    assert_eq!(server.probe(json!({"scheme": "HTTPS"})).await, Answer::Passed);
    assert_eq!(server.probe(json!({"scheme": "HTTPS"})).await, failed("HTTP probe failed with statuscode: 500"));
    let plain = Server::new([answer("200 OK")]).await;
    let Answer::Failed(why) = plain.probe(json!({"scheme": "HTTPS"})).await else { panic!("no TLS there") };
    assert!(why.starts_with(&format!("Get \"https://{}/\": ", plain.address)), "{why}");
}

#[tokio::test]
async fn nobody_there_and_nobody_who_answers_are_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent: HTTPGetAction = serde_json::from_value(json!({"port": address.port()})).unwrap();
    let late = actions().http(&subject(), &silent, SHORT).await.unwrap();
    assert_eq!(late, failed(&format!("Get \"http://{address}/\": no answer within 200ms")));
    drop(listener);
    let refused = actions().http(&subject(), &silent, LIMIT).await.unwrap();
    assert_eq!(refused, failed(&format!("Get \"http://{address}/\": dial tcp {address}: connection refused")));
    let cut = Server::new([String::new()]).await;
    let Answer::Failed(why) = cut.probe(json!({})).await else { panic!("no answer came") };
    assert!(why.starts_with(&format!("Get \"http://{}/\": ", cut.address)), "{why}");
}

#[tokio::test]
async fn ten_kilobytes_of_an_answer_are_enough_and_a_cut_one_is_no_answer() {
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}STALL", "x".repeat(20_000));
    assert_eq!(Server::new([endless]).await.probe(json!({})).await, Answer::Passed);
    let cut = Server::new(["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx".to_owned()]).await;
    let error = actions().http(&subject(), &cut.get(json!({})), LIMIT).await.unwrap_err();
    assert!(matches!(error, ActionError::BrokenOff(_)), "{error}");
}

#[tokio::test]
async fn ports_may_be_named() {
    let port = |port: Value| subject().port(&serde_json::from_value(port).unwrap());
    assert_eq!((port(json!("web")).unwrap(), port(json!(80)).unwrap(), port(json!("80")).unwrap()), (1234, 80, 80));
    assert_eq!(port(json!("db")).unwrap_err().to_string(), "container a has no port named \"db\"");
    for number in [json!(0), json!(-1), json!(65536)] {
        assert!(matches!(port(number), Err(ActionError::BadPort(_))));
    }
}

#[tokio::test]
async fn a_pod_without_an_address_cannot_be_asked() {
    let homeless = Subject { ips: vec![], ..subject() };
    let tcp: TCPSocketAction = serde_json::from_value(json!({"port": 1})).unwrap();
    assert!(matches!(actions().tcp(&homeless, &tcp, LIMIT).await, Err(ActionError::NoAddress)));
}

#[tokio::test]
async fn a_connection_is_all_that_tcp_asks_for() {
    let listener = TcpListener::bind("[::1]:0").await;
    let Ok(listener) = listener else { return eprintln!("skipped: no IPv6 on the loopback") };
    let port = listener.local_addr().unwrap().port();
    let at = |host: &str| serde_json::from_value(json!({"port": port, "host": host})).unwrap();
    assert_eq!(actions().tcp(&subject(), &at("::1"), LIMIT).await.unwrap(), Answer::Passed);
    let there = tokio::spawn(async move { listener.accept().await.unwrap().0 });
    drop::<TcpStream>(there.await.unwrap());
    let refused = actions().tcp(&subject(), &at("::1"), LIMIT).await.unwrap();
    assert_eq!(refused, failed(&format!("dial tcp [::1]:{port}: connection refused")));
}

#[tokio::test]
async fn grpc_health_needs_a_server_that_speaks_it() {
    let plain = Server::new([answer("200 OK")]).await;
    let grpc = |port: u16| GRPCAction { port: i32::from(port), ..GRPCAction::default() };
    let Answer::Failed(why) = actions().grpc(&subject(), &grpc(plain.address.port()), LIMIT).await.unwrap() else {
        panic!("it speaks HTTP/1.1 alone")
    };
    assert!(why.starts_with("error: "), "{why}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = actions().grpc(&subject(), &grpc(port), SHORT).await.unwrap();
    assert_eq!(silent, failed("timeout: health rpc did not complete within 200ms"));
    drop(listener);
    let refused = actions().grpc(&subject(), &grpc(port), LIMIT).await.unwrap();
    let at = format!("127.0.0.1:{port}");
    let why = format!("error: failed to connect service at {at:?}: dial tcp {at}: connection refused");
    assert_eq!(refused, failed(&why));
}

mod hooks {
    use super::*;
    use crate::engine::fake::Exec;
    use crate::engine::lifecycle::{self, HookFailure};
    use k8s_openapi::api::core::v1::LifecycleHandler;

    fn handler(handler: Value) -> LifecycleHandler {
        serde_json::from_value(handler).unwrap()
    }

    async fn run(action: Value, limit: Option<Duration>) -> Result<(), String> {
        let ran = lifecycle::run(&actions(), &handler(action), &subject(), limit).await;
        ran.map_err(|failure| failure.to_string())
    }

    #[tokio::test]
    async fn any_answer_ends_an_http_hook_well() {
        let server = Server::new([answer("500 No"), redirect("http://elsewhere.example/")]).await;
        let get = json!({"httpGet": {"port": server.address.port(), "path": "/stop"}});
        assert_eq!(run(get.clone(), None).await, Ok(()));
        assert_eq!(run(get, None).await, Ok(()));
        let request = server.requests().remove(0).to_lowercase();
        assert!(request.starts_with("get /stop ") && request.contains("user-agent: kube-lifecycle/1."), "{request}");
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_is_told_without_it() {
        let server = Server::new([answer("400 Bad Request"), answer("200 OK")]).await;
        let headers = json!([{"name": "Authorization", "value": "secret"}]);
        let get = json!({"httpGet": {"port": server.address.port(), "scheme": "HTTPS", "httpHeaders": headers}});
        assert_eq!(run(get, Some(LIMIT)).await, Ok(()));
        let request = server.requests().remove(1);
        assert!(request.starts_with("GET / ") && !request.to_lowercase().contains("authorization"), "{request}");
    }

    #[tokio::test]
    async fn a_hook_that_reaches_nobody_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(run(json!({"tcpSocket": {"port": port}}), None).await, Ok(()));
        drop(listener);
        let why = run(json!({"tcpSocket": {"port": port}}), None).await.unwrap_err();
        let refused = format!("dial tcp 127.0.0.1:{port}: connection refused");
        assert_eq!(why, format!("tcpSocket hook of container a failed: {refused}"));
        let why = run(json!({"httpGet": {"port": port}}), None).await.unwrap_err();
        assert_eq!(why, format!("httpGet hook of container a failed: Get \"http://127.0.0.1:{port}/\": {refused}"));
        assert!(run(json!({}), None).await.unwrap_err().contains("it names no action"));
    }

    #[tokio::test(start_paused = true)]
    async fn commands_and_sleeps_end_with_the_grace() {
        let fake = Fake::new();
        fake.execs("ok", [Exec::code(0)]);
        fake.execs("bad", [Exec::Ends { after: Duration::ZERO, code: 3, output: "no such table\n" }]);
        fake.execs("slow", [Exec::Ends { after: Duration::from_secs(100), code: 0, output: "" }]);
        let actions = Actions::new(Cri::new(fake.channel()));
        let begin = tokio::time::Instant::now();
        let run = async |action: Value, limit: Option<u64>| {
            let limit = limit.map(Duration::from_secs);
            let ran = lifecycle::run(&actions, &handler(action), &subject(), limit).await;
            (ran, begin.elapsed().as_secs())
        };
        let exec = |command: &str| json!({"exec": {"command": [command]}});
        assert_eq!(run(exec("ok"), Some(5)).await, (Ok(()), 0));
        let (bad, _) = run(exec("bad"), Some(5)).await;
        let why = "exec hook of container a failed: command exited with 3, message: \"no such table\"";
        assert_eq!(bad.unwrap_err().to_string(), why);
        let late = |action| HookFailure::TimedOut { action, container: "a".into(), limit: Duration::from_secs(5) };
        let (slow, after) = run(exec("slow"), Some(5)).await;
        assert_eq!(after, 5);
        assert!(slow.is_err());
        assert_eq!(run(json!({"sleep": {"seconds": 3}}), Some(5)).await, (Ok(()), 8));
        assert_eq!(run(json!({"sleep": {"seconds": 30}}), Some(5)).await, (Err(late("sleep")), 13));
        assert_eq!(run(exec("slow"), None).await, (Ok(()), 113));
    }
}
