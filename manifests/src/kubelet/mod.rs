//! A `KubeletConfiguration` file: text in, settings out, everything that is wrong with it located.

mod cluster;
mod config;
mod eviction;
mod read;
mod server;
mod settings;
mod shutdown;
pub(crate) mod table;
pub(crate) mod types;

pub use config::{
    Amount, Cluster, Config, ContainerLogs, Eviction, Health, ImageGc, LogFormat, Logging, Pulls, Reserved, Resources,
    ShutdownStep, Signal, Threshold,
};
pub use read::read;
pub use server::{Authorization, PORT, Server};

/// The domain below which pods and services have their names, where nobody says another.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The longest domain that leaves room for a service's name and a namespace before it (253 characters in all).
const LONGEST_DOMAIN: usize = 120;

/// Whether pods and services can have their names below it.
pub fn is_cluster_domain(text: &str) -> bool {
    text.len() <= LONGEST_DOMAIN && crate::validate::names::dns_subdomain(text).is_ok()
}

#[cfg(test)]
mod tests;
