//! Credentials for registries from a pod's `imagePullSecrets`, matched as kubelet matches them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cri_proto::{cri, node};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use crate::engine::config::Objects;
use crate::engine::plan::spec_of;

/// What a registry is told about who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    username: String,
    password: String,
    identity_token: String,
    registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Auth {
    /// A name and its secret.
    pub(super) fn login(username: String, password: String) -> Self {
        Auth { username, password, ..Auth::default() }
    }

    /// For a runtime of ours.
    pub fn node(&self) -> node::RegistryAuth {
        let Auth { username, password, identity_token, registry_token } = self.clone();
        node::RegistryAuth { username, password, identity_token, registry_token }
    }

    /// For any runtime.
    pub fn cri(&self) -> cri::AuthConfig {
        let Auth { username, password, identity_token, registry_token } = self.clone();
        cri::AuthConfig { username, password, identity_token, registry_token, ..Default::default() }
    }
}

/// A pod's credentials.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// By registry pattern, the longest first among those that begin alike.
    entries: Vec<(Pattern, Auth)>,
    /// Secrets that hold none.
    pub problems: Vec<String>,
}

/// `HOST[:PORT][/PATH]`, where the parts of HOST between dots may be globs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    host: String,
    path: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl Keyring {
    /// Reads the Secrets that the pod names. As in Kubernetes one that is missing stops nothing by itself.
    pub fn of(pod: &Pod, objects: &Objects) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let mut keyring = Keyring::default();
        for reference in spec_of(pod).image_pull_secrets.iter().flatten() {
            let name = &reference.name;
            match objects.secret(namespace, name) {
                Some(data) => match read(&data) {
                    Ok(entries) => keyring.entries.extend(entries),
                    Err(why) => keyring.problems.push(format!("Secret \"{name}\" of imagePullSecrets {why}")),
                },
                None => {
                    let problem = objects.without("Secret", namespace, name, false).err();
                    let problem = problem.map(|error| format!("imagePullSecrets: {error}"));
                    keyring.problems.extend(problem);
                }
            }
        }
        sort(&mut keyring.entries);
        keyring
    }

    /// Adds credentials after those that are there.
    pub(super) fn add(&mut self, mut entries: Vec<(Pattern, Auth)>) {
        sort(&mut entries);
        self.entries.extend(entries);
    }

    /// The credentials for an image's registry, the most particular first.
    pub fn lookup(&self, image: &str) -> Vec<&Auth> {
        let (host, path) = split_image(image);
        self.entries.iter().filter(|(pattern, _)| pattern.matches(&host, &path)).map(|(_, auth)| auth).collect()
    }
}

/// The most particular first; stable, for among equal ones the given order stays.
fn sort(entries: &mut [(Pattern, Auth)]) {
    entries.sort_by(|(a, _), (b, _)| (&b.host, &b.path).cmp(&(&a.host, &a.path)));
}

/// The registry of an image.
pub(super) fn registry_of(image: &str) -> String {
    split_image(image).0
}

fn read(data: &BTreeMap<&str, &[u8]>) -> Result<Vec<(Pattern, Auth)>, String> {
    let parsed = if let Some(text) = data.get(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(text).map(|config| config.auths)
    } else if let Some(text) = data.get(".dockercfg") {
        serde_json::from_slice(text)
    } else {
        return Err("has neither the key .dockerconfigjson nor .dockercfg".to_owned());
    };
    // The parser's message could quote the secret.
    let entries = parsed.map_err(|error| format!("cannot be read: line {}: not a docker config", error.line()))?;
    entries.into_iter().map(|(key, entry)| Ok((Pattern::parse(&key), entry.auth(&key)?))).collect()
}

impl Entry {
    fn auth(self, key: &str) -> Result<Auth, String> {
        let (mut username, mut password) = (self.username, self.password);
        if !self.auth.is_empty() {
            let text = self.auth.trim();
            let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
            let pair = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
            let (user, secret) =
                pair.ok_or_else(|| format!("has an auth for {key} that is not base64 of USER:PASSWORD"))?;
            (username, password) = (user.to_owned(), secret.trim_matches('\0').to_owned());
        }
        Ok(Auth { username, password, identity_token: self.identitytoken, registry_token: self.registrytoken })
    }
}

impl Pattern {
    /// Keys come as `docker login` and people write them: with a scheme, with the API's version as path.
    pub(super) fn parse(key: &str) -> Self {
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (host, path) = key.split_once('/').unwrap_or((key, ""));
        let path = path.trim_end_matches('/');
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        Pattern { host: docker_hub(host).to_owned(), path: path.to_owned() }
    }

    pub(super) fn matches(&self, host: &str, path: &str) -> bool {
        let (mine, my_port) = self.host.split_once(':').unwrap_or((&self.host, ""));
        let (theirs, their_port) = host.split_once(':').unwrap_or((host, ""));
        let parts = || mine.split('.').zip(theirs.split('.'));
        my_port == their_port
            && path.starts_with(&self.path)
            && mine.split('.').count() == theirs.split('.').count()
            && parts().all(|(pattern, text)| glob(pattern.as_bytes(), text.as_bytes()))
    }
}

fn docker_hub(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// Registry and repository of an image, as Docker reads its name.
pub(super) fn split_image(image: &str) -> (String, String) {
    match image.split_once('/') {
        Some((host, path)) if host == "localhost" || host.contains(['.', ':']) => {
            (docker_hub(host).into(), path.into())
        }
        Some(_) => ("docker.io".into(), image.into()),
        None => ("docker.io".into(), format!("library/{image}")),
    }
}

/// Shell globs of one part of a host's name: `*` and `?`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        (Some((b'?', rest)), Some((_, text))) => glob(rest, text),
        (Some((a, rest)), Some((b, text))) => a == b && glob(rest, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn keyring(secrets: &[(&str, &str, Value)], wanted: &[&str]) -> Keyring {
        let mut objects = Objects::default();
        for (name, key, data) in secrets {
            let secret = json!({"metadata": {"name": name}, "stringData": {*key: data.to_string()}});
            let key = ("default".to_owned(), (*name).to_owned());
            objects.secrets.insert(key, std::sync::Arc::new(serde_json::from_value(secret).unwrap()));
        }
        let names: Vec<Value> = wanted.iter().map(|name| json!({"name": name})).collect();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "imagePullSecrets": names}});
        Keyring::of(&serde_json::from_value(pod).unwrap(), &objects)
    }

    fn users<'a>(keyring: &'a Keyring, image: &str) -> Vec<&'a str> {
        keyring.lookup(image).into_iter().map(|auth| auth.username.as_str()).collect()
    }

    fn auths(keys: &[&str]) -> Value {
        let entries: serde_json::Map<String, Value> = keys
            .iter()
            .map(|key| ((*key).to_owned(), json!({"auth": STANDARD.encode(format!("of {key}:p:q"))})))
            .collect();
        json!({ "auths": entries })
    }

    #[test]
    fn credentials_are_matched_by_host_port_and_path() {
        let keys = ["https://index.docker.io/v1/", "*.example.com", "r.example.com/team", "localhost:5000", "r.other"];
        let ring = keyring(&[("s", ".dockerconfigjson", auths(&keys))], &["s"]);
        for (image, expected) in [
            ("nginx", vec!["of https"]),
            ("team/app:1", vec!["of https"]),
            ("r.example.com/team/app", vec!["of r.example.com/team", "of *.example.com"]),
            ("r.example.com/other", vec!["of *.example.com"]),
            ("a.r.example.com/other", vec![]),
            ("localhost:5000/x", vec!["of localhost"]),
            ("localhost:5001/x", vec![]),
        ] {
            assert_eq!(users(&ring, image), expected, "{image}");
        }
        assert!(ring.problems.is_empty());
    }

    #[test]
    fn both_kinds_of_secret_are_read_and_the_password_is_what_follows_the_first_colon() {
        let old = json!({"r.one": {"username": "u", "password": "p"}, "r.two": {"identitytoken": "t"}});
        let ring =
            keyring(&[("old", ".dockercfg", old), ("new", ".dockerconfigjson", auths(&["r.three"]))], &["old", "new"]);
        assert_eq!(ring.lookup("r.one/x")[0].node().password, "p");
        assert_eq!(ring.lookup("r.two/x")[0].cri().identity_token, "t");
        assert_eq!(ring.lookup("r.three/x")[0].password, "p:q");
    }

    #[test]
    fn what_is_missing_or_unreadable_is_a_problem_that_quotes_no_secret() {
        let secrets = [
            ("text", ".dockerconfigjson", json!("hunter2")),
            ("auth", ".dockerconfigjson", json!({"auths": {"r": {"auth": "hunter2!"}}})),
            ("other", "token", json!("hunter2")),
        ];
        let ring = keyring(&secrets, &["text", "auth", "other", "absent"]);
        assert_eq!(ring.problems.len(), 4, "{:?}", ring.problems);
        assert!(ring.problems.iter().all(|problem| !problem.contains("hunter2")), "{:?}", ring.problems);
        assert!(ring.problems[3].contains("imagePullSecrets: Secret \"absent\" is not there"), "{:?}", ring.problems);
    }

    #[test]
    fn globs_match_within_a_part() {
        for (pattern, text, expected) in
            [("*", "abc", true), ("a*c", "abc", true), ("a?c", "abc", true), ("a*", "b", false), ("", "", true)]
        {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
