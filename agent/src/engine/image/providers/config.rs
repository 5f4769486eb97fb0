//! `CredentialProviderConfig`, as kubelet reads it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::super::keyring::{Pattern, split_image};

/// The versions of the conversation with a provider.
const VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: String,
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    token_attributes: Option<serde_json::Value>,
}

/// A variable of a provider's environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A program that knows credentials.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The program's name.
    pub name: String,
    /// The version in which it is asked.
    pub api_version: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it has in its environment beside that of this process.
    pub env: Vec<Variable>,
    /// How long an answer is good that does not say so itself.
    pub default_cache_duration: Duration,
    images: Vec<Pattern>,
}

impl Provider {
    /// Whether it is asked for an image.
    pub fn is_for(&self, image: &str) -> bool {
        let (host, path) = split_image(image);
        self.images.iter().any(|pattern| pattern.matches(&host, &path))
    }
}

/// Reads a configuration, or says what is wrong with it.
pub fn read(text: &str) -> Result<Vec<Provider>, String> {
    let file: File = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let version = file.api_version.strip_prefix("kubelet.config.k8s.io/");
    if file.kind != "CredentialProviderConfig" || !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) {
        return Err("it is not a CredentialProviderConfig of kubelet.config.k8s.io/v1".to_owned());
    }
    if file.providers.is_empty() {
        return Err("providers: at least one is needed".to_owned());
    }
    let mut names = BTreeSet::new();
    let check = |(index, entry): (usize, Entry)| {
        let name = entry.name.clone();
        let provider = provider(entry).map_err(|why| format!("providers[{index}].{why}"))?;
        if names.insert(name) { Ok(provider) } else { Err(format!("providers[{index}].name: it is there twice")) }
    };
    file.providers.into_iter().enumerate().map(check).collect()
}

fn provider(entry: Entry) -> Result<Provider, String> {
    let Entry { name, match_images, default_cache_duration, api_version, args, env, token_attributes } = entry;
    if name.is_empty() || name.contains(['/', ' ']) || name == "." || name == ".." {
        return Err(format!("name: {name:?} is no name of a program in the directory of providers"));
    }
    if !VERSIONS.contains(&api_version.as_str()) {
        return Err(format!("apiVersion: {api_version:?} is none of {}", VERSIONS.join(", ")));
    }
    if match_images.is_empty() {
        return Err("matchImages: at least one is needed".to_owned());
    }
    if token_attributes.is_some() {
        return Err("tokenAttributes: tokens of service accounts are not passed to providers yet".to_owned());
    }
    let duration = manifests::duration::parse(&default_cache_duration);
    let default_cache_duration = duration
        .ok_or_else(|| format!("defaultCacheDuration: {default_cache_duration:?} is no duration such as 12h"))?;
    let images = match_images.iter().map(|image| Pattern::parse(image)).collect();
    Ok(Provider { name, api_version, args, env, default_cache_duration, images })
}
