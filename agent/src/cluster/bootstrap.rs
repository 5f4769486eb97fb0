//! How a node comes to its first kubeconfig: with one that may do nothing but ask for a certificate.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::certificates::{self, valid_until};
use super::client::chain;

/// Why no kubeconfig was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The one to ask with cannot be used.
    #[error("read the bootstrap kubeconfig {}: {source}", path.display())]
    Bootstrap {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<kube::config::KubeconfigError>,
    },
    /// It has no current context with a cluster.
    #[error("the bootstrap kubeconfig {} has no current context with a cluster", .0.display())]
    NoCluster(PathBuf),
    /// It cannot be put into words.
    #[error("write the kubeconfig {}: {source}", path.display())]
    Words {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_yaml::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] certificates::Error),
}

/// Whether a kubeconfig is there whose certificates count. If it is not, and why is not plain, it is said.
pub async fn is_valid(kubeconfig: &Path, now: Timestamp) -> bool {
    if !kubeconfig.exists() {
        return false;
    }
    match valid(kubeconfig).await {
        Ok(until) if until > now => true,
        Ok(until) => {
            tracing::warn!(path = %kubeconfig.display(), %until, "the kubeconfig's certificate has run out: another is asked for");
            false
        }
        Err(why) => {
            tracing::warn!(path = %kubeconfig.display(), why, "the kubeconfig cannot be used: another is made");
            false
        }
    }
}

async fn valid(kubeconfig: &Path) -> Result<Timestamp, String> {
    let read = Kubeconfig::read_from(kubeconfig).map_err(|error| chain(&error))?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    let user = config.map_err(|error| chain(&error))?.auth_info;
    let certificate = match (&user.client_certificate_data, &user.client_certificate) {
        (Some(data), _) => STANDARD.decode(data).map_err(|error| error.to_string())?,
        (None, Some(path)) => std::fs::read(path).map_err(|error| format!("{path}: {error}"))?,
        (None, None) => return Err("it has no client certificate".to_owned()),
    };
    valid_until(&certificate).map_err(|error| error.to_string())
}

/// Writes a kubeconfig for the cluster of `bootstrap`, with the certificate and key that are in `pem`.
pub fn write(bootstrap: &Path, kubeconfig: &Path, pem: &Path) -> Result<(), Error> {
    let wrong = |source| Error::Bootstrap { path: bootstrap.to_owned(), source: Box::new(source) };
    let read = Kubeconfig::read_from(bootstrap).map_err(wrong)?;
    let current = read.contexts.iter().find(|it| Some(&it.name) == read.current_context.as_ref());
    let cluster = current.and_then(|it| it.context.as_ref()).map(|it| &it.cluster);
    let cluster = read.clusters.iter().find(|it| Some(&it.name) == cluster).and_then(|it| it.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| Error::NoCluster(bootstrap.to_owned()))?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "contexts": [{
            "name": "default-context",
            "context": {"cluster": "default-cluster", "user": "default-auth", "namespace": "default"}
        }],
        "current-context": "default-context",
        "users": [{"name": "default-auth", "user": {"client-certificate": pem, "client-key": pem}}],
    });
    let text = serde_yaml::to_string(&config).map_err(|source| Error::Words { path: kubeconfig.to_owned(), source })?;
    Ok(certificates::write(kubeconfig, &text)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BOOTSTRAP: &str = "apiVersion: v1
kind: Config
clusters:
- {name: c, cluster: {server: 'https://192.0.2.1:6443', certificate-authority: ca.crt, tls-server-name: api}}
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
";

    #[tokio::test]
    async fn what_is_written_has_the_cluster_and_the_node_s_own_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let [bootstrap, kubeconfig, pem] = ["bootstrap", "kubeconfig", "x.pem"].map(|name| dir.path().join(name));
        std::fs::write(&bootstrap, BOOTSTRAP).unwrap();
        write(&bootstrap, &kubeconfig, &pem).unwrap();
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let cluster = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://192.0.2.1:6443"));
        assert_eq!(cluster.tls_server_name.as_deref(), Some("api"));
        // What was relative to the one is not relative to the other.
        assert_eq!(cluster.certificate_authority.as_deref(), dir.path().join("ca.crt").to_str());
        let user = read.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate.as_deref(), pem.to_str());
        assert!(user.token.is_none(), "the token is for the first certificate alone");
    }

    #[tokio::test]
    async fn a_kubeconfig_counts_as_long_as_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let [bootstrap, kubeconfig] = ["bootstrap", "kubeconfig"].map(|name| dir.path().join(name));
        let files = certificates::Files::client(dir.path());
        let now = Timestamp::now();
        assert!(!is_valid(&kubeconfig, now).await, "there is none");
        std::fs::write(&bootstrap, BOOTSTRAP.replace(", certificate-authority: ca.crt", "")).unwrap();
        assert!(!is_valid(&bootstrap, now).await, "it has no certificate");
        write(&bootstrap, &kubeconfig, &files.current()).unwrap();
        assert!(!is_valid(&kubeconfig, now).await, "the certificate is not there");
        let (certificate, key) = certificates::made("n", now);
        files.update(&certificate, &key, now).unwrap();
        assert!(is_valid(&kubeconfig, now).await);
        let later = now + jiff::SignedDuration::from_hours(24 * 400);
        assert!(!is_valid(&kubeconfig, later).await, "it has run out");
    }
}
