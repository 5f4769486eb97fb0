//! What the command line says of kubelet's API; a configuration file can say it, too.

use std::net::IpAddr;
use std::path::PathBuf;

use manifests::kubelet::{Authorization, Server};

/// Flags of `agent` about kubelet's API, called as kubelet's.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "kubelet")]
pub struct Flags {
    /// Address to serve kubelet's API on [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Port to serve kubelet's API on; 0 for not at all [default: 10250 in a cluster, else 0]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Certificates of those who vouch for clients of kubelet's API
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Certificate of kubelet's API; the node makes one without it
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Who says what clients of kubelet's API may do: the API server, or nobody [default: Webhook in a cluster]
    #[arg(long, value_name = "MODE")]
    authorization_mode: Option<Mode>,
}

/// As kubelet names them.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Mode {
    Webhook,
    AlwaysAllow,
}

impl Flags {
    /// Puts them over what a file says.
    pub fn apply(&self, server: &mut Server) {
        if let Some(address) = self.address {
            server.address = address;
        }
        if let Some(port) = self.port {
            (server.port, server.enabled) = (Some(port).filter(|it| *it > 0), port > 0);
        }
        if let Some(file) = &self.client_ca_file {
            server.client_ca = Some(file.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            server.certificate = Some((certificate.clone(), key.clone()));
        }
        if let Some(mode) = self.authorization_mode {
            server.authorization = Some(match mode {
                Mode::Webhook => Authorization::Webhook,
                Mode::AlwaysAllow => Authorization::AlwaysAllow,
            });
        }
    }
}
