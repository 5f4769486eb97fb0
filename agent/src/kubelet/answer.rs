//! One request.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::json;

use super::auth::{Asked, User};
use super::configz::configz;
use super::refusal::{Refusal, text};
use super::route::{Named, Route, bucket, decoded, subresources, verb};
use super::{Inner, Kubelet, metrics, pods, system_logs};
use crate::access::body::{self, Body};
use crate::access::logs::Options;
use crate::access::{Query, Session, Streams, running};
use crate::engine::config::names::PodKey;
use crate::node::health;

/// The most bytes of a request's body that are read: a form.
const MOST: usize = 64 * 1024;

/// How long a command of `/run` may take: kubelet's limit for an answer.
const RUN: i64 = 4 * 3600;

impl Kubelet {
    /// Answers one request of a client that has shown these certificates.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        certificates: &[CertificateDer<'_>],
    ) -> Response<Body> {
        let (method, raw) = (request.method().clone(), request.uri().path().to_owned());
        let path = decoded(&raw);
        let counted = self.inner.requests.begin(&method, path.as_deref().map_or("other", bucket));
        let answer = match path {
            Some(path) => decide(&self.inner, request, &path, certificates).await,
            // Whatever it may name: only those who are known are told.
            None => match known(&self.inner, &request, certificates).await {
                Ok(_) => Err(Refusal::bad_request("the path cannot be read")),
                Err(refusal) => Err(refusal),
            },
        };
        drop(counted);
        answer.unwrap_or_else(|refusal| {
            tracing::debug!(%method, path = raw, code = refusal.code.as_u16(), %refusal, "a request was refused");
            refusal.answer()
        })
    }
}

async fn decide(
    kubelet: &Inner,
    request: Request<Incoming>,
    path: &str,
    certificates: &[CertificateDer<'_>],
) -> Result<Response<Body>, Refusal> {
    let user = known(kubelet, &request, certificates).await?;
    let route = Route::of(path);
    let verb = if route.acts() { "create" } else { verb(request.method()) };
    allowed(kubelet, &user, verb, path).await?;
    if too_large(&request) {
        let why = format!("the request is larger than {MOST} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    let (debugging, system_logs) = {
        let settings = kubelet.settings.borrow();
        (settings.server.debugging, settings.server.system_logs)
    };
    if !debugging && !route.is_always_on() && route != Route::Nothing {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.\n"));
    }
    if !system_logs && matches!(route, Route::Logs(_)) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n"));
    }
    if !methods(&route).contains(request.method()) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
    }
    serve(kubelet, request, route).await
}

/// Who asks: by a certificate that somebody vouches for, else by a token.
async fn known(kubelet: &Inner, request: &Request<Incoming>, shown: &[CertificateDer<'_>]) -> Result<User, Refusal> {
    let unknown = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
    if let Some(certificates) = kubelet.certificates.as_ref().filter(|_| !shown.is_empty()) {
        match certificates.user(shown, UnixTime::now()) {
            Ok(Some(user)) => return Ok(user.authenticated()),
            Ok(None) => tracing::debug!("a client's certificate names nobody"),
            Err(error) => tracing::debug!(%error, "nobody vouches for a client's certificate"),
        }
    }
    let said = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok()).and_then(|it| it.split_once(' '));
    let token = said.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let (Some(token), Some(tokens)) = (token, &kubelet.tokens) else { return Err(unknown()) };
    match tokens.user(token).await {
        Ok(user) => user.map(User::authenticated).ok_or_else(unknown),
        Err(error) => {
            tracing::warn!(%error, "whose token a client of kubelet's API said is not known");
            Err(unknown())
        }
    }
}

/// Whether they may, by the narrowest right or the next one.
async fn allowed(kubelet: &Inner, user: &User, verb: &'static str, path: &str) -> Result<(), Refusal> {
    let subresources = subresources(path);
    for subresource in subresources {
        match kubelet.rights.allow(user, &Asked { verb, subresource }).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, user = user.name, "what a client of kubelet's API may do is not known");
                let name = &user.name;
                let why = format!(
                    "Authorization error (user={name}, verb={verb}, resource=nodes, subresource={subresource})"
                );
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why));
            }
        }
    }
    let subresources = subresources.join(" ");
    let why = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])\n", user.name);
    Err(Refusal::new(StatusCode::FORBIDDEN, why))
}

fn too_large(request: &Request<Incoming>) -> bool {
    let said = request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok());
    said.is_some_and(|length: u64| length > MOST as u64) || request.body().size_hint().lower() > MOST as u64
}

fn methods(route: &Route) -> &'static [Method] {
    match route {
        Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) | Route::Summary => &[Method::GET, Method::POST],
        Route::Run(_) | Route::Checkpoint => &[Method::POST],
        Route::Health(_) | Route::Metrics(_) => &[Method::GET, Method::HEAD],
        // What is not there is not there by any method.
        Route::Nothing => &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE],
        _ => &[Method::GET],
    }
}

async fn serve(kubelet: &Inner, request: Request<Incoming>, route: Route) -> Result<Response<Body>, Refusal> {
    let query = Query::of(request.uri().query());
    let (store, names) = (kubelet.access.store(), &kubelet.names);
    match route {
        Route::Health(check) => Ok(health(kubelet, check.as_deref(), &query).await),
        Route::Pods => Ok(body::json(&pods::all(store, names))?),
        Route::RunningPods => {
            let ours = &kubelet.served.ours;
            let asked = tokio::try_join!(ours.sandboxes(), ours.containers());
            let (sandboxes, containers) =
                asked.map_err(|status| crate::access::Error::Internal(status.message().into()))?;
            Ok(body::json(&pods::running(store, names, &sandboxes, &containers))?)
        }
        Route::Summary => {
            let form = form(request, query).await?;
            let only = form.text("only_cpu_and_memory") == Some("true");
            let failed = |status: tonic::Status| {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("Internal Error: {}", status.message()))
            };
            Ok(body::json(&kubelet.statistics.summary(only).await.map_err(failed)?)?)
        }
        Route::Metrics(page) => Ok(metrics::answer(kubelet, page).await),
        Route::Configz => Ok(body::json(
            &json!({"kubeletconfig": configz(&kubelet.settings.borrow(), kubelet.port, kubelet.rights.asks())}),
        )?),
        Route::Logs(path) => system_logs::answer(&path).await,
        Route::Checkpoint => {
            let why =
                "no container is checkpointed here: what would be kept of it is its memory, with every secret in it";
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, why))
        }
        Route::ContainerLogs(named) => container_logs(kubelet, query, &named),
        Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) => session(kubelet, request, &query, route).await,
        Route::Run(named) => run(kubelet, request, query, &named).await,
        Route::Nothing => Err(Refusal::not_found("404: Page Not Found")),
    }
}

async fn health(kubelet: &Inner, check: Option<&str>, query: &Query) -> Response<Body> {
    let mut findings = kubelet.served.pulse.feel().await;
    if let Some(check) = check {
        findings.retain(|(name, _)| *name == check);
        if findings.is_empty() {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
    }
    let (code, told) = health::told(&findings, !query.all("verbose").is_empty());
    text(code, told)
}

fn container_logs(kubelet: &Inner, mut query: Query, named: &Named) -> Result<Response<Body>, Refusal> {
    // What old clients say.
    match query.text("tail").map(str::to_owned) {
        Some(tail) if tail == "all" => query.remove("tailLines"),
        Some(tail) => query.set("tailLines", tail),
        None => {}
    }
    let options = Options::parse(&query)?;
    let missing = || Refusal::not_found(format!("pod {:?} does not exist", named.pod));
    let pod = kubelet.names.find(kubelet.access.store(), named).map_err(|_| missing())?;
    if !pods::has_container(&pod, &named.container) {
        let why = format!("container {:?} not found in pod {:?}", named.container, named.pod);
        return Err(Refusal::not_found(why));
    }
    Ok(kubelet.access.log(&pod, Some(&named.container), options)?)
}

async fn session(
    kubelet: &Inner,
    request: Request<Incoming>,
    query: &Query,
    route: Route,
) -> Result<Response<Body>, Refusal> {
    let find = |named: &Named| kubelet.names.find(kubelet.access.store(), named);
    let (pod, session) = match route {
        Route::Exec(named) => {
            let streams = streams(query)?;
            let pod = find(&named)?;
            let container = in_pod(&pod, &named)?;
            let command = query.all("command").to_vec();
            (pod, Session::Exec { container, command, streams })
        }
        Route::Attach(named) => {
            let streams = streams(query)?;
            let pod = find(&named)?;
            let container = in_pod(&pod, &named)?;
            // Whether there is a terminal was decided when the container was made.
            let streams = Streams { tty: pods::has_terminal(&pod, &container), ..streams };
            let stderr = streams.stderr && !streams.tty;
            (pod, Session::Attach { container, streams: Streams { stderr, ..streams } })
        }
        Route::PortForward(named) => {
            let ports = ports(query)?;
            (find(&named)?, Session::PortForward { ports })
        }
        _ => return Err(Refusal::not_found("404: Page Not Found")),
    };
    let idle = kubelet.settings.borrow().server.idle;
    Ok(kubelet.access.session(&pod, session, request, idle).await?)
}

fn in_pod(pod: &Pod, named: &Named) -> Result<String, Refusal> {
    let there = pods::has_container(pod, &named.container);
    let why = || Refusal::not_found(format!("container not found ({:?})", named.container));
    there.then(|| named.container.clone()).ok_or_else(why)
}

/// Which streams a client wants, in the words between API servers and kubelets.
fn streams(query: &Query) -> Result<Streams, Refusal> {
    let is = |name: &str| query.text(name) == Some("1");
    let (tty, stdin, stdout) = (is("tty"), is("input"), is("output"));
    // A terminal has one output.
    let stderr = is("error") && !tty;
    if !(stdin || stdout || stderr) {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(Streams { stdin, stdout, stderr, tty })
}

fn ports(query: &Query) -> Result<Vec<i32>, Refusal> {
    let wrong = |text: &str| Refusal::bad_request(format!("unable to parse {text:?} as a port"));
    let port = |text: &str| text.parse::<u16>().ok().filter(|it| *it > 0).map(i32::from).ok_or_else(|| wrong(text));
    query.all("port").iter().flat_map(|it| it.split(',')).filter(|it| !it.is_empty()).map(port).collect()
}

/// Runs a command and answers with what it has written.
async fn run(
    kubelet: &Inner,
    request: Request<Incoming>,
    query: Query,
    named: &Named,
) -> Result<Response<Body>, Refusal> {
    let pod = kubelet.names.find(kubelet.access.store(), named)?;
    let container = in_pod(&pod, named)?;
    let form = form(request, query).await?;
    let command = form.text("cmd").ok_or_else(|| Refusal::bad_request("there is no command: say cmd=COMMAND"))?;
    let cmd: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let _place = kubelet.access.session_place()?;
    let container_id = running(&pod, &container)?.to_owned();
    let request = cri_proto::cri::ExecSyncRequest { container_id, cmd, timeout: RUN };
    let answer = kubelet.access.cri().runtime.clone().exec_sync(request).await;
    let failed = |why: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why);
    let answer = answer.map_err(|status| failed(status.message().to_owned()))?.into_inner();
    if answer.exit_code != 0 {
        let (code, said) = (answer.exit_code, String::from_utf8_lossy(&answer.stderr).into_owned());
        tracing::debug!(pod = PodKey::of(&pod).name, code, "a command of /run has failed");
        return Err(failed(format!("command '{command}' exited with {code}: {said}")));
    }
    let mut output = answer.stdout;
    output.extend(answer.stderr);
    Ok(text(StatusCode::OK, output))
}

/// The options of an address and of a form that was sent with it.
async fn form(request: Request<Incoming>, query: Query) -> Result<Query, Refusal> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Ok(query);
    }
    let body = Limited::new(request.into_body(), MOST).collect().await;
    let why =
        || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the form is larger than {MOST} bytes, or broke off"));
    let bytes = body.map_err(|_| why())?.to_bytes();
    let text = std::str::from_utf8(&bytes).map_err(|_| Refusal::bad_request("the form is no text"))?;
    Ok(Query::of(Some(text)).or(query))
}
