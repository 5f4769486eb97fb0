//! An object of any kind.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};

use super::Kind;
use crate::net::ambassador::object::Ambassador;
use crate::net::networks::object::Network;
use crate::net::object::Link;

/// A type that a store keeps.
pub trait Stored: Clone + PartialEq + Sized {
    /// Its kind.
    const KIND: Kind;
    /// What every object has.
    fn metadata(&self) -> &ObjectMeta;
    /// What every object has.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// As one of any kind.
    fn wrap(this: Arc<Self>) -> Object;
    /// Out of one of any kind.
    fn of(object: &Object) -> Option<&Arc<Self>>;
}

macro_rules! objects {
    ($($kind:ident)*) => {
        /// An object of any kind, cheap to clone.
        #[derive(Clone, Debug)]
        pub enum Object {
            $(#[doc = concat!("`", stringify!($kind), "`")] $kind(Arc<$kind>),)*
        }

        impl Object {
            /// What every object has.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)*
                }
            }

            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// The same object with another version.
            pub(super) fn at_version(&self, version: u64) -> Self {
                match self {
                    $(Self::$kind(object) => {
                        let mut object = $kind::clone(object);
                        object.metadata.resource_version = Some(version.to_string());
                        Self::$kind(Arc::new(object))
                    })*
                }
            }
        }

        impl Serialize for Object {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$kind(object) => object.serialize(serializer),)*
                }
            }
        }

        $(impl Stored for $kind {
            const KIND: Kind = Kind::$kind;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn wrap(this: Arc<Self>) -> Object {
                Object::$kind(this)
            }

            fn of(object: &Object) -> Option<&Arc<Self>> {
                match object {
                    Object::$kind(object) => Some(object),
                    _ => None,
                }
            }
        })*
    };
}

objects!(Ambassador ConfigMap EndpointSlice Event Link Namespace Network NetworkPolicy Node PersistentVolumeClaim Pod Service);
