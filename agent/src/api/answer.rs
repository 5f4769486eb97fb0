//! One request.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::{Method, Request, Response};

use super::Error;
use super::Query;
use super::route::{Part, Route};
use super::{Api, Inner, discovery, parts, read, watch, writes};
use crate::access::body::{self, Body};
use crate::store::Kind;

impl Api {
    /// Answers one request of a client that may ask.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = decide(&self.inner, request).await;
        answer.unwrap_or_else(|error| {
            tracing::debug!(%method, path, %error, "a request was refused");
            body::refused(&error)
        })
    }
}

async fn decide(api: &Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let route = Route::of(request.uri().path()).ok_or(Error::NoSuchPath)?;
    let query = Query::of(request.uri().query());
    match (request.method().clone(), route) {
        (Method::GET, route) if !matches!(route, Route::Pod { .. }) => look(api, &request, &query, route),
        (Method::GET, Route::Pod { namespace, name, part: Part::Log }) => parts::log(api, &query, &namespace, &name),
        (Method::GET, Route::Pod { namespace, name, part: Part::Why }) => {
            body::json(&api.control.why(&namespace, &name).await?)
        }
        (
            Method::GET | Method::POST,
            Route::Pod { namespace, name, part: part @ (Part::Exec | Part::Attach | Part::PortForward) },
        ) => parts::session(api, request, &query, part, &namespace, &name).await,
        (Method::POST, Route::Pod { namespace, name, part: Part::Restart }) => {
            writes::restart(api, &query, &namespace, &name).await
        }
        (Method::DELETE, Route::Object { kind: Kind::Pod, namespace, name }) => {
            writes::delete(api, request, &query, &namespace, &name).await
        }
        (method, route) => Err(writes::refuse(&method, &route)),
    }
}

fn look(api: &Arc<Inner>, request: &Request<Incoming>, query: &Query, route: Route) -> Result<Response<Body>, Error> {
    let accept = request.headers().get(ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    match route {
        Route::Versions => body::json(&discovery::versions()),
        Route::Groups => body::json(&discovery::groups()),
        Route::Group(group) => body::json(&discovery::group(group)),
        Route::Resources(group) => body::json(&discovery::resources(group)),
        Route::Version => body::json(&discovery::version()),
        Route::OpenApi2 if accept.contains(discovery::OPEN_API_2_PROTOBUF) => {
            Ok(body::bytes(discovery::OPEN_API_2_ANSWER, discovery::open_api_2_protobuf()))
        }
        Route::OpenApi2 => body::json(&discovery::open_api_2()),
        Route::OpenApi => body::json(&discovery::open_api()),
        Route::OpenApiDocument(group) => body::json(&discovery::open_api_document(group)),
        Route::Health => Ok(body::text("ok")),
        Route::Collection { kind, namespace } => {
            let wanted = read::Wanted::parse(kind, namespace, query, accept)?;
            if query.switch("watch")? { watch::answer(api, wanted, query) } else { read::list(api, &wanted, query) }
        }
        Route::Object { kind, namespace, name } => read::get(api, kind, &namespace, &name, query, accept),
        Route::Pod { .. } => Err(Error::NoSuchPath),
    }
}
