//! Answering a registry's challenge: user name and password, or a token from the service that it names.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::{Bearer, Challenge};
use super::credentials::{self, RegistryAuth, Secret};
use super::endpoint::{explain, read_all};
use super::trouble::Trouble;

/// How this client calls itself to token services.
const CLIENT_ID: &str = "coracle";
/// Tokens are a few kilobytes.
const MAX_TOKEN: usize = 1 << 20;

/// Who we are to one host, for one repository.
pub(super) struct Authorizer {
    host: String,
    /// What files may call it.
    names: Vec<String>,
    repository: String,
    /// Credentials of the request that are for this host.
    given: Option<RegistryAuth>,
    files: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What requests carry now.
    header: Option<HeaderValue>,
    /// Looked up on the first challenge alone: most images are for everybody.
    secret: Option<Option<Secret>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Authorizer {
    /// `names` are what files may call the host, the one for messages first.
    pub fn new(names: Vec<String>, repository: &str, given: Option<RegistryAuth>, files: Vec<PathBuf>) -> Authorizer {
        let (host, repository) = (names.first().cloned().unwrap_or_default(), repository.to_owned());
        Authorizer { host, names, repository, given, files, state: Mutex::default() }
    }

    /// What a request carries before anybody asks.
    pub async fn header(&self) -> Option<HeaderValue> {
        self.state.lock().await.header.clone()
    }

    /// What the next request should carry, after one that carried `used` was challenged.
    pub async fn answer(
        &self,
        client: &Client,
        base: &Url,
        challenges: &[Challenge],
        used: Option<&HeaderValue>,
        message: &str,
    ) -> Result<HeaderValue, Trouble> {
        let mut state = self.state.lock().await;
        if let Some(header) = state.header.as_ref().filter(|header| Some(*header) != used) {
            // Another request was challenged before and has the answer.
            return Ok(header.clone());
        }
        if state.secret.is_none() {
            state.secret = Some(self.secret().await?);
        }
        let secret = state.secret.clone().flatten();
        let header = match (challenges.first(), &secret) {
            (_, Some(Secret::RegistryToken(token))) => bearer(token)?,
            (Some(Challenge::Bearer(bearer)), secret) => {
                self::bearer(&self.token(client, base, bearer, secret.as_ref()).await?)?
            }
            (Some(Challenge::Basic), Some(Secret::Password { username, password })) => {
                secret_header(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))?
            }
            (Some(Challenge::Basic), _) => return Err(self.unknown(secret.as_ref(), message)),
            (None, _) => {
                return Err(Trouble::Protocol(
                    "it answered 401 and does not say (WWW-Authenticate) how to log in".to_owned(),
                ));
            }
        };
        if Some(&header) == used {
            return Err(self.unknown(secret.as_ref(), message));
        }
        state.header = Some(header.clone());
        Ok(header)
    }

    async fn secret(&self) -> Result<Option<Secret>, Trouble> {
        if let Some(secret) = self.given.as_ref().and_then(RegistryAuth::secret) {
            return Ok(Some(secret));
        }
        let (files, names, repository) = (self.files.clone(), self.names.clone(), self.repository.clone());
        // A helper is a program, and takes its time.
        let find = move || {
            let found = names.iter().map(|name| credentials::find(&files, name, &repository));
            found.filter_map(Result::transpose).next().transpose()
        };
        match tokio::task::spawn_blocking(find).await {
            Ok(Ok(secret)) => Ok(secret),
            Ok(Err(error)) => Err(Trouble::Protocol(format!("credentials: {error}"))),
            Err(error) => Err(Trouble::Protocol(format!("credentials: {error}"))),
        }
    }

    /// The trouble of one that the host does not accept.
    pub fn unknown(&self, secret: Option<&Secret>, message: &str) -> Trouble {
        Trouble::Unauthenticated { message: message.to_owned(), advice: self.advice(secret) }
    }

    /// The same by what is known of the credentials so far.
    pub async fn refused(&self, message: &str) -> Trouble {
        self.unknown(self.state.lock().await.secret.clone().flatten().as_ref(), message)
    }

    pub async fn denied(&self, message: &str) -> Trouble {
        let secret = self.state.lock().await.secret.clone().flatten();
        Trouble::Denied { message: message.to_owned(), advice: self.advice(secret.as_ref()) }
    }

    /// What was used, and what to do.
    fn advice(&self, secret: Option<&Secret>) -> String {
        let host = &self.host;
        let whose = if self.given.is_some() { "that came with the request" } else { "found on this host" };
        match secret {
            Some(Secret::Password { username, .. }) => {
                format!("the credentials of {username:?} {whose} do not open it: check them, or log in to {host} again")
            }
            Some(_) => format!("the token {whose} does not open it: log in to {host} again"),
            None => {
                let files: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
                let files = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
                format!(
                    "no credentials for {host}/{} were found in {files}: check the name, or log in to {host}",
                    self.repository
                )
            }
        }
    }

    /// A token that lets us pull.
    async fn token(
        &self,
        client: &Client,
        base: &Url,
        challenge: &Bearer,
        secret: Option<&Secret>,
    ) -> Result<String, Trouble> {
        let realm = base.join(&challenge.realm).map_err(|error| {
            Trouble::Protocol(format!("its token service {:?} is not a URL: {error}", challenge.realm))
        })?;
        if secret.is_some() && base.scheme() == "https" && realm.scheme() != "https" {
            let service = realm.host_str().unwrap_or_default();
            return Err(Trouble::Protocol(format!(
                "it wants credentials sent to {service} without TLS, which is refused"
            )));
        }
        let own_scope = format!("repository:{}:pull", self.repository);
        let scope = challenge.scope.as_deref().filter(|scope| !scope.is_empty()).unwrap_or(&own_scope);
        let service = challenge.service.as_deref().unwrap_or_default();
        let mut parameters = vec![("scope", scope)];
        if !service.is_empty() {
            parameters.push(("service", service));
        }
        let request = match secret {
            Some(Secret::IdentityToken(token)) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT_ID),
                    ("refresh_token", token),
                ]);
                client
                    .post(realm.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form(&parameters))
            }
            secret => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(&parameters);
                let request = client.get(url);
                match secret {
                    Some(Secret::Password { username, password }) => {
                        let encoded = STANDARD.encode(format!("{username}:{password}"));
                        request.header(AUTHORIZATION, secret_header(&format!("Basic {encoded}"))?)
                    }
                    _ => request,
                }
            }
        };
        let response = request.send().await.map_err(|error| Trouble::of(&error))?;
        self.read_token(response, &realm, secret).await
    }

    async fn read_token(&self, response: Response, realm: &Url, secret: Option<&Secret>) -> Result<String, Trouble> {
        let status = response.status();
        let service = realm.host_str().unwrap_or_default().to_owned();
        if !status.is_success() {
            let trouble = explain(response).await;
            return Err(match (status, trouble) {
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Trouble::Refused { message, .. }) => {
                    self.unknown(secret, &message)
                }
                (_, Trouble::Refused { status, message }) => {
                    Trouble::Refused { status: format!("through its token service {service} with {status}"), message }
                }
                (_, Trouble::Busy { status, message, retry_after }) => Trouble::Busy {
                    status: format!("through its token service {service} with {status}"),
                    message,
                    retry_after,
                },
                (_, other) => other,
            });
        }
        let bytes = read_all(response, MAX_TOKEN).await?;
        // The parser's message could quote the token.
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|_| Trouble::Protocol(format!("the token service {service} did not answer with a token")))?;
        let found = if token.token.is_empty() { token.access_token } else { token.token };
        if found.is_empty() {
            return Err(Trouble::Protocol(format!("the token service {service} answered without a token")));
        }
        Ok(found)
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Trouble> {
    secret_header(&format!("Bearer {token}"))
}

fn secret_header(text: &str) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Trouble::Protocol("the credentials have characters that no header can carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn form(parameters: &[(&str, &str)]) -> String {
    // The encoding of a form is that of a query.
    let Ok(mut url) = Url::parse("form:/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(parameters);
    url.query().unwrap_or_default().to_owned()
}
