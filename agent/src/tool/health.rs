//! `health`: answers gRPC health checks, with the status that a file says.

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::serve::{listen, parse_port};
use super::{Failure, flag_value, plain, signals};
use crate::grpc_health::{CHECK, HealthCheckRequest, HealthCheckResponse, ServingStatus};

/// `health --port PORT [--service NAME]… [--status-file FILE]`
pub fn main(args: &[OsString]) -> Result<u8, Failure> {
    let (port, health) = parse(args)?;
    signals::end_on_termination()?;
    let listener = listen(None, port)?;
    listener.set_nonblocking(true).map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    plain::print(format!("serving on {address}\n").as_bytes())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::failed)?;
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(health);
        server.serve_with_incoming(incoming).await.map_err(Failure::failed)
    });
    served.map(|()| 0)
}

fn parse(args: &[OsString]) -> Result<(u16, Health), Failure> {
    let (mut port, mut services, mut status_file) = (None, vec![String::new()], None);
    let mut words = args.iter().cloned();
    while let Some(word) = words.next() {
        if let Some(value) = flag_value("--port", &word, &mut words) {
            port = Some(parse_port(&value?)?);
        } else if let Some(value) = flag_value("--service", &word, &mut words) {
            services.push(value?.to_string_lossy().into_owned());
        } else if let Some(value) = flag_value("--status-file", &word, &mut words) {
            status_file = Some(value?.into());
        } else {
            return Err(Failure::Usage(format!("unexpected {}", word.display())));
        }
    }
    let port = port.ok_or_else(|| Failure::Usage("--port is missing".into()))?;
    Ok((port, Health { services: services.into(), status_file }))
}

/// `grpc.health.v1.Health`, its Check alone.
#[derive(Clone, Debug, PartialEq)]
struct Health {
    /// Those that are known; the empty name is the server as a whole.
    services: Arc<[String]>,
    /// Holds the name of a status; none is SERVING.
    status_file: Option<PathBuf>,
}

impl Health {
    fn check(&self, service: &str) -> Result<HealthCheckResponse, Status> {
        if !self.services.iter().any(|known| known == service) {
            return Err(Status::not_found(format!("unknown service {service}")));
        }
        let held = self.status_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let told = held.and_then(|held| ServingStatus::ALL.into_iter().find(|status| status.word() == held.trim()));
        Ok(HealthCheckResponse { status: told.unwrap_or(ServingStatus::Serving).into() })
    }
}

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = Ready<Result<Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, request: Request<HealthCheckRequest>) -> Self::Future {
        ready(self.check(&request.get_ref().service).map(Response::new))
    }
}

impl tower::Service<http::Request<Body>> for Health {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let health = self.clone();
        Box::pin(async move {
            if request.uri().path() != CHECK {
                return Ok(Status::unimplemented("only Check is").into_http());
            }
            let codec = ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default();
            Ok(Grpc::new(codec).unary(health, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    use hyper_util::rt::{TokioExecutor, TokioIo};
    use k8s_openapi::api::core::v1::GRPCAction;
    use tokio::io::{AsyncRead, AsyncWrite};

    use crate::channel::Cri;
    use crate::engine::action::{Actions, Answer, Subject};

    #[test]
    fn a_service_has_the_status_that_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("status");
        let words = ["--port=1", "--service", "db", "--status-file"].map(OsString::from);
        let (port, health) = parse(&[&words[..], &[file.clone().into()]].concat()).unwrap();
        let ask = |service: &str| health.check(service).map(|answer| answer.status().word());
        assert_eq!((port, ask("").unwrap(), ask("db").unwrap()), (1, "SERVING", "SERVING"));
        std::fs::write(&file, "NOT_SERVING\n").unwrap();
        assert_eq!((ask("").unwrap(), ask("db").unwrap()), ("NOT_SERVING", "NOT_SERVING"));
        assert_eq!(ask("cache").unwrap_err().code(), tonic::Code::NotFound);
    }

    /// Serves `health` on the loopback, over TLS or not, for as long as the runtime lives; answers its port.
    async fn serve(health: Health, tls: Option<tokio_rustls::TlsAcceptor>) -> i32 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    Some(tls) => tokio::spawn(converse(tls.accept(stream).await.unwrap(), health.clone())),
                    None => tokio::spawn(converse(stream, health.clone())),
                };
            }
        });
        port.into()
    }

    async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, health: Health) {
        let answer = |request: http::Request<hyper::body::Incoming>| {
            tower::Service::call(&mut health.clone(), request.map(Body::new))
        };
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // The client ends the connection as it likes.
        let _ = server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)).await;
    }

    fn tls() -> tokio_rustls::TlsAcceptor {
        let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }

    /// A probe asks this very server.
    #[tokio::test]
    async fn probes_understand_the_answers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("status");
        let health = Health { services: vec![String::new(), "db".into()].into(), status_file: Some(file.clone()) };
        let ports = [(serve(health.clone(), None).await, None), (serve(health, Some(tls())).await, Some("TLS"))];
        let actions = Actions::new(Cri::new(crate::engine::fake::Fake::new().channel()));
        let subject = Subject { ips: vec!["127.0.0.1".into()], ..Subject::default() };
        let ask = async |service: Option<&str>, (port, mode): (i32, Option<&str>)| {
            let grpc = GRPCAction { port, service: service.map(str::to_owned), mode: mode.map(str::to_owned) };
            actions.grpc(&subject, &grpc, Duration::from_secs(10)).await.unwrap()
        };
        for port in ports {
            std::fs::write(&file, "SERVING").unwrap();
            assert_eq!((ask(None, port).await, ask(Some("db"), port).await), (Answer::Passed, Answer::Passed));
            let unknown = "error: health rpc probe failed: NotFound: unknown service cache";
            assert_eq!(ask(Some("cache"), port).await, Answer::Failed(unknown.into()));
            std::fs::write(&file, "NOT_SERVING").unwrap();
            let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
            assert_eq!(ask(None, port).await, Answer::Failed(unhealthy.into()));
        }
        let [(plain, _), (tls, _)] = ports;
        assert!(matches!(ask(None, (plain, Some("TLS"))).await, Answer::Failed(_)));
        assert!(matches!(ask(None, (tls, None)).await, Answer::Failed(_)));
    }

    #[test]
    fn wrong_flags_are_named() {
        let parse = |word: &str| parse(&[word.into()]).unwrap_err();
        assert_eq!(parse("--service=a"), Failure::Usage("--port is missing".into()));
        assert_eq!(parse("--port=x"), Failure::Usage("x is not a port".into()));
        assert_eq!(parse("x"), Failure::Usage("unexpected x".into()));
    }
}
