//! The gRPC health checking protocol, as much of it as a probe needs.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::dial::{DialError, address, dial};
use super::http::Purpose;
use super::{ActionError, Answer};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckRequest {
    /// The service asked about; empty for the server as a whole.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckResponse {
    /// How it is.
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    /// It does not say.
    Unknown = 0,
    /// All is well.
    Serving = 1,
    /// It is not.
    NotServing = 2,
    /// Nobody here knows that service.
    ServiceUnknown = 3,
}

impl ServingStatus {
    fn word(self) -> &'static str {
        match self {
            ServingStatus::Unknown => "UNKNOWN",
            ServingStatus::Serving => "SERVING",
            ServingStatus::NotServing => "NOT_SERVING",
            ServingStatus::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks whether `service` is well.
pub async fn probe(host: &str, port: u16, service: &str, limit: Duration) -> Result<Answer, ActionError> {
    let at = address(host, port);
    let bad = |error: tonic::transport::Error| ActionError::BadRequest { what: at.clone(), reason: error.to_string() };
    let endpoint = Endpoint::from_shared(format!("http://{at}")).map_err(bad)?;
    let endpoint = endpoint.user_agent(Purpose::Probe.user_agent()).map_err(bad)?;
    let check = async {
        let channel = match connect(&endpoint, host, port).await {
            Ok(channel) => channel,
            Err(error) => return format!("error: failed to connect service at {at:?}: {}", chain(&error)).into(),
        };
        judge(check(channel, service).await)
    };
    Ok(match tokio::time::timeout(limit, check).await {
        Ok(answer) => answer,
        Err(_) => Answer::Failed(format!("timeout: health rpc did not complete within {limit:?}")),
    })
}

impl From<String> for Answer {
    fn from(failure: String) -> Self {
        Answer::Failed(failure)
    }
}

async fn connect(endpoint: &Endpoint, host: &str, port: u16) -> Result<Channel, tonic::transport::Error> {
    let host = host.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let host = host.clone();
        async move { Ok::<_, DialError>(TokioIo::new(dial(&host, port).await?)) }
    });
    endpoint.connect_with_connector(connector).await
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
        Ok(answer) => format!("service unhealthy (responded with {:?})", answer.status().word()).into(),
        Err(status) if status.code() == Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )
        .into(),
        Err(status) => format!("error: health rpc probe failed: {:?}: {}", status.code(), status.message()).into(),
    }
}

/// The innermost cause: tonic's own words are only that the transport failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
