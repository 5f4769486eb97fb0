//! The gRPC health checking protocol, as much of it as a probe needs.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::dial::{DialError, address, dial};
use super::http::Purpose;
use super::{ActionError, Answer, tls};
use crate::grpc_health::{CHECK, HealthCheckRequest, HealthCheckResponse, ServingStatus};

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// An address or a name.
    pub host: &'a str,
    /// Where it listens.
    pub port: u16,
    /// It speaks TLS; nobody verifies who it is.
    pub tls: bool,
}

impl Server<'_> {
    /// Asks whether `service` is well.
    pub async fn probe(self, service: &str, limit: Duration) -> Result<Answer, ActionError> {
        let at = address(self.host, self.port);
        let endpoint = endpoint(&at, self.tls)
            .map_err(|error| ActionError::BadRequest { what: at.clone(), reason: chain(&*error) })?;
        let check = async {
            match self.connect(&endpoint).await {
                Ok(channel) => judge(check(channel, service).await),
                Err(error) => failed(format!("error: failed to connect service at {at:?}: {}", chain(&error))),
            }
        };
        Ok(match tokio::time::timeout(limit, check).await {
            Ok(answer) => answer,
            Err(_) => failed(format!("timeout: health rpc did not complete within {limit:?}")),
        })
    }

    async fn connect(self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        let (host, port) = (self.host.to_owned(), self.port);
        if self.tls {
            let connector = tower::service_fn(move |_: Uri| {
                let host = host.clone();
                async move {
                    let stream = dial(&host, port).await.map_err(io::Error::other)?;
                    Ok::<_, io::Error>(TokioIo::new(tls::connect(&host, stream, Some("h2")).await?))
                }
            });
            return endpoint.connect_with_connector(connector).await;
        }
        let connector = tower::service_fn(move |_: Uri| {
            let host = host.clone();
            async move { Ok::<_, DialError>(TokioIo::new(dial(&host, port).await?)) }
        });
        endpoint.connect_with_connector(connector).await
    }
}

/// Where requests go. The connection is made elsewhere; the scheme only says what it is.
fn endpoint(at: &str, tls: bool) -> Result<Endpoint, tower::BoxError> {
    let endpoint = Endpoint::from_shared(format!("http://{at}"))?.user_agent(Purpose::Probe.user_agent())?;
    Ok(if tls { endpoint.origin(format!("https://{at}").parse()?) } else { endpoint })
}

fn failed(why: String) -> Answer {
    Answer::Failed(why)
}

async fn check(channel: Channel, service: &str) -> Result<HealthCheckResponse, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(super::MAX_ANSWER);
    client.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let path = http::uri::PathAndQuery::from_static(CHECK);
    client.unary(request, path, ProstCodec::default()).await.map(tonic::Response::into_inner)
}

fn judge(answer: Result<HealthCheckResponse, Status>) -> Answer {
    match answer {
        Ok(answer) if answer.status() == ServingStatus::Serving => Answer::Passed,
        Ok(answer) => failed(format!("service unhealthy (responded with {:?})", answer.status().word())),
        Err(status) if status.code() == Code::Unimplemented => failed(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => failed(format!("error: health rpc probe failed: {:?}: {}", status.code(), status.message())),
    }
}

/// The innermost cause: tonic's own words are only that the transport failed.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
