//! Sessions of a container runtime that is not ours: bytes between its streaming server and the client.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::{self, Body};
use super::error::Error;

/// How long a streaming server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that is read of a refusal.
const MOST: usize = 64 * 1024;

/// Asks the server at `address` what the client asks, and joins both if it agrees. `place` is dropped at the end.
pub async fn relay(
    address: &str,
    mut request: Request<Incoming>,
    place: impl Send + 'static,
) -> Result<Response<Body>, Error> {
    let failed = |why: String| Error::Internal(format!("the container runtime's streaming server at {address}: {why}"));
    let answer = timeout(PATIENCE, ask(address, &request)).await;
    let mut answer = answer.map_err(|_| failed("no answer".into()))?.map_err(|error| failed(error.to_string()))?;
    let (code, headers) = (answer.status(), answer.headers().clone());
    if code != StatusCode::SWITCHING_PROTOCOLS {
        let text = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| failed(error.to_string()))?;
        let mut response = Response::new(body::whole(text.to_bytes()));
        *response.status_mut() = code;
        *response.headers_mut() = headers;
        response.headers_mut().remove(TRANSFER_ENCODING);
        response.headers_mut().remove(CONTENT_LENGTH);
        return Ok(response);
    }
    let server = hyper::upgrade::on(&mut answer);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _place = place;
        let joined = async {
            let (client, server) = tokio::try_join!(client, server).map_err(io::Error::other)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await
        };
        if let Err(error) = joined.await {
            tracing::debug!(%error, "a session with another runtime has ended");
        }
    });
    let mut response = Response::new(body::whole(Bytes::new()));
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    Ok(response)
}

async fn ask(address: &str, request: &Request<Incoming>) -> io::Result<Response<Incoming>> {
    let uri: Uri = address.parse().map_err(io::Error::other)?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(io::Error::other("only http is spoken to it; switch its TLS off, for it is on loopback"));
    }
    let authority = uri.authority().ok_or_else(|| io::Error::other("the address has no host"))?;
    let stream = TcpStream::connect((authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80)));
    let stream = stream.await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let mut asked = Request::builder().method(request.method()).uri(path).header(HOST, authority.as_str());
    if let Some(headers) = asked.headers_mut() {
        for (name, value) in request.headers() {
            // What is between the client and us, and what is not said of an empty body.
            if ![HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
                headers.append(name, value.clone());
            }
        }
    }
    let asked = asked.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    sender.send_request(asked).await.map_err(io::Error::other)
}
