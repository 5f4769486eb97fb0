//! A registry as its hosts together: each is asked in turn, and rounds are repeated while that may help.

use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};

use super::auth::Authorizer;
use super::credentials::RegistryAuth;
use super::endpoint::{Ask, Endpoint, read_all};
use super::hosts::{self, Host};
use super::options::{RegistryOptions, Timeouts};
use super::trouble::{Failure, Trouble};
use crate::images::{Digest, Error, Reference};

/// What one image is pulled from.
pub struct Registry {
    image: String,
    repository: String,
    endpoints: Vec<Endpoint>,
    pub timeouts: Timeouts,
    /// What the operator should know of the configuration.
    pub notes: Vec<String>,
}

/// A document.
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

/// A blob that begins to come.
pub struct Opened {
    response: Response,
    /// The first byte that comes.
    pub start: u64,
    /// All bytes of the blob, where the host says it.
    pub total: Option<u64>,
    /// Whose it is.
    endpoint: usize,
}

impl Registry {
    /// The hosts of an image, by the configuration as it is now.
    pub fn open(
        options: &RegistryOptions,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Result<Registry, Error> {
        let (hosts, notes) = hosts::of(reference.domain(), &options.config_dirs)?;
        let endpoint = |host: Host| {
            let given = auth.filter(|auth| !auth.is_empty() && is_for(auth, &host, reference.domain())).cloned();
            let files = options.auth_files.clone();
            let mut names = vec![host.name.clone()];
            names.extend(Some(reference.domain().to_owned()).filter(|domain| host.is_origin && *domain != host.name));
            let auth = Authorizer::new(names, reference.path(), given, files);
            Endpoint::new(host, auth, options.timeouts.clone())
        };
        Ok(Registry {
            image: reference.to_string(),
            repository: reference.path().to_owned(),
            endpoints: hosts.into_iter().map(endpoint).collect(),
            timeouts: options.timeouts.clone(),
            notes,
        })
    }

    /// The error of a registry that does not give what was asked for.
    pub fn error(&self, what: String, failure: Failure) -> Error {
        Error::Registry { image: self.image.clone(), what, failure }
    }

    /// What a tag or a digest names: an index or a manifest.
    pub async fn manifest(
        &self,
        name: &str,
        digest: Option<&Digest>,
        accept: &str,
        max: usize,
    ) -> Result<Fetched, Failure> {
        let path = format!("/{}/manifests/{name}", self.repository);
        let ask = Ask { method: &Method::GET, path: &path, accept, from: 0 };
        let capable = |host: &Host| if digest.is_some() { host.pull } else { host.resolve };
        let found = self.round(capable, async |endpoint: &Endpoint| {
            let response = endpoint.ask(ask).await?;
            let text =
                |name| response.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
            let media_type = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
            let said = Digest::parse(
                response.headers().get("docker-content-digest").and_then(|it| it.to_str().ok()).unwrap_or_default(),
            );
            let bytes = self.in_time(read_all(response, max)).await?;
            let actual = Digest::of(&bytes);
            if let Some(expected) = digest.or(said.as_ref().ok()).filter(|expected| **expected != actual) {
                endpoint.distrust();
                let why =
                    format!("it lies about the manifest {name}: what it sent has the digest {actual}, not {expected}");
                return Err(Trouble::Protocol(why));
            }
            Ok(Fetched { bytes, media_type, digest: actual })
        });
        found.await.map(|(found, _)| found)
    }

    /// The digest that a host says a tag has, without fetching what it names.
    pub async fn digest_of(&self, tag: &str, accept: &str) -> Option<Digest> {
        let path = format!("/{}/manifests/{tag}", self.repository);
        let ask = Ask { method: &Method::HEAD, path: &path, accept, from: 0 };
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.host.resolve && endpoint.is_trusted())?;
        let response = endpoint.ask(ask).await.ok()?;
        Digest::parse(response.headers().get("docker-content-digest")?.to_str().ok()?).ok()
    }

    /// A small blob, whole and verified.
    pub async fn document(&self, digest: &Digest, what: &str, max: usize) -> Result<Vec<u8>, Failure> {
        let path = format!("/{}/blobs/{digest}", self.repository);
        let ask = Ask { method: &Method::GET, path: &path, accept: "", from: 0 };
        let found = self.round(
            |host| host.pull,
            async |endpoint: &Endpoint| {
                let bytes = self.in_time(read_all(endpoint.ask(ask).await?, max)).await?;
                let actual = Digest::of(&bytes);
                if actual == *digest {
                    return Ok(bytes);
                }
                endpoint.distrust();
                Err(Trouble::Protocol(format!(
                    "it lies about the {what} {digest}: what it sent has the digest {actual}"
                )))
            },
        );
        found.await.map(|(found, _)| found)
    }

    /// Begins a blob at a byte, or before it where the host knows no ranges.
    pub async fn blob(&self, digest: &Digest, from: u64) -> Result<Opened, Failure> {
        let path = format!("/{}/blobs/{digest}", self.repository);
        let ask = Ask { method: &Method::GET, path: &path, accept: "", from };
        let found = self.round(|host| host.pull, async |endpoint: &Endpoint| begin(endpoint.ask(ask).await?, from));
        let ((response, start, total), endpoint) = found.await?;
        Ok(Opened { response, start, total, endpoint })
    }

    /// Believes nothing more that this blob's host says, where there is another. True if there is.
    pub fn distrust(&self, opened: usize) -> bool {
        let others = self.endpoints.iter().enumerate();
        let others = others.filter(|(at, other)| *at != opened && other.is_trusted() && other.host.pull).count();
        if others > 0
            && let Some(endpoint) = self.endpoints.get(opened)
        {
            endpoint.distrust();
        }
        others > 0
    }

    pub fn host_of(&self, opened: &Opened) -> &str {
        self.endpoints.get(opened.endpoint).map_or("", |endpoint| &endpoint.host.name)
    }

    /// Asks each host that can; the first that gives it ends the round.
    async fn round<T>(
        &self,
        capable: impl Fn(&Host) -> bool,
        ask: impl AsyncFn(&Endpoint) -> Result<T, Trouble>,
    ) -> Result<(T, usize), Failure> {
        let mut answers = Vec::new();
        let mut hosts: Vec<(usize, &Endpoint)> =
            self.endpoints.iter().enumerate().filter(|(_, it)| capable(&it.host) && it.is_trusted()).collect();
        if hosts.is_empty() {
            // All have lied: then the last word is that of the registry itself.
            hosts = self.endpoints.iter().enumerate().filter(|(_, it)| capable(&it.host)).last().into_iter().collect();
        }
        for (at, endpoint) in hosts {
            match ask(endpoint).await {
                Ok(found) => return Ok((found, at)),
                Err(trouble) => answers.push((endpoint.host.name.clone(), trouble)),
            }
        }
        Err(Failure { answers })
    }

    async fn in_time<T>(&self, future: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let limit = self.timeouts.stall;
        tokio::time::timeout(limit, future).await.map_err(|_| Trouble::Stalled(limit))?
    }
}

impl Opened {
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// The next piece; `None` at the end of what the host sends.
    pub async fn next(&mut self, stall: Duration) -> Result<Option<impl AsRef<[u8]> + use<>>, Trouble> {
        let next = tokio::time::timeout(stall, self.response.chunk()).await;
        next.map_err(|_| Trouble::Stalled(stall))?.map_err(|error| Trouble::of(&error))
    }
}

/// Whether credentials of a request are for a host: the one they name, else the registry of the image's name.
fn is_for(auth: &RegistryAuth, host: &Host, domain: &str) -> bool {
    let server = auth.server.trim_start_matches("https://").trim_start_matches("http://");
    let server = server.split('/').next().unwrap_or_default();
    match server {
        "" => host.is_origin,
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => domain == "docker.io" && host.is_origin,
        server => server == host.name || (host.is_origin && server == domain),
    }
}

/// Where the body of an answer begins, and how long the whole is.
fn begin(response: Response, from: u64) -> Result<(Response, u64, Option<u64>), Trouble> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let (start, total) = range.and_then(content_range).ok_or_else(|| {
                Trouble::Protocol("it sends a part and does not say which (Content-Range)".to_owned())
            })?;
            if start > from {
                return Err(Trouble::Protocol(format!("it sends bytes from {start} on, not from {from}")));
            }
            Ok((response, start, total))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Err(Trouble::Refused { status: "416".to_owned(), message: format!("no bytes from {from} on") })
        }
        _ => {
            let total = response.content_length();
            Ok((response, 0, total))
        }
    }
}

/// `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
