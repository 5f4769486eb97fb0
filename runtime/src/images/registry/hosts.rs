//! `hosts.toml` in containerd's layout: which hosts serve what a registry has, in which order, and how.
//!
//! ```text
//! <dir>/docker.io/hosts.toml            server = "https://registry-1.docker.io"
//! <dir>/registry.local_5000_/hosts.toml [host."http://mirror.local:5000"]
//! <dir>/_default/hosts.toml               capabilities = ["pull", "resolve"]
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::tls::TlsOptions;
use crate::images::Error;

mod file;

/// The name that Docker's registry has in references, and the host behind it.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One host that may serve an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Host and port, as messages and credentials name it.
    pub name: String,
    /// Scheme, host and port.
    pub root: String,
    /// The path below which the API is: `/v2` unless overridden.
    pub api: String,
    /// The path of its URL, which is that path where `override_path` says so.
    pub given_path: String,
    /// It may say what a tag means.
    pub resolve: bool,
    /// It may serve what a digest names.
    pub pull: bool,
    /// Sent with every request.
    pub headers: HeaderMap,
    pub tls: TlsOptions,
    /// Nobody said HTTPS: where that does not answer, plain HTTP is tried.
    pub plain_too: bool,
    /// It is the registry that the reference names, so the credentials of the request are for it.
    pub is_origin: bool,
    /// What to tell a mirror that serves many registries.
    pub namespace: Option<String>,
}

impl Host {
    /// A host by its address; without a scheme HTTPS is meant.
    fn at(address: &str, domain: &str) -> Result<Host, String> {
        let has_scheme = address.contains("://");
        let url = if has_scheme { address.to_owned() } else { format!("https://{address}") };
        let url = Url::parse(&url).map_err(|error| format!("{address:?} is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{address:?} is not an http or https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err("a registry's URL has no credentials and no query".to_owned());
        }
        let host = url.host_str().ok_or_else(|| format!("{address:?} names no host"))?;
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let path = url.path().trim_end_matches('/');
        let api = if path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
        let is_origin = name == domain || (domain == DOCKER.0 && name == DOCKER.1);
        Ok(Host {
            root: format!("{}://{name}", url.scheme()),
            api,
            given_path: path.to_owned(),
            resolve: true,
            pull: true,
            headers: HeaderMap::new(),
            tls: TlsOptions::default(),
            plain_too: !has_scheme && is_local(host),
            is_origin,
            namespace: (!is_origin).then(|| domain.to_owned()),
            name,
        })
    }

    /// Whether the host is this machine.
    pub(super) fn is_local(&self) -> bool {
        let host = self.name.rsplit_once(':').map_or(self.name.as_str(), |(host, _)| host);
        is_local(if self.name.ends_with(']') { &self.name } else { host })
    }
}

/// Whether a host's name can only mean this machine.
fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The hosts that serve a registry's images, in the order to try them, and what of a file was not understood.
pub(super) fn of(domain: &str, dirs: &[PathBuf]) -> Result<(Vec<Host>, Vec<String>), Error> {
    for dir in dirs {
        for name in [directory_name(domain), domain.to_owned(), "_default".to_owned()] {
            let path = dir.join(name).join("hosts.toml");
            match fs::read_to_string(&path) {
                Ok(text) => return file::parse(&text, domain, &path),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Error::io("read", &path, error)),
            }
        }
    }
    Ok((vec![default_server(domain, Path::new(""))?], Vec::new()))
}

/// The registry itself, where no file says otherwise.
fn default_server(domain: &str, path: &Path) -> Result<Host, Error> {
    let address = if domain == DOCKER.0 { DOCKER.1 } else { domain };
    Host::at(address, domain).map_err(|reason| wrong(path, None, reason))
}

/// A colon cannot be in every filesystem's names: `host_port_` stands for `host:port`.
fn directory_name(domain: &str) -> String {
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => format!("{host}_{port}_"),
        _ => domain.to_owned(),
    }
}

fn wrong(path: &Path, line: Option<usize>, reason: String) -> Error {
    Error::RegistryConfig { path: path.to_owned(), line, reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
