//! Messages to validated requests. An error names the field.

mod container;
mod mounts;
mod resources;
mod sandbox;
mod security;
mod userns;

pub use container::container;
pub use sandbox::sandbox;
pub use userns::show as user_namespace;

use cri_proto::cri;

use crate::error::{Error, Result};
use crate::sandbox::NamespaceMode;

/// A field that has to be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::Invalid(format!("{field} is missing")))
}

fn mode(mode: cri::NamespaceMode, field: &str) -> Result<NamespaceMode> {
    match (mode, field) {
        (cri::NamespaceMode::Pod, _) => Ok(NamespaceMode::Pod),
        (cri::NamespaceMode::Node, _) => Ok(NamespaceMode::Node),
        (cri::NamespaceMode::Container, "pid") => Ok(NamespaceMode::Container),
        (other, _) => Err(Error::Invalid(format!("namespace_options.{field} cannot be {}", other.as_str_name()))),
    }
}
