//! Credential providers: programs that say who to be to a registry, called as kubelet calls them.
//!
//! ```text
//! CredentialProviderRequest {image} ──stdin──> BIN-DIR/NAME ARGS ──stdout──> CredentialProviderResponse {auth, cacheKeyType}
//! ```

mod config;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::config::Provider;
use super::keyring::{Auth, Keyring, Pattern, registry_of};

/// Why there are no credential providers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read the credential providers in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file says what cannot be.
    #[error("use the credential providers in {}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What they answered, until when.
#[derive(Debug)]
struct Cached {
    until: Instant,
    auths: Vec<(Pattern, Auth)>,
}

/// Providers, and what they have answered. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    providers: Vec<Provider>,
    bin_dir: PathBuf,
    /// By provider, and by what the answer is good for: an image, a registry, or everything.
    cache: Mutex<BTreeMap<(String, String), Cached>>,
    /// One program at a time: of many containers with one image the first asks, and the others find the answer.
    running: tokio::sync::Mutex<()>,
}

/// What an answer is good for that is good for everything; no image is called so.
const EVERYTHING: &str = "<global>";

impl Providers {
    /// Reads a `CredentialProviderConfig`; the programs have to be in `bin_dir`.
    pub fn open(path: &Path, bin_dir: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let invalid = |problem| Error::Invalid { path: path.to_owned(), problem };
        let providers = config::read(&text).map_err(invalid)?;
        for provider in &providers {
            let program = bin_dir.join(&provider.name);
            if !run::is_program(&program) {
                return Err(invalid(format!("the program {} is not there, or cannot be run", program.display())));
            }
        }
        Ok(Self::new(providers, bin_dir))
    }

    fn new(providers: Vec<Provider>, bin_dir: &Path) -> Self {
        let inner = Inner { providers, bin_dir: bin_dir.to_owned(), ..Inner::default() };
        Providers { inner: Arc::new(inner) }
    }

    /// Adds what the providers know for an image, after the pod's own credentials.
    pub async fn add_to(&self, keyring: &mut Keyring, image: &str) {
        for provider in self.inner.providers.iter().filter(|provider| provider.is_for(image)) {
            match self.ask(provider, image).await {
                Ok(auths) => keyring.add(auths),
                Err(problem) => {
                    let name = &provider.name;
                    tracing::warn!(provider = name, image, "no credentials could be had: {problem}");
                    keyring.problems.push(format!("credential provider {name}: {problem}"));
                }
            }
        }
    }

    async fn ask(&self, provider: &Provider, image: &str) -> Result<Vec<(Pattern, Auth)>, String> {
        let _one = self.inner.running.lock().await;
        let keys = [image, &registry_of(image), EVERYTHING].map(|key| (provider.name.clone(), key.to_owned()));
        if let Some(auths) = self.cached(&keys) {
            return Ok(auths);
        }
        let answer = run::ask(provider, &self.inner.bin_dir, image).await?;
        let [of_image, of_registry, of_everything] = keys;
        let key = match answer.cache_key_type.as_str() {
            "Image" => of_image,
            "Registry" => of_registry,
            "Global" => of_everything,
            other => return Err(format!("it did not return a valid cacheKeyType: {other:?}")),
        };
        let pair = |(registry, auth): (String, run::Login)| {
            (Pattern::parse(&registry), Auth::login(auth.username, auth.password))
        };
        let auths: Vec<(Pattern, Auth)> = answer.auth.into_iter().map(pair).collect();
        let life = answer.cache_duration.unwrap_or(provider.default_cache_duration);
        if !life.is_zero() {
            self.keep(key, life, &auths);
        }
        Ok(auths)
    }

    fn cached(&self, keys: &[(String, String)]) -> Option<Vec<(Pattern, Auth)>> {
        let mut cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|_, cached| cached.until > Instant::now());
        keys.iter().find_map(|key| cache.get(key)).map(|cached| cached.auths.clone())
    }

    fn keep(&self, key: (String, String), life: Duration, auths: &[(Pattern, Auth)]) {
        // Longer than time goes is for ever, and for ever is a year.
        let until = Instant::now() + life.min(Duration::from_secs(365 * 86_400));
        let cached = Cached { until, auths: auths.to_vec() };
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, cached);
    }
}

#[cfg(test)]
mod tests;
