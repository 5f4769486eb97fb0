//! Registries, by the OCI distribution specification: which hosts serve an image, how to reach them, and who we are to
//! them. What is asked for, and in which order, is `pull`'s affair.

mod auth;
mod challenge;
mod client;
mod credentials;
mod dns;
mod endpoint;
mod helper;
mod hosts;
mod options;
mod tls;
mod trouble;

pub use credentials::RegistryAuth;
pub use options::{RegistryOptions, Timeouts};
pub use tls::of_host as host_tls;

pub(super) use client::{Fetched, Opened, Registry};
pub(super) use trouble::{Failure, Trouble};
