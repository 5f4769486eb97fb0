//! HTTP over TLS: connections, who is at their other end, and answers as they are sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;

use super::asked::{Asked, User};
use super::fault::Fault;
use super::refusal::Refusal;
use super::{Answer, Shared, forward, pki, wire};

type Reply = Response<BoxBody<Bytes, Lost>>;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost")]
pub struct Lost;

/// Accepts connections until it is dropped.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(converse(shared, stream));
    }
}

async fn converse(shared: Arc<Shared>, stream: TcpStream) {
    // Small answers must not wait for one another; where that cannot be said they do.
    let _ = stream.set_nodelay(true);
    let mut sky = shared.sky.subscribe();
    let torn = sky.borrow_and_update().torn;
    let config = shared.lock().tls.clone();
    let near = wire::through(stream, sky.clone());
    let Ok(tls) = tokio_rustls::TlsAcceptor::from(config).accept(near).await else { return };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(pki::user_of);
    let service = hyper::service::service_fn(|request| respond(Arc::clone(&shared), user.clone(), request));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.keep_alive(true);
    let connection = http.serve_connection(TokioIo::new(tls), service).with_upgrades();
    // How a client leaves is its own affair.
    tokio::select! {
        _ = connection => {}
        _ = sky.wait_for(|sky| sky.torn != torn) => {}
    }
}

async fn respond(shared: Arc<Shared>, user: Option<User>, mut request: Request<Incoming>) -> Result<Reply, Lost> {
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let upgrade = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = if is_upgrade { Bytes::new() } else { body.collect().await.map_err(|_| Lost)?.to_bytes() };
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let media = header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let token = header(header::AUTHORIZATION).strip_prefix("Bearer ").map(str::to_owned);
    let asked = Asked {
        user: User::default(),
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: query.into_owned().collect(),
        media: media.to_owned(),
        body: Value::Null,
    };
    let agent = header(header::USER_AGENT).to_owned();
    let number = shared.begin(&asked, user.as_ref(), &agent, &body);
    let fault = shared.lock().faults.next(&asked.method, &asked.path, asked.says("watch"));
    match fault {
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::Status(code, after)) => {
            shared.finish(number, code);
            return Ok(refused(&Refusal::wanted(code, after)));
        }
        Some(Fault::Lost) | None => {}
    }
    let reply = match read(asked, user, token, &body, &shared) {
        Ok(Answer::Body(code, body)) => json(code, &body),
        Ok(Answer::Text(code, text)) => reply(code, "text/plain; charset=utf-8", whole(text)),
        Ok(Answer::Watch(events, time)) => reply(200, "application/json", Events::new(events, time).boxed()),
        Ok(Answer::Forward(forward)) => forward::pass(&shared, forward, head.method, head.headers, body, upgrade)
            .await
            .unwrap_or_else(|refusal| refused(&refusal)),
        Err(refusal) => refused(&refusal),
    };
    shared.finish(number, reply.status().as_u16());
    if fault == Some(Fault::Lost) { Err(Lost) } else { Ok(reply) }
}

/// Reads the body, finds out who asks, and answers.
fn read(
    mut asked: Asked,
    by_certificate: Option<User>,
    token: Option<String>,
    body: &[u8],
    shared: &Shared,
) -> Result<Answer, Refusal> {
    asked.user = match (by_certificate, token) {
        (Some(user), _) => user,
        (None, Some(token)) => shared.lock().user_of_token(&token).ok_or_else(Refusal::unauthorized)?,
        (None, None) => User::new("system:anonymous", &["system:unauthenticated"]),
    };
    if asked.media == "application/vnd.kubernetes.protobuf" {
        return Err(Refusal::not_implemented("bodies of protobuf"));
    }
    if !body.is_empty() {
        let json = serde_json::from_slice(body);
        asked.body = json.or_else(|_| serde_yaml::from_slice(body)).map_err(|error| {
            Refusal::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {error}",
                asked.media
            ))
        })?;
    }
    shared.answer(&asked)
}

fn refused(refusal: &Refusal) -> Reply {
    let mut reply = json(refusal.code, &refusal.status());
    if let Some(seconds) = refusal.retry_after {
        reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

fn json(code: u16, body: &Value) -> Reply {
    reply(code, "application/json", whole(body.to_string()))
}

fn whole(text: String) -> BoxBody<Bytes, Lost> {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

fn reply(code: u16, media: &'static str, body: BoxBody<Bytes, Lost>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    reply
}

/// A watch as a body: one event a line, until its time is over or the server ends it.
struct Events {
    events: UnboundedReceiver<Value>,
    ends: Option<Pin<Box<Sleep>>>,
}

impl Events {
    fn new(events: UnboundedReceiver<Value>, time: Option<Duration>) -> Self {
        Self { events, ends: time.map(|time| Box::pin(tokio::time::sleep(time))) }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        if let Poll::Ready(event) = self.events.poll_recv(context) {
            return Poll::Ready(event.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n"))))));
        }
        match &mut self.ends {
            Some(ends) => ends.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        }
    }
}
