//! Messages to validated requests. An error names the field.

mod container;
mod logs;
mod mounts;
mod resources;
mod sandbox;
mod security;
mod userns;

pub use container::container;
pub use resources::limits;
pub use sandbox::sandbox;
pub use userns::show as user_namespace;

use cri_proto::cri;

use crate::error::{Error, Result};
use crate::sandbox::NamespaceMode;

/// A field that has to be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::Invalid(format!("{field} is missing")))
}

/// The value of an enumeration; a number that it does not have is an error that names the field.
fn choice<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E> {
    E::try_from(value).map_err(|_| Error::Invalid(format!("{field} {value} is not known")))
}

/// The namespace mode of `options`' field `name`, as it is in `place`.
fn mode(value: i32, place: &str, name: &str) -> Result<NamespaceMode> {
    match (choice(value, &format!("{place}.{name}"))?, name) {
        (cri::NamespaceMode::Pod, _) => Ok(NamespaceMode::Pod),
        (cri::NamespaceMode::Node, _) => Ok(NamespaceMode::Node),
        (cri::NamespaceMode::Container, "pid") => Ok(NamespaceMode::Container),
        (other, _) => Err(Error::Invalid(format!("{place}.{name} cannot be {}", other.as_str_name()))),
    }
}
