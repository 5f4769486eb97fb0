//! A `KubeletConfiguration` file: text in, settings out, everything that is wrong with it located.

mod config;
mod eviction;
mod read;
mod settings;
pub(crate) mod table;
pub(crate) mod types;

pub use config::{
    Amount, Config, ContainerLogs, Eviction, Health, ImageGc, LogFormat, Logging, Pulls, Reserved, Resources, Signal,
    Threshold,
};
pub use read::read;

#[cfg(test)]
mod tests;
