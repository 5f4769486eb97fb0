//! Who we are to a registry: what the request says, or what Docker's and containers' files say.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::helper;
use crate::images::Error;

/// Credentials that came with a request. The first that is set counts, from the bottom.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RegistryAuth {
    /// With `password`.
    pub username: String,
    /// With `username`.
    pub password: String,
    /// To exchange for a bearer token.
    pub identity_token: String,
    /// A bearer token to send as it is.
    pub registry_token: String,
    /// The server these are for; empty is the registry that the image's name names.
    pub server: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

impl RegistryAuth {
    /// From `auth` as Docker's files hold it: user name and password with a colon, in base64.
    pub fn from_encoded(text: &str) -> Option<RegistryAuth> {
        let (username, password) = decode(text)?;
        Some(RegistryAuth { username, password, ..RegistryAuth::default() })
    }

    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        self.secret().is_none()
    }

    pub(super) fn secret(&self) -> Option<Secret> {
        if !self.registry_token.is_empty() {
            return Some(Secret::RegistryToken(self.registry_token.clone()));
        }
        if !self.identity_token.is_empty() {
            return Some(Secret::IdentityToken(self.identity_token.clone()));
        }
        let (username, password) = (self.username.clone(), self.password.clone());
        (!(username.is_empty() && password.is_empty())).then_some(Secret::Password { username, password })
    }
}

/// Something to prove who we are with. It has no `Debug` on purpose.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Password { username: String, password: String },
    IdentityToken(String),
    RegistryToken(String),
}

/// `config.json` and `auth.json`, as far as they concern us.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Looks for the credentials of a repository on a host, in file after file.
pub(super) fn find(files: &[PathBuf], host: &str, repository: &str) -> Result<Option<Secret>, Error> {
    for path in files {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(Error::io("read", path, error)),
        };
        // The parser's own message could quote a password.
        let file: ConfigFile = serde_json::from_slice(&text).map_err(|error| Error::RegistryConfig {
            path: path.clone(),
            line: Some(error.line()),
            reason: "is not JSON as docker login or podman login writes it".to_owned(),
        })?;
        if let Some(secret) = of_file(path, &file, host, repository)? {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

fn of_file(path: &Path, file: &ConfigFile, host: &str, repository: &str) -> Result<Option<Secret>, Error> {
    let wanted = keys(host, repository);
    let helpers: BTreeMap<String, &String> = file.cred_helpers.iter().map(|(key, name)| (normal(key), name)).collect();
    if let Some((key, name)) = wanted.iter().find_map(|key| helpers.get_key_value(key)) {
        return helper::get(path, name, server_name(key));
    }
    let entries: BTreeMap<String, &Entry> = file.auths.iter().map(|(key, entry)| (normal(key), entry)).collect();
    for key in &wanted {
        if let Some(secret) = entries.get(key).map(|entry| entry.secret(path, key)).transpose()?.flatten() {
            return Ok(Some(secret));
        }
    }
    if file.creds_store.is_empty() {
        return Ok(None);
    }
    let server = wanted.last().map_or(host, String::as_str);
    helper::get(path, &file.creds_store, server_name(server))
}

impl Entry {
    fn secret(&self, path: &Path, key: &str) -> Result<Option<Secret>, Error> {
        let mut auth = RegistryAuth {
            username: self.username.clone(),
            password: self.password.clone(),
            identity_token: self.identitytoken.clone(),
            registry_token: self.registrytoken.clone(),
            server: String::new(),
        };
        if !self.auth.is_empty() {
            let decoded = decode(&self.auth);
            (auth.username, auth.password) = decoded.ok_or_else(|| {
                wrong(path, format!("the auth of {key:?} is not user:password in base64; log in again"))
            })?;
        }
        Ok(auth.secret())
    }
}

/// What a file may call a repository, the longest first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let host = normal(host);
    let mut keys = vec![format!("{host}/{repository}")];
    let mut rest = repository;
    while let Some((above, _)) = rest.rsplit_once('/') {
        keys.push(format!("{host}/{above}"));
        rest = above;
    }
    keys.push(host);
    keys
}

/// A key without what older Dockers put around it, and with one name for Docker's own registry.
fn normal(key: &str) -> String {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Helpers know Docker's registry by its oldest address.
fn server_name(key: &str) -> &str {
    if key == "docker.io" { "https://index.docker.io/v1/" } else { key }
}

fn decode(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker has written trailing zeros.
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

pub(super) fn wrong(path: &Path, reason: String) -> Error {
    Error::RegistryConfig { path: path.to_owned(), line: None, reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
